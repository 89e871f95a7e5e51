//! Asks a proxy until it reports a route plan: the one wait of every step and command that needs it.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{Observation, Router};
use crate::{
    model::{Replica, RoutePlan, Share},
    retry,
};

/// A complaint that stands for this long is no passing state of a reload.
const COMPLAINT: Duration = Duration::from_millis(500);

/// What a proxy is asked to agree on.
pub struct Question<'a> {
    pub plan: &'a RoutePlan,
    /// Every replica of the service.
    pub replicas: &'a [Replica],
    pub awaited: &'a [&'a Replica],
    /// What the proxy complained of before the change. `None` where no complaint counts.
    pub known: Option<&'a BTreeSet<String>>,
}

/// What the proxy has said once it is decided, or the time is over.
pub async fn agree(proxy: &mut dyn Router, question: &Question<'_>, limits: &Limits) -> Looks {
    let mut looks = Looks::default();
    let begun = Instant::now();
    retry::until(limits.total, async || {
        let Some(mut observation) = proxy.observed(question.replicas).await else {
            looks.absent_since = None;
            return false;
        };
        if let Some(known) = question.known {
            looks.as_before = observation.forget(known);
        }
        looks.take(&observation, question);
        looks.has_stood = looks.stands_for(limits.stand);
        looks.has_stood || looks.are_decided(limits)
    })
    .await;
    if let Some(at) = looks.agreed_since {
        proxy.took(at - begun);
    }
    looks
}

/// How long a proxy is asked to agree, and how long it must say the same.
pub struct Limits {
    pub total: Duration,
    /// For how long an agreement must stand.
    pub stand: Duration,
    /// For how long the proxy may hold back what it has read.
    pub held_back: Duration,
    /// There are old replicas to go back to, so a complaint need not be waited out.
    pub way_back: bool,
}

/// What a proxy has said while it was asked to agree.
#[derive(Default)]
pub struct Looks {
    agreed: bool,
    agreed_since: Option<Instant>,
    /// It has agreed for as long as it must.
    pub has_stood: bool,
    pub trouble: Vec<String>,
    /// What it complained of before the change, and still does.
    pub as_before: BTreeSet<String>,
    /// Routers of other services that the cutover may have taken away: one whose container has restarted is missing too
    /// until Traefik has read it again.
    pub lost: Vec<String>,
    harms_since: Option<Instant>,
    refused_since: Option<Instant>,
    absent_since: Option<Instant>,
}

impl Looks {
    fn take(&mut self, observation: &Observation, question: &Question<'_>) {
        let (plan, awaited) = (question.plan, question.awaited);
        let (strict, follows) = (question.known.is_some(), observation.follows(plan, awaited));
        self.agreed = match strict {
            true => observation.agrees(plan, awaited),
            false => follows,
        };
        since(&mut self.agreed_since, self.agreed);
        self.trouble = observation.trouble.values().flatten().cloned().collect();
        self.lost.clone_from(&observation.lost);
        let news = awaited.iter().filter(|own| plan.shows(own));
        let news: Vec<&Replica> = news.copied().collect();
        let down = observation.down_among(&news).filter(|_| strict);
        // It has switched, and still it does not serve: waiting for longer only makes the outage longer.
        let switched = down.is_some() || follows;
        self.trouble.extend(down);
        let refused = switched && !self.agreed;
        since(&mut self.refused_since, refused && !self.trouble.is_empty());
        since(&mut self.harms_since, refused && !self.lost.is_empty());
        // It has switched, and lists nothing of the new version: a label of it keeps the whole replica out. Only an old
        // replica that still runs and has left shows the switch: stopped, it is not listed before the switch either.
        let left = awaited.iter().any(|own| own.serves() && plan.hides(own));
        let hidden = |own: &&Replica| observation.routing.get(&own.id) == Some(&Share::Hidden);
        let absent = strict && left && !self.trouble.is_empty() && awaited.iter().all(hidden);
        since(&mut self.absent_since, absent);
    }

    /// Whether the proxy has taken the change in, and still does not serve.
    pub fn has_switched(&self) -> bool {
        self.refused_since.or(self.harms_since).is_some()
    }

    fn stands_for(&self, long: Duration) -> bool {
        stands(self.agreed_since, long)
    }

    pub fn complaint(&self, held_back: Duration) -> Option<String> {
        if let Some(first) = self.lost.first().filter(|_| self.harms(held_back)) {
            return Some(format!(
                "with the new version the proxy loses the route of another service: {first}"
            ));
        }
        let first = self.trouble.first()?;
        Some(format!("the proxy does not serve the new version: {first}"))
    }

    fn refused(&self, held_back: Duration) -> bool {
        // What Traefik holds back may still come.
        stands(self.refused_since, COMPLAINT) || stands(self.absent_since, held_back)
    }

    /// Whether it is certain before the time is over that the proxy will not agree.
    pub fn are_decided(&self, limits: &Limits) -> bool {
        self.harms(limits.held_back) || (limits.way_back && self.refused(limits.held_back))
    }

    /// Whether routers of other services stay away although all that Traefik holds back has come.
    pub fn harms(&self, held_back: Duration) -> bool {
        stands(self.harms_since, held_back)
    }
}

/// Notes since when something is so.
fn since(at: &mut Option<Instant>, is_so: bool) {
    match is_so {
        true => drop(at.get_or_insert_with(Instant::now)),
        false => *at = None,
    }
}

