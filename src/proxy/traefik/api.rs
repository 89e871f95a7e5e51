//! The Traefik API: what each instance says of routers, services and servers.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::{
    control::Control,
    names::{Names, Protocol},
};
use crate::error::{Error, Result};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The API of one Traefik instance.
pub struct Api {
    /// What to call it in a message.
    pub name: String,
    base: String,
    reach: Reach,
}

/// How the API is reached from here.
pub enum Reach {
    /// Straight.
    Direct(reqwest::Client),
    /// By the socket proxy beside it.
    Through(Control),
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
    /// The API at a URL that the operator gave, with user and password in it if need be.
    pub fn direct(url: &str) -> Result<Self> {
        let bad = |why: String| {
            Error::refused(format!("{url:?} is no Traefik API URL: {why}"))
                .hint("write --traefik-url http://127.0.0.1:8080")
        };
        let parsed = url::Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad("it is neither http nor https".to_owned()));
        }
        // A crate that is built without a provider of its own finds the one that the process has chosen.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| bad(error.to_string()))?;
        let base = url
            .trim_end_matches('/')
            .trim_end_matches("/api")
            .to_owned();
        let name = format!(
            "{}:{}",
            parsed.host_str().unwrap_or_default(),
            parsed.port_or_known_default().unwrap_or(80)
        );
        Ok(Self {
            name,
            base,
            reach: Reach::Direct(client),
        })
    }

    /// The API of a reader of a socket proxy, asked by that socket proxy.
    pub fn through(name: String, address: IpAddr, port: u16, control: Control) -> Self {
        let host = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Self {
            name,
            base: format!("http://{host}:{port}"),
            reach: Reach::Through(control),
        }
    }

    /// The port that is asked.
    pub fn port(&self) -> &str {
        self.base.rsplit(':').next().unwrap_or_default()
    }

    /// Traefik's version; proof that the API is on.
    pub async fn version(&mut self) -> Result<String> {
        let answer = self.get("/api/version").await?.ok_or_else(|| self.off())?;
        Ok(answer
            .get("Version")
            .and_then(Value::as_str)
            .unwrap_or("unknown")
            .to_owned())
    }

    fn off(&self) -> Error {
        Error::refused(format!("there is no Traefik API at {}", self.base)).hint(
            "add --api.insecure=true to Traefik's command, or name the API with --traefik-url",
        )
    }

    /// `None` where Traefik says 404.
    async fn get(&mut self, path: &str) -> Result<Option<Value>> {
        let url = format!("{}{path}", self.base);
        let (status, body) = match &mut self.reach {
            Reach::Direct(client) => {
                let silent = |error: reqwest::Error| {
                    Error::failed(format!(
                        "the Traefik API at {url} does not answer: {}",
                        error.without_url()
                    ))
                };
                let response = client.get(&url).send().await.map_err(silent)?;
                (
                    response.status().as_u16(),
                    response.text().await.map_err(silent)?,
                )
            }
            Reach::Through(control) => control.fetch(&url).await?,
        };
        match status {
            200 => serde_json::from_str(&body)
                .map(Some)
                .map_err(|_| self.off()),
            404 => Ok(None),
            401 | 403 => Err(Error::refused(format!(
                "the Traefik API at {} wants a password ({status})",
                self.base
            ))
            .hint("give it as --traefik-url http://USER:PASSWORD@HOST or ROLLOUT_TRAEFIK_URL")),
            other => Err(Error::failed(format!(
                "the Traefik API at {url} answers {other}"
            ))),
        }
    }

    async fn item<T: for<'de> Deserialize<'de>>(
        &mut self,
        kind: &str,
        protocol: Protocol,
        name: &str,
    ) -> Result<Option<T>> {
        let path = format!("/api/{}/{kind}/{name}@docker", protocol.word());
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
    pub async fn servers(&mut self, names: &Names) -> Result<Servers> {
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
    pub async fn holds_requests(&mut self, names: &Names) -> Result<bool> {
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

    async fn holds(&mut self, protocol: Protocol, middleware: &str) -> Result<bool> {
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
    async fn goes_by_another_name(&mut self, protocol: Protocol, name: &str) -> Result<bool> {
        let path = format!(
            "/api/{}/routers?search={name}@docker&per_page=1000",
            protocol.word()
        );
        let routers = self.get(&path).await?.unwrap_or_default();
        let suffix = format!("-{name}@docker");
        let mut names = routers
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|router| router["name"].as_str());
        Ok(names.any(|own| own.ends_with(&suffix)))
    }
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
