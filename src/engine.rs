//! The Docker engine: what is there, and the actions on containers. Calls go through here; other modules use bollard's
//! types alone.

mod about;
mod files;
mod images;
mod own;
mod pipe;
mod read;
mod session;
pub mod shared;
pub mod summary;

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bollard::{
    BollardRequest, Docker,
    errors::Error as Bollard,
    models::{
        ContainerInspectResponse, ContainerSummary, EventMessage, HealthConfig, ImageInspect,
    },
    query_parameters as query,
};
use futures_util::{Stream, StreamExt, TryStreamExt, future::try_join_all};
use hyper::Method;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;

pub use self::{
    about::About,
    files::ContainerStat,
    own::Mounted,
    session::{Session, own_labels},
};
use crate::{
    docker_http::{Connector, Endpoint},
    error::{Error, Result},
    event::Events,
    model::{ContainerId, HealthCheck, Replica, ServiceKey, label},
    namespace, retry,
};

/// How long the engine may take for one call, in seconds.
const CALL_TIMEOUT: u64 = 120;
/// And for a question, whose answer it only has to look up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a question may stay without an answer before it is said what is waited for.
const SILENCE: Duration = Duration::from_secs(2);
/// Log lines that a failure shows.
const LOG_LINES: &str = "15";
/// How long an answer that cannot be understood is asked for anew.
const PASSING: Duration = Duration::from_secs(1);
/// How long a helper that has ended may stand in the way of a removal.
const UNTIDY: Duration = Duration::from_secs(10);

/// A connection to one engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    endpoint: Endpoint,
}

/// A client that dials as everything else of ours does, upgrades (attach, exec) included. That the engine is silent is
/// said once.
fn through(endpoint: Endpoint, events: &Events) -> Result<Docker, Bollard> {
    let text = format!("waiting for the Docker engine at {endpoint}");
    let client = Client::builder(TokioExecutor::new()).build(Connector(endpoint));
    let (events, said) = (events.clone(), Arc::new(AtomicBool::new(false)));
    Docker::connect_with_custom_transport(
        move |request: BollardRequest| {
            let client: Client<Connector, _> = client.clone();
            let (text, events, said) = (text.clone(), events.clone(), said.clone());
            let patient = is_patient(request.method(), request.uri().path());
            async move {
                let mut answer = pin!(client.request(request));
                if !patient {
                    match timeout(SILENCE, &mut answer).await {
                        Ok(answer) => return answer.map_err(Bollard::from),
                        Err(_) if said.swap(true, Ordering::Relaxed) => {}
                        Err(_) => events.notice(text),
                    }
                }
                answer.await.map_err(Bollard::from)
            }
        },
        Some("http://docker"),
        CALL_TIMEOUT,
        bollard::API_DEFAULT_VERSION,
    )
}

/// Whether an answer may take its time: that of a change, and Podman's of events, which begins with the first.
fn is_patient(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD) || path.ends_with("/events")
}

/// In one line why nothing answers; who dialled knows what to do about it.
fn unreachable(endpoint: &Endpoint, error: &Bollard) -> Error {
    let dialled = causes(error).find_map(|cause| cause.downcast_ref::<Error>());
    let hint = dialled.and_then(|dialled| dialled.hint.clone());
    let why = plain(error);
    // Go's answer to HTTP on a port for TLS (net/http, `Server.serve`).
    let wants_tls = why.contains("HTTP request to an HTTPS server");
    Error::refused(format!("the Docker engine at {endpoint} does not answer: {why}")).hint(
        match hint {
            Some(hint) => hint,
            None if wants_tls => "it wants TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory of its certificates".to_owned(),
            None => "start it, or name another one with -H, --context or DOCKER_HOST".to_owned(),
        },
    )
}

/// Asks again for a while where the answer is of a kind that passes by itself.
async fn again<T>(
    total: Duration,
    passes: fn(&Bollard) -> bool,
    ask: impl AsyncFn() -> Result<T, Bollard>,
) -> Result<T, Bollard> {
    let answered = retry::for_a_while(total, async || match ask().await {
        Err(error) if passes(&error) => Err(error),
        other => Ok(other),
    });
    answered.await?
}

/// While a container ends, Podman before 5.6 calls it `stopped` for a moment, a state that Docker's API does not have.
fn is_unknown(error: &Bollard) -> bool {
    matches!(error, Bollard::JsonDataError { .. })
}

/// Podman keeps a container until what has joined its network is tidied away.
fn is_joined(error: &Bollard) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code: 500, message } if message.contains("has dependent containers"))
}