fn stands(since: Option<Instant>, long: Duration) -> bool {
    since.is_some_and(|at| at.elapsed() >= long)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Health, Run, Target},
        plan::simulator::{old, replica, rollout},
        proxy::testing::Scripted,
    };

    const HELD_BACK: Duration = Duration::from_millis(2500);

    /// One old and one new replica, and the plan that moves the traffic from one to the other.
    struct Pair {
        old: Replica,
        new: Replica,
        plan: RoutePlan,
    }

    fn pair() -> Pair {
        let of = rollout("r2");
        let old = old("one");
        let shares = [
            (Target::Replica(old.id.clone()), Share::Hidden),
            (Target::Rollout(of.clone()), Share::Live),
        ];
        Pair {
            old,
            new: replica("new", Some(&of), Run::Running, Health::Healthy),
            plan: RoutePlan {
                shares: shares.into(),
            },
        }
    }

    impl Pair {
        fn says(&self, old: Share, new: Share) -> Observation {
            Observation {
                routing: [(self.old.id.clone(), old), (self.new.id.clone(), new)].into(),
                ..Observation::default()
            }
        }

        fn take(&self, looks: &mut Looks, says: &Observation) {
            let question = Question {
                plan: &self.plan,
                replicas: &[],
                awaited: &[&self.new, &self.old],
                known: Some(&BTreeSet::new()),
            };
            looks.take(says, &question);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_neighbours_router_counts_as_taken_away_once_nothing_can_be_held_back() {
        let pair = pair();
        let well = pair.says(Share::Hidden, Share::Live);
        let restarts = Observation {
            lost: vec!["router b of shop-b-1 is gone".to_owned()],
            ..well.clone()
        };
        let mut looks = Looks::default();
        pair.take(&mut looks, &restarts);
        tokio::time::advance(COMPLAINT).await;
        pair.take(&mut looks, &restarts);
        assert!(!looks.agreed && !looks.refused(HELD_BACK) && !looks.harms(HELD_BACK));
        // A neighbour that merely restarts is there again.
        pair.take(&mut looks, &well);
        assert!(looks.agreed && looks.harms_since.is_none());
        pair.take(&mut looks, &restarts);
        tokio::time::advance(HELD_BACK).await;
        pair.take(&mut looks, &restarts);
        assert!(looks.harms(HELD_BACK));
        let complaint = looks.complaint(HELD_BACK).unwrap();
        assert!(
            complaint.contains("loses the route of another service"),
            "{complaint}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_version_that_the_proxy_has_no_trace_of_is_given_up_once_nothing_can_be_held_back()
     {
        let pair = pair();
        let mut looks = Looks::default();
        let mut none = pair.says(Share::Hidden, Share::Hidden);
        pair.take(&mut looks, &none);
        assert!(looks.absent_since.is_none(), "nothing says why");
        let why = vec!["router web does not exist".to_owned()];
        none.trouble.insert(pair.new.id.clone(), why);
        pair.take(&mut looks, &none);
        assert!(looks.absent_since.is_some() && !looks.refused(HELD_BACK));
        tokio::time::advance(HELD_BACK).await;
        assert!(looks.refused(HELD_BACK));
        // It is still the old one that is routed to: the change has not been read yet.
        none.routing.insert(pair.old.id.clone(), Share::Live);
        pair.take(&mut looks, &none);
        assert!(looks.absent_since.is_none() && !looks.refused(HELD_BACK));
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_old_replicas_have_stopped_a_missing_router_may_still_come() {
        let mut pair = pair();
        pair.old.run = Run::Exited;
        let mut looks = Looks::default();
        let mut none = pair.says(Share::Hidden, Share::Hidden);
        let why = vec!["router web does not exist".to_owned()];
        none.trouble.insert(pair.new.id.clone(), why);
        pair.take(&mut looks, &none);
        tokio::time::advance(HELD_BACK).await;
        pair.take(&mut looks, &none);
        assert!(!looks.refused(HELD_BACK));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_stand_and_one_that_is_not_to_be_had_counts_as_no() {
        let pair = pair();
        let (well, before) = (
            pair.says(Share::Hidden, Share::Live),
            pair.says(Share::Live, Share::Hidden),
        );
        let asked = async |answers: Vec<Option<Observation>>, stand: Duration| {
            let mut proxy = Scripted {
                answers: answers.into(),
                held_back: Duration::ZERO,
                slowest: Duration::ZERO,
            };
            let question = Question {
                plan: &pair.plan,
                replicas: &[],
                awaited: &[&pair.new, &pair.old],
                known: Some(&BTreeSet::new()),
            };
            let limits = Limits {
                total: Duration::from_secs(30),
                stand,
                held_back: HELD_BACK,
                way_back: true,
            };
            let begun = Instant::now();
            let looks = agree(&mut proxy, &question, &limits).await;
            (looks.has_stood, begun.elapsed(), proxy.slowest)
        };
        let answers = vec![None, Some(before), Some(well.clone())];
        let (agreed, took, change) = asked(answers, Duration::ZERO).await;
        assert!(agreed && change > Duration::ZERO);
        assert_eq!(took, change, "the next change may take as long");
        let (agreed, took, change) = asked(vec![Some(well.clone())], HELD_BACK).await;
        assert!(agreed && took >= HELD_BACK, "{took:?}");
        assert_eq!(change, Duration::ZERO, "the answer came at once");
        let (agreed, took, change) = asked(vec![Some(well), None], Duration::from_secs(1)).await;
        assert!(!agreed);
        assert_eq!((took, change), (Duration::from_secs(30), Duration::ZERO));
    }
}
