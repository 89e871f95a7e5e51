//! A Docker context, as `docker context inspect` tells it.

use std::path::PathBuf;

use serde::Deserialize;
use tokio::process::Command;

use super::tls::Material;
use crate::error::{Error, Result};

/// The context that is none: Docker's variables and default socket.
pub const DEFAULT: &str = "default";
/// The endpoint of a context that is an engine.
const ENDPOINT: &str = "docker";

/// An engine by the name that Docker has for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Context {
    pub name: String,
    /// Its address.
    pub host: String,
    /// What TLS uses; `None` without TLS.
    pub material: Option<Material>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    name: String,
    endpoints: std::collections::BTreeMap<String, Engine>,
    #[serde(default, rename = "TLSMaterial")]
    tls_material: std::collections::BTreeMap<String, Vec<String>>,
    #[serde(default)]
    storage: Storage,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Engine {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

#[derive(Default, Deserialize)]
struct Storage {
    #[serde(default, rename = "TLSPath")]
    tls_path: PathBuf,
}

impl Context {
    /// Asks docker; the current one where `name` is `None`. Refused where docker has no such context.
    pub async fn inspect(name: Option<&str>) -> Result<Self> {
        let mut command = Command::new("docker");
        command.args(["context", "inspect"]).args(name);
        let output = command.output().await.map_err(|error| {
            Error::refused(format!(
                "cannot run docker, which knows the contexts: {error}"
            ))
            .hint("install the docker command, or name the engine with -H ADDRESS")
        })?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().map(str::trim).find(|line| !line.is_empty());
            let line = line.unwrap_or("docker context inspect failed");
            return Err(Error::refused(line.to_owned())
                .hint("docker context ls shows the contexts there are"));
        }
        Self::read(&output.stdout).map_err(|why| {
            let name = name.unwrap_or("the current context");
            Error::refused(format!(
                "docker context inspect tells no engine of {name}: {why}"
            ))
            .hint("docker context ls shows the contexts there are")
        })
    }

    fn read(json: &[u8]) -> std::result::Result<Self, String> {
        let contexts: Vec<Inspected> =
            serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let one = contexts.into_iter().next().ok_or("it is empty")?;
        let engine = one.endpoints.get(ENDPOINT).ok_or("it has no engine")?;
        let files = one.tls_material.get(ENDPOINT).cloned().unwrap_or_default();
        let file = |name: &str| {
            let there = files.iter().any(|file| file == name);
            there.then(|| one.storage.tls_path.join(ENDPOINT).join(name))
        };
        // Docker speaks TLS where a context says anything about it (docker/cli, context/docker `tlsConfig`).
        let material = (!files.is_empty() || engine.skip_tls_verify).then(|| Material {
            authorities: file("ca.pem"),
            certificate: file("cert.pem"),
            key: file("key.pem"),
            any: engine.skip_tls_verify,
        });
        Ok(Self {
            name: one.name,
            host: engine.host.clone(),
            material,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{mutated, replaced};

    #[test]
    fn an_engine_with_tls_has_its_files() {
        let json = br#"[{"Name": "far", "Metadata": {},
            "Endpoints": {"docker": {"Host": "tcp://far:2376", "SkipTLSVerify": false}},
            "TLSMaterial": {"docker": ["ca.pem", "cert.pem", "key.pem"]},
            "Storage": {"MetadataPath": "/c/meta/1", "TLSPath": "/c/tls/1"}}]"#;
        let context = Context::read(json).unwrap();
        assert_eq!(context.host, "tcp://far:2376");
        assert_eq!(
            context.material,
            Some(Material {
                authorities: Some("/c/tls/1/docker/ca.pem".into()),
                certificate: Some("/c/tls/1/docker/cert.pem".into()),
                key: Some("/c/tls/1/docker/key.pem".into()),
                any: false,
            })
        );
    }

    #[test]
    fn without_files_only_a_context_that_says_so_has_tls() {
        let json = |skip| {
            format!(
                r#"[{{"Name": "default", "Endpoints": {{"docker": {{"Host": "unix:///x", "SkipTLSVerify": {skip}}}}},
                "TLSMaterial": {{}}, "Storage": {{"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"}}}}]"#
            )
        };
        let material = |skip| Context::read(json(skip).as_bytes()).unwrap().material;
        assert_eq!(material(false), None);
        assert_eq!(material(true), Some(Material::default().unverified()));
    }

    #[test]
    fn a_context_without_an_engine_is_told() {
        let json = br#"[{"Name": "k", "Endpoints": {}}]"#;
        assert_eq!(Context::read(json).unwrap_err(), "it has no engine");
        assert!(Context::read(b"[]").is_err());
    }

    const SAMPLE: &str = r#"[{"Name": "far", "Endpoints": {"docker": {"Host": "tcp://far:2376", "SkipTLSVerify": false}},
        "TLSMaterial": {"docker": ["ca.pem"]}, "Storage": {"TLSPath": "/c/tls/1"}}]"#;

    proptest! {
        #[test]
        fn any_description_of_a_context_is_read_or_refused(
            value in replaced(serde_json::from_str(SAMPLE).unwrap()), bytes in mutated(SAMPLE.as_bytes()),
        ) {
            for json in [value.to_string().into_bytes(), bytes] {
                if let Ok(context) = Context::read(&json) {
                    let files = context.material.into_iter().flat_map(|own| [own.authorities, own.certificate, own.key]);
                    let mut files = files.flatten();
                    prop_assert!(files.all(|file| file.parent().is_some_and(|own| own.ends_with("docker"))));
                }
            }
        }
    }
}