/// What a command in a container left behind.
#[derive(Clone, Debug)]
pub struct ExecOutcome {
    pub code: i64,
    /// What it wrote, both streams.
    pub output: String,
}

/// A command to run in a container, as Compose's `pre_stop` and docker-rollout's hook ask for it.
#[derive(Clone, Debug, Default)]
pub struct ExecCommand {
    /// Program and arguments.
    pub command: Vec<String>,
    /// As whom; the container's own user where `None`.
    pub user: Option<String>,
    /// With all capabilities.
    pub privileged: bool,
    /// Where; the container's own directory where `None`.
    pub working_dir: Option<String>,
    /// `KEY=value`, beside the container's own.
    pub environment: Vec<String>,
}

/// What matters of an image.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// `sha256:…`.
    pub id: String,
    /// `repository@sha256:…`, as registries name it.
    pub digests: Vec<String>,
    /// Volumes that it declares, by path.
    pub volumes: Vec<String>,
    /// Ports that it exposes, such as `80/tcp`.
    pub ports: Vec<String>,
    /// Its labels, which its containers have too.
    pub labels: BTreeMap<String, String>,
    /// Its health check, which its containers have unless they are given another.
    pub check: Option<HealthConfig>,
    /// All that it gives its containers, as the engine says it.
    pub config: serde_json::Value,
}

impl Engine {
    /// Connects and agrees on an API version; refused with one line when nothing answers.
    pub async fn connect(endpoint: Endpoint, events: &Events) -> Result<Self> {
        let docker = match through(endpoint.clone(), events) {
            Ok(docker) => docker.negotiate_version().await,
            Err(error) => Err(error),
        };
        match docker {
            Ok(docker) => Ok(Self { docker, endpoint }),
            Err(error) => Err(unreachable(&endpoint, &error)),
        }
    }

    /// One that is never asked.
    #[cfg(test)]
    pub fn unconnected(endpoint: Endpoint) -> Self {
        let docker = through(endpoint.clone(), &Events::new(Vec::new())).unwrap();
        Self { docker, endpoint }
    }

    /// For questions that are answered at once.
    fn asked(&self) -> Docker {
        self.docker.clone().with_timeout(ANSWER_TIMEOUT)
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether it runs on this very machine, so that addresses and published ports of its containers are ours too.
    ///
    /// A socket may lead elsewhere: into a virtual machine, or through a tunnel.
    pub async fn is_here(&self) -> bool {
        let local = matches!(self.endpoint, Endpoint::Unix(_));
        let info = match local {
            true => self.asked().info().await.ok(),
            false => None,
        };
        let own = nix::unistd::gethostname().ok();
        let own = own.and_then(|name| name.into_string().ok());
        own.is_some() && info.and_then(|info| info.name) == own
    }

    /// Every replica of a service in any state, one-offs and hooks aside, in the order of their numbers.
    pub async fn replicas(&self, key: &ServiceKey) -> Result<Vec<Replica>> {
        let labels = vec![
            format!("{}={}", label::COMPOSE_PROJECT, key.project),
            format!("{}={}", label::COMPOSE_SERVICE, key.service),
            format!("{}=False", label::COMPOSE_ONEOFF),
        ];
        let listed = self.matching(labels, true).await?;
        self.replicas_among(&listed, key).await
    }

    /// The same, where the containers were listed already.
    pub async fn replicas_among(
        &self,
        listed: &[ContainerSummary],
        key: &ServiceKey,
    ) -> Result<Vec<Replica>> {
        let mut replicas = self.whole(shared::of_service(listed, key)).await?;
        replicas.sort_by_key(|replica| {
            (
                replica
                    .labels
                    .get(label::COMPOSE_NUMBER)
                    .and_then(|n| n.parse::<u32>().ok()),
                replica.name.clone(),
            )
        });
        Ok(replicas)
    }

    /// Listed containers as replicas; one that is gone by now is left out.
    async fn whole<'a>(
        &self,
        listed: impl Iterator<Item = &'a ContainerSummary>,
    ) -> Result<Vec<Replica>> {
        let ids = listed.filter_map(|own| own.id.as_deref());
        let inspected = try_join_all(ids.map(|id| self.inspect(id))).await?;
        let inspected = inspected.into_iter().flatten();
        Ok(inspected.filter_map(read::replica).collect())
    }

