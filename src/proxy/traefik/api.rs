//! The Traefik API: what each instance says of routers, services and servers.

pub mod pinned;

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;
use serde_json::Value;

use super::{
    access::{HOW_TO_GIVE, printable},
    http::{Answer, Reach},
    names::{Names, Protocol},
};
use crate::error::{Error, Result};

/// How what is said of an API by its URL begins.
pub const PREFIX: &str = "the Traefik API at ";

/// The API of one Traefik instance.
pub struct Api {
    /// What to call it in a message.
    pub name: String,
    /// The container and its addresses, where it is one; as [`TraefikContainer::identity`].
    ///
    /// [`TraefikContainer::identity`]: super::discover::TraefikContainer::identity
    pub identity: Option<String>,
    base: String,
    reach: Reach,
}

/// What an instance says of the servers of some services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// Service → host of each server → whether it is up. A service that Traefik does not know is not here.
    pub services: BTreeMap<(Protocol, String), BTreeMap<IpAddr, bool>>,
    /// Routers and services that do not serve, by name, and why.
    pub trouble: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    status: Option<String>,
    #[serde(default)]
    error: Vec<String>,
    load_balancer: Option<LoadBalancer>,
    #[serde(default)]
    server_status: BTreeMap<String, String>,
    #[serde(default)]
    used_by: Vec<String>,
}

#[derive(Deserialize)]
struct LoadBalancer {
    #[serde(default)]
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    url: Option<String>,
    address: Option<String>,
}

#[derive(Default, Deserialize)]
struct Router {
    status: Option<String>,
    #[serde(default)]
    error: Vec<String>,
    #[serde(default)]
    middlewares: Vec<String>,
}

impl Api {
    /// `base` is the URL of all that stands before `/api`, without a slash at the end.
    pub fn new(name: String, base: String, reach: Reach) -> Self {
        Self {
            name,
            identity: None,
            base,
            reach,
        }
    }

    /// As the API of a container.
    #[must_use]
    pub fn of_container(self, identity: String) -> Self {
        Self {
            identity: Some(identity),
            ..self
        }
    }

    /// The URL of all that stands before `/api`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Traefik's version; proof that the API is on.
    pub async fn version(&self) -> Result<String> {
        let answer = self.get("/api/version").await?.ok_or_else(|| self.off())?;
        let version = answer.get("Version").and_then(Value::as_str);
        version.map(str::to_owned).ok_or_else(|| self.off())
    }

    fn off(&self) -> Error {
        Error::refused(format!("there is no Traefik API at {}", self.base))
            .hint("switch it on, as with --api.insecure=true in Traefik's command, or name it with --traefik-url")
    }

    /// `None` where Traefik says 404.
    async fn get(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.answer(path).await?;
        answer.map(|answer| self.read(&answer)).transpose()
    }

    fn read(&self, answer: &Answer) -> Result<Value> {
        serde_json::from_str(&answer.body).map_err(|_| self.off())
    }

    async fn answer(&self, path: &str) -> Result<Option<Answer>> {
        let url = format!("{}{path}", self.base);
        let answer = self.reach.get(&url).await.map_err(|error| {
            let message = format!(
                "the Traefik API at {url} does not answer: {}",
                error.message
            );
            Error { message, ..error }
        })?;
        match answer.status {
            200 => Ok(Some(answer)),
            404 => Ok(None),
            401 | 403 => Err(Error::refused(format!(
                "{PREFIX}{} wants a password ({})",
                self.base, answer.status
            ))
            .hint(HOW_TO_GIVE)),
            300..=399 => Err(Error::refused(format!(
                "{PREFIX}{url} redirects to {}, which is not followed",
                place(answer.location.as_deref())
            ))
            .hint("name the API where it answers with --traefik-url")),
            other => Err(Error::failed(format!("{PREFIX}{url} answers {other}"))),
        }
    }

