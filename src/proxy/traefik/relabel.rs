//! The overlay rules that hold, cut over and cut back, and how a claim reads as a commit record. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{self, ContainerId, RolloutId, Stage, label},
    proxy::Change,
    socket_proxy::overlay::{Claim, ENABLE, Health, Match, Rule},
};

/// The claim that brings a change about. Health rules of earlier rollouts, in `before`, stay in force: a replica whose
/// check is rare may still be `starting` in Docker's eyes when the next rollout begins.
pub fn claim(key: &str, epoch: u64, change: Change<'_>, before: Option<&Claim>) -> Claim {
    let own = Match::Label {
        key: label::ROLLOUT.to_owned(),
        value: change.rollout.0.clone(),
    };
    let mut rules: Vec<Rule> = before
        .into_iter()
        .flat_map(|claim| &claim.rules)
        .filter(|rule| rule.health.is_some() && rule.on != own)
        .cloned()
        .collect();
    match change.stage {
        Stage::Hold | Stage::Back => rules.push(hide(own)),
        Stage::Cutover => {
            rules.extend(
                change
                    .olds
                    .iter()
                    .map(|old| hide(Match::Id(old.id.0.clone()))),
            );
            rules.push(healthy(own));
        }
        Stage::Shown | Stage::Settled => rules.push(healthy(own)),
    }
    let stage = word(change.stage).to_owned();
    Claim {
        key: key.to_owned(),
        rollout: change.rollout.0.clone(),
        epoch,
        stage,
        rules,
    }
}

fn hide(on: Match) -> Rule {
    Rule {
        on,
        labels: BTreeMap::from([(ENABLE.to_owned(), "false".to_owned())]),
        health: None,
    }
}

fn healthy(on: Match) -> Rule {
    Rule {
        on,
        labels: BTreeMap::new(),
        health: Some(Health::Healthy),
    }
}

const WORDS: [(Stage, &str); 5] = [
    (Stage::Hold, "hold"),
    (Stage::Cutover, "cutover"),
    (Stage::Back, "back"),
    (Stage::Shown, Claim::SHOWN),
    (Stage::Settled, Claim::SETTLED),
];

fn word(stage: Stage) -> &'static str {
    WORDS
        .iter()
        .find(|(known, _)| *known == stage)
        .map_or("hold", |(_, word)| word)
}

/// Whether its rollout is not over, or nobody knows.
pub fn is_unsettled(claim: &Claim) -> bool {
    read(claim).is_none_or(|read| read.stage != Stage::Settled)
}

/// What a claim records; `None` for a stage that only a later version knows.
pub fn read(claim: &Claim) -> Option<model::Claim> {
    let stage = WORDS.iter().find(|(_, word)| *word == claim.stage)?.0;
    let hides = claim.rules.iter().filter(|rule| {
        rule.labels
            .get(ENABLE)
            .is_some_and(|value| value == "false")
    });
    let ids = hides.filter_map(|rule| match &rule.on {
        Match::Id(id) => Some(ContainerId(id.clone())),
        Match::Label { .. } => None,
    });
    Some(model::Claim {
        rollout: RolloutId(claim.rollout.clone()),
        stage,
        hides: ids.collect(),
        stale: false,
    })
}

/// The record of several socket proxies: as far as the furthest, hiding only what all hide.
pub fn combine(claims: Vec<Option<model::Claim>>) -> Option<model::Claim> {
    let furthest = |claim: &model::Claim| claim.stage == Stage::Cutover;
    let all: Vec<model::Claim> = claims.iter().flatten().cloned().collect();
    let mut combined = all
        .iter()
        .find(|claim| furthest(claim))
        .or(all.first())?
        .clone();
    for claim in &claims {
        let none = BTreeSet::new();
        let hides = claim.as_ref().map_or(&none, |claim| &claim.hides);
        combined.hides.retain(|id| hides.contains(id));
    }
    Some(combined)
}
