//! What the API of one Traefik says of its routers, services and servers, and how it is reached.

mod access;
mod by_name;
mod down;
mod http;
mod listing;
mod middlewares;
mod observe;
mod others;
mod pinned;
mod place;
mod reach;
mod swarm;
mod tunnel;
mod ways;

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;

pub use self::{
    access::is_guarded,
    reach::{Apis, api_of},
};
use self::{
    access::{CHECK_THEM, HOW_TO_GIVE, printable},
    http::{Answer, Http},
};
pub(super) use self::{
    by_name::{Callee, Caller, Heard},
    down::Down,
    listing::middlewares_of_labels,
    observe::observation,
    others::Others,
    pinned::{PinnedName, Prefix},
    place::{Place, host_and_port, place_of},
    reach::named,
};
use super::{
    config::{Docker, THROTTLE},
    labels::{Names, Protocol, left_out},
};
use crate::{
    docker::watch::Role,
    error::{Error, Result},
};

/// The name of the provider that reads the labels of containers; it stands behind each of its names in the API.
pub const DOCKER: &str = "docker";
/// The same, of the one that reads the labels of Swarm services.
pub const SWARM: &str = "swarm";
/// How what is said of an API by its URL begins.
pub const PREFIX: &str = "the Traefik API at ";

/// The most bytes of a list, which comes in pages of a hundred, before its last page.
const MAX_LIST: usize = 64 * 1024 * 1024;
/// The most pages of a list.
const MAX_PAGES: u32 = 1000;
/// What Traefik takes to apply what it no longer holds back.
const APPLYING: Duration = Duration::from_millis(500);

/// The API of one Traefik instance.
pub struct Api {
    /// What to call it in a message.
    pub name: String,
    /// The container and its addresses, where it is one; as [`TraefikContainer::identity`].
    ///
    /// [`TraefikContainer::identity`]: super::config::TraefikContainer::identity
    pub identity: Option<String>,
    /// The name of the container whose network namespace it is in, where that is another one.
    pub holder: Option<String>,
    /// Its `providersThrottleDuration`.
    throttle: Duration,
    /// Which containers it keeps, where that is known.
    docker: Option<Docker>,
    base: String,
    http: Http,
}

/// What an instance says of the servers of some services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// Service → each server → whether it is up. A service that Traefik does not know is not here.
    pub services: BTreeMap<(Protocol, String), BTreeMap<Place, bool>>,
    /// Service → the weight of each server that has one.
    pub weights: BTreeMap<(Protocol, String), BTreeMap<Place, u32>>,
    /// Routers and services that do not serve, by name, and why.
    pub trouble: Vec<(String, String)>,
}

/// A router of the Docker provider, as a list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRouter {
    pub protocol: Protocol,
    /// What it may be called in labels: its own name, or that without the entrypoint whose model it is.
    pub names: Vec<String>,
    /// Why it does not serve, where it does not.
    pub disabled: Option<String>,
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
    weight: Option<u32>,
}

#[derive(Default, Deserialize)]
struct Router {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "entryPoints")]
    entrypoints: Vec<String>,
    status: Option<String>,
    #[serde(default)]
    error: Vec<String>,
    #[serde(default)]
    middlewares: Vec<String>,
}

impl Api {
    /// `base` is the URL of all that stands before `/api`, without a slash at the end.
    pub fn new(name: String, base: String, http: Http) -> Self {
        Self {
            name,
            identity: None,
            holder: None,
            throttle: THROTTLE,
            docker: None,
            base,
            http,
        }
    }

    /// The containers that have to run for requests to come through: Traefik, and the one whose network it is in.
    pub fn containers(&self) -> impl Iterator<Item = (String, Role)> {
        let names = [Some(&self.name), self.holder.as_ref()];
        names
            .into_iter()
            .flatten()
            .map(|name| (name.clone(), Role::Traefik))
    }

    /// Whether this Traefik may keep a container with these labels.
    pub fn may_keep(&self, labels: &BTreeMap<String, String>) -> bool {
        let keeps = |docker| left_out(docker, labels).is_none();
        self.docker.as_ref().is_none_or(keeps)
    }

    /// The longest that this Traefik may hold back what it has read.
    pub fn held_back(&self) -> Duration {
        self.throttle + APPLYING
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
        let answer = self.http.get(&url).await.map_err(|error| {
            let message = format!(
                "the Traefik API at {url} does not answer: {}",
                error.message
            );
            Error { message, ..error }
        })?;
        match answer.status {
            200 => Ok(Some(answer)),
            404 => Ok(None),
            401 | 403 => Err(self.guarded(answer.status)),
            300..=399 => Err(Error::refused(format!(
                "{PREFIX}{url} redirects to {}, which is not followed",
                place_to_print(answer.location.as_deref())
            ))
            .hint("name the API where it answers with --traefik-url")),
            other => Err(Error::failed(format!("{PREFIX}{url} answers {other}"))),
        }
    }

