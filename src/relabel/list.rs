//! `rollout relabel --list`: every rule that stands, whoever has set it.

use std::collections::BTreeMap;

use crate::{
    engine::Engine,
    error::Result,
    model::ServiceKey,
    proxy::traefik::discover,
    report::overlay::Row,
    socket_proxy::overlay::{Claim, Match, Overlay, Rule},
};

/// Every rule of every socket proxy on the engine, with containers by name.
pub async fn list(engine: &Engine) -> Result<Vec<Row>> {
    let names: BTreeMap<String, String> = engine
        .containers()
        .await?
        .iter()
        .filter_map(|own| Some((own.id.clone()?, discover::name(own))))
        .collect();
    let nobodys = ServiceKey {
        project: String::new(),
        service: String::new(),
    };
    let mut rows = Vec::new();
    for found in discover::socket_proxies(engine, &nobodys).await? {
        let overlay = found.control.overlay().await?;
        rows.extend(rows_of(&found.control.name, &overlay, &names));
    }
    Ok(rows)
}

fn rows_of(socket_proxy: &str, overlay: &Overlay, names: &BTreeMap<String, String>) -> Vec<Row> {
    let rules = overlay
        .claims
        .values()
        .flat_map(|claim| claim.rules.iter().map(move |rule| (claim, rule)));
    let says = |rule: &Rule| !rule.labels.is_empty() || rule.health.is_some();
    rules
        .filter(|(_, rule)| says(rule))
        .map(|(claim, rule)| row(socket_proxy, claim, rule, names))
        .collect()
}

fn row(socket_proxy: &str, claim: &Claim, rule: &Rule, names: &BTreeMap<String, String>) -> Row {
    let by_hand = claim.is_by_hand();
    Row {
        containers: match &rule.on {
            Match::Id(id) => names.get(id).unwrap_or(id).clone(),
            Match::Label { key, value } => format!("all with {key}={value}"),
        },
        labels: rule.labels.clone(),
        health: rule.health.map(|health| health.as_str().to_owned()),
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
        report::overlay,
        socket_proxy::overlay::{ENABLE, Health, Labels},
    };

    #[test]
    fn rules_by_hand_and_of_rollouts_are_listed_with_their_owners_and_stages() {
        let hide = Labels::from([(ENABLE.to_owned(), "false".to_owned())]);
        let own = Match::Label {
            key: "io.rollout.id".to_owned(),
            value: "r1".to_owned(),
        };
        let rule = |on: Match, labels: &Labels, health| Rule {
            on,
            labels: labels.clone(),
            health,
        };
        let rollout = Claim {
            key: "shop/web".to_owned(),
            rollout: "r1".to_owned(),
            epoch: 1,
            stage: "cutover".to_owned(),
            rules: vec![
                rule(Match::Id("a".to_owned()), &hide, None),
                rule(own.clone(), &Labels::new(), Some(Health::Healthy)),
                rule(own, &Labels::new(), None),
            ],
        };
        let mut all = Overlay::default();
        all.set(rollout).unwrap();
        all.set(Claim::by_hand("b", hide)).unwrap();
        let names = BTreeMap::from([("a".to_owned(), "shop-web-1".to_owned())]);
        let rows = rows_of("shop-socket-proxy-1", &all, &names);
        let table = overlay::human(&rows);
        for line in [
            " b                                   traefik.enable=false   by hand                         shop-socket-proxy-1",
            " shop-web-1                          traefik.enable=false   rollout r1 of shop/web: cutover shop-socket-proxy-1",
            " all with io.rollout.id=r1           health: healthy        rollout r1 of shop/web: cutover shop-socket-proxy-1",
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