    /// The containers that have all of these labels, as the engine lists them.
    pub async fn matching(&self, labels: Vec<String>, all: bool) -> Result<Vec<ContainerSummary>> {
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = query::ListContainersOptionsBuilder::default()
            .all(all)
            .filters(&filters)
            .build();
        let asked = async || self.asked().list_containers(Some(options.clone())).await;
        let list = again(PASSING, is_unknown, asked).await;
        list.map_err(|error| failed("list containers", &error))
    }

    /// Everything that runs, as the engine lists it; what is in another container's network namespace has its networks.
    pub async fn running(&self) -> Result<Vec<ContainerSummary>> {
        Ok(shared::with_networks(self.list(false).await?))
    }

    /// Every container in whatever state, as the engine lists it.
    pub async fn containers(&self) -> Result<Vec<ContainerSummary>> {
        self.list(true).await
    }

    async fn list(&self, all: bool) -> Result<Vec<ContainerSummary>> {
        let options = query::ListContainersOptionsBuilder::default()
            .all(all)
            .build();
        let asked = async || self.asked().list_containers(Some(options.clone())).await;
        let list = again(PASSING, is_unknown, asked).await;
        list.map_err(|error| failed("list containers", &error))
    }

    /// One container whole; `None` where it does not exist.
    pub async fn inspect(&self, id: &str) -> Result<Option<ContainerInspectResponse>> {
        let asked = async || self.asked().inspect_container(id, None).await;
        match again(PASSING, is_unknown, asked).await {
            Ok(inspect) => Ok(Some(inspect)),
            Err(error) if is_status(&error, 404) => Ok(None),
            Err(error) => Err(failed("inspect a container", &error)),
        }
    }

    /// One replica; `None` where it does not exist any more.
    pub async fn replica(&self, id: &ContainerId) -> Result<Option<Replica>> {
        Ok(self.inspect(&id.0).await?.and_then(read::replica))
    }

