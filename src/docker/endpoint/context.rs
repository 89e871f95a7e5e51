//! A Docker context, as `docker context inspect` prints it.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::process::Command;

use crate::error::{Error, Result};

/// The context that consists of Docker's variables and default socket.
pub const DEFAULT: &str = "default";
/// The key of the engine among a context's endpoints.
const ENGINE: &str = "docker";
const LIST: &str = "docker context ls shows the contexts";

#[derive(Debug, PartialEq, Eq)]
pub struct Context {
    pub name: String,
    pub host: String,
    pub tls: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    name: String,
    endpoints: BTreeMap<String, Engine>,
    #[serde(default, rename = "TLSMaterial")]
    tls_material: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Engine {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

impl Context {
    /// Asks docker for a context, the current one where `name` is `None`. Refuses an unknown context.
    pub async fn inspect(name: Option<&str>) -> Result<Self> {
        let mut command = Command::new("docker");
        command.args(["context", "inspect"]).args(name);
        let output = command.output().await.map_err(|error| {
            Error::refused(format!("cannot run docker to read its contexts: {error}"))
                .hint("install the Docker CLI, or name the engine with -H ADDRESS")
        })?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().map(str::trim).find(|line| !line.is_empty());
            let line = line.unwrap_or("docker context inspect failed");
            return Err(Error::refused(line.to_owned()).hint(LIST));
        }
        Self::read(&output.stdout).map_err(|why| {
            let name = name.unwrap_or("the current context");
            Error::refused(format!(
                "docker context inspect shows no engine of {name}: {why}"
            ))
            .hint(LIST)
        })
    }

    fn read(json: &[u8]) -> std::result::Result<Self, String> {
        let contexts: Vec<Inspected> =
            serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let context = contexts.into_iter().next().ok_or("it is empty")?;
        let engine = context.endpoints.get(ENGINE).ok_or("it has no engine")?;
        let has_files = context
            .tls_material
            .get(ENGINE)
            .is_some_and(|files| !files.is_empty());
        Ok(Self {
            host: engine.host.clone(),
            // Docker's own rule (docker/cli, context/docker `tlsConfig`).
            tls: has_files || engine.skip_tls_verify,
            name: context.name,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{mutated, replaced};

    #[test]
    fn a_context_uses_tls_if_it_has_files_or_skips_the_verification() {
        for (skip, files, tls) in [
            ("false", "[]", false),
            ("true", "[]", true),
            ("false", r#"["ca.pem"]"#, true),
        ] {
            let json = format!(
                r#"[{{"Name": "far", "Endpoints": {{"docker": {{"Host": "tcp://far:2376", "SkipTLSVerify": {skip}}}}},
                "TLSMaterial": {{"docker": {files}}}, "Storage": {{"TLSPath": "<IN MEMORY>"}}}}]"#
            );
            let context = Context::read(json.as_bytes()).unwrap();
            assert_eq!(context.host, "tcp://far:2376");
            assert_eq!(context.tls, tls, "{json}");
        }
    }

    #[test]
    fn a_context_without_an_engine_is_an_error() {
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
                let _ = Context::read(&json);
            }
        }
    }
}
