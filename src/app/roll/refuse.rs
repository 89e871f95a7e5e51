//! What a rollout of a service is refused for before anything is touched, and what it needs to be there.

use std::collections::{BTreeMap, BTreeSet};

use super::Scene;
use crate::{
    check::Check,
    compose::{
        Service,
        check::{Kind, check},
    },
    engine::{Image, shared::Joined},
    error::{Error, Outcome, Result},
    model::{ContainerId, Health, Order, Replica, ServiceKey, Share},
    proxy::traefik::{
        discover::Wanted,
        fields::{Unknown, unknown},
        names::names,
        ports,
    },
    proxy::{Observation, Proxy},
    retry,
    settings::{PullPolicy, Settings},
};

/// Lets a refusal by a check pass that the operator ignores, and notes that for the time when the rollout begins.
pub(super) fn pass_over(
    settings: &Settings,
    check: Check,
    result: Result<()>,
    notices: &mut Vec<String>,
) -> Result<()> {
    match result {
        Err(error) if error.outcome == Outcome::Refused && settings.ignores(check) => {
            notices.push(in_spite_of(&error.message, check));
            Ok(())
        }
        other => other,
    }
}

fn in_spite_of(refusal: &str, check: Check) -> String {
    format!("{refusal}; going on because of --ignore {check}")
}

/// What ails the routing before a rollout, and is none of its doing.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// The replicas that no proxy routes to.
    pub unrouted: BTreeSet<ContainerId>,
    /// What the proxy complains of although the replicas are live.
    pub complaints: BTreeSet<String>,
}

impl Before {
    fn of(observation: &Observation, replicas: &[Replica]) -> Self {
        Self {
            unrouted: unrouted(observation, replicas),
            complaints: observation.complaints(),
        }
    }

    /// Empty where the proxy is not to be asked, or cannot tell.
    pub(super) async fn read(proxy: &mut dyn Proxy, replicas: &[Replica], is_asked: bool) -> Self {
        let observation = match is_asked {
            true => settled_view(proxy, replicas).await,
            false => None,
        };
        observation.map_or_else(Self::default, |now| Self::of(&now, replicas))
    }
}

/// What the proxy says of these replicas. A fault counts once the proxy cannot be behind: it may not have read yet what
/// Compose started a moment ago.
async fn settled_view(proxy: &mut dyn Proxy, replicas: &[Replica]) -> Option<Observation> {
    let is_well = |now: &Observation| {
        let unrouted = unrouted(now, replicas);
        now.trouble.is_empty() && unrouted.is_subset(&now.set_aside)
    };
    let mut last = proxy.observed(replicas).await;
    if !last.as_ref().is_some_and(is_well) {
        retry::until(proxy.held_back(), async || {
            last = proxy.observed(replicas).await;
            last.as_ref().is_some_and(is_well)
        })
        .await;
    }
    last
}

