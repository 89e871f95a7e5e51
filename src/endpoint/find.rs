//! Which engine is meant, in Docker's own order: `-H`, `--context`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context.

use std::path::PathBuf;

use super::{
    Endpoint,
    context::{self, Context},
    tls::Material,
};
use crate::error::Result;

/// What names the engine.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Host(String),
    Context(String),
    Current,
}

impl Endpoint {
    /// Finds the engine that `docker` would take; `host` and `context` are its options.
    ///
    /// Refused: a context that docker does not know, an address that is none, certificates that cannot be read.
    pub async fn find(host: Option<&str>, context: Option<&str>) -> Result<Self> {
        let found = match choose(host, context, variable) {
            Choice::Host(host) => return Self::new(&host, from_environment(variable)),
            Choice::Context(name) => Context::inspect(Some(&name)).await?,
            Choice::Current => match Context::inspect(None).await {
                Ok(context) => context,
                // Without a docker command there is no context either, and its default is the socket.
                Err(error) => {
                    tracing::debug!(%error, "no current context");
                    return Self::new("", None);
                }
            },
        };
        let material = match found.name.as_str() {
            context::DEFAULT => from_environment(variable),
            _ => found.material,
        };
        Self::new(&found.host, material)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// As `docker` resolves it (docker/cli, `resolveContextName`).
fn choose(
    host: Option<&str>,
    context: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Choice {
    match (host, context) {
        (Some(host), _) => Choice::Host(host.to_owned()),
        (None, Some(context)) => Choice::Context(context.to_owned()),
        (None, None) => match (variable("DOCKER_HOST"), variable("DOCKER_CONTEXT")) {
            (Some(host), _) => Choice::Host(host),
            (None, Some(context)) => Choice::Context(context),
            (None, None) => Choice::Current,
        },
    }
}

/// What Docker's variables say of TLS; any value turns it on, and only `DOCKER_TLS_VERIFY` verifies.
fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Option<Material> {
    let verify = variable("DOCKER_TLS_VERIFY").is_some();
    if !verify && variable("DOCKER_TLS").is_none() {
        return None;
    }
    let directory = variable("DOCKER_CERT_PATH")
        .or_else(|| variable("DOCKER_CONFIG"))
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".docker")));
    Some(Material::of(&directory.unwrap_or_default(), !verify))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(set: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let set: Vec<(String, String)> = set
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        move |name| {
            let found = set.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value.clone())
        }
    }

    #[test]
    fn the_order_is_that_of_docker() {
        let both = [("DOCKER_HOST", "tcp://far"), ("DOCKER_CONTEXT", "far")];
        let host = |host: &str| Choice::Host(host.to_owned());
        let context = |name: &str| Choice::Context(name.to_owned());
        assert_eq!(choose(Some("/x"), None, environment(&both)), host("/x"));
        assert_eq!(choose(None, Some("a"), environment(&both)), context("a"));
        assert_eq!(choose(None, None, environment(&both)), host("tcp://far"));
        assert_eq!(choose(None, None, environment(&both[1..])), context("far"));
        assert_eq!(choose(None, None, environment(&[])), Choice::Current);
    }

    #[test]
    fn tls_is_verified_where_docker_verifies_it() {
        assert_eq!(from_environment(environment(&[("HOME", "/h")])), None);
        let any = |set: &[(&str, &str)]| from_environment(environment(set)).unwrap();
        let unverified = any(&[("DOCKER_TLS", "1"), ("HOME", "/h")]);
        assert!(unverified.any);
        assert_eq!(unverified.authorities, Some("/h/.docker/ca.pem".into()));
        let verified = any(&[
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_TLS", "1"),
            ("DOCKER_CERT_PATH", "/certs"),
            ("DOCKER_CONFIG", "/config"),
        ]);
        assert!(!verified.any);
        assert_eq!(verified.authorities, Some("/certs/ca.pem".into()));
    }
}
