//! The status of several services: a table with a row for each.

use std::collections::BTreeSet;

use super::{Seen, remarks, traffic, word};
use crate::{
    error::Error,
    model::{Health, Run, image_name},
    report::table::table,
    roll::Standing,
};

const HEADER: [&str; 6] = ["service", "revision", "image", "replicas", "route", "state"];

pub fn text(seen: &[Seen]) -> String {
    table(HEADER, seen.iter().map(row))
}

/// The error where several services were asked for.
pub fn unsettled(unsettled: &[&Seen]) -> Error {
    let names: Vec<&str> = unsettled.iter().map(|own| own.name.as_str()).collect();
    let error = Error::failed(format!("not up to date: {}", names.join(", ")));
    match names.first() {
        Some(first) => error.hint(format!("rollout status {first} shows one in full")),
        None => error,
    }
}

fn row(own: &Seen) -> [String; 6] {
    let standing = &own.standing;
    let is_well = |own: &&crate::model::Replica| own.serves() || standing.ended.contains(&own.id);
    let well = standing.replicas.iter().filter(is_well).count();
    [
        own.name.clone(),
        own.revision.map_or("-".to_owned(), |own| own.to_string()),
        images(standing),
        format!("{well} of {}", standing.desired),
        routes(standing),
        state(standing),
    ]
}

/// The different values of all replicas; a dash where there is none.
fn each(values: impl Iterator<Item = String>) -> String {
    let values: BTreeSet<String> = values.collect();
    let values: Vec<String> = values.into_iter().collect();
    match values.is_empty() {
        true => "-".to_owned(),
        false => values.join(", "),
    }
}

fn images(standing: &Standing) -> String {
    let replicas = standing.replicas.iter();
    each(replicas.map(|own| image_name(&own.reference, &own.image)))
}

fn routes(standing: &Standing) -> String {
    let replicas = standing.replicas.iter();
    each(replicas.map(|own| traffic(standing, own).to_owned()))
}

/// Why it is not up to date, if it is not.
fn state(standing: &Standing) -> String {
    if standing.is_settled() {
        return "up to date".to_owned();
    }
    let mut why = remarks(standing);
    why.extend(unwell(standing));
    match why.is_empty() {
        true => "not settled".to_owned(),
        false => why.join("; "),
    }
}

/// The replicas that do not run, or that Docker does not call healthy.
fn unwell(standing: &Standing) -> impl Iterator<Item = String> {
    let left = standing
        .replicas
        .iter()
        .filter(|own| !standing.ended.contains(&own.id));
    left.filter_map(|own| match (own.run, own.health) {
        (Run::Running, Health::None | Health::Healthy) => None,
        (Run::Running, health) => Some(format!("{} is {}", own.name, word(&health))),
        (run, _) => Some(format!("{} is {}", own.name, word(&run))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Replica, Share},
        plan::simulator,
        proxy::Observation,
    };

    fn seen(name: &str, replicas: Vec<Replica>) -> Seen {
        let routing = replicas.iter().map(|own| (own.id.clone(), Share::Live));
        let observed = Observation {
            routing: routing.collect(),
            ..Observation::default()
        };
        Seen {
            name: name.to_owned(),
            revision: Some(4),
            standing: Standing {
                routed: true,
                observed: Some(observed),
                desired: 2,
                replicas,
                ..Standing::default()
            },
        }
    }

    fn replica(id: &str) -> Replica {
        Replica {
            reference: "app:v1".to_owned(),
            ..simulator::old(id)
        }
    }

    #[test]
    fn a_row_says_what_runs_where_traffic_goes_and_what_differs() {
        let well = seen("web", vec![replica("a"), replica("b")]);
        assert_eq!(
            row(&well),
            ["web", "4", "app:v1", "2 of 2", "live", "up to date"]
        );
        let mut other = seen("api", vec![replica("a"), replica("b")]);
        other.standing.replicas[1].run = Run::Exited;
        other.standing.drift = vec!["config: it differs".to_owned()];
        other.revision = None;
        let name = &other.standing.replicas[1].name;
        assert_eq!(
            row(&other),
            [
                "api",
                "-",
                "app:v1",
                "1 of 2",
                "live",
                &format!("config: it differs; {name} is exited")
            ]
        );
        let none = seen("db", Vec::new());
        assert_eq!(row(&none)[2..], ["-", "0 of 2", "-", "not settled"]);
    }

    #[test]
    fn the_error_names_each_service_that_is_not_up_to_date() {
        let (web, db) = (seen("web", Vec::new()), seen("db", Vec::new()));
        let error = unsettled(&[&web, &db]);
        assert_eq!(error.message, "not up to date: web, db");
        assert_eq!(error.hint.unwrap(), "rollout status web shows one in full");
    }
}