impl Scene<'_> {
    pub(super) fn refuse_two_sets(
        &self,
        service: &Service,
        replicas: u32,
        settings: &Settings,
        image_volumes: &[String],
        joined: &[Joined],
        notices: &mut Vec<String>,
    ) -> Result<()> {
        let mut problems = check(self.project, service, replicas, image_volumes, joined);
        if settings.order() == Order::StopFirst {
            problems.retain(|problem| problem.kind.stops_one_set_too());
        }
        problems.retain(|problem| {
            problem.kind != Kind::AnonymousVolumes || !settings.renew_anon_volumes
        });
        problems.retain(|problem| {
            let check = problem.kind.check();
            let passed = settings.ignores(check);
            if passed {
                notices.push(in_spite_of(&problem.message, check));
            }
            !passed
        });
        match problems.first() {
            None => Ok(()),
            Some(first) => {
                let others = problems[1..]
                    .iter()
                    .map(|problem| format!("\n      also: {}", problem.message));
                Err(Error::refused(&first.message).hint(format!(
                    "{}{}",
                    first.hint,
                    others.collect::<String>()
                )))
            }
        }
    }

    /// Refuses a new version that Traefik would send to the wrong port of, or leave out for want of one.
    pub(super) fn refuse_ports(
        &self,
        service: &Service,
        settings: &Settings,
        image: &Image,
    ) -> Result<()> {
        let exposed = ports::exposed(service, &image.ports);
        let labels = self.labels(service, Some(image));
        if let Some((own, url)) = ports::fixed_address(&labels)
            && settings.order() == Order::StartFirst
        {
            let message = format!(
                "Traefik sends to {url} for {}, whichever version is there (loadbalancer.server.url of {own})",
                service.name
            );
            return Err(Error::refused(message).hint(
                "give it loadbalancer.server.port and server.scheme instead, or roll with --strategy recreate",
            ));
        }
        let Some(trap) = ports::trap(&labels, &exposed) else {
            return Ok(());
        };
        let name = &service.name;
        let message = match trap.taken {
            Some(taken) => format!(
                "Traefik would send to port {}/{} of {name}, the lowest that it exposes",
                taken.port,
                if taken.udp { "udp" } else { "tcp" }
            ),
            None => format!("Traefik would leave {name} out: it exposes no port"),
        };
        let port = trap
            .meant
            .map_or("PORT".to_owned(), |port| port.to_string());
        Err(Error::refused(message).hint(format!(
            "add the label {}: \"{port}\" to {name}",
            trap.label
        )))
    }

    /// Refuses a label for which Traefik would leave the new version out, unless what runs has it already: then there is
    /// nothing to lose.
    pub(super) fn refuse_unknown_labels(&self, service: &Service, olds: &[Replica]) -> Result<()> {
        let before: Vec<Unknown> = olds.iter().flat_map(|old| unknown(&old.labels)).collect();
        let added = |own: &Unknown| own.is_certain && !before.contains(own);
        let found = unknown(&service.labels);
        let Some(own) = found.into_iter().find(added) else {
            return Ok(());
        };
        let name = &service.name;
        let meant = own
            .meant
            .map_or_else(String::new, |word| format!("did you mean {word}? "));
        Err(Error::refused(format!(
            "Traefik has no option {}: it would leave {name} out because of this label",
            own.label
        ))
        .hint(format!(
            "{meant}Correct the label or remove it; where a Traefik newer than v3.7 has it: rollout {name} --ignore labels"
        )))
    }

    /// The labels of the new version as far as they are known.
    pub(super) fn labels(
        &self,
        service: &Service,
        image: Option<&Image>,
    ) -> BTreeMap<String, String> {
        let key = ServiceKey {
            project: self.project.name.clone(),
            service: service.name.clone(),
        };
        let image = image.map(|image| &image.labels);
        Wanted::new(&key, &service.labels, image, BTreeSet::new()).labels
    }

    /// The image, where it is here already and stays; another is checked once it is here.
    pub(super) async fn image_that_stays(
        &self,
        service: &Service,
        settings: &Settings,
    ) -> Result<Option<Image>> {
        let stays = match settings.pull {
            PullPolicy::Always => false,
            PullPolicy::Policy => !matches!(
                service.pull_policy.as_deref(),
                Some("always" | "build" | "daily" | "weekly")
            ),
            PullPolicy::Missing | PullPolicy::Never => true,
        };
        let built = service.has_build && settings.build;
        match &service.image {
            Some(reference) if stays && !built => self.engine.image(reference).await,
            _ => Ok(None),
        }
    }

    /// The new replicas get their final names last, when nothing could be undone any more.
    pub(super) async fn refuse_taken_names(
        &self,
        service: &Service,
        replicas: u32,
        olds: &[Replica],
    ) -> Result<()> {
        let between = self.compose.separator();
        let numbered = (1..=replicas).map(|number| {
            [&self.project.name, &service.name, &number.to_string()]
                .map(String::as_str)
                .join(between)
        });
        let names: Vec<String> = match &service.container_name {
            Some(name) => vec![name.clone()],
            None => numbered.collect(),
        };
        for name in names {
            let Some(found) = self.engine.inspect(&name).await? else {
                continue;
            };
            let id = found.id.unwrap_or_default();
            // What is found by an id that begins like a name is somebody else.
            let named = found.name.as_deref().map(|own| own.trim_start_matches('/'));
            let own = olds.iter().any(|old| old.id.0 == id);
            if named == Some(name.as_str()) && !own {
                return Err(Error::refused(format!(
                    "the name {name} is taken by a container that is no replica of {}",
                    service.name
                ))
                .hint(format!("docker rename {name} OTHER, or docker rm {name}")));
            }
        }
        Ok(())
    }

    /// Reports what is broken already before anything is changed: a rollout may repair it, or not.
    pub(super) async fn tell_trouble(
        &self,
        service: &str,
        proxy: &mut dyn Proxy,
        olds: &[Replica],
    ) -> Before {
        if !proxy.routes() || !olds.iter().any(Replica::serves) {
            return Before::default();
        }
        let Some(observation) = settled_view(proxy, olds).await else {
            return Before::default();
        };
        if let Some(trouble) = observation.trouble.values().flatten().next() {
            self.events.notice(format!(
                "Traefik does not serve {service} as it runs now: {trouble}; its log says why, often another container \
                 with a router of the same name"
            ));
        }
        Before::of(&observation, olds)
    }

    /// Every service that this one needs, and how many replicas it has; one that does not exist yet is refused.
    pub(super) async fn dependencies(
        &self,
        service: &Service,
        earlier: &[&str],
    ) -> Result<Vec<(String, u32)>> {
        let mut dependencies = Vec::new();
        for name in self.project.dependencies(&service.name) {
            let key = ServiceKey {
                project: self.project.name.clone(),
                service: name.clone(),
            };
            let replicas = self.engine.replicas(&key).await?;
            let required = service
                .depends_on
                .iter()
                .find(|own| own.service == name)
                .is_none_or(|own| own.required);
            let comes = earlier.contains(&name.as_str());
            let known = self.project.services.contains_key(&name);
            if replicas.is_empty() && required && known && !comes {
                let missing = Error::refused(format!(
                    "{} depends on {name}, which has no container yet",
                    service.name
                ));
                return Err(missing.hint(format!("docker compose up -d {name}")));
            }
            if !replicas.is_empty() {
                dependencies.push((name, replicas.len() as u32));
            }
        }
        Ok(dependencies)
    }
}

