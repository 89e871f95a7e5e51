//! Chooses the engine in Docker's own order: `-H`, `--context`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context.

use super::{
    Endpoint,
    context::{self, Context},
};
use crate::error::Result;

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Host(String),
    Context(String),
    Current,
}

impl Endpoint {
    /// Finds the engine that `docker` would use; `host` and `context` are its options.
    ///
    /// Refuses an unknown context and a malformed address.
    pub async fn find(host: Option<&str>, context: Option<&str>) -> Result<Self> {
        let found = match choose(host, context, variable) {
            Choice::Host(host) => return Self::new(&host, wants_tls(variable)),
            Choice::Context(name) => Context::inspect(Some(&name)).await?,
            Choice::Current => match Context::inspect(None).await {
                Ok(context) => context,
                // Without a docker command there are no contexts, and Docker's default is the socket.
                Err(error) => {
                    tracing::debug!(%error, "no current context");
                    return Self::new("", false);
                }
            },
        };
        if found.name == context::DEFAULT {
            return Self::new(&found.host, wants_tls(variable));
        }
        match Self::new(&found.host, found.tls)? {
            Self::DockerCli(cli) => Ok(Self::DockerCli(cli.by_context(&found.name))),
            direct => Ok(direct),
        }
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

/// Any value turns TLS on; docker reads the same variables for the certificates, and whether to verify the engine's.
fn wants_tls(variable: impl Fn(&str) -> Option<String>) -> bool {
    ["DOCKER_TLS", "DOCKER_TLS_VERIFY"]
        .iter()
        .any(|name| variable(name).is_some())
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
    fn the_order_is_dockers() {
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
    fn each_of_dockers_variables_turns_tls_on() {
        assert!(!wants_tls(environment(&[("DOCKER_CERT_PATH", "/certs")])));
        assert!(wants_tls(environment(&[("DOCKER_TLS", "1")])));
        assert!(wants_tls(environment(&[("DOCKER_TLS_VERIFY", "1")])));
    }
}
