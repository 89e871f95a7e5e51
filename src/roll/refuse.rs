//! What a rollout of a service is refused for before anything is touched, and what it needs to be there.

use std::collections::BTreeSet;

use super::front::InFront;
use crate::{
    check::Check,
    compose::check::{Kind, check},
    context::{Purpose, RunContext, ServiceContext},
    engine::Image,
    error::{Error, Outcome, Result},
    model::{ContainerId, Health, Order, Replica, Route},
    proxy::traefik::{
        discover::{self, Landscape},
        fields::{Unknown, unknown},
        names::names,
        ports,
    },
    proxy::{Observation, Proxy},
    retry,
    settings::Settings,
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

    /// Empty where the proxy cannot tell.
    pub(super) async fn read(proxy: &mut dyn Proxy, replicas: &[Replica]) -> Self {
        let observation = settled_view(proxy, replicas).await;
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

impl RunContext<'_> {
    /// `image` is that of the new version, where it is known.
    pub(super) fn refuse_two_sets(
        &self,
        context: &ServiceContext<'_>,
        image: Option<&Image>,
        notices: &mut Vec<String>,
    ) -> Result<()> {
        let (service, settings) = (context.service, &context.settings);
        let volumes = image.map_or(&[][..], |image| &image.volumes);
        let (replicas, joined) = (context.replicas, &context.joined);
        let mut problems = check(self.project, service, replicas, volumes, joined);
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
    pub(super) fn refuse_ports(&self, context: &ServiceContext<'_>, image: &Image) -> Result<()> {
        let exposed = ports::exposed(context.service, &image.ports);
        let labels = context.labels(Some(image));
        let name = &context.service.name;
        if let Some((own, url)) = ports::fixed_address(&labels)
            && context.settings.order() == Order::StartFirst
        {
            let message = format!(
                "Traefik sends to {url} for {name}, whichever version is there (loadbalancer.server.url of {own})"
            );
            return Err(Error::refused(message).hint(
                "give it loadbalancer.server.port and server.scheme instead, or roll with --strategy recreate",
            ));
        }
        let Some(trap) = ports::trap(&labels, &exposed) else {
            return Ok(());
        };
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
    fn refuse_unknown_labels(&self, context: &ServiceContext<'_>) -> Result<()> {
        let olds = context.olds.iter();
        let before: Vec<Unknown> = olds.flat_map(|old| unknown(&old.labels)).collect();
        let added = |own: &Unknown| own.is_certain && !before.contains(own);
        let found = unknown(&context.service.labels);
        let Some(own) = found.into_iter().find(added) else {
            return Ok(());
        };
        let name = &context.service.name;
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

    /// The new replicas get their final names last, when nothing could be undone any more.
    fn refuse_taken_names(
        &self,
        context: &ServiceContext<'_>,
        landscape: &Landscape,
    ) -> Result<()> {
        let (service, between) = (context.service, self.compose.separator());
        let numbered = (1..=context.replicas).map(|number| {
            [&self.project.name, &service.name, &number.to_string()]
                .map(String::as_str)
                .join(between)
        });
        let names: Vec<String> = match &service.container_name {
            Some(name) => vec![name.clone()],
            None => numbered.collect(),
        };
        let is_old = |id: &String| context.olds.iter().any(|old| old.id.0 == *id);
        let others = landscape.containers.iter();
        let others = others.filter(|own| !own.id.as_ref().is_some_and(is_old));
        let taken: BTreeSet<String> = others.map(discover::name).collect();
        match names.iter().find(|name| taken.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(Error::refused(format!(
                "the name {name} is taken by a container that is no replica of {}",
                service.name
            ))
            .hint(format!("docker rename {name} OTHER, or docker rm {name}"))),
        }
    }

    /// Reports what is broken already before anything is changed: a rollout may repair it, or not.
    async fn tell_trouble(&self, context: &ServiceContext<'_>, proxy: &mut dyn Proxy) -> Before {
        let (service, olds) = (&context.service.name, &context.olds);
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

    /// Refuses a service that needs another one which does not exist yet.
    fn refuse_missing(&self, context: &ServiceContext<'_>) -> Result<()> {
        let service = context.service;
        let is_missing = |name: &String| {
            let mut own = service.depends_on.iter();
            let required = own.find(|own| own.service == *name);
            let exists = context.dependencies.iter().any(|(own, _)| own == name);
            required.is_none_or(|own| own.required)
                && self.project.services.contains_key(name)
                && !exists
                && !context.earlier.contains(&name.as_str())
        };
        match self
            .project
            .dependencies(&service.name)
            .iter()
            .find(|name| is_missing(name))
        {
            None => Ok(()),
            Some(name) => Err(Error::refused(format!(
                "{} depends on {name}, which has no container yet",
                service.name
            ))
            .hint(format!("docker compose up -d {name}"))),
        }
    }

    /// Refuses what the service itself makes impossible, whatever is in front of it. Returns notices.
    pub(super) async fn refuse_service(
        &self,
        context: &ServiceContext<'_>,
        landscape: &Landscape,
    ) -> Result<Vec<String>> {
        discover::refuse_own_parts(landscape, &context.olds).await?;
        let mut notices = Vec::new();
        if context.purpose == Purpose::Settle {
            return Ok(notices);
        }
        let name = &context.service.name;
        if context.replicas == 0 {
            let message = format!("{name} has a scale of 0 in the Compose file");
            return Err(Error::refused(message).hint(format!(
                "docker compose up -d {name} stops it; to start it: --scale 1"
            )));
        }
        self.refuse_two_sets(context, context.image.as_ref(), &mut notices)?;
        self.refuse_missing(context)?;
        Ok(notices)
    }

    /// Refuses what the names and labels of the new version would cause. Returns what is wrong with the routing already.
    pub(super) async fn refuse_labels(
        &self,
        context: &ServiceContext<'_>,
        landscape: &Landscape,
        front: &mut InFront,
        notices: &mut Vec<String>,
    ) -> Result<Before> {
        let settings = &context.settings;
        let InFront {
            proxy, traefiks, ..
        } = front;
        let clashes = self.refuse_clashes(context, landscape, traefiks);
        if context.purpose == Purpose::Settle {
            notices.extend(clashes.await?);
            return Ok(Before::default());
        }
        let trouble = self.tell_trouble(context, &mut **proxy);
        let (clashes, before) = tokio::join!(clashes, trouble);
        self.refuse_taken_names(context, landscape)?;
        notices.extend(clashes?);
        if proxy.routes() {
            let unknown = self.refuse_unknown_labels(context);
            pass_over(settings, Check::Labels, unknown, notices)?;
        }
        if let Some(image) = context.image.as_ref().filter(|_| proxy.routes()) {
            let ports = self.refuse_ports(context, image);
            pass_over(settings, Check::Rollout, ports, notices)?;
        }
        Ok(before)
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
        broken || observation.routing.get(&own.id) != Some(&Route::Live)
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
        observation.routing.insert(one.id.clone(), Route::Live);
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
                routing: live.map(|own| (own.id.clone(), Route::Live)).collect(),
                ..Observation::default()
            })
        };
        let unrouted = async |answers: Vec<Option<Observation>>| {
            let mut proxy = Scripted {
                answers: answers.into(),
                held_back: Duration::from_millis(2500),
            };
            let begun = Instant::now();
            let before = Before::read(&mut proxy, &replicas).await;
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
