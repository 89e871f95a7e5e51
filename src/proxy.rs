//! What moves the traffic: a driver for each kind of proxy finds a router for a service. A new proxy is one file that
//! implements `Driver`, `Router` and `LabelRules`, one arm in `detect`, and a value of `ProxyKind`.

pub mod agree;
pub mod detect;
pub mod driver;
pub mod helper_image;
pub mod landscape;
pub mod none;
pub mod socket_proxies;
#[cfg(test)]
pub mod testing;
pub mod traefik;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;

pub use self::write::{Files, NewFile, Write, write_all};
use crate::{
    context::ServiceContext,
    docker::{engine::Image, watch::Role},
    error::Result,
    model::{Claim, ContainerId, Phase, Replica, RolloutId, RoutePlan, Routing, Share, Target},
    namespace::{check::Check, traffic::Protocol},
    overlay::Labels,
    settings::PreviewRule,
    state::Lock,
};

/// What a proxy can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Applying the first plan moves the traffic itself, and is to be confirmed before anything else is done.
    pub hold_reroutes: bool,
    /// Replicas of one service can have different weights.
    pub weights: bool,
    /// New replicas can get the requests alone that match one more rule.
    pub preview: bool,
    /// Some replicas of both versions can be live at the same time.
    pub batches: bool,
    /// Several services can cut over in the same moment: see [`Router::stage`].
    pub joint_cutover: bool,
}

/// A claim that is to take effect in the same moment as those of other services.
pub struct Staged {
    /// What the operator has to know of it.
    pub notice: Option<String>,
    pub writes: Vec<Write>,
}

/// What every instance of the proxy says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Only replicas on which all instances agree.
    pub routing: Routing,
    /// What an instance complains of on behalf of a replica: a router that is disabled, a server that is down.
    pub trouble: BTreeMap<ContainerId, Vec<String>>,
    /// Replicas whose routers are all broken.
    pub broken: BTreeSet<ContainerId>,
    /// Replicas of which an instance says that a server of theirs is down, by its own health check: in which service.
    pub down: BTreeMap<ContainerId, String>,
    /// Routers of other services that the cutover has taken away, a line each.
    pub lost: Vec<String>,
    /// Containers that an operator hides by hand: they are not waited for.
    pub set_aside: BTreeSet<ContainerId>,
}

impl Observation {
    /// Whether all instances agree on each replica.
    pub fn is_decided(&self, replicas: &[Replica]) -> bool {
        replicas
            .iter()
            .all(|own| self.routing.contains_key(&own.id))
    }

    /// What is complained of on behalf of live replicas: what does not serve although they do.
    pub fn complaints(&self) -> BTreeSet<String> {
        let live = |own: &&ContainerId| {
            let share = self.routing.get(*own);
            share.is_some_and(|share| *share != Share::Hidden)
        };
        let all = self.trouble.iter();
        all.filter(|(id, _)| live(id))
            .flat_map(|(_, trouble)| trouble.iter().cloned())
            .collect()
    }

    /// Leaves out what was complained of before, and returns it.
    pub fn forget(&mut self, known: &BTreeSet<String>) -> BTreeSet<String> {
        let mut left_out = BTreeSet::new();
        for trouble in self.trouble.values_mut() {
            let old = trouble.extract_if(.., |own| known.contains(own));
            left_out.extend(old);
        }
        self.trouble.retain(|_, trouble| !trouble.is_empty());
        left_out
    }

    /// Whether each of these replicas has the share that the plan gives it, without a complaint, and no other service has
    /// lost anything by it.
    pub fn agrees(&self, plan: &RoutePlan, replicas: &[&Replica]) -> bool {
        let well = |replica: &&Replica| !self.trouble.contains_key(&replica.id);
        let shown = |replica: &&Replica| !plan.hides(replica);
        self.lost.is_empty()
            && self.follows(plan, replicas)
            && self
                .awaited(plan, replicas)
                .filter(shown)
                .all(|own| well(&own))
    }

    /// What to say of the first of these new replicas that is down.
    pub fn down_among(&self, news: &[&Replica]) -> Option<String> {
        let down = |new: &Replica| {
            let (name, service) = (new.target_name(), self.down.get(&new.id)?);
            Some(format!(
                "new replica {name} is DOWN by Traefik's health check of service {service}"
            ))
        };
        news.iter().find_map(|new| down(new))
    }

