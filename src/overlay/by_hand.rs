//! Claims that an operator sets by hand with `rollout relabel`, one for each container.

use std::collections::BTreeSet;

use super::{Claim, Effect, Labels, Match, Overlay, Rule};

/// The first part of the key, in place of a project's name. A project's name begins with a letter or a digit (compose-spec,
/// "name"), so claims by hand come first in the order of keys, and a rollout's rules win, label by label.
const PREFIX: &str = ".by-hand/";
const WORDS: &str = "by hand";

impl Claim {
    /// Sets labels on one container, by its full id.
    pub fn by_hand(id: &str, labels: Labels) -> Self {
        Self {
            key: key_by_hand(id),
            rollout: WORDS.to_owned(),
            // No rollout owns it, and ids are not used again, so one epoch is enough.
            epoch: 1,
            stage: WORDS.to_owned(),
            rules: vec![Rule::set(Match::Id(id.to_owned()), labels)],
        }
    }

    /// Whether an operator has set the claim.
    pub fn is_by_hand(&self) -> bool {
        is_key(&self.key)
    }
}

pub(super) fn is_key(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// The key of the claim that an operator sets on a container.
pub fn key_by_hand(id: &str) -> String {
    format!("{PREFIX}{id}")
}

impl Overlay {
    /// The labels that an operator has given to a container.
    pub fn labels_by_hand(&self, id: &str) -> Labels {
        let claim = self.claims.get(&key_by_hand(id));
        let rules = claim.into_iter().flat_map(|claim| &claim.rules);
        let set = rules.filter_map(|rule| match &rule.effect {
            Effect::Labels { set, .. } => Some(set.clone()),
            Effect::Health(_) | Effect::Omit | Effect::TasksOf(_) => None,
        });
        set.flatten().collect()
    }

    /// The ids of the containers that an operator hides.
    pub fn hidden_by_hand(&self) -> BTreeSet<&str> {
        let claims = self.claims.values().filter(|claim| claim.is_by_hand());
        let rules = claims.flat_map(|claim| &claim.rules);
        let hiding = rules.filter(|rule| rule.hides());
        hiding
            .filter_map(|rule| match &rule.on {
                Match::Id(id) => Some(id.as_str()),
                Match::Label { .. } | Match::Service(_) => None,
            })
            .collect()
    }

    /// Drops the claim and the epoch of a container that is removed.
    pub(super) fn forget_by_hand(&mut self, id: &str) -> bool {
        let key = key_by_hand(id);
        self.last_epochs.remove(&key);
        self.claims.remove(&key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::ENABLE;

    fn hiding() -> Labels {
        Labels::from([(ENABLE.to_owned(), "false".to_owned())])
    }

    fn of_rollout(project: &str, enabled: &str) -> Claim {
        Claim {
            key: format!("{project}/web"),
            rollout: "r1".to_owned(),
            epoch: 9,
            stage: "hold".to_owned(),
            rules: vec![Rule::set(
                Match::Id("a".to_owned()),
                Labels::from([
                    (ENABLE.to_owned(), enabled.to_owned()),
                    ("rollout".to_owned(), "1".to_owned()),
                ]),
            )],
        }
    }

    fn shown(overlay: &Overlay) -> Labels {
        let mut labels = Labels::new();
        overlay.apply("a", &mut labels, false);
        labels
    }

    #[test]
    fn a_rollout_wins_over_labels_set_by_hand_label_by_label() {
        for project in ["0shop", "a", "zoo"] {
            let mut overlay = Overlay::default();
            overlay.set(of_rollout(project, "true")).unwrap();
            let mut by_hand = hiding();
            by_hand.insert("hand".to_owned(), "1".to_owned());
            overlay.set(Claim::by_hand("a", by_hand)).unwrap();
            let shown = shown(&overlay);
            assert_eq!(shown[ENABLE], "true", "{project}");
            assert_eq!(
                (shown["hand"].as_str(), shown["rollout"].as_str()),
                ("1", "1")
            );
            assert!(!overlay.hides("a", &Labels::new()));
        }
    }

    #[test]
    fn hiding_by_hand_applies_if_no_rollout_sets_the_same_label() {
        let mut overlay = Overlay::default();
        let mut claim = of_rollout("shop", "false");
        claim.rules[0].end_hiding();
        overlay.set(claim).unwrap();
        overlay.set(Claim::by_hand("a", hiding())).unwrap();
        assert!(overlay.hides("a", &Labels::new()));
        assert_eq!(overlay.hidden_by_hand(), BTreeSet::from(["a"]));
        assert_eq!(overlay.labels_by_hand("a"), hiding());
        assert!(overlay.labels_by_hand("b").is_empty());
    }

    #[test]
    fn a_container_that_is_gone_or_cleared_leaves_no_trace_of_what_was_set_by_hand() {
        let mut overlay = Overlay::default();
        overlay.set(Claim::by_hand("a", hiding())).unwrap();
        assert!(overlay.forget_container("a"));
        assert!(!overlay.forget_container("a"));
        overlay.set(Claim::by_hand("a", hiding())).unwrap();
        assert_eq!(overlay.clear(&key_by_hand("a"), 1), Ok(4));
        assert_eq!(overlay.clear(&key_by_hand("b"), 1), Ok(4));
        assert_eq!((overlay.claims.len(), overlay.last_epochs.len()), (0, 0));
    }

    #[test]
    fn every_daemon_takes_a_claim_by_hand() {
        assert_eq!(Claim::by_hand("a", hiding()).validate(), Ok(()));
        assert!(Claim::by_hand("a", hiding()).is_by_hand());
        assert!(!of_rollout("shop", "true").is_by_hand());
    }
}
