//! What moves the traffic: one trait, and an implementation for each kind of proxy.

pub mod none;
#[cfg(test)]
pub mod testing;
pub mod traefik;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    error::Result,
    model::{Claim, ContainerId, Replica, RolloutId, Route, Routing, Side, Stage},
    namespace::{check::Check, traffic::Protocol},
    watch::Role,
};

/// The two sets of a rollout, and how far its routing is to be.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub rollout: &'a RolloutId,
    /// What the routing is to become; also its commit record.
    pub stage: Stage,
    /// The replicas of the rollout, as far as they exist.
    pub news: &'a [&'a Replica],
    /// All others.
    pub olds: &'a [&'a Replica],
}

/// What every instance of the proxy says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Only replicas on which all instances agree.
    pub routing: Routing,
    /// What an instance complains of on behalf of a replica: a router that is disabled, a server that is down.
    pub trouble: BTreeMap<ContainerId, Vec<String>>,
    /// Replicas of which an instance says that a server of theirs is down, by its own health check: in which service.
    pub down: BTreeMap<ContainerId, String>,
    /// Routers of other services that the cutover has taken away, a line each.
    pub lost: Vec<String>,
    /// Containers that an operator hides by hand: nobody waits until they are live.
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
        let live = |own: &&ContainerId| self.routing.get(*own) == Some(&Route::Live);
        let all = self.trouble.iter();
        all.filter(|(id, _)| live(id))
            .flat_map(|(_, trouble)| trouble.iter().cloned())
            .collect()
    }

    /// Leaves out what was complained of before.
    pub fn forget(&mut self, known: &BTreeSet<String>) {
        for trouble in self.trouble.values_mut() {
            trouble.retain(|own| !known.contains(own));
        }
        self.trouble.retain(|_, trouble| !trouble.is_empty());
    }

    /// Whether exactly the replicas of one side are live, and no other service has lost anything by it.
    pub fn agrees(&self, side: Side, news: &[&Replica], olds: &[&Replica]) -> bool {
        let live = if side == Side::New { news } else { olds };
        let well = |replica: &&Replica| !self.trouble.contains_key(&replica.id);
        let harmless = side == Side::Old || self.lost.is_empty();
        harmless
            && self.routes(side, news, olds)
            && self.wanted(side, live).all(|replica| well(&replica))
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
    pub fn routes(&self, side: Side, news: &[&Replica], olds: &[&Replica]) -> bool {
        use Route::{Hidden, Live};
        let (live, hidden) = match side {
            Side::New => (news, olds),
            Side::Old => (olds, news),
        };
        let is = |replica: &Replica, route| self.routing.get(&replica.id) == Some(&route);
        let mut wanted = self.wanted(side, live).peekable();
        // A new version of which nobody is live has not taken over.
        let nobody = side == Side::New && !live.is_empty() && wanted.peek().is_none();
        !nobody
            && wanted.all(|replica| is(replica, Live))
            && hidden.iter().all(|replica| is(replica, Hidden))
    }

    /// The replicas of the live side that have to be live.
    fn wanted<'a>(
        &'a self,
        side: Side,
        live: &'a [&'a Replica],
    ) -> impl Iterator<Item = &'a Replica> {
        // An old replica that does not serve any more cannot be what the way back waits for.
        let counts = move |replica: &&Replica| side == Side::New || replica.serves();
        live.iter()
            .copied()
            .filter(counts)
            .filter(|replica| !self.set_aside.contains(&replica.id))
    }
}

/// A proxy in front of one service.
#[async_trait(?Send)]
pub trait Proxy {
    /// How traffic is moved, in a few words.
    fn describe(&self) -> String;

    /// Whether it routes to the service at all.
    fn routes(&self) -> bool;

    /// The containers that carry the traffic or tell where it goes, by name.
    fn containers(&self) -> Vec<(String, Role)> {
        Vec::new()
    }