    /// The same, whatever the instances complain of.
    pub fn follows(&self, plan: &RoutePlan, replicas: &[&Replica]) -> bool {
        let shown =
            |replica: &&Replica| plan.share(replica).is_some_and(|own| own != Share::Hidden);
        let named = replicas.iter().filter(|own| shown(own)).count();
        let mut awaited = self.awaited(plan, replicas).filter(shown).peekable();
        // A set of which every replica is set aside has not taken over.
        let is_empty = named > 0 && awaited.peek().is_none();
        let wanted = |own: &Replica| plan.share(own).unwrap_or(Share::Live);
        let is = |own: &Replica| self.routing.get(&own.id) == Some(&wanted(own));
        !is_empty && self.awaited(plan, replicas).all(is)
    }

    /// The replicas whose share counts. One that the plan does not name, or gives a part of the traffic, is as it was: where
    /// it does not serve, the proxy cannot be expected to route to it.
    fn awaited<'a>(
        &'a self,
        plan: &'a RoutePlan,
        replicas: &'a [&'a Replica],
    ) -> impl Iterator<Item = &'a Replica> {
        let counts = |own: &&Replica| match plan.share(own) {
            None | Some(Share::Preview | Share::Weight(_)) => {
                own.serves() && !self.set_aside.contains(&own.id)
            }
            Some(Share::Hidden) => true,
            Some(Share::Live) => !self.set_aside.contains(&own.id),
        };
        replicas.iter().copied().filter(counts)
    }
}

/// A health check that the proxy itself makes of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCheck {
    /// The label that says most of it, with its value.
    pub label: String,
    /// The proxy checks first one interval after it has loaded a configuration.
    pub interval: Duration,
    /// The longest that one server may take.
    pub timeout: Duration,
    /// What a rollout asks; an error is why it leaves the check to the proxy.
    pub ask: Result<Check, String>,
}

impl ServiceCheck {
    /// Why a rollout cannot ask the same before the cutover; `verified` is whether the proxy verifies certificates.
    pub fn against_asking(&self, verified: bool) -> Option<&str> {
        match &self.ask {
            Err(why) => Some(why),
            Ok(check) if verified && check.speaks_tls() => {
                Some("only Traefik can verify the certificate")
            }
            Ok(_) => None,
        }
    }

    /// How long after a reload the proxy may take to have checked this many servers, one after another.
    pub fn verdict_after(&self, servers: u32) -> Duration {
        self.interval + self.timeout.saturating_mul(servers)
    }
}

/// Something of the proxy that reaches a service without the router of its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bypass {
    /// What it is and what it does, in one line.
    pub text: String,
    pub advice: String,
    /// Whether it routes to the service.
    pub routes: bool,
    /// The TCP port that it sends to, and what is spoken there.
    pub port: Option<(u16, Protocol)>,
}

/// Something of another service that a rollout of any service harms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hazard {
    /// What is concerned, as the proxy names it.
    pub subject: String,
    /// What is wrong with it, and what a rollout makes of that.
    pub text: String,
    /// The command that takes it out of the proxy.
    pub command: Option<String>,
}

impl Hazard {
    fn warning(&self) -> String {
        match &self.command {
            Some(command) => format!("{}; take it out first: {command}", self.text),
            None => self.text.clone(),
        }
    }
}

/// What a kind of proxy makes of the labels of a service.
pub trait LabelRules {
    /// The TCP ports of a replica that the proxy routes to, and what is spoken on each.
    fn routed_ports(&self, _: &Replica) -> BTreeMap<u16, Protocol> {
        BTreeMap::new()
    }

    /// Whether only datagrams are routed to a replica: they belong to no connection.
    fn only_datagrams(&self, _: &Replica) -> bool {
        false
    }

    /// Whether the proxy speaks TLS to replicas with these labels, so that nothing of their answers can be read.
    fn speaks_tls(&self, _: &Labels) -> bool {
        false
    }

    /// Refuses a new version that the proxy would not route to, as far as the labels and this image tell.
    fn refuse_version(&self, _: &ServiceContext<'_>, _: &Image) -> Result<()> {
        Ok(())
    }

    /// Whether the proxy passes on connections or datagrams to replicas with these labels, and has no weights for them.
    fn has_streams(&self, _: &Labels) -> bool {
        false
    }

    /// Why replicas with these labels cannot get weights, in a few words.
    fn against_weights(&self, _: &Labels) -> Option<String> {
        None
    }

    /// Why replicas with these labels cannot be previewed by this rule, in a few words.
    fn against_preview(&self, _: &Labels, _: &PreviewRule) -> Option<String> {
        None
    }

    /// The health checks that the proxy makes of a container with these labels and TCP ports.
    fn checks(&self, _: &Labels, _: &[u16]) -> Vec<ServiceCheck> {
        Vec::new()
    }

    /// What the proxy itself will ask of a replica, as far as it can be asked from here.
    fn readiness_checks(&self, replica: &Replica) -> Vec<Check> {
        let all = self.checks(&replica.labels, &replica.ports).into_iter();
        all.filter_map(|check| check.ask.ok()).collect()
    }
}

