//! Data that two versions would write at the same time, such as the volume of a database.

use serde_json::{Value, json};

use super::{Check, Facts, Finding, Fix, ServiceFacts};

/// Images of servers whose data only one process may use, by the last word of the name.
const IMAGES: [&str; 34] = [
    "cassandra",
    "clickhouse-server",
    "cockroach",
    "consul",
    "couchdb",
    "elasticsearch",
    "etcd",
    "forgejo",
    "gitea",
    "grafana",
    "influxdb",
    "keydb",
    "loki",
    "mariadb",
    "meilisearch",
    "minio",
    "mongo",
    "mongodb",
    "mosquitto",
    "mysql",
    "mysql-server",
    "neo4j",
    "opensearch",
    "percona",
    "pgvector",
    "postgis",
    "postgres",
    "postgresql",
    "prometheus",
    "rabbitmq",
    "redis",
    "timescaledb",
    "valkey",
    "vaultwarden",
];
/// The data directories of such servers.
const PLACES: [&str; 10] = [
    "/var/lib/postgresql",
    "/var/lib/mysql",
    "/data/db",
    "/var/lib/mongodb",
    "/var/lib/redis",
    "/var/lib/clickhouse",
    "/var/lib/rabbitmq",
    "/var/lib/influxdb",
    "/var/lib/sqlite",
    "/bitnami",
];
/// Endings of files that only one process may write, such as those of SQLite.
const FILES: [&str; 4] = [".db", ".sqlite", ".sqlite3", ".rdb"];

/// One finding for each service: a warning if the data has certainly one writer, otherwise a note.
pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    if !service.runs_twice() {
        return Vec::new();
    }
    let raw = service.service.raw(&facts.project);
    let mounts: Vec<(&str, &str)> = written(raw).collect();
    let name = service.name();
    let image = service.service.bare_image();
    let warning = |why: &str, (source, target): &(&str, &str)| {
        let text = format!(
            "both versions of {name} would write {source} at {target} during a rollout: {why}"
        );
        Finding::warn(Check::SingleWriter, name, text).fix(Fix::recreate(name, ""))
    };
    let sure = mounts
        .iter()
        .find_map(|mount| Some(warning(&why(raw, image, mount.1)?, mount)));
    let note = mounts.first().map(|(source, target)| {
        let text = format!("both versions of {name} write {source} at {target} while both run: fine for files, not for a database");
        Finding::ok(Check::SingleWriter, name, text)
    });
    sure.or(note).into_iter().collect()
}

/// Source and target of writable mounts: named volumes and directories of the host.
fn written(service: &Value) -> impl Iterator<Item = (&str, &str)> {
    let volumes = service["volumes"].as_array().into_iter().flatten();
    let kept = volumes.filter(|volume| {
        matches!(volume["type"].as_str(), Some("volume" | "bind"))
            && volume["read_only"] != json!(true)
    });
    let both =
        kept.filter_map(|volume| Some((volume["source"].as_str()?, volume["target"].as_str()?)));
    // A socket has no data.
    both.filter(|(source, _)| !source.ends_with(".sock"))
}

fn why(service: &Value, image: &str, target: &str) -> Option<String> {
    if IMAGES.contains(&image) {
        return Some(format!("only one process may use the data of {image}"));
    }
    if FILES.iter().any(|end| target.ends_with(end))
        || PLACES.iter().any(|place| is_in(target, place))
    {
        return Some("only one process may use the data of a database".to_owned());
    }
    let environment = service["environment"].as_object().into_iter().flatten();
    let sqlite = environment
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .find(|(_, value)| is_sqlite(value, target));
    sqlite.map(|(key, _)| format!("{key} names an SQLite file there"))
}

fn is_in(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `sqlite:///data/app.db`, `file:/data/app.sqlite3`, `/data/app.db`.
fn is_sqlite(value: &str, target: &str) -> bool {
    let value = value.split('?').next().unwrap_or_default();
    let path = value.split_once(':').map_or(value, |(_, path)| path);
    let path = format!("/{}", path.trim_start_matches('/'));
    let is_file = value.starts_with("sqlite") || FILES.iter().any(|end| path.ends_with(end));
    is_file && is_in(&path, target.trim_end_matches('/'))
}

#[cfg(test)]
#[path = "writers_tests.rs"]
mod tests;
