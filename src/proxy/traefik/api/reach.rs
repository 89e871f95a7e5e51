//! Reaches the API of a Traefik by the first way that answers, and says what to add where none does.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use bollard::models::ContainerInspectResponse;
use tokio::sync::OnceCell;

use super::{
    Api, PREFIX,
    access::{self, Access, Credentials, printable},
    http::Http,
    tunnel::{Helper, Tunnel},
    ways::{ApiRouter, Way, routers_in_file, routers_in_labels, ways},
};
use crate::{
    docker::engine::Engine,
    error::{Error, Result},
    model::label,
    proxy::{
        socket_proxies::SocketProxy,
        traefik::config::{FilePlace, THROTTLE, TraefikContainer, advice},
    },
    retry,
    settings::Settings,
};

/// How long a Traefik may take after its start until its API answers.
const STARTING: Duration = Duration::from_secs(5);

/// The APIs that the operator has named, of these Traefiks; what answers there may be something else.
pub async fn named(settings: &Settings, traefiks: &[TraefikContainer]) -> Result<Vec<Arc<Api>>> {
    // Which URL leads to which of them is not known.
    let throttles = traefiks.iter().map(|own| own.config.throttle);
    let throttle = throttles.max().unwrap_or(THROTTLE);
    let access = Access::read(settings)?;
    let mut apis = Vec::new();
    for text in &settings.traefik_url {
        let api = by_url(text, &access)?;
        let version = api.version().await;
        version.map_err(|error| error.or_hint("check what --traefik-url names"))?;
        apis.push(Arc::new(Api { throttle, ..api }));
    }
    Ok(apis)
}

/// An API at a URL, which may hold user and password, a path, and what a browser shows of the dashboard.
fn by_url(text: &str, access: &Access) -> Result<Api> {
    let bad = |why: String| {
        Error::refused(format!(
            "{:?} is no Traefik API URL: {why}",
            printable(text)
        ))
        .hint("write --traefik-url http://127.0.0.1:8080")
    };
    let mut url = url::Url::parse(text).map_err(|error| bad(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("it is neither http nor https".to_owned()));
    }
    let credentials = Credentials::out_of(&mut url);
    url.set_query(None);
    url.set_fragment(None);
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let base = url.as_str().trim_end_matches('/');
    let base = ["/api", "/dashboard"]
        .iter()
        .find_map(|end| base.strip_suffix(end))
        .unwrap_or(base);
    let http = Http::named(access, credentials)?;
    Ok(Api::new(format!("{host}:{port}"), base.to_owned(), http))
}

/// The APIs that were looked for: each once for all services with the same keys.
#[derive(Default)]
pub struct Apis(Mutex<BTreeMap<Sought, Arc<FoundApi>>>);

/// An API, or why there is no way to it.
type FoundApi = OnceCell<Result<Arc<Api>>>;

/// The identity of a Traefik, and the files of user, password and certificates that its API is asked with.
type Sought = (String, Option<String>, Option<String>);

impl Apis {
    pub async fn of(
        &self,
        engine: &Engine,
        socket_proxies: &[SocketProxy],
        traefik: &TraefikContainer,
        settings: &Settings,
    ) -> Result<Arc<Api>> {
        let sought = (
            traefik.identity.clone(),
            settings.traefik_auth_file.clone(),
            settings.traefik_ca.clone(),
        );
        let api = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(sought).or_default().clone()
        };
        let find = || api_of(engine, socket_proxies, traefik, settings);
        api.get_or_init(find).await.clone()
    }
}

/// The API of one Traefik container, by the first way that answers; where none does, the error says what to add, in the
/// place that its configuration really comes from.
pub async fn api_of(
    engine: &Engine,
    socket_proxies: &[SocketProxy],
    traefik: &TraefikContainer,
    settings: &Settings,
) -> Result<Arc<Api>> {
    let probe = Probe {
        engine,
        traefik,
        helper: Arc::new(Helper::new(engine, socket_proxies, &traefik.id)),
        access: Access::read(settings)?,
        here: engine.is_here().await,
    };
    let certain = traefik.unread.is_none() && traefik.config.api.is_some();
    let routers = probe.routers().await?;
    let ways = ways(&traefik.config, &routers, certain);
    let tried = match probe.try_each(&ways).await {
        Err(_) if probe.has_just_started().await => {
            let again = async || probe.try_each(&ways).await;
            retry::for_a_while(STARTING, again).await
        }
        tried => tried,
    };
    let api = tried.map_err(|failures| probe.refusal(&failures))?;
    Ok(Arc::new(api))
}