    /// An image by reference or id; `None` where the engine does not have it.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>> {
        match self.asked().inspect_image(reference).await {
            Ok(image) => Ok(Some(image_of(image))),
            Err(error) if is_status(&error, 404) => Ok(None),
            Err(error) => Err(failed("inspect an image", &error)),
        }
    }

    /// Container events (`start`, `die`, `destroy`, `health_status`, …) from now on.
    pub fn events(&self) -> impl Stream<Item = Result<EventMessage>> + Send + use<> {
        let filters = HashMap::from([("type".to_owned(), vec!["container".to_owned()])]);
        let options = query::EventsOptionsBuilder::default()
            .filters(&filters)
            .build();
        self.docker
            .events(Some(options))
            .map_err(|error| failed("read events", &error))
    }

    /// Sends the stop signal of the container and waits out its grace period; fine where it does not run.
    pub async fn stop(&self, id: &ContainerId) -> Result<()> {
        if let Ok(Some(replica)) = self.replica(id).await
            && replica.run == crate::model::Run::Paused
        {
            self.docker
                .unpause_container(&id.0)
                .await
                .map_err(|error| failed("unpause a container", &error))?;
        }
        // The engine answers when the container has stopped, which a grace period may put off for longer than any call.
        let patience = self.grace(id).await + Duration::from_secs(CALL_TIMEOUT);
        tolerate(
            self.docker
                .clone()
                .with_timeout(patience)
                .stop_container(&id.0, Some(query::StopContainerOptions::default()))
                .await,
            &[304, 404],
            "stop a container",
        )
    }

    /// Starts a container that exists; fine where it runs.
    pub async fn start(&self, id: &ContainerId) -> Result<()> {
        let started = self.docker.start_container(&id.0, None).await;
        tolerate(started, &[304], "start a container")
    }

    /// The container's own grace period; zero where it has none or cannot be inspected.
    async fn grace(&self, id: &ContainerId) -> Duration {
        let own = async {
            let config = self.inspect(&id.0).await.ok()??.config?;
            u64::try_from(config.stop_timeout?)
                .ok()
                .map(Duration::from_secs)
        };
        own.await.unwrap_or_default()
    }

    /// Removes a stopped container, its anonymous volumes kept; fine where it is gone already.
    pub async fn remove(&self, id: &ContainerId) -> Result<()> {
        let options = query::RemoveContainerOptionsBuilder::default()
            .force(false)
            .v(false)
            .build();
        let removed = async || {
            let options = Some(options.clone());
            self.docker.remove_container(&id.0, options).await
        };
        match again(UNTIDY, is_joined, removed).await {
            // 409: somebody else's removal is under way.
            Err(error) if is_status(&error, 409) => self.wait_gone(id).await,
            other => tolerate(other, &[404], "remove a container"),
        }
    }

    async fn wait_gone(&self, id: &ContainerId) -> Result<()> {
        let options = query::WaitContainerOptionsBuilder::default()
            .condition("removed")
            .build();
        let mut removal = self.docker.wait_container(&id.0, Some(options));
        let _ = tokio::time::timeout(Duration::from_secs(10), removal.next()).await;
        match self.inspect(&id.0).await? {
            None => Ok(()),
            Some(_) => Err(Error::failed(format!(
                "container {id} could not be removed"
            ))),
        }
    }

    pub async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        let options = query::RenameContainerOptionsBuilder::default()
            .name(name)
            .build();
        self.docker
            .rename_container(&id.0, options)
            .await
            .map_err(|error| failed("rename a container", &error))
    }

    /// The last lines that a container logged, both streams: as many as a failure shows.
    pub async fn last_lines(&self, id: &ContainerId) -> Vec<String> {
        let options = query::LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail(LOG_LINES)
            .build();
        let text: Vec<String> = self
            .docker
            .logs(&id.0, Some(options))
            .filter_map(async |line| line.ok().map(|line| line.to_string()))
            .collect()
            .await;
        text.concat().lines().map(str::to_owned).collect()
    }

    /// Bytes received and sent on all networks of a container together.
    pub async fn network_bytes(&self, id: &ContainerId) -> Result<(u64, u64)> {
        let options = query::StatsOptionsBuilder::default()
            .stream(false)
            .one_shot(true)
            .build();
        let mut stats = Box::pin(self.docker.stats(&id.0, Some(options)));
        let networks = match stats.next().await {
            Some(Ok(stats)) => stats.networks.unwrap_or_default(),
            Some(Err(error)) => return Err(failed("read a container's network counters", &error)),
            None => HashMap::new(),
        };
        let sum = |of: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
            networks.values().filter_map(of).sum::<u64>()
        };
        Ok((
            sum(|network| network.rx_bytes),
            sum(|network| network.tx_bytes),
        ))
    }

    /// The engine's clock, in milliseconds since 1970 (`/info` SystemTime), falling back to ours.
    pub async fn clock_ms(&self) -> u64 {
        match self.own_clock_ms().await {
            Some(ms) => ms,
            None => since_1970(std::time::SystemTime::now()),
        }
    }

    /// The engine's clock alone; `None` where it does not say.
    pub async fn own_clock_ms(&self) -> Option<u64> {
        let time = self.asked().info().await.ok()?.system_time?;
        instant(&time).map(since_1970)
    }

    /// Removes one of our own containers, running or not.
    pub async fn discard(&self, id: &str) -> Result<()> {
        let options = query::RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        tolerate(
            self.docker.remove_container(id, Some(options)).await,
            &[404, 409],
            "remove a container",
        )
    }

    /// Makes an image of helpers from a root file system in a tar archive.
    pub async fn import_image(&self, tar: Vec<u8>, repo: &str, tag: &str) -> Result<()> {
        let speaks = format!("LABEL {}={}", label::HELPER, namespace::PROTOCOL);
        let options = query::CreateImageOptionsBuilder::default()
            .from_src("-")
            // With the tag in a parameter of its own, Podman before 4.6 would forget it.
            .repo(&format!("{repo}:{tag}"))
            .changes(vec!["ENTRYPOINT [\"/rollout\"]".to_owned(), speaks])
            .build();
        let body = bollard::body_full(tar.into());
        self.docker
            .create_image(Some(options), Some(body), None)
            .try_for_each(async |_| Ok(()))
            .await
            .map_err(|error| failed("load an image", &error))
    }
}

fn image_of(image: ImageInspect) -> Image {
    let config = image.config.unwrap_or_default();
    // A record of plain values has nothing that JSON cannot say.
    let whole = serde_json::to_value(&config).unwrap_or_default();
    Image {
        config: whole,
        id: image.id.unwrap_or_default(),
        digests: image.repo_digests.unwrap_or_default(),
        volumes: config.volumes.unwrap_or_default().into_iter().collect(),
        ports: config
            .exposed_ports
            .unwrap_or_default()
            .into_iter()
            .collect(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        check: config.healthcheck,
    }
}

fn since_1970(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// The engine writes its local time with an offset (RFC 3339); humantime reads UTC alone.
fn instant(time: &str) -> Option<std::time::SystemTime> {
    let at = time.rfind(['+', '-', 'Z']).filter(|at| *at > 10)?;
    let (local, offset) = time.split_at(at);
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let Some((hours, minutes)) = offset[1..].split_once(':') else {
        return Some(local);
    };
    // Times of day, so that no sum overflows.
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    let offset_by = Duration::from_secs(u64::from(hours) * 3600 + u64::from(minutes) * 60);
    match offset.starts_with('-') {
        true => local.checked_add(offset_by),
        false => local.checked_sub(offset_by),
    }
}

fn is_status(error: &Bollard, status: u16) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code, .. } if *status_code == status)
}

