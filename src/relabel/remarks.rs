//! What an operator should know of a change by hand, and what Traefik is to make of it. Pure.

use crate::{
    model::{Health, Replica, Share},
    overlay::{ENABLE, Labels, Overlay},
    proxy::traefik::labels::{between, is_false, is_traefik, wants_traefik},
};

/// A container, the replicas of its service, and the overlay before and after the change.
pub struct Remarks<'a> {
    pub target: &'a Replica,
    /// Its Compose service, where it has one.
    pub service: Option<&'a String>,
    /// All replicas of that service, itself among them.
    pub replicas: &'a [Replica],
    pub before: &'a Overlay,
    pub now: &'a Overlay,
}

impl Remarks<'_> {
    /// Lines that stop nothing; none where there is nothing to say.
    pub fn on(&self, asked: &Labels) -> Vec<String> {
        let mut lines = ignored(asked);
        lines.extend(self.overruled(asked));
        lines.extend(self.last_one());
        lines.extend(self.conflict());
        lines
    }

    /// What Traefik is to do with the container; `None` where the change does not decide it.
    pub fn expected(&self, asked: &Labels) -> Option<Share> {
        let name = |key: &String| key.eq_ignore_ascii_case(ENABLE);
        let (was, is) = (
            hidden(self.before, self.target),
            hidden(self.now, self.target),
        );
        if is {
            return (was != is || asked.keys().any(name)).then_some(Share::Hidden);
        }
        let serves = self.target.serves() && self.target.health != Health::Starting;
        let labelled = wants_traefik(&shown_labels(self.now, self.target));
        (was && serves && labelled).then_some(Share::Live)
    }

    /// A rollout's claim says something else of the same label.
    fn overruled(&self, asked: &Labels) -> Vec<String> {
        let shown = shown_labels(self.now, self.target);
        let by_hand = self.now.labels_by_hand(&self.target.id.0);
        let overruled = by_hand.iter().filter(|(key, value)| {
            asked.contains_key(*key) && shown.get(*key).is_some_and(|value_now| value_now != *value)
        });
        overruled
            .map(|(key, _)| {
                let value = &shown[key];
                format!(
                    "a rollout says {key}={value} of {}, and wins",
                    self.target.name
                )
            })
            .collect()
    }

    fn last_one(&self) -> Option<String> {
        let service = self.service?;
        let visible = |overlay, replica: &&Replica| {
            replica.serves() && wants_traefik(&replica.labels) && !hidden(overlay, replica)
        };
        let was = self.replicas.iter().any(|own| visible(self.before, &own));
        let is = self.replicas.iter().any(|own| visible(self.now, &own));
        (was && !is).then(|| {
            format!(
                "{} was the last container of {service} that Traefik routes to: {service} is not served now",
                self.target.name
            )
        })
    }

    fn conflict(&self) -> Option<String> {
        if hidden(self.now, self.target) {
            return None;
        }
        let own = shown_labels(self.now, self.target);
        let others = self.replicas.iter().filter(|other| {
            other.id != self.target.id && other.serves() && !hidden(self.now, other)
        });
        others
            .flat_map(|other| {
                let conflicts = between(&own, &shown_labels(self.now, other));
                conflicts.into_iter().map(move |conflict| (other, conflict))
            })
            .map(|(other, conflict)| {
                format!(
                    "{conflict} differs from that of {}: Traefik drops it for both until they are alike",
                    other.name
                )
            })
            .next()
    }
}

fn ignored(asked: &Labels) -> Vec<String> {
    let others = asked.keys().filter(|key| !is_traefik(key));
    others
        .map(|key| format!("{key} is no traefik. label, so Traefik does nothing with it"))
        .collect()
}

fn shown_labels(overlay: &Overlay, replica: &Replica) -> Labels {
    let mut labels = replica.labels.clone();
    overlay.apply(&replica.id.0, &mut labels, false);
    labels
}