/// One Traefik whose API is looked for.
struct Probe<'a> {
    engine: &'a Engine,
    traefik: &'a TraefikContainer,
    /// One for all ways.
    helper: Arc<Helper>,
    access: Access,
    /// Whether addresses and ports of the engine's containers are reached from this machine.
    here: bool,
}

impl Probe<'_> {
    /// Every router that leads to this Traefik's API: by labels of a container of its project, or by its file provider.
    async fn routers(&self) -> Result<Vec<ApiRouter>> {
        let mut routers = Vec::new();
        // Its own labels first; those of another project may be meant for another Traefik.
        let own = self.traefik.inspect.config.as_ref();
        let own = own.and_then(|config| config.labels.clone());
        let mut all = vec![own.unwrap_or_default()];
        if let Some(project) = self.traefik.label(label::COMPOSE_PROJECT) {
            let of_project = vec![format!("{}={project}", label::COMPOSE_PROJECT)];
            let running = self.engine.matching(of_project, false).await?.into_iter();
            let others = running.filter(|other| other.id.as_ref() != Some(&self.traefik.id));
            all.extend(others.filter_map(|other| other.labels));
        }
        for labels in all {
            let labels: BTreeMap<String, String> = labels.into_iter().collect();
            routers.extend(routers_in_labels(&labels));
        }
        let id = &self.traefik.id;
        let files = match self.traefik.config.file.as_ref().map(|file| &file.place) {
            None => Vec::new(),
            Some(FilePlace::Filename(path)) => {
                let bytes = self.engine.read_file(id, path).await.ok().flatten();
                bytes
                    .map(|bytes| (path.clone(), bytes))
                    .into_iter()
                    .collect()
            }
            Some(FilePlace::Directory(path)) => {
                let files = self.engine.read_directory(id, path).await;
                let files = files.unwrap_or_default().into_iter();
                files.map(|file| (file.path, file.bytes)).collect()
            }
        };
        for (path, bytes) in files {
            if [".yml", ".yaml", ".toml"]
                .iter()
                .any(|end| path.ends_with(end))
            {
                routers.extend(routers_in_file(&path, &String::from_utf8_lossy(&bytes)));
            }
        }
        Ok(routers)
    }

    /// Whether it may not have read its own configuration yet, and so not know its API.
    async fn has_just_started(&self) -> bool {
        let state = self.traefik.inspect.state.as_ref();
        let at = state.and_then(|state| state.started_at.as_deref());
        let at = at.and_then(|at| humantime::parse_rfc3339(at).ok());
        let since_1970 = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let now = Duration::from_millis(self.engine.clock_ms().await);
        since_1970.is_some_and(|at| at + STARTING > now)
    }

    /// The API by the first way that answers, or the error of each.
    async fn try_each<'w>(&self, ways: &'w [Way]) -> Result<Api, Vec<(&'w Way, Error)>> {
        let mut failures = Vec::new();
        for way in ways {
            match self.try_way(way).await {
                Ok(api) => return Ok(api),
                Err(error) => failures.push((way, error)),
            }
        }
        Err(failures)
    }

    /// Tries a way by each means of getting to its port, until one answers. Else the first error of an API counts, which has
    /// a hint, or the first one of all. An address of an overlay network may be that of another machine here, whose answer
    /// is no reason to stop.
    async fn try_way(&self, way: &Way) -> Result<Api> {
        let mut failure: Option<Error> = None;
        for means in self.means(way) {
            let tried = async {
                let api = self.api(way, means).await?;
                api.version().await.map(|_| api)
            };
            match tried.await {
                Ok(api) => {
                    tracing::info!(traefik = self.traefik.name, %means, "its API answers {}", api.base());
                    return Ok(api);
                }
                Err(error) => {
                    tracing::debug!(traefik = self.traefik.name, %means, %error, "no API");
                    if failure
                        .as_ref()
                        .is_none_or(|own| own.hint.is_none() && error.hint.is_some())
                    {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::failed("nothing leads there from here")))
    }

    fn means(&self, way: &Way) -> Vec<Means> {
        let mut means = Vec::new();
        if self.here {
            means.extend(published(&self.traefik.inspect, way.port).map(Means::Straight));
            let at = |address| Means::Straight(SocketAddr::new(address, way.port));
            means.extend(addresses(self.traefik).into_iter().map(at));
        }
        means.push(Means::Helper);
        means
    }

    async fn api(&self, way: &Way, means: Means) -> Result<Api> {
        let scheme = if way.tls { "https" } else { "http" };
        // The insecure API asks for no password.
        let credentials = way.router.as_ref().and(self.access.credentials.clone());
        let address = match means {
            Means::Straight(address) => address,
            Means::Helper => (Ipv4Addr::LOCALHOST, way.port).into(),
        };
        let host = way.host.clone().unwrap_or_else(|| bracketed(address.ip()));
        let http = match means {
            Means::Straight(_) => Http::at(address, &host, &self.access, credentials)?,
            Means::Helper => {
                // Here and not by the first request, whose time is short.
                self.helper.start().await?;
                let tunnel = Tunnel::open(self.helper.clone(), address)?;
                Http::inside(tunnel, &self.access, credentials)?
            }
        };
        let base = format!("{scheme}://{host}:{}{}", address.port(), way.base);
        let Self { traefik, .. } = self;
        Ok(Api {
            identity: Some(traefik.identity.clone()),
            holder: traefik.holder.as_ref().map(|own| own.name.clone()),
            throttle: traefik.config.throttle,
            docker: traefik.config.docker.clone(),
            ..Api::new(traefik.name.clone(), base, http)
        })
    }

    /// Why there is no way, and what to add.
    fn refusal(&self, failures: &[(&Way, Error)]) -> Error {
        let config = &self.traefik.config;
        let name = &self.traefik.name;
        let wants = |(_, error): &&(&Way, Error)| access::is_guarded(error);
        let add = format!(
            "{}; it need not be published. Or name the API with --traefik-url",
            config.how_to_add(advice::API)
        );
        if let Some((way, error)) = failures.iter().find(wants) {
            let router = way.router.as_deref().unwrap_or("api");
            let what = match &self.access.credentials {
                Some(own) => format!("refuses the user and password of {}", own.place),
                None => "requires a password".to_owned(),
            };
            let message = format!("the API of Traefik ({name}), by its router {router}, {what}");
            return Error {
                message,
                ..error.clone()
            };
        }
        let message = match (&self.traefik.unread, &config.api, failures) {
            (Some(why), ..) => format!("the API of Traefik ({name}) is not found: {why}"),
            (None, None, _) => format!("the API of Traefik ({name}) is off"),
            (None, Some(_), []) => {
                format!("no port and no router lead to the API of Traefik ({name})")
            }
            (None, Some(_), failures) => {
                format!(
                    "the API of Traefik ({name}) is not reached: {}",
                    attempts(failures)
                )
            }
        };
        Error::refused(message).hint(add)
    }
}

/// How one gets to a port of a container.
#[derive(Clone, Copy, Debug)]
enum Means {
    /// A connection from here.
    Straight(SocketAddr),
    /// A helper in its network namespace.
    Helper,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Straight(address) => write!(f, "at {address}"),
            Self::Helper => f.write_str("by a helper"),
        }
    }
}

