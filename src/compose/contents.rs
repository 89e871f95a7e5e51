//! Digests of configs and secrets, which Compose's config hash leaves out.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Compose, Content, Project};
use crate::error::Result;

/// Fills in [`super::Service::inline_digest`] and [`super::Service::contents`] of every service.
pub(super) async fn digest(compose: &Compose, project: &mut Project) -> Result<()> {
    let variables = compose.values(&variables(&project.raw)).await?;
    for service in project.services.values_mut() {
        (service.inline_digest, service.contents) =
            contents(&project.raw, &service.name, &variables);
    }
    Ok(())
}

/// One config or secret that a service uses.
struct Use<'a> {
    section: &'static str,
    source: &'a str,
    target: Option<&'a str>,
    /// Its entry at the top level.
    entry: &'a Value,
}

fn uses<'a>(raw: &'a Value, service: &'a str) -> impl Iterator<Item = Use<'a>> {
    SECTIONS.into_iter().flat_map(move |section| {
        let uses = raw["services"][service][section].as_array();
        uses.into_iter().flatten().filter_map(move |used| {
            let source = used["source"].as_str()?;
            Some(Use {
                section,
                source,
                target: used["target"].as_str(),
                entry: &raw[section][source],
            })
        })
    })
}

/// A digest over all contents of a service, empty where it has none, and each content that is not external.
fn contents(
    raw: &Value,
    service: &str,
    variables: &BTreeMap<String, String>,
) -> (String, Vec<Content>) {
    let mut hasher = Sha256::new();
    let mut any = false;
    let mut contents = Vec::new();
    for own in uses(raw, service) {
        any = true;
        let digest = content_digest(own.entry, variables);
        hasher.update(format!("{}\0{}\0", own.section, own.source));
        hasher.update(&digest);
        if SOURCES.iter().any(|key| own.entry.get(key).is_some()) {
            contents.push(Content {
                target: target(own.section, own.source, own.target),
                digest,
                file: own.entry["file"].as_str().map(PathBuf::from),
            });
        }
    }
    if !any {
        return (String::new(), contents);
    }
    let whole = hasher.finalize();
    let whole = whole.iter().map(|byte| format!("{byte:02x}")).collect();
    (whole, contents)
}

/// The path in the container (Compose's `buildContainerConfigMounts` and `buildContainerSecretMounts`).
fn target(section: &str, source: &str, target: Option<&str>) -> String {
    let base = if section == "secrets" {
        "/run/secrets/"
    } else {
        "/"
    };
    match target.filter(|target| !target.is_empty()).unwrap_or(source) {
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative => format!("{base}{relative}"),
    }
}

const SECTIONS: [&str; 2] = ["configs", "secrets"];

/// The keys that give an entry its content; without one it is external.
const SOURCES: [&str; 3] = ["content", "environment", "file"];

/// The variables from which configs and secrets take their contents (`environment:`).
fn variables(raw: &Value) -> Vec<String> {
    let entries = SECTIONS
        .iter()
        .filter_map(|section| raw[*section].as_object());
    let mut names: Vec<String> = entries
        .flat_map(|entries| entries.values())
        .filter_map(|entry| entry["environment"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The configs and secrets of a service that Compose copies into its containers.
pub fn copied(raw: &Value, service: &str) -> Vec<String> {
    let is_copied =
        |own: &Use<'_>| !own.entry["content"].is_null() || !own.entry["environment"].is_null();
    let copied = uses(raw, service).filter(is_copied);
    copied
        .map(|own| format!("{}.{}", own.section, own.source))
        .collect()
}

/// A digest of one config's or secret's content, or of its entry where it is external or cannot be read.
fn content_digest(entry: &Value, variables: &BTreeMap<String, String>) -> Vec<u8> {
    let text = |key: &str| entry[key].as_str();
    if let Some(content) = text("content") {
        return Sha256::digest(content).to_vec();
    }
    if let Some(value) = text("environment").and_then(|name| variables.get(name)) {
        return Sha256::digest(value).to_vec();
    }
    text("file")
        .and_then(|path| file_digest(Path::new(path)))
        .unwrap_or_else(|| Sha256::digest(entry.to_string()).to_vec())
}

fn file_digest(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finalize().to_vec()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest_of(content: Value) -> String {
        let raw = json!({
            "services": {"web": {"configs": [{"source": "c", "target": "/c"}]}, "db": {}},
            "configs": {"c": content, "unused": {"content": "x"}},
        });
        let variables = BTreeMap::from([("A".to_owned(), "one".to_owned())]);
        assert_eq!(contents(&raw, "db", &variables).0, "");
        contents(&raw, "web", &variables).0
    }

    #[test]
    fn the_same_content_is_the_same_digest_wherever_it_comes_from() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c");
        std::fs::write(&file, "one").unwrap();
        let inline = digest_of(json!({"content": "one"}));
        assert_eq!(inline.len(), 64);
        assert_eq!(digest_of(json!({"file": file})), inline);
        assert_eq!(digest_of(json!({"environment": "A"})), inline);
        std::fs::write(&file, "two").unwrap();
        assert_ne!(digest_of(json!({"file": file})), inline);
    }

    #[test]
    fn what_cannot_be_read_counts_by_its_name() {
        let missing = digest_of(json!({"file": "/none"}));
        assert_ne!(missing, digest_of(json!({"file": "/nothing"})));
        assert_ne!(missing, digest_of(json!({"external": true, "name": "x"})));
    }

    #[test]
    fn contents_are_where_compose_puts_them() {
        let raw = json!({
            "services": {"web": {
                "configs": [{"source": "c"}, {"source": "d", "target": "/etc/d"}, {"source": "out"}],
                "secrets": [{"source": "s"}, {"source": "f", "target": "own"}],
            }},
            "configs": {"c": {"content": "one"}, "d": {"content": "two"}, "out": {"external": true}},
            "secrets": {"s": {"environment": "A"}, "f": {"file": "/none"}},
        });
        let variables = BTreeMap::from([("A".to_owned(), "one".to_owned())]);
        let (_, found) = contents(&raw, "web", &variables);
        let targets: Vec<&str> = found.iter().map(|own| own.target.as_str()).collect();
        assert_eq!(
            targets,
            ["/c", "/etc/d", "/run/secrets/s", "/run/secrets/own"]
        );
        assert_eq!(found[0].digest, found[2].digest);
        assert_ne!(found[0].digest, found[1].digest);
        assert_eq!(found[3].file.as_deref(), Some(Path::new("/none")));
    }

    #[test]
    fn variables_are_named_once() {
        let raw = json!({
            "configs": {"a": {"environment": "B"}, "b": {"content": "x"}},
            "secrets": {"a": {"environment": "B"}, "c": {"environment": "A"}},
        });
        assert_eq!(variables(&raw), ["A", "B"]);
        assert!(variables(&json!({})).is_empty());
    }
}
