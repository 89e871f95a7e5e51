//! The route plan of each phase: which share the old and the new replicas get.

use super::Step;
use crate::model::{
    Batches, Claim, Desired, Goal, Health, Observed, Phase, Replica, RoutePlan, Share, Target,
};

/// The claim for this phase with the observed replicas.
pub fn claim(phase: Phase, desired: &Desired, observed: &Observed) -> Claim {
    Claim {
        rollout: desired.rollout.clone(),
        phase,
        plan: route_plan(phase, desired, observed),
        stale: false,
    }
}

/// The route plan of this phase for the observed replicas.
pub fn route_plan(phase: Phase, desired: &Desired, observed: &Observed) -> RoutePlan {
    if let Some(batches) = &desired.policy.batches
        && let Phase::Prepared | Phase::Shifted { .. } | Phase::RolledBack = phase
    {
        return plan_of_batches(batches, phase, desired, observed);
    }
    let (new_set, old_set) = observed.split(&desired.rollout);
    // Without a proxy a plan moves nothing; it records which replicas are replaced.
    let unrouted = (!desired.routed).then_some(Share::Hidden);
    let (new, old) = match phase {
        Phase::Prepared | Phase::RolledBack => (Some(Share::Hidden), unrouted),
        Phase::Committed => (Some(Share::Live), Some(Share::Hidden)),
        Phase::ForceShown => (None, None),
        Phase::Settled => (Some(Share::Live), None),
        Phase::Shifted { .. } if desired.policy.previews(phase) => (Some(Share::Preview), None),
        Phase::Shifted { step } => {
            let counts = |own: &&&Replica| own.serves() && !desired.unrouted.contains(&own.id);
            let serving = |set: &[&Replica]| set.iter().filter(counts).count() as u32;
            let percent = desired.policy.shift(step).map_or(99, |shift| shift.percent);
            let percent = percent.clamp(1, 99);
            let (new, old) = (serving(&new_set), serving(&old_set));
            if desired.policy.by_number {
                let (shown, hidden) = numbers(percent, new, old);
                let out = new_set.iter().filter(counts).skip(shown as usize);
                let olds = old_set.iter().filter(counts).take(hidden as usize);
                let out = out.chain(olds).map(|own| own.id.clone());
                return RoutePlan::of(&desired.rollout, Share::Live, out);
            }
            let (new, old) = weights(percent, new, old);
            (Some(Share::Weight(new)), Some(Share::Weight(old)))
        }
    };
    let old_set = old_set.iter().map(|old| Target::Replica(old.id.clone()));
    let old_set = old_set.filter_map(|target| Some((target, old?)));
    let rollout = Target::Rollout(desired.rollout.clone());
    let new = new.map(|share| (rollout, share));
    RoutePlan {
        shares: old_set.chain(new).collect(),
    }
}

/// The route plan between two batches: new replicas of later batches are hidden from their creation on.
fn plan_of_batches(
    batches: &Batches,
    phase: Phase,
    desired: &Desired,
    observed: &Observed,
) -> RoutePlan {
    let hidden = taken_out(phase, desired, observed).into_iter();
    let hidden = hidden.map(|old| (Target::Replica(old.id.clone()), Share::Hidden));
    let rollout = || desired.rollout.clone();
    let Phase::Shifted { step } = phase else {
        let new = (Target::Rollout(rollout()), Share::Hidden);
        return RoutePlan {
            shares: hidden.chain([new]).collect(),
        };
    };
    let all = 1..=batches.last();
    let news = all.map(|batch| match batch <= step {
        true => (Target::Batch(rollout(), batch), Share::Live),
        false => (Target::Batch(rollout(), batch), Share::Hidden),
    });
    RoutePlan {
        shares: hidden.chain(news).collect(),
    }
}