/// What each way came to, by what was asked.
fn attempts(failures: &[(&Way, Error)]) -> String {
    let attempt = |(way, error): &(&Way, Error)| {
        let message = error.message.as_str();
        let message = message.strip_prefix(PREFIX).unwrap_or(message);
        match &way.router {
            None => message.to_owned(),
            Some(router) => format!("{message} (by router {router})"),
        }
    };
    failures.iter().map(attempt).collect::<Vec<_>>().join("; ")
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Where a port of a container is published on the engine's machine.
fn published(inspect: &ContainerInspectResponse, port: u16) -> Option<SocketAddr> {
    let ports = inspect.network_settings.as_ref()?.ports.as_ref()?;
    let bindings = ports.get(&format!("{port}/tcp"))?.as_ref()?;
    bindings.iter().find_map(|binding| {
        let address = match binding.host_ip.as_deref().unwrap_or_default() {
            "" | "0.0.0.0" => Ipv4Addr::LOCALHOST.into(),
            "::" => Ipv6Addr::LOCALHOST.into(),
            address => address.parse().ok()?,
        };
        let port = binding.host_port.as_ref()?.parse().ok()?;
        Some(SocketAddr::new(address, port))
    })
}

/// Its address in each network; in the host's, this machine's own.
fn addresses(traefik: &TraefikContainer) -> Vec<IpAddr> {
    if traefik.networks().is_none() {
        return vec![Ipv4Addr::LOCALHOST.into()];
    }
    let settings = traefik.inspect.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    let networks = networks.into_iter().flat_map(|networks| networks.values());
    networks
        .flat_map(|own| [&own.ip_address, &own.global_ipv6_address])
        .flatten()
        .filter_map(|address| address.parse().ok())
        .collect()
}
