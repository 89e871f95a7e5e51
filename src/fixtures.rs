//! For tests: labels, what version 0.1.0 has written, and what the planner makes of its claims.

use crate::{
    model::{Claim, Goal, Health, Observed, Phase, Replica, RolloutId, Run, label},
    overlay::Labels,
    plan::{simulator, unfinished},
};

/// Labels from pairs of key and value.
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

/// The labels of `shop/web`, with those of Compose.
pub fn labels_of_web(pairs: &[(&str, &str)]) -> Labels {
    let compose = [
        (label::COMPOSE_PROJECT, "shop"),
        (label::COMPOSE_SERVICE, "web"),
    ];
    labels(&[&compose[..], pairs].concat())
}

/// The rollout that the files are about.
pub const ROLLOUT: &str = "r1a196fb1600-973756";
pub const EPOCH: u64 = 1_793_534_400_000;

/// A file of `tests/fixtures/0.1.0`.
pub fn of_0_1_0(path: &str) -> String {
    let path = format!("{}/tests/fixtures/0.1.0/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The replicas of `shop/web` during that rollout; `a1` and `a2` are old, `b1` and `b2` new. An id repeats these two
/// characters.
pub fn replicas() -> Vec<Replica> {
    let rollout = RolloutId(ROLLOUT.to_owned());
    let of = |short: &str| short.starts_with('b').then_some(&rollout);
    let replica =
        |short: &str| simulator::replica(&short.repeat(32), of(short), Run::Running, Health::None);
    ["a1", "a2", "b1", "b2"].map(replica).into()
}

/// The phase of a claim, the replicas that it hides, and what a later run does behind a proxy.
pub fn meaning(claim: Claim) -> (Phase, Vec<String>, Option<Goal>) {
    let mut replicas = replicas();
    if claim.phase == Phase::Settled {
        // The old ones are removed, and the new ones have their final names.
        replicas.retain(|own| own.rollout.is_some());
        replicas.iter_mut().for_each(|own| own.final_name = None);
    }
    let observed = Observed {
        replicas,
        claim: Some(claim.clone()),
    };
    let hidden = observed.replicas.iter().filter(|own| claim.plan.hides(own));
    let hidden = hidden.map(|own| own.id.0[..2].to_owned()).collect();
    let goal = unfinished(&observed, true, None).map(|(rollout, goal, _)| {
        assert_eq!(rollout.0, ROLLOUT);
        goal
    });
    (claim.phase, hidden, goal)
}
