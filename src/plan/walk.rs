//! Every interleaving of steps and troubles, up to a number of troubles: the invariants hold in each state that is
//! reached, and every path comes to an end that tells the truth.

use std::collections::HashSet;

use super::{
    Next,
    properties::judge,
    simulator::{Fate, Ready, Simulator, WELL, old, replica},
};
use crate::model::{ContainerId, Health, Run};

/// What can happen between two steps. A restart of the socket proxy is not among them: its overlay is durable, so no
/// state here would differ.
#[derive(Clone, Debug)]
enum Trouble {
    /// `kill -9`, and the next run begins.
    Crash,
    /// A container's process ends.
    Dies(ContainerId),
    /// Its health check fails.
    Sickens(ContainerId),
    /// Somebody removes it.
    Removed(ContainerId),
    /// A second operator's `up` adds one.
    Joins,
    /// Traefik restarts: what it has agreed to is forgotten, and it says nothing for a while.
    TraefikRestarts,
    /// A pinned replica gets another address.
    Moves,
}

fn troubles(world: &Simulator) -> Vec<Trouble> {
    let mut all = vec![
        Trouble::Crash,
        Trouble::Joins,
        Trouble::TraefikRestarts,
        Trouble::Moves,
    ];
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
fn strike(world: &Simulator, trouble: &Trouble) -> Option<Simulator> {
    let mut next = world.clone();
    let replicas = &mut next.observed.replicas;
    let find = |id: &ContainerId| world.observed.replicas.iter().position(|own| own.id == *id);
    match trouble {
        Trouble::Crash => next = world.restarted()?,
        Trouble::Dies(id) => replicas[find(id)?].run = Run::Exited,
        Trouble::Sickens(id) => replicas[find(id)?].health = Health::Unhealthy,
        Trouble::Removed(id) => drop(replicas.remove(find(id)?)),
        Trouble::Joins if replicas.iter().any(|own| own.name == "joined") => return None,
        Trouble::Joins => replicas.push(replica("joined", None, Run::Running, Health::Healthy)),
        Trouble::Moves if !world.desired.confirm_hold => return None,
        Trouble::Moves => {
            let claim = next.observed.claim.as_mut().filter(|claim| !claim.stale);
            claim?.stale = true;
        }
        Trouble::TraefikRestarts => {
            next.facts.confirmed?;
            next.facts.confirmed = None;
        }
    }
    // The steps so far are for messages; they would tell equal states apart.
    next.steps.clear();
    Some(next)
}

fn key(world: &Simulator) -> String {
    format!(
        "{:?} {:?} {:?} {:?}",
        world.desired, world.observed, world.facts, world.fate
    )
}

/// Visits every state with at most so many troubles on the way; how many there are.
fn walk(start: Simulator, most: usize) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![(start, 0)];
    while let Some((mut world, struck)) = open.pop() {
        if !seen.insert((key(&world), struck)) {
            continue;
        }
        if struck < most {
            let after = troubles(&world).into_iter().filter_map(|trouble| {
                let next = strike(&world, &trouble)?;
                Some((next, struck + 1))
            });
            open.extend(after.collect::<Vec<_>>());
        }
        match world.next() {
            Next::Step(step) => {
                // Judges the step, too.
                world.take(step);
                world.steps.clear();
                open.push((world, struck));
            }
            Next::Undo(_) | Next::Finish(_) => open.push((world, struck)),
            end => judge(&world, &end),
        }
    }
    seen.len()
}

#[test]
fn the_invariants_hold_in_every_state_that_steps_and_troubles_can_reach() {
    let fates = [
        WELL,
        Fate {
            confirms: false,
            ..WELL
        },
        Fate {
            ready: Ready::Crashes,
            ..WELL
        },
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
                world.desired.bake = bake;
                world.desired.confirm_hold = confirm_hold;
                states += walk(world, most);
            }
        }
    }
    println!("{states} states");
    assert!(states > 10_000, "only {states} states were reached");
}