/// The old replicas that the route plan of a phase of a rolling update hides.
///
/// First those that ended by themselves, then those that the claim hides already, so that they stay the same from phase to
/// phase. Of equals, first those that answer least.
pub fn taken_out<'a>(phase: Phase, desired: &Desired, observed: &'a Observed) -> Vec<&'a Replica> {
    let (news, mut olds) = observed.split(&desired.rollout);
    let left = desired.policy.batches.as_ref().and_then(|batches| {
        let batch = match phase {
            Phase::Prepared => 0,
            Phase::Shifted { step } => step,
            Phase::Committed => batches.last(),
            Phase::RolledBack | Phase::ForceShown | Phase::Settled => return None,
        };
        let there = news
            .iter()
            .filter(|new| new.batch <= Some(batch) && new.serves());
        Some(batches.left(batch, there.count() as u32) as usize)
    });
    let claim = observed.claim.as_ref();
    let claim = claim.filter(|claim| claim.rollout == desired.rollout);
    let hides = |old: &Replica| claim.is_some_and(|claim| claim.plan.hides(old));
    let is_own = |old: &Replica| desired.old_at_start.contains(&old.id);
    olds.retain(|old| is_own(old) && (old.may_run() || desired.may_start_again(old)));
    let rank = |old: &Replica| match (old.may_run(), hides(old)) {
        (false, false) => 0,
        (_, true) => 1,
        (true, false) => 2,
    };
    let is_checked = |old: &Replica| old.health != Health::Starting;
    let is_routed = |old: &Replica| !desired.unrouted.contains(&old.id);
    let answers = |old: &Replica| (is_routed(old), old.serves(), is_checked(old));
    olds.sort_by_key(|old| (rank(old), old.may_run(), answers(old)));
    let hidden = left.map_or(0, |left| olds.len().saturating_sub(left));
    olds.truncate(hidden);
    olds
}

/// The route plan that a proxy has to confirm: between two batches or shifts the recorded one, as replicas may have failed
/// since.
pub fn plan_to_confirm(phase: Phase, desired: &Desired, observed: &Observed) -> RoutePlan {
    let claim = observed.claim.as_ref();
    let recorded = claim.filter(|claim| claim.rollout == desired.rollout && claim.phase == phase);
    let is_between = desired.policy.batches.is_some() || matches!(phase, Phase::Shifted { .. });
    match recorded.filter(|_| is_between) {
        Some(claim) => claim.plan.clone(),
        None => route_plan(phase, desired, observed),
    }
}

/// The batch of a rolling update that is created next.
pub fn next_batch(desired: &Desired, observed: &Observed) -> Option<u16> {
    desired.policy.batches?;
    match observed.claim.as_ref()?.phase {
        Phase::Shifted { step } => Some(step + 1),
        _ => Some(1),
    }
}

/// Which batch of a rolling update a step is about, and how many there are; `None` for a step about all replicas, and on
/// the way back.
pub fn batch_of(step: &Step, desired: &Desired, observed: &Observed) -> Option<(u16, u16)> {
    let batches = desired.policy.batches.as_ref();
    let batches = batches.filter(|_| desired.goal == Goal::Roll)?;
    let shown = |phase| match phase {
        Phase::Shifted { step } => Some(step),
        Phase::Committed => Some(batches.last()),
        _ => None,
    };
    let batch = match step {
        Step::Create { .. } | Step::AwaitReady => next_batch(desired, observed)?,
        Step::Route(phase) | Step::Confirm(phase) => shown(*phase)?,
        Step::Watch { batch } | Step::Pause { shift: batch, .. } => *batch,
        Step::Drain { .. } | Step::PreStop { .. } | Step::Stop { .. } => {
            let live = shown(observed.claim.as_ref()?.phase).unwrap_or_default();
            // They make room for the next batch.
            let next = u16::from(batches.ahead > 0);
            (live + next).min(batches.last())
        }
        _ => return None,
    };
    Some((batch, batches.last()))
}

/// The weights of one new and of one old replica, so that the new set gets this percentage of the traffic in total.
/// Every weight is at least 2.
fn weights(percent: u16, new_count: u32, old_count: u32) -> (u32, u32) {
    let percent = u32::from(percent);
    let (new, old) = (
        percent * old_count.max(1),
        (100 - percent) * new_count.max(1),
    );
    let divisor = gcd(new, old).max(1);
    (2 * new / divisor, 2 * old / divisor)
}

