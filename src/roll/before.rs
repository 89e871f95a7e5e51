//! What is wrong with the routing of a service before a rollout changes anything.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use crate::{
    context::{Purpose, RunContext, ServiceContext},
    model::{ContainerId, Health, Replica, Share},
    proxy::{Observation, Router},
    retry,
};

/// For this long after its start, a replica may have no route because the proxy is behind: on a machine that is short of
/// time, more than its throttle passes until it routes to a new container.
const FRESH: Duration = Duration::from_secs(20);

/// Routing faults from before the rollout.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// The replicas that no proxy routes to.
    pub unrouted: BTreeSet<ContainerId>,
    /// Errors that the proxy reports although the replicas are live.
    pub complaints: BTreeSet<String>,
}

impl Before {
    /// Empty if the proxy is not asked or cannot tell.
    pub(super) async fn read(proxy: &mut dyn Router, replicas: &[Replica], is_asked: bool) -> Self {
        match is_asked {
            true => settled_view(proxy, replicas).await.0,
            false => Self::default(),
        }
    }
}

/// The routing faults of these replicas, and the proxy's report. The proxy may not have read containers that just
/// started, so a missing route counts only after its throttle has passed, once they are not fresh any more, and if it
/// answers then.
async fn settled_view(
    proxy: &mut dyn Router,
    replicas: &[Replica],
) -> (Before, Option<Observation>) {
    let is_well = |now: &Observation| {
        let unrouted = unrouted(now, replicas);
        now.trouble.is_empty() && unrouted.is_subset(&now.set_aside)
    };
    let mut last = proxy.observed(replicas).await;
    let mut answers = last.is_some();
    if !last.as_ref().is_some_and(is_well) {
        answers = false;
        let mut limit = proxy.held_back();
        // Once more where a replica is fresh then.
        for _ in 0..2 {
            let mut ends = false;
            retry::until(limit, async || {
                let now = proxy.observed(replicas).await;
                ends = now.as_ref().is_some_and(is_well);
                answers = now.is_some();
                last = now.or_else(|| last.take());
                ends
            })
            .await;
            let late = last.as_ref().filter(|_| answers && !ends);
            let fresh = late.map(|seen| fresh_for(seen, replicas, SystemTime::now()));
            limit = fresh.unwrap_or_default();
            if limit.is_zero() {
                break;
            }
        }
    }
    let complaints = last.as_ref().map(Observation::complaints);
    let late = last.as_ref().filter(|_| answers);
    let before = Before {
        unrouted: late.map_or_else(BTreeSet::new, |now| unrouted(now, replicas)),
        complaints: complaints.unwrap_or_default(),
    };
    (before, last)
}

impl RunContext<'_> {
    /// Reports routing faults that exist before the first change.
    pub(super) async fn warn_of_broken_routing(
        &self,
        context: &ServiceContext<'_>,
        proxy: &mut dyn Router,
    ) -> Before {
        let (service, olds) = (&context.service.name, &context.olds);
        let is_rolled = context.purpose == Purpose::Roll;
        if !is_rolled || !proxy.routes() || !olds.iter().any(Replica::serves) {
            return Before::default();
        }
        let (before, said) = settled_view(proxy, olds).await;
        let mut trouble = said.iter().flat_map(|said| said.trouble.values().flatten());
        if let Some(trouble) = trouble.next() {
            self.events.notice(format!(
                "{} does not serve {service} as it runs now: {trouble}; its log says why, often another container with a \
                 router of the same name",
                proxy.name()
            ));
        }
        before
    }
}

/// The replicas without a route, or with broken routers only. Starting replicas do not count yet.
fn unrouted(observation: &Observation, replicas: &[Replica]) -> BTreeSet<ContainerId> {
    let settled = replicas
        .iter()
        .filter(|own| own.serves() && own.health != Health::Starting);
    let idle = settled.filter(|own| {
        let is_broken = observation.broken.contains(&own.id);
        let share = observation.routing.get(&own.id);
        let is_shown = share.is_some_and(|share| *share != Share::Hidden);
        is_broken || !is_shown
    });
    idle.map(|own| own.id.clone()).collect()
}

/// How long one of the replicas without a route stays fresh. Of one with broken routers the proxy has read the labels.
fn fresh_for(observation: &Observation, replicas: &[Replica], now: SystemTime) -> Duration {
    let unrouted = unrouted(observation, replicas);
    let may_come = replicas.iter().filter(|own| {
        let is_decided =
            observation.set_aside.contains(&own.id) || observation.broken.contains(&own.id);
        unrouted.contains(&own.id) && !is_decided
    });
    let left = may_come.filter_map(|own| {
        let started = humantime::parse_rfc3339(&own.started_at).ok()?;
        // The engine's clock may be ahead.
        let age = now.duration_since(started).unwrap_or_default();
        Some(FRESH.saturating_sub(age))
    });
    left.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::{plan::simulator::old, proxy::testing::Scripted};

    #[test]
    fn a_replica_without_a_working_router_is_not_routed_to() {
        let one = old("one");
        let starts = Replica {
            health: Health::Starting,
            ..old("starts")
        };
        let all = [one.clone(), starts];
        let mut observation = Observation::default();
        assert_eq!(unrouted(&observation, &all), [one.id.clone()].into());
        observation.routing.insert(one.id.clone(), Share::Live);
        assert_eq!(unrouted(&observation, &all), [].into());
        observation.broken.insert(one.id.clone());
        assert_eq!(unrouted(&observation, &all), [one.id].into());
    }

    #[test]
    fn a_replica_without_a_route_is_fresh_for_a_while_after_its_start() {
        let started = humantime::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        let one = Replica {
            started_at: "2026-01-01T00:00:00Z".to_owned(),
            ..old("one")
        };
        let all = [one.clone(), old("two")];
        let none = Observation::default();
        let after = |seconds| fresh_for(&none, &all, started + Duration::from_secs(seconds));
        let seconds = Duration::from_secs;
        assert_eq!([after(5), after(20)], [seconds(15), Duration::ZERO]);
        let ahead = fresh_for(&none, &all, started - seconds(60));
        assert_eq!(ahead, FRESH);
        let mut said = [none.clone(), none.clone(), none];
        said[0].routing.insert(one.id.clone(), Share::Live);
        said[1].broken.insert(one.id.clone());
        said[2].set_aside.insert(one.id);
        for said in said {
            assert_eq!(fresh_for(&said, &all, started), Duration::ZERO);
        }
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
                slowest: Duration::ZERO,
            };
            let begun = Instant::now();
            let before = Before::read(&mut proxy, &replicas, true).await;
            (before.unrouted, begun.elapsed())
        };
        let (behind, _) = unrouted(vec![seen(1), None, seen(1), seen(2)]).await;
        assert_eq!(behind, [].into());
        let (well, took) = unrouted(vec![seen(2)]).await;
        assert_eq!((well, took), ([].into(), Duration::ZERO));
        let (mute, _) = unrouted(vec![seen(1), None]).await;
        assert_eq!(mute, [].into(), "one answer may be of the time before");
        let (never, took) = unrouted(vec![seen(1)]).await;
        assert_eq!(never, [replicas[1].id.clone()].into());
        assert_eq!(took, Duration::from_millis(2500));
    }
}
