//! Every interleaving of steps and troubles, up to a number of troubles: the invariants hold in each state that is
//! reached, and every path comes to an end that tells the truth.
//!
//! What a proxy has made of the routing lags behind the record of it: it reads when it likes, at the latest when it
//! confirms. A restart of the socket proxy is one of these readings, for its record is durable, and so is one of Traefik.
//! A second operator that takes the lock by force equals a crash of the first run: that run checks the lock before each
//! change, and the record refuses writes of owners older than the last.

use std::{
    collections::{BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{
    Next, Step, hears,
    properties::{HOOKS, judge},
    simulator::{Fate, Ready, Simulator, WELL, live, old, replica},
    take_request, turn_back,
};
use crate::{
    ask::{Asked, Request},
    model::{
        ContainerId, FailureAction, Goal, Health, HookPhase, Limits, Milestone, Order, Pause,
        Phase, Promote, Reason, Replica, Run,
    },
};

/// A service, and the replicas that its proxy sends requests to.
#[derive(Clone)]
struct World {
    service: Simulator,
    /// As the proxy has read it last.
    routed: BTreeSet<ContainerId>,
    /// How it came here; for messages alone.
    path: Vec<String>,
}

/// What can happen between two steps.
#[derive(Clone, Debug)]
enum Trouble {
    /// `kill -9`, and the next run begins.
    Crash,
    /// The step that comes next fails: before it has done anything, half-way, or when all is done.
    Fails(Extent),
    Dies(ContainerId),
    /// Its health check fails.
    Sickens(ContainerId),
    Removed(ContainerId),
    /// A second operator's `up` adds one.
    Joins,
    /// Traefik restarts and reads everything again; what it has agreed to is to be asked for again.
    TraefikRestarts,
    /// A person asks for a stop before the next shift or batch.
    Held,
    /// A person asks for something else during the last step.
    Asked(Request),
    /// A pinned replica gets another address.
    Moves,
}

/// How much of a step that fails is done all the same.
#[derive(Clone, Copy, Debug)]
enum Extent {
    Nothing,
    Half,
    All,
}

fn troubles(world: &Simulator) -> Vec<Trouble> {
    let mut all = vec![
        Trouble::Crash,
        Trouble::Joins,
        Trouble::TraefikRestarts,
        Trouble::Held,
        Trouble::Asked(Request::Undo),
        Trouble::Asked(Request::Promote(Promote::Full)),
        Trouble::Moves,
    ];
    all.extend([Extent::Nothing, Extent::Half, Extent::All].map(Trouble::Fails));
    for own in &world.observed.replicas {
        if own.run == Run::Running {
            all.push(Trouble::Dies(own.id.clone()));
            all.push(Trouble::Sickens(own.id.clone()));
        }
        all.push(Trouble::Removed(own.id.clone()));
    }
    all
}

/// The world after it; `None` where it changes nothing.
fn strike(world: &World, trouble: &Trouble) -> Option<World> {
    let World {
        service: mut next,
        mut routed,
        mut path,
    } = world.clone();
    path.push(format!("{trouble:?}"));
    let world = &world.service;
    let replicas = &mut next.observed.replicas;
    let find = |id: &ContainerId| world.observed.replicas.iter().position(|own| own.id == *id);
    match trouble {
        Trouble::Crash => next = world.restarted()?,
        Trouble::Held => {
            let claim = next.observed.claim.as_ref();
            let is_between = claim.is_some_and(|own| matches!(own.phase, Phase::Shifted { .. }));
            if !is_between || next.desired.goal != Goal::Roll || next.facts.is_held {
                return None;
            }
            next.facts.is_held = true;
        }
        Trouble::Asked(request) => {
            let (request, who) = (*request, "ada".to_owned());
            let asked = Asked { request, who };
            let (desired, observed) = (&world.desired, &world.observed);
            if !hears(&asked, desired, observed, &world.facts) {
                return None;
            }
            take_request(&asked, desired, observed, &mut next.facts);
        }
        Trouble::Fails(extent) => next = fails(world, *extent)?,
        Trouble::Dies(id) => replicas[find(id)?].run = Run::Exited,
        Trouble::Sickens(id) => replicas[find(id)?].health = Health::Unhealthy,
        Trouble::Removed(id) => drop(replicas.remove(find(id)?)),
        Trouble::Joins if replicas.iter().any(|own| own.name == "joined") => return None,
        Trouble::Joins => replicas.push(replica("joined", None, Run::Running, Health::Healthy)),
        Trouble::Moves => {
            let claim = next.observed.claim.as_mut().filter(|claim| !claim.stale);
            claim?.stale = true;
        }
        Trouble::TraefikRestarts => {
            next.facts.confirmed?;
            next.facts.confirmed = None;
            routed = live(&next.observed);
        }
    }
    // The steps so far are for messages; they would tell equal states apart.
    next.steps.clear();
    Some(World {
        service: next,
        routed,
        path,
    })
}

/// What the executor makes of a step that fails; `None` where there is no step, or it is merely tried again.
fn fails(world: &Simulator, extent: Extent) -> Option<Simulator> {
    let mut next = world.clone();
    let Next::Step(step) = next.next() else {
        return None;
    };
    let before = next.facts.clone();
    match (extent, &step) {
        (Extent::Nothing, _) => {}
        (Extent::Half, _) => next.apply(&half(world, &step)?),
        (Extent::All, _) => next.apply(&step),
    }
    // What it would have found out is not known; that something was to change is.
    next.facts = before;
    if matches!(step, Step::Route(_) | Step::Start { .. }) {
        (next.facts.confirmed, next.facts.confirm_expired) = (None, None);
    }
    next.facts.created |= matches!(step, Step::Create { .. });
    let turns = match step {
        Step::Route(_) | Step::Create { .. } | Step::AwaitReady | Step::Hook(_) => true,
        Step::Stop { .. } => {
            (next.desired.policy.order == Order::StopFirst || next.desired.policy.batches.is_some())
                && next.facts.confirmed != Some(Phase::Committed)
        }
        _ => false,
    };
    if turns && next.desired.goal == Goal::Roll {
        let reason = Reason::Failed("failed on purpose".to_owned());
        let own = &mut next.preview;
        turn_back(reason, &mut own.desired, &own.observed, &mut own.facts);
    }
    Some(next)
}

/// A half of a step that acts on several replicas.
fn half(world: &Simulator, step: &Step) -> Option<Step> {
    let first = |replicas: &[ContainerId]| (replicas.len() > 1).then(|| replicas[..1].to_vec());
    let rolls = world.desired.policy.batches.is_some();
    match step {
        Step::Create { replicas } => {
            let made = world.new_replicas().len() as u32;
            (replicas - made > 1).then_some(Step::Create { replicas: made + 1 })
        }
        Step::Stop { replicas } if rolls => Some(Step::Stop {
            replicas: first(replicas)?,
        }),
        Step::Start { replicas } if rolls => Some(Step::Start {
            replicas: first(replicas)?,
        }),
        Step::Remove { replicas } if rolls => Some(Step::Remove {
            replicas: first(replicas)?,
        }),
        _ => None,
    }
}

impl World {
    fn key(&self) -> u64 {
        let own = &self.service;
        let mut hasher = DefaultHasher::new();
        (&own.desired, &own.observed, &own.facts, &self.routed).hash(&mut hasher);
        hasher.finish()
    }

    /// A step that must keep every invariant, as the record has it and as the proxy has it.
    fn take(&mut self, step: Step) {
        self.path.push(format!("{step:?}"));
        let desired = &self.service.desired;
        let makes_room = desired.policy.order == Order::StopFirst;
        match &step {
            _ if !desired.routed => {}
            Step::Stop { .. } if makes_room => {}
            Step::Stop { replicas } | Step::Remove { replicas } => self.get_no_requests(replicas),
            _ => {}
        }
        let confirms = matches!(step, Step::Confirm(_));
        self.service.take(step);
        self.service.steps.clear();
        if confirms && self.service.facts.confirmed.is_some() {
            self.routed = live(&self.service.observed);
        }
        self.gives_a_preview_no_public_requests();
    }

    fn gives_a_preview_no_public_requests(&self) {
        let own = &self.service;
        let phase = own.observed.claim.as_ref().map(|claim| claim.phase);
        if phase.is_some_and(|phase| own.desired.policy.previews(phase)) {
            let asked = |new: &&Replica| self.routed.contains(&new.id);
            let all = own.new_replicas();
            let asked: Vec<_> = all.into_iter().filter(asked).collect();
            assert!(
                asked.is_empty(),
                "{asked:?} after {:#?}: {own:#?}",
                self.path
            );
        }
    }

    fn get_no_requests(&self, replicas: &[ContainerId]) {
        let answers = |own: &&Replica| own.run == Run::Running && own.health != Health::Unhealthy;
        let own = self.service.observed.replicas.iter().filter(answers);
        let asked: Vec<&ContainerId> = own
            .map(|own| &own.id)
            .filter(|id| replicas.contains(id) && self.routed.contains(id))
            .collect();
        assert!(
            asked.is_empty(),
            "the proxy still sends requests to {asked:?} after {:#?}: {:#?}",
            self.path,
            self.service
        );
    }
}

const UNCONFIRMED: Fate = Fate {
    confirms: false,
    ..WELL
};
const CRASHES: Fate = Fate {
    ready: Ready::Crashes,
    ..WELL
};

#[test]
fn the_invariants_hold_in_every_state_where_the_old_replicas_are_stopped_first() {
    let fates = [
        WELL,
        UNCONFIRMED,
        CRASHES,
        Fate {
            ready: Ready::Never,
            restarts: false,
            ..WELL
        },
    ];
    let mut states = 0;
    for fate in fates {
        for (replicas, most) in [(1, 3), (2, 2)] {
            for (routed, confirm_hold) in [(true, false), (true, true), (false, false)] {
                let olds = (1..=replicas).map(|number| old(&format!("old-{number}")));
                let mut world = Simulator::new(olds.collect(), replicas, routed, fate).stop_first();
                world.desired.confirm_hold = confirm_hold;
                states += walk(world, most);
            }
        }
        let sick = replica("old-1", None, Run::Running, Health::Unhealthy);
        states += walk(Simulator::new(vec![sick], 1, true, fate).stop_first(), 2);
    }
    println!("{states} states");
    assert!(states > 10_000, "only {states} states were reached");
}

/// Visits every state with at most so many troubles on the way; how many there are.
fn walk(start: Simulator, most: usize) -> usize {
    let mut seen = HashSet::new();
    let routed = live(&start.observed);
    let mut open = vec![(
        World {
            service: start,
            routed,
            path: Vec::new(),
        },
        0,
    )];
    while let Some((mut world, struck)) = open.pop() {
        if !seen.insert((world.key(), struck)) {
            continue;
        }
        if struck < most {
            let after = troubles(&world.service).into_iter();
            let after = after.filter_map(|trouble| Some((strike(&world, &trouble)?, struck + 1)));
            open.extend(after.collect::<Vec<_>>());
        }
        let now = live(&world.service.observed);
        if world.routed != now {
            let mut reads = world.clone();
            reads.path.push("the proxy reads".to_owned());
            reads.routed = now;
            open.push((reads, struck));
        }
        match world.service.next() {
            Next::Step(step) => {
                world.take(step);
                open.push((world, struck));
            }
            Next::Undo(_) | Next::Finish(_) | Next::GoOn => open.push((world, struck)),
            end @ Next::Pause { shift } => {
                judge(&world.service, &end);
                open.extend(after_pause(&world, shift).map(|next| (next, struck)));
            }
            end => judge(&world.service, &end),
        }
    }
    seen.len()
}

/// The later runs of a rollout that has paused: the next step, all steps, and the way back.
fn after_pause(world: &World, shift: u16) -> impl Iterator<Item = World> {
    let next = |how: &str| {
        let mut next = world.clone();
        next.path.push(how.to_owned());
        next.service = world.service.restarted()?;
        Some(next)
    };
    let promoted = next("promote").map(|mut own| {
        own.service.facts.passed = shift;
        own
    });
    let full = next("promote --full").map(|mut own| {
        own.service.facts.is_promoted = true;
        own
    });
    let back = next("abort").map(|mut own| {
        own.service.desired.goal = Goal::Undo(Reason::Unfinished);
        own
    });
    [promoted, full, back].into_iter().flatten()
}

#[test]
fn the_invariants_hold_in_every_state_where_the_traffic_is_shifted() {
    let fates = [WELL, UNCONFIRMED, CRASHES];
    let paused = [
        Some(Pause::Timed(Duration::from_secs(30))),
        Some(Pause::Open),
    ];
    let cases = [
        (1, [None, None], 3),
        (2, [None, None], 2),
        (1, paused, 2),
        (2, paused, 1),
    ];
    let mut states = 0;
    for fate in fates {
        for (replicas, [first, second], most) in cases {
            for by_number in [false, true] {
                let olds = (1..=replicas).map(|number| old(&format!("old-{number}")));
                let world = Simulator::new(olds.collect(), replicas, true, fate);
                let mut world = world.canary(&[(10, first), (50, second)]);
                world.desired.policy.by_number = by_number;
                states += walk(world, most);
            }
        }
    }
    println!("{states} states");
    assert!(states > 10_000, "only {states} states were reached");
}

#[test]
fn the_invariants_hold_in_every_state_where_the_new_version_is_previewed() {
    let fates = [
        WELL,
        UNCONFIRMED,
        CRASHES,
        Fate {
            fails_hook: Some(HookPhase::PreCutover),
            ..WELL
        },
    ];
    let (open, timed) = (Pause::Open, Pause::Timed(Duration::from_secs(30)));
    let shifts: [&[(u16, Option<Pause>)]; 3] = [
        &[(0, Some(open))],
        &[(0, None)],
        &[(0, Some(open)), (10, Some(timed))],
    ];
    let mut states = 0;
    for fate in fates {
        for shifts in shifts {
            for (replicas, most) in [(1, 2), (2, 1)] {
                let olds = (1..=replicas).map(|number| old(&format!("old-{number}")));
                let mut world = Simulator::new(olds.collect(), replicas, true, fate).canary(shifts);
                if shifts[0].1.is_none() {
                    world.desired.hook_phases = HOOKS.into();
                }
                states += walk(world, most);
            }
        }
    }
    println!("{states} states");
    assert!(states > 5_000, "only {states} states were reached");
}

#[test]
fn the_invariants_hold_in_every_state_of_a_rolling_update() {
    let fates = [
        WELL,
        UNCONFIRMED,
        CRASHES,
        Fate {
            bakes_well: false,
            restarts: false,
            ..WELL
        },
    ];
    use Order::{StartFirst, StopFirst};
    // Replicas, old ones, parallelism, surge, unavailable, order, troubles.
    let cases = [
        (2, 2, (1, 1, 0, StartFirst), 2),
        (2, 2, (1, 0, 1, StopFirst), 2),
        (3, 3, (1, 1, 0, StartFirst), 1),
        (3, 3, (1, 0, 1, StopFirst), 1),
        (3, 3, (2, 1, 1, StartFirst), 1),
        (3, 3, (2, 1, 1, StopFirst), 1),
        (4, 4, (2, 2, 0, StartFirst), 1),
        (4, 4, (2, 0, 2, StopFirst), 1),
        (3, 2, (1, 0, 1, StartFirst), 1),
        (3, 2, (1, 0, 1, StopFirst), 1),
        (2, 3, (1, 1, 0, StartFirst), 1),
    ];
    let mut states = 0;
    for fate in fates {
        for (replicas, olds, (parallelism, surge, unavailable, order), most) in cases {
            let limits = Limits {
                parallelism,
                surge,
                unavailable,
                order,
            };
            let olds = (1..=olds).map(|number| old(&format!("old-{number}")));
            let mut world = Simulator::new(olds.collect(), replicas, true, fate).rolling(limits);
            world.desired.policy.monitor = !fate.bakes_well;
            states += walk(world, most);
        }
    }
    println!("{states} states");
    assert!(states > 10_000, "only {states} states were reached");
}

#[test]
fn the_invariants_hold_in_every_state_after_a_failed_batch() {
    use Order::{StartFirst, StopFirst};
    let restless = Fate {
        bakes_well: false,
        ..WELL
    };
    let cases = [
        (3, (1, 1, 0, StartFirst), 1),
        (3, (1, 0, 1, StopFirst), 2),
        (4, (2, 2, 0, StartFirst), 1),
        (4, (1, 0, 1, StopFirst), 1),
    ];
    let mut states = 0;
    for failure_action in [FailureAction::Pause, FailureAction::Continue] {
        for fate in [WELL, UNCONFIRMED, restless] {
            for (replicas, (parallelism, surge, unavailable, order), most) in cases {
                let limits = Limits {
                    parallelism,
                    surge,
                    unavailable,
                    order,
                };
                let olds = (1..=replicas).map(|number| old(&format!("old-{number}")));
                let mut world = Simulator::new(olds.collect(), replicas, true, fate);
                world = world.rolling(limits);
                world.desired.policy.failure_action = failure_action;
                world.desired.policy.monitor = !fate.bakes_well;
                states += walk(world, most);
            }
        }
    }
    println!("{states} states");
    assert!(states > 10_000, "only {states} states were reached");
}

#[test]
fn the_invariants_hold_in_every_state_where_hooks_run() {
    let failing = HOOKS.map(|phase| Fate {
        fails_hook: Some(phase),
        ..WELL
    });
    let mut states = 0;
    for fate in failing.into_iter().chain([WELL]) {
        for (replicas, most) in [(1, 2), (2, 1)] {
            for (routed, confirm_hold) in [(true, false), (true, true), (false, false)] {
                let olds = (1..=replicas).map(|number| old(&format!("old-{number}")));
                let mut world = Simulator::new(olds.collect(), replicas, routed, fate);
                world.desired.confirm_hold = confirm_hold;
                world.desired.hook_phases = HOOKS.into();
                states += walk(world.clone(), most);
                states += walk(world.stop_first(), most);
            }
        }
    }
    println!("{states} states");
    assert!(states > 10_000, "only {states} states were reached");
}

#[test]
fn the_invariants_hold_in_every_state_of_a_joint_cutover() {
    let fates = [None, Some(Milestone::Ready), Some(Milestone::Live)];
    let mut states = 0;
    for fails_others in fates {
        let fate = Fate {
            fails_others,
            ..WELL
        };
        for (replicas, most) in [(1, 3), (2, 2)] {
            for (routed, bake) in [(true, false), (true, true), (false, false)] {
                let olds = (1..=replicas).map(|number| old(&format!("old-{number}")));
                let mut world = Simulator::new(olds.collect(), replicas, routed, fate);
                world.desired.policy.together = true;
                world.desired.policy.bake = bake;
                states += walk(world, most);
            }
        }
    }
    println!("{states} states");
    assert!(states > 10_000, "only {states} states were reached");
}

#[test]
fn the_invariants_hold_in_every_state_that_steps_and_troubles_can_reach() {
    let fates = [
        WELL,
        UNCONFIRMED,
        Fate {
            confirms: false,
            harms: true,
            ..WELL
        },
        CRASHES,
        Fate {
            bakes_well: false,
            ..WELL
        },
    ];
    let mut states = 0;
    for fate in fates {
        for (replicas, most) in [(1, 3), (2, 2), (3, 1)] {
            for (bake, confirm_hold) in [(false, false), (true, false), (false, true)] {
                let olds = (1..=replicas).map(|number| old(&format!("old-{number}")));
                let mut world = Simulator::new(olds.collect(), replicas, true, fate);
                world.desired.policy.bake = bake;
                world.desired.confirm_hold = confirm_hold;
                states += walk(world, most);
            }
        }
    }
    // Over a version that has died before.
    for fate in fates {
        for (run, health) in [
            (Run::Running, Health::Unhealthy),
            (Run::Exited, Health::None),
        ] {
            let dead = replica("old-1", None, run, health);
            states += walk(Simulator::new(vec![dead], 1, true, fate), 2);
        }
    }
    println!("{states} states");
    assert!(states > 100_000, "only {states} states were reached");
}