    fn guarded(&self, status: u16) -> Error {
        let base = &self.base;
        match self.http.credentials() {
            Some(own) => Error::refused(format!(
                "{PREFIX}{base} refuses the user and password of {} ({status})",
                own.place
            ))
            .hint(CHECK_THEM),
            None => Error::refused(format!("{PREFIX}{base} requires a password ({status})"))
                .hint(HOW_TO_GIVE),
        }
    }

    /// Every page of a list (`X-Next-Page`; on the last one it is 1).
    async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let (mut page, mut pages, mut read) = (1, 0, 0);
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
            read += answer.body.len();
            pages += 1;
            if read > MAX_LIST || pages == MAX_PAGES {
                return Err(Error::failed(format!(
                    "{PREFIX}{} answers {path} without an end",
                    self.base
                )));
            }
        }
    }

    async fn item<T: for<'de> Deserialize<'de>>(
        &self,
        kind: &str,
        protocol: Protocol,
        name: &str,
    ) -> Result<Option<T>> {
        self.item_of(DOCKER, kind, protocol, name).await
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
        for (protocol, name) in &names.services {
            let Some(service) = self.item::<Service>("services", *protocol, name).await? else {
                continue;
            };
            if let Some(trouble) =
                trouble("service", name, service.status.as_deref(), &service.error)
            {
                servers.trouble.push(trouble);
            }
            let key = (*protocol, name.clone());
            servers.weights.insert(key.clone(), weights(&service));
            servers.services.insert(key, places(service));
        }
        for (protocol, name) in &names.routers {
            let routers = self.routers(*protocol, name).await?;
            if routers.is_empty() {
                let message = format!("router {name} does not exist");
                servers.trouble.push((name.clone(), message));
            }
            for router in routers {
                let status = router.status.as_deref();
                servers
                    .trouble
                    .extend(trouble("router", name, status, &router.error));
            }
        }
        Ok(servers)
    }

    /// Every router of the Docker provider.
    pub async fn docker_routers(&self) -> Result<Vec<ListedRouter>> {
        let lists = Protocol::ALL.map(async |protocol| {
            let path = format!("/api/{}/routers?per_page=1000", protocol.word());
            let routers = self.list(&path).await?.into_iter();
            let routers = routers.filter_map(|own| serde_json::from_value::<Router>(own).ok());
            let listed = routers.filter_map(|own| own.listed(protocol));
            Ok(listed.collect::<Vec<ListedRouter>>())
        });
        let lists: Result<Vec<_>> = join_all(lists).await.into_iter().collect();
        Ok(lists?.concat())
    }

    /// What Traefik makes of one router: with an entrypoint's model it goes by `<entrypoint>-<name>`, once for each.
    async fn routers(&self, protocol: Protocol, name: &str) -> Result<Vec<Router>> {
        let path = format!("/api/{}/routers?search={name}@docker", protocol.word());
        let all = self.list(&path).await?.into_iter();
        let mut all: Vec<Router> = all
            .filter_map(|own| serde_json::from_value(own).ok())
            .collect();
        let full = format!("{name}@docker");
        match all.iter().any(|own| own.name == full) {
            true => all.retain(|own| own.name == full),
            false => all.retain(|own| own.is_a_model_of(&full)),
        }
        Ok(all)
    }
}

impl Router {
    /// `None` for one of another provider.
    fn listed(&self, protocol: Protocol) -> Option<ListedRouter> {
        let name = self.name.strip_suffix("@docker")?;
        let of_model = |entrypoint: &String| {
            let rest = name.strip_prefix(entrypoint.as_str())?.strip_prefix('-')?;
            Some(rest.strip_prefix("conflicted-").unwrap_or(rest))
        };
        let models = self.entrypoints.iter().filter_map(of_model);
        let disabled = self.status.as_deref() == Some("disabled");
        Some(ListedRouter {
            protocol,
            names: models.chain([name]).map(str::to_owned).collect(),
            disabled: disabled.then(|| self.error.join(", ")),
        })
    }

    /// `pkg/server/aggregator.go`, `applyModel` and `resolveHTTPTLSOptions`.
    fn is_a_model_of(&self, full: &str) -> bool {
        let of = |entrypoint: &String| {
            let rest = self.name.strip_prefix(entrypoint.as_str());
            let rest = rest.and_then(|rest| rest.strip_prefix('-'));
            rest.is_some_and(|rest| rest == full || rest.strip_prefix("conflicted-") == Some(full))
        };
        self.entrypoints.iter().any(of)
    }
}