/// How many of these new replicas are shown, and how many of these old ones hidden in their place, so that the share of the
/// new ones comes nearest to this percentage. One old replica at least stays live.
fn numbers(percent: u16, new_count: u32, old_count: u32) -> (u32, u32) {
    let hidden = |shown: u32| shown.min(old_count.saturating_sub(1));
    let off = |shown: &u32| {
        let all = shown + old_count - hidden(*shown);
        (shown * 10_000 / all).abs_diff(u32::from(percent) * 100)
    };
    let shown = (1..=new_count).min_by_key(off).unwrap_or_default();
    (shown, hidden(shown))
}

/// The percentage of the traffic that a shift by number comes to.
pub fn share_by_number(percent: u16, new_count: u32, old_count: u32) -> u32 {
    let (shown, hidden) = numbers(percent, new_count, old_count);
    let all = (shown + old_count - hidden).max(1);
    (shown * 100 + all / 2) / all
}

fn gcd(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Policy, Run, Shift},
        plan::simulator::{Simulator, WELL, old, replica},
    };

    #[test]
    fn a_shift_is_a_part_of_the_whole_traffic_whatever_the_numbers_of_replicas() {
        assert_eq!(weights(10, 1, 1), (2, 18));
        assert_eq!(weights(10, 2, 1), (2, 36));
        assert_eq!(weights(50, 3, 3), (2, 2));
        assert_eq!(weights(50, 4, 1), (2, 8));
        for (percent, new_count, old_count) in [(1, 1, 100), (33, 7, 5), (99, 100, 1)] {
            let (new, old) = weights(percent, new_count, old_count);
            let part = f64::from(new * new_count) / f64::from(new * new_count + old * old_count);
            assert!((part * 100.0 - f64::from(percent)).abs() < 1e-9, "{part}");
        }
    }

    #[test]
    fn a_shift_by_number_comes_as_near_as_the_replicas_allow_and_leaves_an_old_one() {
        for (percent, new, old, wanted) in [
            (10, 1, 1, (1, 0)),
            (25, 4, 4, (1, 1)),
            (10, 4, 4, (1, 1)),
            (50, 4, 4, (2, 2)),
            (99, 4, 4, (4, 3)),
            (50, 2, 4, (2, 2)),
            (60, 4, 2, (2, 1)),
            (90, 0, 2, (0, 0)),
        ] {
            assert_eq!(numbers(percent, new, old), wanted, "{percent} {new} {old}");
        }
        assert_eq!(share_by_number(10, 1, 1), 50);
        assert_eq!(share_by_number(60, 4, 2), 67);
        for (percent, new, old) in [(1, 9, 3), (40, 2, 7), (80, 5, 5), (50, 3, 1)] {
            let (shown, hidden) = numbers(percent, new, old);
            assert!((1..=new).contains(&shown) && hidden < old && hidden <= shown);
        }
    }

    #[test]
    fn each_phase_gives_each_set_its_share() {
        let mut world = Simulator::new(vec![old("one"), old("two")], 1, true, WELL);
        world.desired.policy = Policy {
            shifts: vec![Shift {
                percent: 20,
                pause: None,
                analysis: false,
            }],
            ..Policy::default()
        };
        let of = world.desired.rollout.clone();
        let new = replica(
            "new",
            Some(&of),
            Run::Running,
            crate::model::Health::Healthy,
        );
        world.observed.replicas.push(new.clone());
        let shares = |phase| {
            let plan = route_plan(phase, &world.desired, &world.observed);
            (plan.share(&world.observed.replicas[0]), plan.share(&new))
        };
        let (live, hidden) = (Some(Share::Live), Some(Share::Hidden));
        assert_eq!(shares(Phase::Prepared), (None, hidden));
        assert_eq!(shares(Phase::Committed), (hidden, live));
        assert_eq!(shares(Phase::RolledBack), (None, hidden));
        assert_eq!(shares(Phase::Settled), (None, live));
        let (new, old) = (Share::Weight(2), Share::Weight(4));
        assert_eq!(shares(Phase::Shifted { step: 1 }), (Some(old), Some(new)));
    }
}
