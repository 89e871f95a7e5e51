//! `rollout relabel --list`: every rule that holds, of rollouts and set by hand.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    docker::engine::{Engine, summary},
    error::Result,
    model::label,
    overlay::{Claim, Effect, Labels, Match, Overlay, Rule},
    proxy::landscape::Landscape,
    report::overlay::Row,
};

/// A container that a rule may be about.
struct Known {
    name: String,
    project: Option<String>,
}

/// Every rule of every socket proxy on the engine, with containers by name; of one project, where it is named.
pub async fn list(engine: &Engine, project: Option<&str>) -> Result<Vec<Row>> {
    // No project's socket proxies come first.
    let landscape = Landscape::read(engine, "").await?;
    let containers = landscape.containers.iter();
    let known: BTreeMap<String, Known> = containers
        .filter_map(|own| {
            let project = summary::label(own, label::COMPOSE_PROJECT);
            let known = Known {
                name: summary::name(own),
                project: project.map(str::to_owned),
            };
            Some((own.id.clone()?, known))
        })
        .collect();
    let mut rows = Vec::new();
    for found in landscape.socket_proxies {
        let overlay = found.control.overlay().await?;
        rows.extend(rows_of(&found.control.name, &overlay, &known, project));
    }
    Ok(rows)
}

fn rows_of(
    socket_proxy: &str,
    overlay: &Overlay,
    known: &BTreeMap<String, Known>,
    project: Option<&str>,
) -> Vec<Row> {
    let rules = overlay
        .claims
        .values()
        .filter(|claim| project.is_none_or(|project| is_of(claim, project, known)))
        .flat_map(|claim| claim.rules.iter().map(move |rule| (claim, rule)));
    rules
        .filter(|(_, rule)| !rule.is_empty())
        .map(|(claim, rule)| row(socket_proxy, claim, rule, known))
        .collect()
}

/// Whether a claim is about a service, or a container, of a project.
fn is_of(claim: &Claim, project: &str, known: &BTreeMap<String, Known>) -> bool {
    if !claim.is_by_hand() {
        return claim.key.split('/').next() == Some(project);
    }
    claim.rules.iter().any(|rule| match &rule.on {
        Match::Id(id) => known
            .get(id)
            .is_some_and(|own| own.project.as_deref() == Some(project)),
        Match::Label { .. } | Match::Service(_) => false,
    })
}

fn row(socket_proxy: &str, claim: &Claim, rule: &Rule, known: &BTreeMap<String, Known>) -> Row {
    let by_hand = claim.is_by_hand();
    let (labels, unset, health) = match &rule.effect {
        Effect::Labels { set, unset } => (set.clone(), unset.clone(), None),
        Effect::Health(health) => (Labels::new(), BTreeSet::new(), Some(health.as_str())),
        Effect::Omit | Effect::TasksOf(_) => Default::default(),
    };
    Row {
        containers: match &rule.on {
            Match::Id(id) => known.get(id).map_or(id, |own| &own.name).clone(),
            Match::Label { key, value } => format!("all with {key}={value}"),
            Match::Service(id) => format!("Swarm service {id}"),
        },
        labels,
        unset,
        health: health.map(str::to_owned),
        omitted: rule.effect == Effect::Omit,
        tasks_of: match &rule.effect {
            Effect::TasksOf(other) => Some(other.clone()),
            _ => None,
        },
        service: (!by_hand).then(|| claim.key.clone()),
        rollout: (!by_hand).then(|| claim.rollout.clone()),
        stage: claim.stage.clone(),
        socket_proxy: socket_proxy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        overlay::{ENABLE, Health},
        report::overlay,
    };

    /// A rollout of shop/web, and two containers that are hidden by hand: one of another project, and one that is gone.
    fn overlay() -> Overlay {
        let hide = Labels::from([(ENABLE.to_owned(), "false".to_owned())]);
        let own = Match::Label {
            key: "io.rollout.id".to_owned(),
            value: "r1".to_owned(),
        };
        let rollout = Claim {
            key: "shop/web".to_owned(),
            rollout: "r1".to_owned(),
            epoch: 1,
            stage: "cutover".to_owned(),
            rules: vec![
                Rule::hide(Match::Id("a".to_owned())),
                Rule::health(own.clone(), Health::Healthy),
                Rule::set(own.clone(), Labels::new()),
                Rule {
                    on: own.clone(),
                    effect: Effect::Omit,
                },
                Rule {
                    on: own,
                    effect: Effect::Labels {
                        set: Labels::new(),
                        unset: ["other".to_owned()].into(),
                    },
                },
                Rule {
                    on: Match::Service("s1".to_owned()),
                    effect: Effect::TasksOf("s2".to_owned()),
                },
            ],
        };
        let mut all = Overlay::default();
        all.set(rollout).unwrap();
        all.set(Claim::by_hand("b", hide.clone())).unwrap();
        all.set(Claim::by_hand("c", hide)).unwrap();
        all
    }

    fn known() -> BTreeMap<String, Known> {
        let own = |name: &str, project: &str| Known {
            name: name.to_owned(),
            project: Some(project.to_owned()),
        };
        BTreeMap::from([
            ("a".to_owned(), own("shop-web-1", "shop")),
            ("c".to_owned(), own("blog-web-1", "blog")),
        ])
    }

    #[test]
    fn a_project_sees_its_own_rules_alone() {
        let of = |project| rows_of("shop-socket-proxy-1", &overlay(), &known(), project);
        let names = |rows: &[Row]| -> Vec<String> {
            rows.iter().map(|row| row.containers.clone()).collect()
        };
        assert_eq!(names(&of(Some("blog"))), ["blog-web-1"]);
        assert_eq!(
            names(&of(Some("shop"))),
            ["shop-web-1"]
                .into_iter()
                .chain(["all with io.rollout.id=r1"; 3])
                .chain(["Swarm service s1"])
                .collect::<Vec<_>>()
        );
        assert_eq!(of(None).len(), 7);
    }

    #[test]
    fn rules_by_hand_and_of_rollouts_are_listed_with_their_owners_and_stages() {
        let rows = rows_of("shop-socket-proxy-1", &overlay(), &known(), None);
        let table = overlay::human(&rows);
        for line in [
            " b                                   traefik.enable=false   by hand                         shop-socket-proxy-1",
            " shop-web-1                          traefik.enable=false   rollout r1 of shop/web: cutover shop-socket-proxy-1",
            " all with io.rollout.id=r1           health: healthy        rollout r1 of shop/web: cutover shop-socket-proxy-1",
            " all with io.rollout.id=r1           left out               rollout r1 of shop/web: cutover shop-socket-proxy-1",
            " all with io.rollout.id=r1           without other          rollout r1 of shop/web: cutover shop-socket-proxy-1",
            " Swarm service s1                    tasks of s2            rollout r1 of shop/web: cutover shop-socket-proxy-1",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let has = |row: &str| row.split_whitespace().collect::<Vec<_>>() == words;
            assert!(table.lines().any(has), "{table}");
        }
        assert_eq!(
            overlay::json(&rows).lines().next().unwrap(),
            r#"{"event":"rule","containers":"b","labels":{"traefik.enable":"false"},"health":null,"service":null,"rollout":null,"stage":"by hand","socket_proxy":"shop-socket-proxy-1"}"#
        );
    }
}