/// A redirect's place, less what may be secret in it.
fn place_to_print(location: Option<&str>) -> String {
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

/// Each server with a weight.
fn weights(service: &Service) -> BTreeMap<Place, u32> {
    let servers = service.load_balancer.iter().flat_map(|own| &own.servers);
    let weights = servers.filter_map(|own| Some((place_of(own.url.as_deref()?)?, own.weight?)));
    weights.collect()
}

/// Each server, and whether it is up; a protocol without a server status is up by being listed.
fn places(service: Service) -> BTreeMap<Place, bool> {
    let servers = service
        .load_balancer
        .map(|balancer| balancer.servers)
        .unwrap_or_default();
    let mut places = BTreeMap::new();
    for server in servers {
        let Some(text) = server.url.or(server.address) else {
            continue;
        };
        let up = service
            .server_status
            .get(&text)
            .is_none_or(|status| status == "UP");
        if let Some(place) = place_of(&text) {
            *places.entry(place).or_insert(true) &= up;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    use super::*;
    use crate::{arbitrary::replaced, proxy::traefik::api::access::Access};

    fn api() -> Api {
        let http = Http::named(&Access::default(), None).unwrap();
        Api::new("t".to_owned(), "http://t".to_owned(), http)
    }

    #[test]
    fn a_traefik_that_is_not_known_may_keep_all_and_one_that_is_goes_by_its_constraints() {
        let labels = |stage: &str| BTreeMap::from([("stage".to_owned(), stage.to_owned())]);
        let docker = Docker {
            endpoint: "unix:///var/run/docker.sock".to_owned(),
            exposed_by_default: true,
            default_rule: None,
            constraints: Some("Label(`stage`,`live`)".to_owned()),
            network: None,
            use_bind_port_ip: false,
            watch: true,
        };
        assert!(api().may_keep(&labels("test")));
        let live = Api {
            docker: Some(docker),
            ..api()
        };
        assert!(live.may_keep(&labels("live")));
        assert!(!live.may_keep(&labels("test")));
    }

    #[test]
    fn what_is_held_back_follows_the_throttle() {
        assert_eq!(api().held_back(), Duration::from_millis(2500));
        let slow = Api {
            throttle: Duration::from_secs(10),
            ..api()
        };
        assert_eq!(slow.held_back(), Duration::from_millis(10_500));
    }

    #[test]
    fn a_router_is_known_by_the_names_that_its_entrypoints_models_give_it() {
        let router = |name: &str| Router {
            name: name.to_owned(),
            entrypoints: vec!["websecure".to_owned()],
            ..Router::default()
        };
        assert!(router("websecure-web@docker").is_a_model_of("web@docker"));
        assert!(router("websecure-conflicted-web@docker").is_a_model_of("web@docker"));
        assert!(!router("my-web@docker").is_a_model_of("web@docker"));
        assert!(!router("websecure-web@file").is_a_model_of("web@docker"));
    }

    #[test]
    fn a_server_is_up_only_while_traefik_says_so() {
        let service: Service = serde_json::from_str(
            r#"{"status":"enabled","usedBy":["web@docker"],"loadBalancer":{"servers":[{"url":"http://10.0.0.2:80"},{"url":"http://10.0.0.3:80"}]},
               "serverStatus":{"http://10.0.0.2:80":"UP","http://10.0.0.3:80":"DOWN"}}"#,
        )
        .unwrap();
        let places = places(service);
        let up = |text| places[&place_of(text).unwrap()];
        assert!(up("10.0.0.2:80") && !up("10.0.0.3:80"));
    }

    proptest! {
        #[test]
        fn a_service_with_values_of_any_type_has_no_more_places_than_servers(
            value in replaced(serde_json::json!({
                "status": "enabled", "usedBy": ["web@docker"], "error": ["x"],
                "loadBalancer": {"servers": [{"url": "http://10.0.0.2:80"}, {"address": "10.0.0.3:80"}]},
                "serverStatus": {"http://10.0.0.2:80": "UP", "10.0.0.3:80": "DOWN"},
            })),
        ) {
            if let Ok(service) = serde_json::from_value::<Service>(value) {
                let servers = service.load_balancer.as_ref().map_or(0, |own| own.servers.len());
                prop_assert!(places(service).len() <= servers);
            }
        }

        #[test]
        fn a_router_with_values_of_any_type_is_a_model_of_no_other_name(
            value in replaced(serde_json::json!({
                "name": "websecure-web@docker", "entryPoints": ["websecure"], "status": "enabled", "middlewares": ["m"],
            })),
        ) {
            let router: Router = serde_json::from_value(value).unwrap_or_default();
            prop_assert!(!router.is_a_model_of("web@docker") || router.name.ends_with("web@docker"));
        }
    }

    // How many pages of this are read before a list of them is given up.
    async fn pages_until_given_up(page: &str) -> u32 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let head = format!("Content-Length: {}\r\n\r\n", page.len());
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            for pages in 0.. {
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap() > 2 {
                    line.clear();
                }
                if line.is_empty() {
                    return pages;
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nX-Next-Page: {}\r\n{head}{page}",
                    pages + 2
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            unreachable!("the list is given up first")
        };
        let ask = async {
            let http = Http::at(address, "127.0.0.1", &Access::default(), None).unwrap();
            let base = format!("http://{address}");
            let api = Api::new("t".to_owned(), base, http);
            api.list("/api/http/routers").await.unwrap_err()
        };
        let (pages, error) = tokio::join!(serve, ask);
        assert!(error.message.ends_with("without an end"), "{error}");
        pages
    }

    #[tokio::test]
    async fn a_list_without_an_end_is_given_up_after_many_pages_or_large_ones() {
        assert_eq!(pages_until_given_up("[]").await, MAX_PAGES);
        let large = format!("[\"{}\"]", "x".repeat(MAX_LIST / 5));
        assert_eq!(pages_until_given_up(&large).await, 5);
    }
}