fn tolerate(result: Result<(), Bollard>, fine: &[u16], what: &str) -> Result<()> {
    match result {
        Err(error) if !fine.iter().any(|status| is_status(&error, *status)) => {
            Err(failed(what, &error))
        }
        _ => Ok(()),
    }
}

fn failed(what: &str, error: &Bollard) -> Error {
    let why = plain(error);
    let silent = causes(error).any(|cause| cause.is::<Error>());
    let who = if silent {
        "the engine does not answer: "
    } else {
        ""
    };
    Error::failed(format!("failed to {what}: {who}{why}"))
}

/// An engine's error in one line.
fn plain(error: &Bollard) -> String {
    match error {
        Bollard::DockerResponseServerError { message, .. } => message.trim().replace('\n', " "),
        Bollard::RequestTimeoutError => "the engine does not answer in time".to_owned(),
        other => {
            let last = causes(other).last();
            last.map_or_else(|| other.to_string(), ToString::to_string)
                .replace('\n', " ")
        }
    }
}

/// What an error came of, outermost first.
fn causes(error: &Bollard) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

impl HealthCheck {
    /// `Config.Healthcheck` of an inspected container; `None` where it has none or `NONE`.
    pub(crate) fn of(config: &bollard::models::HealthConfig) -> Option<Self> {
        let nanos = |value: Option<i64>, default: u64| match value {
            Some(nanos) if nanos > 0 => Duration::from_nanos(nanos as u64),
            _ => Duration::from_secs(default),
        };
        let test = config.test.clone()?;
        let command = match test.first().map(String::as_str)? {
            "CMD" => test[1..].to_vec(),
            "CMD-SHELL" => ["/bin/sh", "-c"]
                .into_iter()
                .map(str::to_owned)
                .chain(test[1..].iter().cloned())
                .collect(),
            _ => return None,
        };
        Some(Self {
            command,
            interval: nanos(config.interval, 30),
            timeout: nanos(config.timeout, 30),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::sync::{Mutex, PoisonError};

    use tokio::{net::UnixListener, time::Instant};

    use super::*;
    use crate::{
        arbitrary::mutated_text,
        event::{Event, Scope, Sink},
    };

    /// Keeps the notices, and when each came.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<(Instant, String)>>>);

    impl Sink for Heard {
        fn event(&mut self, _: std::time::SystemTime, _: &Scope, event: &Event) {
            if let Event::Notice { text } = event {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.push((Instant::now(), text.clone()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_accepts_and_never_answers_is_named_after_two_seconds_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let heard = Heard::default();
        let events = Events::new(vec![Box::new(heard.clone())]);
        let began = Instant::now();
        let error = Engine::connect(Endpoint::Unix(path.clone()), &events).await;
        assert!(error.is_err_and(|error| error.message.contains("does not answer")));
        let heard = heard.0.lock().unwrap().clone();
        let text = format!("waiting for the Docker engine at unix://{}", path.display());
        assert_eq!(heard, [(began + SILENCE, text)]);
    }

    #[test]
    fn changes_and_events_may_take_their_time() {
        assert!(!is_patient(&Method::GET, "/v1.41/containers/json"));
        assert!(!is_patient(&Method::HEAD, "/_ping"));
        assert!(is_patient(&Method::POST, "/containers/a/stop"));
        assert!(is_patient(&Method::GET, "/v1.41/events"));
    }

    #[test]
    fn a_time_with_an_offset_is_the_same_instant_as_in_utc() {
        let utc = instant("2026-11-25T08:26:11.5Z").unwrap();
        for same in ["2026-11-25T10:26:11.5+02:00", "2026-11-25T02:56:11.5-05:30"] {
            assert_eq!(instant(same), Some(utc), "{same}");
        }
        assert_eq!(instant("soon"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_an_instant_or_none(text in mutated_text("2026-11-25T10:26:11.5+02:00")) {
            instant(&text);
        }
    }

    #[test]
    fn an_offset_that_no_place_has_is_no_instant() {
        assert_eq!(
            instant("2026-11-25T10:26:11.5+18446744073709551615:00"),
            None
        );
    }
}
