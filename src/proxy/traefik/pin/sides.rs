//! Which replicas are pinned in each phase, and what each version defines. Pure.

use std::collections::BTreeMap;

use super::definition::Definition;
use crate::{
    model::{Health, Phase, Replica, Run},
    proxy::traefik::labels::previewed,
    settings::PreviewRule,
};

type Labels = BTreeMap<String, String>;

/// Gives the rule of a router without one: the labels of its container, and its name.
pub type Rules<'a> = dyn Fn(&Labels, &str) -> Option<String> + 'a;

/// The two versions of one change.
pub struct Sides<'a> {
    pub live: Vec<&'a Replica>,
    /// Previewed replicas, with the labels of their preview.
    pub previewed: Vec<Replica>,
    shown: Vec<&'a Labels>,
    other: Vec<&'a Labels>,
    /// Whether the other version's containers get none from here on, whatever leads to them.
    pub other_is_there: bool,
}

impl<'a> Sides<'a> {
    /// `wanted` are the labels of a new version that does not exist yet.
    pub fn of(
        phase: Phase,
        (news, olds): (&[&'a Replica], &[&'a Replica]),
        wanted: &'a Labels,
    ) -> Self {
        let forward = is_forward(phase);
        let (own, others) = match forward {
            true => (news, olds),
            false => (olds, news),
        };
        let live = match forward {
            true => first_of(own, &[Replica::serves, runs]),
            false => first_of(own, &[answers, Replica::serves]),
        };
        let labels = |set: &[&'a Replica]| match set.is_empty() {
            true => vec![wanted],
            false => set.iter().map(|own| &own.labels).collect(),
        };
        let other_is_there = phase != Phase::Prepared;
        Self {
            shown: labels(if live.is_empty() { own } else { &live }),
            other: match others.is_empty() && other_is_there {
                true => Vec::new(),
                false => labels(others),
            },
            live,
            previewed: Vec::new(),
            other_is_there,
        }
    }

    /// The same with a preview of these new replicas, if there is a rule for it.
    pub fn with_preview(mut self, news: &[&Replica], rule: Option<&PreviewRule>) -> Self {
        let Some(rule) = rule else {
            return self;
        };
        let shown = first_of(news, &[Replica::serves, runs]).into_iter();
        let shown = shown.map(|own| Replica {
            labels: previewed(&own.labels, rule),
            ..own.clone()
        });
        self.previewed = shown.collect();
        self
    }

    /// What the live version defines.
    pub fn shown(&self, rules: &Rules<'_>) -> Definition {
        define(&self.shown, rules)
    }

    /// What the other one defines.
    pub fn other(&self, rules: &Rules<'_>) -> Definition {
        define(&self.other, rules)
    }
}

/// Whether the new replicas have the public's requests: the only shift of a pin is a preview.
pub fn is_forward(phase: Phase) -> bool {
    match phase {
        Phase::Committed | Phase::ForceShown | Phase::Settled => true,
        Phase::Prepared | Phase::Shifted { .. } | Phase::RolledBack => false,
    }
}

fn define(all: &[&Labels], rules: &Rules<'_>) -> Definition {
    let mut own = Definition::default();
    for labels in all {
        own.extend(Definition::of(labels, &|router| rules(labels, router)));
    }
    own
}

/// Those that meet the first condition that any meets.
fn first_of<'a>(set: &[&'a Replica], conditions: &[fn(&Replica) -> bool]) -> Vec<&'a Replica> {
    for condition in conditions {
        let found: Vec<&Replica> = set.iter().copied().filter(|own| condition(own)).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn runs(replica: &Replica) -> bool {
    replica.run == Run::Running
}

/// Whether Traefik's Docker provider routes to it (`keepContainer`, `pkg/provider/docker/config.go`).
fn answers(replica: &Replica) -> bool {
    runs(replica) && matches!(replica.health, Health::None | Health::Healthy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::simulator::replica;

    fn live(phase: Phase, olds: &[(&str, Health)], news: &[(&str, Health)]) -> Vec<String> {
        let made = |set: &[(&str, Health)]| -> Vec<Replica> {
            let one = |(name, health): &(&str, Health)| replica(name, None, Run::Running, *health);
            set.iter().map(one).collect()
        };
        let (olds, news) = (made(olds), made(news));
        let news: Vec<&Replica> = news.iter().collect();
        let olds: Vec<&Replica> = olds.iter().collect();
        let wanted = Labels::new();
        let live = Sides::of(phase, (&news, &olds), &wanted).live;
        live.iter().map(|own| own.name.clone()).collect()
    }

    #[test]
    fn a_hold_shows_the_old_ones_that_traefik_routes_to_and_a_cutover_the_new_ones_that_serve() {
        use Health::{Healthy, Starting, Unhealthy};
        let olds = [("a", Healthy), ("b", Starting), ("c", Unhealthy)];
        let news = [("d", Starting), ("e", Unhealthy)];
        assert_eq!(live(Phase::Prepared, &olds, &[]), ["a"]);
        assert_eq!(live(Phase::RolledBack, &olds[1..], &news), ["b"]);
        assert_eq!(live(Phase::Shifted { step: 1 }, &olds, &news), ["a"]);
        assert_eq!(live(Phase::Committed, &olds, &news), ["d"]);
        assert_eq!(live(Phase::Committed, &olds, &news[1..]), ["e"]);
        assert!(live(Phase::Prepared, &olds[2..], &news).is_empty());
    }
}
