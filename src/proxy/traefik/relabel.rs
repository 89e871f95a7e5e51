//! The overlay rules that hold, cut over and cut back, and how a claim reads as a commit record. Pure.

use std::collections::BTreeSet;

use crate::{
    model::{self, ContainerId, RolloutId, Stage, label},
    overlay::{Claim, Health, Match, Rule},
    proxy::Change,
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
        .filter(|rule| rule.is_on_health() && rule.on != own)
        .cloned()
        .collect();
    match change.stage {
        Stage::Hold | Stage::Back => rules.push(Rule::hide(own)),
        Stage::Cutover => {
            rules.extend(
                change
                    .olds
                    .iter()
                    .map(|old| Rule::hide(Match::Id(old.id.0.clone()))),
            );
            rules.push(Rule::health(own, Health::Healthy));
        }
        Stage::Shown | Stage::Settled => rules.push(Rule::health(own, Health::Healthy)),
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
    let hides = claim.rules.iter().filter(|rule| rule.hides());
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