/// A proxy in front of one service.
#[async_trait(?Send)]
pub trait Router {
    /// What people call it.
    fn name(&self) -> &'static str;

    /// How traffic is moved, in a few words.
    fn describe(&self) -> String;

    /// Whether it routes to the service at all.
    fn routes(&self) -> bool;

    /// The containers that carry the traffic or tell where it goes, by name.
    fn containers(&self) -> Vec<(String, Role)> {
        Vec::new()
    }

    /// What it makes of labels.
    fn labels(&self) -> &'static dyn LabelRules;

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Whether it verifies the certificates of servers.
    fn verifies_servers(&self) -> bool {
        false
    }

    /// The commit record of the service, whose replicas these are.
    async fn claim(&mut self, replicas: &[Replica]) -> Result<Option<Claim>>;

    /// How long the proxy may hold back what it has read before it goes by it.
    fn held_back(&self) -> Duration {
        Duration::ZERO
    }

    /// Notes how long the proxy took to go by a change. On a machine that is short of time the next one may take as long.
    fn took(&mut self, _: Duration) {}

    /// How long what is to be the last word must stand: no less than a change has taken before.
    fn stand(&self) -> Duration {
        self.held_back()
    }

    /// Fences out earlier runs: their later writes fail. The routing stays as it is. A process whose lease expired may
    /// only have been suspended.
    async fn fence(&mut self, _: &Lock) -> Result<()> {
        Ok(())
    }

    /// Applies a claim's route plan, all of it at once, and records both; the same claim twice is one. These are all
    /// replicas of the service. Returns what the operator has to know of it.
    async fn apply(&mut self, claim: &Claim, replicas: &[Replica]) -> Result<Option<String>>;

    /// The writes of a claim, which [`write_all`] makes together with those of other services; `None` where a claim moves no
    /// traffic, and is applied once the others have moved.
    async fn stage(&mut self, _: &Claim, _: &[Replica]) -> Result<Option<Staged>> {
        Ok(None)
    }

    /// Notes the group of services that this one moves together with.
    fn join(&mut self, _group: &str) {}

    /// How to reach previewed replicas, as far as the last observation shows: a line each.
    fn ways_to_preview(&self) -> Vec<String> {
        Vec::new()
    }

    /// Gives the commit record up, keeping what a health check that has no result yet still needs.
    async fn release(&mut self, rollout: &RolloutId, replicas: &[Replica]) -> Result<()>;

    /// How long a request that the proxy has accepted can still be on its way to one of these replicas after a plan is
    /// confirmed.
    async fn switch_delay(&mut self, replicas: &[Replica]) -> Duration;

    /// What the proxy does now; `None` means "cannot tell", and never counts as yes.
    async fn observed(&mut self, replicas: &[Replica]) -> Option<Observation>;
}

