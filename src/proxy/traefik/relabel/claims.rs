//! The overlay's claim of a route plan, and how it reads as a commit record. Pure.

use std::collections::BTreeMap;

use crate::{
    error::{Error, Result},
    model::{self, ContainerId, Phase, Replica, RolloutId, RoutePlan, Share, Target, label},
    overlay::{Claim, Effect, Health, Labels, Match, Rule},
    proxy::traefik::labels::{preview, set_weight, weight_labels},
    settings::PreviewRule,
};

/// The claim that brings a route plan about for these replicas. Health rules of earlier rollouts, in `before`, stay in force:
/// a replica whose check is rare may still be `starting` in Docker's eyes when the next rollout begins. `previewed` is what a
/// preview makes of the new replicas' labels; where that is not known, they are hidden instead.
pub fn write(
    (key, epoch): (&str, u64),
    claim: &model::Claim,
    before: Option<&Claim>,
    replicas: &[Replica],
    previewed: Option<&Effect>,
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
            Share::Preview => rules.push(match previewed {
                Some(effect) => Rule {
                    on: on(),
                    effect: effect.clone(),
                },
                None => Rule::hide(on()),
            }),
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

/// What a preview makes of the labels of a rollout's replicas: the same as in an earlier claim of it, or what the settings
/// of this run say.
pub fn previewed(
    rollout: &RolloutId,
    before: &[Option<Claim>],
    rule: Option<&PreviewRule>,
    replicas: &[Replica],
) -> Option<Effect> {
    let own = before.iter().flatten();
    let own = own.filter(|own| own.rollout == rollout.0);
    let mut rules = own.flat_map(|own| &own.rules);
    let known = rules.find(|rule| rule.unsets());
    known.map(|rule| rule.effect.clone()).or_else(|| {
        let mut all = replicas.iter();
        let new = all.find(|own| own.rollout.as_ref() == Some(rollout))?;
        Some(preview(&new.labels, rule?))
    })
}

/// The labels by which readers see the replicas that the claim previews.
pub fn as_previewed(claim: &Claim, replicas: &[Replica]) -> BTreeMap<ContainerId, Labels> {
    let mut seen = BTreeMap::new();
    for rule in claim.rules.iter().filter(|rule| rule.unsets()) {
        let own = |own: &&Replica| rule.on.matches(&own.id.0, &own.labels);
        for own in replicas.iter().filter(own) {
            let mut labels = own.labels.clone();
            rule.effect.change(&mut labels);
            seen.insert(own.id.clone(), labels);
        }
    }
    seen
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
        Match::Service(_) => None,
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
        (false, _) if rule.unsets() => Some(Share::Preview),
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
        model::{Goal, Reason, Run},
        plan::simulator::{self, replica},
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
            (
                Phase::Shifted { step: 1 },
                vec![(Target::Rollout(of.clone()), Share::Preview)],
            ),
        ];
        let replicas = [simulator::old("a"), new(&of)];
        for (phase, shares) in plans {
            let claim = model::Claim {
                rollout: of.clone(),
                phase,
                plan: RoutePlan {
                    shares: shares.into_iter().collect(),
                },
                stale: false,
            };
            let effect = preview(&replicas[1].labels, &extra());
            let key = ("shop/web", 7);
            let written = write(key, &claim, None, &replicas, Some(&effect));
            assert_eq!(read(&written).unwrap(), claim);
            let again = write(key, &claim, Some(&written), &replicas, Some(&effect));
            assert_eq!(again, written);
        }
    }

    /// A new replica with a router.
    fn new(of: &RolloutId) -> Replica {
        let labels = [
            (label::ROLLOUT, of.0.as_str()),
            (label::COMPOSE_PROJECT, "shop"),
            (label::COMPOSE_SERVICE, "web"),
            ("traefik.http.routers.web.rule", "Host(`a`)"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Replica {
            labels: labels.into(),
            ..replica("new", Some(of), Run::Running, model::Health::Healthy)
        }
    }

    fn extra() -> PreviewRule {
        PreviewRule::Extra("Header(`X`, `1`)".to_owned())
    }

    #[test]
    fn a_preview_keeps_its_rule_and_without_any_its_replicas_are_hidden() {
        let of = RolloutId("r1".to_owned());
        let claim = model::Claim {
            rollout: of.clone(),
            phase: Phase::Shifted { step: 1 },
            plan: RoutePlan::of(&of, Share::Preview, []),
            stale: false,
        };
        let replicas = [simulator::old("a"), new(&of)];
        let shown = |before: &[Option<Claim>], rule: Option<&PreviewRule>| {
            let effect = previewed(&of, before, rule, &replicas);
            write(("shop/web", 7), &claim, None, &replicas, effect.as_ref())
        };
        let first = shown(&[], Some(&extra()));
        let seen = as_previewed(&first, &replicas);
        let ids: Vec<&str> = seen.keys().map(|id| id.0.as_str()).collect();
        assert_eq!(ids, ["new"]);
        let labels = &seen[&replicas[1].id];
        assert!(!labels.contains_key("traefik.http.routers.web.rule"));
        // A later run without the setting, and one with another.
        let before = [None, Some(first.clone())];
        assert_eq!(shown(&before, None), first);
        let other = PreviewRule::Host("b".to_owned());
        assert_eq!(shown(&before, Some(&other)), first);
        let hidden = shown(&[None], None);
        assert!(as_previewed(&hidden, &replicas).is_empty());
        let share = read(&hidden).unwrap().plan.share(&replicas[1]);
        assert_eq!(share, Some(Share::Hidden));
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