fn hidden(overlay: &Overlay, replica: &Replica) -> bool {
    let disabled =
        |(key, value): (&String, &String)| key.eq_ignore_ascii_case(ENABLE) && is_false(value);
    overlay.omits(&replica.id.0, &replica.labels)
        || shown_labels(overlay, replica).iter().any(disabled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::labels,
        model::Run,
        overlay::{Claim, Match, Rule},
        plan::simulator::replica,
    };

    const RULE: &str = "traefik.http.routers.web.rule";

    fn web(id: &str) -> Replica {
        Replica {
            labels: labels(&[(ENABLE, "true"), (RULE, "Host(`a`)")]),
            name: id.to_owned(),
            ..replica(id, None, Run::Running, Health::None)
        }
    }

    fn remarks(before: &[&str], asked: &[(&str, &str)]) -> (Vec<String>, Option<Share>) {
        let replicas = [web("one"), web("two")];
        let hide = labels(&[(ENABLE, "false")]);
        let mut overlay = Overlay::default();
        for id in before {
            overlay.set(Claim::by_hand(id, hide.clone())).unwrap();
        }
        let mut now = overlay.clone();
        let asked = labels(asked);
        match asked.is_empty() {
            true => drop(now.clear(".by-hand/one", 1).unwrap()),
            false => drop(now.set(Claim::by_hand("one", asked.clone())).unwrap()),
        }
        let service = "web".to_owned();
        let remarks = Remarks {
            target: &replicas[0],
            service: Some(&service),
            replicas: &replicas,
            before: &overlay,
            now: &now,
        };
        (remarks.on(&asked), remarks.expected(&asked))
    }

    #[test]
    fn hiding_one_of_two_needs_no_word_and_hiding_the_last_one_is_said() {
        let hide = [(ENABLE, "false")];
        assert_eq!(remarks(&[], &hide), (vec![], Some(Share::Hidden)));
        let (lines, route) = remarks(&["two"], &hide);
        assert_eq!(
            lines,
            ["one was the last container of web that Traefik routes to: web is not served now"]
        );
        assert_eq!(route, Some(Share::Hidden));
        assert_eq!(remarks(&["one"], &[]), (vec![], Some(Share::Live)));
    }

    #[test]
    fn a_label_that_does_nothing_and_one_that_makes_traefik_drop_a_router_are_said() {
        let (lines, route) = remarks(&[], &[("io.other", "1")]);
        assert_eq!(
            lines,
            ["io.other is no traefik. label, so Traefik does nothing with it"]
        );
        assert_eq!(route, None);
        let (lines, _) = remarks(&[], &[(RULE, "Host(`b`)")]);
        assert_eq!(
            lines,
            [
                "router web (rule) differs from that of two: Traefik drops it for both until they are alike"
            ]
        );
        assert_eq!(remarks(&["two"], &[(RULE, "Host(`b`)")]).0, [""; 0]);
    }

    #[test]
    fn a_rollout_that_says_otherwise_wins_and_that_is_said() {
        let one = [web("one")];
        let asked = labels(&[(ENABLE, "true")]);
        let mut now = Overlay::default();
        let claim = Claim {
            key: "shop/web".to_owned(),
            rollout: "r".to_owned(),
            epoch: 1,
            stage: "cutover".to_owned(),
            rules: vec![Rule::hide(Match::Id("one".to_owned()))],
        };
        now.set(claim).unwrap();
        let before = now.clone();
        now.set(Claim::by_hand("one", asked.clone())).unwrap();
        let remarks = Remarks {
            target: &one[0],
            service: None,
            replicas: &one,
            before: &before,
            now: &now,
        };
        assert_eq!(
            remarks.on(&asked),
            ["a rollout says traefik.enable=false of one, and wins"]
        );
        assert_eq!(remarks.expected(&asked), Some(Share::Hidden));
    }
}
