//! The overlay's claim of a route plan, and how it reads as a commit record. Pure.

use crate::{
    error::{Error, Result},
    model::{self, ContainerId, Phase, Replica, RolloutId, RoutePlan, Share, Target, label},
    overlay::{Claim, Health, Labels, Match, Rule},
    proxy::traefik::labels::{set_weight, weight_labels},
};

/// The claim that brings a route plan about for these replicas. Health rules of earlier rollouts, in `before`, stay in force:
/// a replica whose check is rare may still be `starting` in Docker's eyes when the next rollout begins.
pub fn write(
    key: &str,
    epoch: u64,
    claim: &model::Claim,
    before: Option<&Claim>,
    replicas: &[Replica],
) -> Claim {
    let is_own = |rule: &Rule| target(&rule.on, &claim.rollout).is_some();
    let mut rules: Vec<Rule> = before
        .into_iter()
        .flat_map(|claim| &claim.rules)
        .filter(|rule| rule.is_on_health() && !is_own(rule))
        .cloned()
        .collect();
    for (target, share) in &claim.plan.shares {
        let on = || on(target);
        // A replica that passed its own checks gets traffic although Docker has no result of its health check yet.
        let is_new = matches!(target, Target::Rollout(_) | Target::Batch(..));
        if is_new && *share != Share::Hidden {
            rules.push(Rule::health(on(), Health::Healthy));
        }
        match share {
            Share::Hidden => rules.push(Rule::hide(on())),
            Share::Weight(weight) => rules.push(Rule::set(on(), weights(replicas, *weight))),
            Share::Live => {}
        }
    }
    Claim {
        key: key.to_owned(),
        rollout: claim.rollout.0.clone(),
        epoch,
        stage: claim.phase.to_string(),
        rules,
    }
}

/// The labels of a weight. Where replicas of two versions have weights, their Traefik labels are the same.
fn weights(replicas: &[Replica], weight: u32) -> Labels {
    let all = replicas.iter();
    all.flat_map(|own| weight_labels(&own.labels, weight))
        .collect()
}

fn on(target: &Target) -> Match {
    match target {
        Target::Replica(id) => Match::Id(id.0.clone()),
        Target::Rollout(rollout) => Match::Label {
            key: label::ROLLOUT.to_owned(),
            value: rollout.0.clone(),
        },
        Target::Batch(rollout, batch) => Match::Label {
            key: label::BATCH.to_owned(),
            value: label::batch(rollout, *batch),
        },
    }
}

/// What a rule of this rollout is about; `None` for a rule of an earlier one.
fn target(on: &Match, rollout: &RolloutId) -> Option<Target> {
    match on {
        Match::Id(id) => Some(Target::Replica(ContainerId(id.clone()))),
        Match::Label { key, value } if key == label::BATCH => {
            let batch = label::batch_of(value)?;
            let is_own = *value == label::batch(rollout, batch);
            is_own.then(|| Target::Batch(rollout.clone(), batch))
        }
        Match::Label { value, .. } => {
            (*value == rollout.0).then(|| Target::Rollout(rollout.clone()))
        }
    }
}

/// Whether its rollout is not over, as far as this version can tell.
pub fn is_unsettled(claim: &Claim) -> bool {
    claim.stage.parse() != Ok(Phase::Settled)
}

/// What a claim records.
///
/// # Errors
/// A phase that only a later version has.
pub fn read(claim: &Claim) -> Result<model::Claim> {
    let phase: Phase = claim.stage.parse().map_err(|unknown| {
        Error::refused(format!(
            "the claim of {} cannot be read: {unknown}",
            claim.key
        ))
        .hint("finish with the newer version of rollout")
    })?;
    let rollout = RolloutId(claim.rollout.clone());
    let share = |rule: &Rule| match (rule.hides(), rule.labels().and_then(set_weight)) {
        (true, _) => Some(Share::Hidden),
        (false, Some(weight)) => Some(Share::Weight(weight)),
        (false, None) => rule.is_on_health().then_some(Share::Live),
    };
    // Those of earlier rollouts cover a health check alone.
    let rules = claim.rules.iter();
    let shares = rules.filter_map(|rule| Some((target(&rule.on, &rollout)?, share(rule)?)));
    let shares = shares.collect();
    Ok(model::Claim {
        rollout,
        phase,
        plan: RoutePlan { shares },
        stale: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::{meaning, of_0_1_0},
        model::{Goal, Reason},
        plan::simulator,
    };

    #[test]
    fn each_claim_of_version_0_1_0_is_read_and_continued_as_it_was_meant() {
        let of = |phase: &str| {
            let text = of_0_1_0(&format!("overlay/{phase}.json"));
            let file: serde_json::Value = serde_json::from_str(&text).unwrap();
            let claim = file["overlay"]["claims"]["shop/web"].clone();
            meaning(read(&serde_json::from_value(claim).unwrap()).unwrap())
        };
        let hidden = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let undo = || Some(Goal::Undo(Reason::Unfinished));
        let new = || hidden(&["b1", "b2"]);
        assert_eq!(of("hold"), (Phase::Prepared, new(), undo()));
        let forward = (Phase::Committed, hidden(&["a1", "a2"]), Some(Goal::Finish));
        assert_eq!(of("cutover"), forward);
        assert_eq!(of("back"), (Phase::RolledBack, new(), undo()));
        assert_eq!(of("shown"), (Phase::ForceShown, hidden(&[]), undo()));
        assert_eq!(of("settled"), (Phase::Settled, hidden(&[]), None));
    }

    #[test]
    fn a_claim_reads_as_the_plan_that_it_was_written_from() {
        let of = RolloutId("r1".to_owned());
        let old = |name: &str| Target::Replica(ContainerId(name.to_owned()));
        let plans = [
            (
                Phase::Prepared,
                vec![(Target::Rollout(of.clone()), Share::Hidden)],
            ),
            (
                Phase::Committed,
                vec![
                    (old("a"), Share::Hidden),
                    (old("b"), Share::Hidden),
                    (Target::Rollout(of.clone()), Share::Live),
                ],
            ),
            (
                Phase::Shifted { step: 1 },
                vec![
                    (old("a"), Share::Hidden),
                    (Target::Batch(of.clone(), 1), Share::Live),
                    (Target::Batch(of.clone(), 2), Share::Hidden),
                ],
            ),
            (
                Phase::Shifted { step: 2 },
                vec![
                    (old("a"), Share::Weight(18)),
                    (Target::Rollout(of.clone()), Share::Weight(2)),
                ],
            ),
        ];
        let replicas = [simulator::old("a")];
        for (phase, shares) in plans {
            let claim = model::Claim {
                rollout: of.clone(),
                phase,
                plan: RoutePlan {
                    shares: shares.into_iter().collect(),
                },
                stale: false,
            };
            let written = write("shop/web", 7, &claim, None, &replicas);
            assert_eq!(read(&written).unwrap(), claim);
            let again = write("shop/web", 7, &claim, Some(&written), &replicas);
            assert_eq!(again, written);
        }
    }

    #[test]
    fn a_phase_of_a_later_version_is_an_error_and_counts_as_unsettled() {
        let claim = Claim {
            key: "shop/web".to_owned(),
            rollout: "r1".to_owned(),
            epoch: 7,
            stage: "of-tomorrow".to_owned(),
            rules: Vec::new(),
        };
        let error = read(&claim).unwrap_err();
        assert!(error.message.contains("of-tomorrow"), "{error}");
        assert!(is_unsettled(&claim));
    }
}