/// The record of several places: as far as the furthest, hiding only what all hide, and stale where they differ.
pub fn combine(claims: Vec<Option<Claim>>) -> Option<Claim> {
    let all: Vec<&Claim> = claims.iter().flatten().collect();
    let order = |claim: &&Claim| match claim.phase {
        Phase::Committed => (3, 0),
        Phase::Shifted { step } => (2, step),
        Phase::ForceShown => (1, 0),
        Phase::Prepared | Phase::RolledBack | Phase::Settled => (0, 0),
    };
    // Of equals the first, as a socket proxy is asked before the next.
    let furthest = all.iter().copied().rev().max_by_key(order)?;
    let mut combined = Claim::clone(furthest);
    for claim in &claims {
        let same = claim.as_ref().is_some_and(|claim| {
            claim.phase == combined.phase && claim.rollout == combined.rollout && !claim.stale
        });
        combined.stale |= !same;
        let hides = |target: &Target| claim.as_ref().is_some_and(|own| own.plan.is_hidden(target));
        let keeps = |target: &Target, share: &mut Share| *share != Share::Hidden || hides(target);
        combined.plan.shares.retain(keeps);
    }
    Some(combined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Health, Run},
        plan::simulator::replica,
    };

    fn plan(rollout: &RolloutId, new: Share, olds: &[&Replica]) -> RoutePlan {
        let olds = olds.iter().map(|old| Target::Replica(old.id.clone()));
        let olds = olds.map(|old| (old, Share::Hidden));
        RoutePlan {
            shares: olds
                .chain([(Target::Rollout(rollout.clone()), new)])
                .collect(),
        }
    }

    #[test]
    fn a_replica_that_an_operator_hides_is_not_waited_for_but_a_side_must_have_a_live_one() {
        let rollout = RolloutId("r".to_owned());
        let old = |id| replica(id, None, Run::Running, Health::None);
        let (one, two) = (old("one"), old("two"));
        let new = replica("new", Some(&rollout), Run::Running, Health::None);
        let all = [&one, &two, &new];
        let back = plan(&rollout, Share::Hidden, &[]);
        let over = plan(&rollout, Share::Live, &[&one, &two]);
        let routing = |live: &Replica, hidden: [&Replica; 2]| {
            let hidden = hidden.map(|replica| (replica.id.clone(), Share::Hidden));
            let live = (live.id.clone(), Share::Live);
            hidden.into_iter().chain([live]).collect()
        };
        let mut observation = Observation {
            routing: routing(&one, [&two, &new]),
            ..Observation::default()
        };
        assert!(!observation.agrees(&back, &all));
        observation.set_aside.insert(two.id.clone());
        let trouble = vec!["none".to_owned()];
        observation.trouble.insert(two.id.clone(), trouble);
        assert!(observation.agrees(&back, &all));
        observation.routing = routing(&new, [&one, &two]);
        assert!(observation.agrees(&over, &all));
        observation.set_aside.insert(new.id.clone());
        assert!(!observation.agrees(&over, &all));
    }

    #[test]
    fn weights_are_part_of_what_a_proxy_agrees_on() {
        let rollout = RolloutId("r".to_owned());
        let old = replica("one", None, Run::Running, Health::None);
        let new = replica("new", Some(&rollout), Run::Running, Health::None);
        let shifted = RoutePlan {
            shares: [
                (Target::Replica(old.id.clone()), Share::Weight(9)),
                (Target::Rollout(rollout), Share::Weight(1)),
            ]
            .into(),
        };
        let says = |old_is, new_is| Observation {
            routing: [(old.id.clone(), old_is), (new.id.clone(), new_is)].into(),
            ..Observation::default()
        };
        let agrees = |now: Observation| now.agrees(&shifted, &[&old, &new]);
        assert!(agrees(says(Share::Weight(9), Share::Weight(1))));
        assert!(!agrees(says(Share::Weight(1), Share::Weight(1))));
        assert!(!agrees(says(Share::Live, Share::Weight(1))));
    }

    #[test]
    fn several_records_are_as_far_as_the_furthest_and_differ_until_all_are() {
        let id = |name: &str| ContainerId(name.to_owned());
        let claim = |phase, hides: &[&str], stale| Claim {
            rollout: RolloutId("r1".to_owned()),
            phase,
            plan: RoutePlan {
                shares: hides
                    .iter()
                    .map(|name| (Target::Replica(id(name)), Share::Hidden))
                    .collect(),
            },
            stale,
        };
        let cutover = |hides| Some(claim(Phase::Committed, hides, false));
        assert_eq!(combine(vec![None, None]), None);
        assert_eq!(
            combine(vec![cutover(&["a"]), cutover(&["a"])]),
            cutover(&["a"])
        );
        assert_eq!(
            combine(vec![
                Some(claim(Phase::Prepared, &[], false)),
                cutover(&["a"])
            ]),
            Some(claim(Phase::Committed, &[], true))
        );
        assert_eq!(
            combine(vec![
                cutover(&["a", "b"]),
                Some(claim(Phase::Committed, &["b"], true))
            ]),
            Some(claim(Phase::Committed, &["b"], true))
        );
        assert_eq!(
            combine(vec![cutover(&["a"]), None]),
            Some(claim(Phase::Committed, &[], true))
        );
    }

    #[test]
    fn what_was_broken_before_does_not_keep_a_new_version_from_being_confirmed() {
        let rollout = RolloutId("r".to_owned());
        let (old, starting) = ("old", "starting");
        let ids = [old, starting].map(|id| ContainerId(id.to_owned()));
        let trouble = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let before = Observation {
            routing: [(ids[0].clone(), Share::Live)].into(),
            trouble: [
                (ids[0].clone(), trouble(&["router a is disabled"])),
                (ids[1].clone(), trouble(&["router b does not exist"])),
            ]
            .into(),
            ..Observation::default()
        };
        let known = before.complaints();
        // Of what is not live yet, a router can be missing for that alone.
        assert_eq!(known, ["router a is disabled".to_owned()].into());
        let new = replica("new", Some(&rollout), Run::Running, Health::None);
        let agrees = |texts: &[&str]| {
            let mut now = Observation {
                routing: [(new.id.clone(), Share::Live)].into(),
                trouble: [(new.id.clone(), trouble(texts))].into(),
                ..Observation::default()
            };
            now.forget(&known);
            now.agrees(&plan(&rollout, Share::Live, &[]), &[&new])
        };
        assert!(agrees(&["router a is disabled"]));
        assert!(!agrees(&["router a is disabled", "router b is disabled"]));
    }
}