/// The replicas that should be routed to, and are not, or whose routers are all broken; of what still starts nothing is
/// to be said yet.
fn unrouted(observation: &Observation, replicas: &[Replica]) -> BTreeSet<ContainerId> {
    let settled = replicas
        .iter()
        .filter(|own| own.serves() && own.health != Health::Starting);
    let idle = settled.filter(|own| {
        let trouble = observation.trouble.get(&own.id);
        let ails = |router: &str| {
            let begin = format!("router {router} ");
            let mut all = trouble.into_iter().flatten();
            all.any(|text| text.starts_with(&begin))
        };
        let routers = names(&own.labels).routers;
        let broken = !routers.is_empty() && routers.iter().all(|(_, router)| ails(router));
        broken || observation.routing.get(&own.id) != Some(&Share::Live)
    });
    idle.map(|own| own.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{plan::simulator::old, proxy::testing::Scripted};

    #[test]
    fn a_replica_without_a_working_router_is_not_routed_to() {
        let labels = ["traefik.tcp.routers.a.rule", "traefik.tcp.routers.b.rule"];
        let labels = labels.map(|key| (key.to_owned(), "HostSNI(`*`)".to_owned()));
        let one = Replica {
            labels: labels.into(),
            ..old("one")
        };
        let starts = Replica {
            health: Health::Starting,
            ..old("starts")
        };
        let all = [one.clone(), starts];
        let none = |observation: &Observation| unrouted(observation, &all).is_empty();
        let mut observation = Observation::default();
        assert_eq!(unrouted(&observation, &all), [one.id.clone()].into());
        observation.routing.insert(one.id.clone(), Share::Live);
        assert!(none(&observation));
        let mut trouble = vec!["router a is disabled".to_owned()];
        observation.trouble.insert(one.id.clone(), trouble.clone());
        assert!(none(&observation), "the other router works");
        // What ails a service, or one router at several Traefiks, breaks no other router.
        trouble.push("service web-shop is disabled".to_owned());
        trouble.push("router a does not exist".to_owned());
        observation.trouble.insert(one.id.clone(), trouble.clone());
        assert!(none(&observation), "the other router still works");
        trouble.push("router b is disabled".to_owned());
        observation.trouble.insert(one.id.clone(), trouble);
        assert!(!none(&observation));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_the_proxy_has_not_read_yet_is_waited_for_as_long_as_it_may_be_behind() {
        let replicas = [old("one"), old("two")];
        let seen = |count: usize| {
            let live = replicas[..count].iter();
            Some(Observation {
                routing: live.map(|own| (own.id.clone(), Share::Live)).collect(),
                ..Observation::default()
            })
        };
        let unrouted = async |answers: Vec<Option<Observation>>| {
            let mut proxy = Scripted {
                answers: answers.into(),
                held_back: Duration::from_millis(2500),
            };
            let begun = Instant::now();
            let before = Before::read(&mut proxy, &replicas, true).await;
            (before.unrouted, begun.elapsed())
        };
        let (behind, _) = unrouted(vec![seen(1), None, seen(1), seen(2)]).await;
        assert_eq!(behind, [].into());
        let (well, took) = unrouted(vec![seen(2)]).await;
        assert_eq!((well, took), ([].into(), Duration::ZERO));
        let (never, took) = unrouted(vec![seen(1)]).await;
        assert_eq!(never, [replicas[1].id.clone()].into());
        assert_eq!(took, Duration::from_millis(2500));
    }
}
