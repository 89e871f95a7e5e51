//! What Traefik says of a pin, and what else uses the services that it stands in for.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Api, Router, Servers, Service, listing, places, trouble};
use crate::{
    error::Result,
    model::ServiceKey,
    proxy::traefik::labels::{Names, Protocol},
};

/// Before every name of one service's pin. A label's name has no dot, and neither has a project's: no two services meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// The prefix of a service.
    pub fn of(key: &ServiceKey) -> Self {
        Self(format!("rollout.{}.{}", key.project, key.service))
    }

    /// The name in the file of what the labels call `name`.
    pub fn name(&self, protocol: Protocol, name: &str) -> String {
        // UDP routers have no priority: of several on an entrypoint, Traefik takes the last by name.
        let first = if protocol == Protocol::Udp { "~" } else { "" };
        // Traefik tells names from providers by the first `@`.
        format!("{first}{}.{}", self.0, name.replace('@', "-"))
    }

    /// What the labels call a name of the file, less what tells it from others of that name.
    pub fn label<'n>(&self, protocol: Protocol, full: &'n str) -> &'n str {
        let start = self.name(protocol, "");
        let name = full.strip_prefix(&start).unwrap_or(full);
        name.split('~').next().unwrap_or(name)
    }

    /// The file's name; Traefik's file provider reads `.yml`, `.yaml` and `.toml`, and JSON is YAML.
    pub fn file(&self) -> String {
        format!("{}.yml", self.0)
    }
}

/// Something of a pin file: its name there, and what the labels call it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinnedName {
    pub protocol: Protocol,
    /// Less `@file`.
    pub full: String,
    /// In the labels.
    pub label: String,
}

impl Api {
    /// Asks for a pin's services and routers; the answer goes by the names of the labels, as that of
    /// [`Api::servers`].
    pub async fn pinned(&self, services: &[PinnedName], routers: &[PinnedName]) -> Result<Servers> {
        let mut servers = Servers::default();
        for name in services {
            let Some(service) = self.of_file::<Service>("services", name).await? else {
                continue;
            };
            let status = service.status.as_deref();
            let complaint = trouble("service", &name.label, status, &service.error);
            servers.trouble.extend(complaint);
            servers
                .services
                .insert((name.protocol, name.label.clone()), places(service));
        }
        for name in routers {
            let label = &name.label;
            let complaint = match self.of_file::<Router>("routers", name).await? {
                Some(router) => trouble("router", label, router.status.as_deref(), &router.error),
                None => Some((label.clone(), missing(&name.full))),
            };
            servers.trouble.extend(complaint);
        }
        Ok(servers)
    }

    /// Whether anything of a pin is left.
    pub async fn knows_pinned(&self, names: &[(&str, PinnedName)]) -> Result<bool> {
        for (kind, name) in names {
            if self.of_file::<Value>(kind, name).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn of_file<T: for<'de> serde::Deserialize<'de>>(
        &self,
        kind: &str,
        name: &PinnedName,
    ) -> Result<Option<T>> {
        self.item_of("file", kind, name.protocol, &name.full).await
    }

    /// The rule of a Docker router, by its own name or one with an entrypoint before it.
    pub async fn rule(&self, protocol: Protocol, name: &str) -> Result<Option<String>> {
        let path = format!("/api/{}/routers?search={name}@docker", protocol.word());
        let (own, suffix) = (format!("{name}@docker"), format!("-{name}@docker"));
        let routers = self.list(&path).await?;
        let is_it = |router: &&Value| {
            let known = router["name"].as_str().unwrap_or_default();
            known == own || known.ends_with(&suffix)
        };
        let rule = routers
            .iter()
            .find(is_it)
            .and_then(|own| own["rule"].as_str());
        Ok(rule.map(str::to_owned))
    }

    /// What, other than the routers of `names`, leads to their services by name, so that a pin would not move it.
    pub async fn other_users(&self, names: &Names) -> Result<BTreeSet<String>> {
        let mut users = BTreeSet::new();
        for (protocol, name) in &names.services {
            let service: Option<Service> = self.item("services", *protocol, name).await?;
            let own = |user: &String| {
                names.routers.iter().any(|(_, router)| {
                    *user == format!("{router}@docker")
                        || user.ends_with(&format!("-{router}@docker"))
                })
            };
            let used_by = service.map(|service| service.used_by).unwrap_or_default();
            users.extend(used_by.into_iter().filter(|user| !own(user)));
            let full = format!("{name}@docker");
            let path = format!("/api/{}/services", protocol.word());
            for service in self.list(&path).await? {
                let user = service["name"].as_str().unwrap_or_default();
                if !is_of_a_pin(user) && listing::targets(&service).contains(&full) {
                    users.insert(user.to_owned());
                }
            }
        }
        Ok(users)
    }
}

/// Whether a definition is one of a pin file.
fn is_of_a_pin(name: &str) -> bool {
    name.trim_start_matches('~').starts_with("rollout.")
}

fn missing(name: &str) -> String {
    format!(
        "router {name} of the pin file does not exist; a broken file in the same directory is the usual reason"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        arbitrary::{self, mutated},
        proxy::traefik::api::{access::Access, http::Http},
    };

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nX-Next-Page: 1\r\n\r\n\
        {\"status\":\"enabled\",\"usedBy\":[\"a\"],\"loadBalancer\":{\"servers\":[{\"url\":\"http://10.0.0.2:80\"}]}}";

    // The servers of a pin where each question has this answer.
    async fn answered_with(answer: &[u8]) -> Result<Servers> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                arbitrary::answer(&mut stream, answer).await;
            }
        };
        let http = Http::at(address, "127.0.0.1", &Access::default(), None).unwrap();
        let api = Api::new("t".to_owned(), format!("http://{address}"), http);
        let named = |name: &str| PinnedName {
            protocol: Protocol::Http,
            full: format!("rollout.shop.web.{name}"),
            label: name.to_owned(),
        };
        let (services, routers) = ([named("web")], [named("site")]);
        tokio::select! {
            servers = api.pinned(&services, &routers) => servers,
            () = serve => unreachable!("it serves for ever"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn any_answer_about_a_pin_is_its_servers_or_an_error_of_one_line(answer in mutated(ANSWER)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            match runtime.block_on(answered_with(&answer)) {
                Ok(servers) => {
                    let known = servers.services.keys().all(|(_, name)| name == "web");
                    prop_assert!(known && servers.services.len() <= 1 && servers.trouble.len() <= 2, "{:?}", servers);
                }
                Err(error) => prop_assert!(!error.message.contains('\n') && answer != ANSWER, "{}", error),
            }
        }
    }
}