    /// Every page of a list (`X-Next-Page`; on the last one it is 1).
    async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut page = 1;
        loop {
            let path = format!(
                "{path}{}page={page}",
                if path.contains('?') { '&' } else { '?' }
            );
            let Some(answer) = self.answer(&path).await? else {
                return Ok(all);
            };
            match self.read(&answer)? {
                Value::Array(items) => all.extend(items),
                _ => return Err(self.off()),
            }
            match answer.next_page {
                Some(next) if next > page => page = next,
                _ => return Ok(all),
            }
        }
    }

    async fn item<T: for<'de> Deserialize<'de>>(
        &self,
        kind: &str,
        protocol: Protocol,
        name: &str,
    ) -> Result<Option<T>> {
        self.item_of("docker", kind, protocol, name).await
    }

    async fn item_of<T: for<'de> Deserialize<'de>>(
        &self,
        provider: &str,
        kind: &str,
        protocol: Protocol,
        name: &str,
    ) -> Result<Option<T>> {
        let path = format!("/api/{}/{kind}/{name}@{provider}", protocol.word());
        match self.get(&path).await? {
            None => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|error| {
                Error::failed(format!(
                    "the Traefik API answers {path} in a way that is not understood: {error}"
                ))
            }),
        }
    }

    /// Asks for every service and router of these names.
    pub async fn servers(&self, names: &Names) -> Result<Servers> {
        let mut servers = Servers::default();
        let mut used_by = Vec::new();
        for (protocol, name) in &names.services {
            let Some(service) = self.item::<Service>("services", *protocol, name).await? else {
                continue;
            };
            if let Some(trouble) =
                trouble("service", name, service.status.as_deref(), &service.error)
            {
                servers.trouble.push(trouble);
            }
            used_by.extend(service.used_by.iter().cloned());
            servers
                .services
                .insert((*protocol, name.clone()), hosts(service));
        }
        for (protocol, name) in &names.routers {
            match self.item::<Router>("routers", *protocol, name).await? {
                Some(router) => servers.trouble.extend(trouble(
                    "router",
                    name,
                    router.status.as_deref(),
                    &router.error,
                )),
                None if used_by
                    .iter()
                    .any(|user| user.ends_with(&format!("-{name}@docker"))) => {}
                None if self.goes_by_another_name(*protocol, name).await? => {}
                None => servers
                    .trouble
                    .push((name.clone(), format!("router {name} does not exist"))),
            }
        }
        Ok(servers)
    }

    /// Whether a router of these services uses a middleware that can hold a request together with the old handler.
    pub async fn holds_requests(&self, names: &Names) -> Result<bool> {
        for (protocol, name) in &names.services {
            let Some(service) = self.item::<Service>("services", *protocol, name).await? else {
                continue;
            };
            for router in service.used_by {
                let path = format!("/api/{}/routers/{router}", protocol.word());
                let Some(router) = self.get(&path).await? else {
                    continue;
                };
                let router: Router = serde_json::from_value(router).unwrap_or_default();
                for middleware in router.middlewares {
                    if self.holds(*protocol, &middleware).await? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    async fn holds(&self, protocol: Protocol, middleware: &str) -> Result<bool> {
        let path = format!("/api/{}/middlewares/{middleware}", protocol.word());
        let Some(value) = self.get(&path).await? else {
            return Ok(false);
        };
        let kind = value
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_ascii_lowercase();
        let holding = ["forwardauth", "buffering", "retry", "chain", "errors"];
        Ok(holding.contains(&kind.as_str()) || kind.contains("plugin"))
    }

    /// With an entrypoint model, or on several entrypoints, a router goes by `<entrypoint>-<name>@docker`.
    async fn goes_by_another_name(&self, protocol: Protocol, name: &str) -> Result<bool> {
        let path = format!("/api/{}/routers?search={name}@docker", protocol.word());
        let suffix = format!("-{name}@docker");
        let routers = self.list(&path).await?;
        let mut names = routers.iter().filter_map(|router| router["name"].as_str());
        Ok(names.any(|own| own.ends_with(&suffix)))
    }
}

/// A redirect's place, less what may be secret in it.
fn place(location: Option<&str>) -> String {
    let location = printable(location.unwrap_or("nowhere"));
    location
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn trouble(
    kind: &str,
    name: &str,
    status: Option<&str>,
    errors: &[String],
) -> Option<(String, String)> {
    (status == Some("disabled")).then(|| {
        (
            name.to_owned(),
            format!("{kind} {name} is disabled: {}", errors.join(", ")),
        )
    })
}

/// Each server's host, and whether it is up; a protocol without a server status is up by being listed.
fn hosts(service: Service) -> BTreeMap<IpAddr, bool> {
    let servers = service
        .load_balancer
        .map(|balancer| balancer.servers)
        .unwrap_or_default();
    let mut hosts = BTreeMap::new();
    for server in servers {
        let Some(text) = server.url.or(server.address) else {
            continue;
        };
        let up = service
            .server_status
            .get(&text)
            .is_none_or(|status| status == "UP");
        if let Some(host) = host(&text) {
            *hosts.entry(host).or_insert(true) &= up;
        }
    }
    hosts
}

/// The address in `http://10.0.0.2:80`, `h2c://[fe80::1]:80` or `10.0.0.2:80`.
fn host(server: &str) -> Option<IpAddr> {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_server_is_found_in_every_form_that_traefik_writes() {
        for (text, address) in [
            ("http://10.0.0.2:80", "10.0.0.2"),
            ("h2c://[fd00::1]:8080/", "fd00::1"),
            ("10.0.0.3:5432", "10.0.0.3"),
        ] {
            assert_eq!(host(text), Some(address.parse().unwrap()), "{text}");
        }
        assert_eq!(host("http://name:80"), None);
    }

    #[test]
    fn a_server_is_up_only_while_traefik_says_so() {
        let service: Service = serde_json::from_str(
            r#"{"status":"enabled","usedBy":["web@docker"],"loadBalancer":{"servers":[{"url":"http://10.0.0.2:80"},{"url":"http://10.0.0.3:80"}]},
               "serverStatus":{"http://10.0.0.2:80":"UP","http://10.0.0.3:80":"DOWN"}}"#,
        )
        .unwrap();
        let hosts = hosts(service);
        assert!(hosts[&"10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert!(!hosts[&"10.0.0.3".parse::<IpAddr>().unwrap()]);
    }
}
