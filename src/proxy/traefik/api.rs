//! The Traefik API: what each instance says of routers, services and servers.

pub mod listing;
pub mod pinned;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;

use self::listing::{provider, qualified};
use super::{
    access::{CHECK_THEM, HOW_TO_GIVE, printable},
    http::{Answer, Reach},
    kept::left_out,
    names::{Names, Protocol},
    static_config::{Docker, THROTTLE},
};
use crate::{
    error::{Error, Result},
    model::Replica,
    watch::Role,
};

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
    /// [`TraefikContainer::identity`]: super::discover::TraefikContainer::identity
    pub identity: Option<String>,
    /// The name of the container whose network namespace it is in, where that is another one.
    pub holder: Option<String>,
    /// Its `providersThrottleDuration`.
    throttle: Duration,
    /// Which containers it keeps, where that is known.
    docker: Option<Docker>,
    base: String,
    reach: Reach,
}

/// What an instance says of the servers of some services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// Service → each server → whether it is up. A service that Traefik does not know is not here.
    pub services: BTreeMap<(Protocol, String), BTreeMap<Place, bool>>,
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

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub address: IpAddr,
    /// Its port, where Traefik says one.
    pub port: Option<u16>,
}

impl Place {
    /// Whether it is one of a replica: an address of its own, or a port of it that is published.
    pub fn is_of(&self, replica: &Replica) -> bool {
        let published = |port| {
            let place = SocketAddr::new(self.address, port);
            replica.published.contains(&place)
        };
        replica.addresses.contains(&self.address) || self.port.is_some_and(published)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
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
    pub fn new(name: String, base: String, reach: Reach) -> Self {
        Self {
            name,
            identity: None,
            holder: None,
            throttle: THROTTLE,
            docker: None,
            base,
            reach,
        }
    }

    /// As the API of a container.
    #[must_use]
    pub fn of_container(self, identity: String, holder: Option<String>) -> Self {
        Self {
            identity: Some(identity),
            holder,
            ..self
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

    /// As the API of a Traefik with this `providersThrottleDuration`.
    #[must_use]
    pub fn throttled(self, throttle: Duration) -> Self {
        Self { throttle, ..self }
    }

    /// As the API of a Traefik whose Docker provider is this one.
    #[must_use]
    pub fn keeping(self, docker: Option<Docker>) -> Self {
        Self { docker, ..self }
    }

    /// Whether this Traefik may keep a container with these labels.
    pub fn may_keep(&self, labels: &BTreeMap<String, String>) -> bool {
        let keeps = |docker| left_out(docker, labels).is_none();
        self.docker.as_ref().is_none_or(keeps)
    }

    /// The longest that any of these Traefiks may hold back what it has read.
    pub fn held_back<'a>(all: impl IntoIterator<Item = &'a Self>) -> Duration {
        let longest = all.into_iter().map(|own| own.throttle + APPLYING).max();
        longest.unwrap_or_default()
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
            401 | 403 => Err(self.guarded(answer.status)),
            300..=399 => Err(Error::refused(format!(
                "{PREFIX}{url} redirects to {}, which is not followed",
                told(answer.location.as_deref())
            ))
            .hint("name the API where it answers with --traefik-url")),
            other => Err(Error::failed(format!("{PREFIX}{url} answers {other}"))),
        }
    }

    fn guarded(&self, status: u16) -> Error {
        let base = &self.base;
        match self.reach.credentials() {
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
        for (protocol, name) in &names.services {
            let Some(service) = self.item::<Service>("services", *protocol, name).await? else {
                continue;
            };
            if let Some(trouble) =
                trouble("service", name, service.status.as_deref(), &service.error)
            {
                servers.trouble.push(trouble);
            }
            servers
                .services
                .insert((*protocol, name.clone()), places(service));
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

    /// Whether a request can be on its way for seconds to a server of these services together with the old handler: a
    /// router of theirs has a middleware that holds it, or they are the error pages of others.
    pub async fn holds_requests(&self, names: &Names) -> Result<bool> {
        let middlewares = Middlewares::of(self.list("/api/http/middlewares").await?);
        let services = names.services.iter();
        let http: Vec<&String> = services
            .filter(|(protocol, _)| *protocol == Protocol::Http)
            .map(|(_, name)| name)
            .collect();
        if http.iter().any(|name| middlewares.are_error_pages(name)) {
            return Ok(true);
        }
        for name in http {
            let service = self.item::<Service>("services", Protocol::Http, name);
            for router in service.await?.map_or_else(Vec::new, |own| own.used_by) {
                let path = format!("/api/http/routers/{router}");
                let Some(router) = self.get(&path).await? else {
                    continue;
                };
                let router: Router = serde_json::from_value(router).unwrap_or_default();
                if middlewares.hold(&router.middlewares) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
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

/// Every HTTP middleware of an instance, by its full name.
struct Middlewares(BTreeMap<String, Value>);

impl Middlewares {
    fn of(list: Vec<Value>) -> Self {
        let named = |own: Value| Some((own["name"].as_str()?.to_owned(), own));
        Self(list.into_iter().filter_map(named).collect())
    }

    /// Whether one of these can hold a request before a server gets it. A chain holds what is in it.
    fn hold(&self, names: &[String]) -> bool {
        let (mut left, mut seen) = (names.to_vec(), BTreeSet::new());
        while let Some(name) = left.pop() {
            let Some(own) = self.0.get(&name) else {
                continue;
            };
            if holds(own) {
                return true;
            }
            if seen.insert(name.clone()) {
                left.extend(chained(&name, own));
            }
        }
        false
    }

    /// Whether an `errors` middleware asks this service for its pages: only once another service has answered.
    fn are_error_pages(&self, service: &str) -> bool {
        let full = format!("{service}@docker");
        self.0.iter().any(|(name, own)| {
            let pages = own["errors"]["service"].as_str();
            pages.is_some_and(|pages| qualified(pages, provider(name)) == full)
        })
    }
}

fn holds(middleware: &Value) -> bool {
    let kind = middleware["type"].as_str().unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    ["forwardauth", "buffering", "retry"].contains(&kind.as_str())
        || kind.contains("plugin")
        || middleware.get("plugin").is_some()
}

/// The middlewares in a chain, by their full names.
fn chained(name: &str, chain: &Value) -> Vec<String> {
    let inner = chain["chain"]["middlewares"].as_array();
    let inner = inner.into_iter().flatten().filter_map(Value::as_str);
    inner
        .map(|inner| qualified(inner, provider(name)))
        .collect()
}

/// A redirect's place, less what may be secret in it.
fn told(location: Option<&str>) -> String {
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

/// The place in `http://10.0.0.2:80`, `h2c://[fe80::1]:80` or `10.0.0.2:80`; a name is none, and neither is the empty
/// URL of a container that is not ready (`allowEmptyServices`).
pub fn place_of(server: &str) -> Option<Place> {
    let (host, port) = host_and_port(server)?;
    Some(Place {
        address: host.parse().ok()?,
        port,
    })
}

/// The host, IPv6 without brackets, and the port of a URL or of `host:port`.
pub fn host_and_port(server: &str) -> Option<(&str, Option<u16>)> {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    Some((host, port.and_then(|port| port.parse().ok())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        arbitrary::{mutated_text, replaced},
        proxy::traefik::{access::Access, http::Http},
    };

    fn place(text: &str) -> Place {
        place_of(text).unwrap()
    }

    fn middlewares(list: Value) -> Middlewares {
        Middlewares::of(serde_json::from_value(list).unwrap())
    }

    fn api() -> Api {
        let http = Http::named(&Access::default(), None).unwrap();
        Api::new("t".to_owned(), "http://t".to_owned(), Reach::Http(http))
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
        let live = api().keeping(Some(docker));
        assert!(live.may_keep(&labels("live")));
        assert!(!live.may_keep(&labels("test")));
    }

    #[test]
    fn what_is_held_back_follows_the_throttle() {
        assert_eq!(Api::held_back([&api()]), Duration::from_millis(2500));
        let slow = api().throttled(Duration::from_secs(10));
        assert_eq!(Api::held_back([&slow]), Duration::from_millis(10_500));
        assert_eq!(Api::held_back([&api(), &slow]), Api::held_back([&slow]));
    }

    #[test]
    fn a_chain_holds_a_request_only_where_something_in_it_does() {
        let all = middlewares(serde_json::json!([
            {"name": "gz@docker", "type": "compress"},
            {"name": "again@file", "type": "retry"},
            {"name": "own@docker", "type": "my-plugin", "plugin": {"mine": {}}},
            {"name": "pages@docker", "type": "errors", "errors": {"service": "pages"}},
            {"name": "mild@docker", "type": "chain", "chain": {"middlewares": ["gz", "pages@docker"]}},
            {"name": "round@docker", "type": "chain", "chain": {"middlewares": ["round@docker", "gz"]}},
            {"name": "deep@docker", "type": "chain", "chain": {"middlewares": ["mild@docker", "inner@file"]}},
            {"name": "inner@file", "type": "chain", "chain": {"middlewares": ["again"]}},
        ]));
        let hold = |name: &str| all.hold(&[name.to_owned()]);
        for mild in [
            "gz@docker",
            "pages@docker",
            "mild@docker",
            "round@docker",
            "none@docker",
        ] {
            assert!(!hold(mild), "{mild}");
        }
        for holding in ["again@file", "own@docker", "deep@docker", "inner@file"] {
            assert!(hold(holding), "{holding}");
        }
    }

    #[test]
    fn the_pages_of_an_errors_middleware_are_asked_for_late() {
        let all = middlewares(serde_json::json!([
            {"name": "errors@docker", "type": "errors", "errors": {"service": "pages"}},
            {"name": "other@file", "type": "errors", "errors": {"service": "site"}},
        ]));
        assert!(all.are_error_pages("pages"));
        assert!(!all.are_error_pages("site"));
    }

    #[test]
    fn the_place_of_a_server_is_found_in_every_form_that_traefik_writes() {
        for (text, written) in [
            ("http://10.0.0.2:80", "10.0.0.2:80"),
            ("h2c://[fd00::1]:8080/", "[fd00::1]:8080"),
            ("10.0.0.3:5432", "10.0.0.3:5432"),
            ("http://10.0.0.4/", "10.0.0.4"),
        ] {
            assert_eq!(place(text).to_string(), written, "{text}");
        }
        for text in ["http://name:80", ""] {
            assert_eq!(place_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_published_port_is_its_replicas_own_and_its_neighbours_is_not() {
        let mut replica = crate::plan::simulator::old("a");
        replica.addresses = vec!["10.0.0.2".parse().unwrap()];
        replica.published = ["172.17.0.1:32768".parse().unwrap()].into();
        assert!(place("http://10.0.0.2:80").is_of(&replica));
        assert!(place("http://172.17.0.1:32768").is_of(&replica));
        assert!(!place("http://172.17.0.1:32769").is_of(&replica));
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
        assert!(places[&place("10.0.0.2:80")]);
        assert!(!places[&place("10.0.0.3:80")]);
    }

    proptest! {
        #[test]
        fn the_place_of_any_server_reads_back(text in mutated_text("h2c://[fd00::1]:8080/x")) {
            if let Some(place) = place_of(&text).filter(|place| place.port.is_some()) {
                prop_assert_eq!(place_of(&place.to_string()), Some(place));
            }
        }

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
            let api = Api::new("t".to_owned(), base, Reach::Http(http));
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