    /// The TCP ports of a replica that it routes to, and what is spoken on each.
    fn routed_ports(&self, replica: &Replica) -> BTreeMap<u16, Protocol>;

    /// Whether only datagrams are routed to a replica: they belong to no connection.
    fn only_datagrams(&self, replica: &Replica) -> bool;

    /// What the proxy itself will ask of a replica, as far as it can be asked from here.
    fn readiness_checks(&self, replica: &Replica) -> Vec<Check>;

    /// Whether a hold moves the traffic itself, and is to be confirmed before anything else is done.
    fn confirms_hold(&self) -> bool {
        false
    }

    /// The commit record of the service, whose replicas these are.
    async fn claim(&mut self, replicas: &[Replica]) -> Result<Option<Claim>>;

    /// How long the proxy may hold back what it has read before it goes by it. What is to be the last word must stand for
    /// as long.
    fn held_back(&self) -> Duration {
        Duration::ZERO
    }

    /// From here on no earlier run can change the routing any more, which stays as it is: one that was taken for dead may
    /// only have slept.
    async fn take_over(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes one change of the routing into effect, all of it at once; the same change twice is one.
    async fn route(&mut self, change: Change<'_>) -> Result<()>;

    /// What the operator has to know of the last change.
    fn take_notice(&mut self) -> Option<String> {
        None
    }

    /// Gives the commit record up, keeping what a health check that has not spoken yet still needs.
    async fn release(&mut self, rollout: &RolloutId, replicas: &[&Replica]) -> Result<()>;

    /// Whether a request that it has accepted can still be on its way to an old replica for seconds.
    async fn holds_requests(&mut self, _: &[Replica]) -> bool {
        false
    }

    /// What the proxy does now; `None` means "cannot tell", and never counts as yes.
    async fn observed(&mut self, replicas: &[Replica]) -> Option<Observation>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Health, Run},
        plan::simulator::replica,
    };

    #[test]
    fn a_replica_that_an_operator_hides_is_not_waited_for_but_a_side_must_have_a_live_one() {
        let rollout = RolloutId("r".to_owned());
        let old = |id| replica(id, None, Run::Running, Health::None);
        let (one, two) = (old("one"), old("two"));
        let new = replica("new", Some(&rollout), Run::Running, Health::None);
        let (olds, news) = (vec![&one, &two], vec![&new]);
        let routing = |live: &Replica, hidden: [&Replica; 2]| {
            let hidden = hidden.map(|replica| (replica.id.clone(), Route::Hidden));
            let live = (live.id.clone(), Route::Live);
            hidden.into_iter().chain([live]).collect()
        };
        let mut observation = Observation {
            routing: routing(&one, [&two, &new]),
            ..Observation::default()
        };
        assert!(!observation.agrees(Side::Old, &news, &olds));
        observation.set_aside.insert(two.id.clone());
        observation
            .trouble
            .insert(two.id.clone(), vec!["none".to_owned()]);
        assert!(observation.agrees(Side::Old, &news, &olds));
        observation.routing = routing(&new, [&one, &two]);
        assert!(observation.agrees(Side::New, &news, &olds));
        observation.set_aside.insert(new.id.clone());
        assert!(!observation.agrees(Side::New, &news, &olds));
    }

    #[test]
    fn what_was_broken_before_does_not_keep_a_new_version_from_being_confirmed() {
        let rollout = RolloutId("r".to_owned());
        let (old, starting) = ("old", "starting");
        let ids = [old, starting].map(|id| ContainerId(id.to_owned()));
        let trouble = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let before = Observation {
            routing: [(ids[0].clone(), Route::Live)].into(),
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
                routing: [(new.id.clone(), Route::Live)].into(),
                trouble: [(new.id.clone(), trouble(texts))].into(),
                ..Observation::default()
            };
            now.forget(&known);
            now.agrees(Side::New, &[&new], &[])
        };
        assert!(agrees(&["router a is disabled"]));
        assert!(!agrees(&["router a is disabled", "router b is disabled"]));
    }
}
