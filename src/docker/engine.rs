//! A client of the Docker engine: it reads and changes containers, images and volumes. Other modules use bollard's types
//! only.

mod about;
mod carry;
mod files;
mod images;
mod output;
mod own;
mod read;
mod session;
pub mod shared;
pub mod summary;
pub mod swarm;
mod usage;

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
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
use sha2::{Digest, Sha256};
use tokio::time::timeout;

pub use self::{
    about::{About, Memory},
    files::ContainerStat,
    images::Stage,
    own::Mounted,
    session::{PROGRAM, Session, own_labels},
};
use crate::{
    docker::http::{Connector, Endpoint},
    error::{Error, Result},
    event::Events,
    model::{ContainerId, HealthCheck, Replica, ServiceKey, label},
    namespace, retry,
};

/// For a call that changes something, in seconds.
const CALL_TIMEOUT: u64 = 120;
/// For a call that only reads.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A read call that takes longer is announced.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(2);
/// Number of log lines that a failure shows.
const LOG_LINES: &str = "15";
/// How long a call is repeated whose answer cannot be parsed.
const REPARSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an ended helper may block the removal of a container.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long another removal of the same container may take.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to one engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    endpoint: Endpoint,
}

/// A client that dials through [`Connector`], also for upgrades (attach, exec). A slow engine is announced once.
fn client_of(endpoint: Endpoint, events: &Events) -> Result<Docker, Bollard> {
    let text = format!("waiting for the Docker engine at {endpoint}");
    let client = Client::builder(TokioExecutor::new()).build(Connector(endpoint));
    let (events, announced) = (events.clone(), Arc::new(AtomicBool::new(false)));
    Docker::connect_with_custom_transport(
        move |request: BollardRequest| {
            let client: Client<Connector, _> = client.clone();
            let (text, events, announced) = (text.clone(), events.clone(), announced.clone());
            let may_take_long = may_take_long(request.method(), request.uri().path());
            async move {
                let mut answer = pin!(client.request(request));
                if !may_take_long {
                    match timeout(ANNOUNCE_AFTER, &mut answer).await {
                        Ok(answer) => return answer.map_err(Bollard::from),
                        Err(_) if announced.swap(true, Ordering::Relaxed) => {}
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

/// Changes may take long, and so may Podman's event stream: its answer begins with the first event.
fn may_take_long(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD) || path.ends_with("/events")
}

/// The dialer's error in one line, with the dialer's hint.
fn unreachable(endpoint: &Endpoint, error: &Bollard) -> Error {
    let dialled = causes(error).find_map(|cause| cause.downcast_ref::<Error>());
    let hint = dialled.and_then(|dialled| dialled.hint.clone());
    let why = plain(error);
    // Go's answer to HTTP on a port for TLS (net/http, `Server.serve`).
    let wants_tls = why.contains("HTTP request to an HTTPS server");
    Error::refused(format!("the Docker engine at {endpoint} does not answer: {why}")).hint(
        match hint {
            Some(hint) => hint,
            None if wants_tls => "it requires TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory of its certificates".to_owned(),
            None => "start it, or name another one with -H, --context or DOCKER_HOST".to_owned(),
        },
    )
}

/// Repeats a call for up to `total` while its error is a temporary one.
async fn again<T>(
    total: Duration,
    is_temporary: fn(&Bollard) -> bool,
    ask: impl AsyncFn() -> Result<T, Bollard>,
) -> Result<T, Bollard> {
    let answered = retry::for_a_while(total, async || match ask().await {
        Err(error) if is_temporary(&error) => Err(error),
        other => Ok(other),
    });
    answered.await?
}

/// Podman before 5.6 reports the state `stopped` while a container ends, which Docker's API does not have.
fn is_unparsable(error: &Bollard) -> bool {
    matches!(error, Bollard::JsonDataError { .. })
}

/// Podman removes a container only after every container that joined its network.
fn is_joined(error: &Bollard) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code: 500, message } if message.contains("has dependent containers"))
}

/// The result of a command in a container.
#[derive(Clone, Debug)]
pub struct ExecOutcome {
    pub code: i64,
    /// Standard output and standard error.
    pub output: String,
}

/// A command to run in a container, as Compose's `pre_stop` and docker-rollout's hook define it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecCommand {
    pub command: Vec<String>,
    /// The container's own user where `None`.
    pub user: Option<String>,
    /// Runs with all capabilities.
    pub privileged: bool,
    /// The container's own directory where `None`.
    pub working_dir: Option<String>,
    /// `KEY=value`, added to the container's own.
    pub environment: Vec<String>,
}

/// The parts of an image that a rollout uses.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// `sha256:…`.
    pub id: String,
    /// `repository@sha256:…`, one per registry.
    pub digests: Vec<String>,
    /// Paths of the volumes that it declares.
    pub volumes: Vec<String>,
    /// Exposed ports, such as `80/tcp`.
    pub ports: Vec<String>,
    /// Its containers inherit them.
    pub labels: BTreeMap<String, String>,
    /// Its containers inherit it unless they have their own.
    pub check: Option<HealthConfig>,
    /// The whole config that its containers inherit.
    pub config: serde_json::Value,
    /// Of its layers and its config: the same for a list that is pushed again with the same image for this platform. Empty
    /// where the engine does not name its layers.
    pub content: String,
}

impl Engine {
    /// Connects and negotiates an API version; refused with one line if the engine does not answer.
    pub async fn connect(endpoint: Endpoint, events: &Events) -> Result<Self> {
        let docker = match client_of(endpoint.clone(), events) {
            Ok(docker) => docker.negotiate_version().await,
            Err(error) => Err(error),
        };
        match docker {
            Ok(docker) => Ok(Self { docker, endpoint }),
            Err(error) => Err(unreachable(&endpoint, &error)),
        }
    }

    /// A client that never sends a request.
    #[cfg(test)]
    pub fn unconnected(endpoint: Endpoint) -> Self {
        let docker = client_of(endpoint.clone(), &Events::new(Vec::new())).unwrap();
        Self { docker, endpoint }
    }

    /// The client for calls that only read.
    fn reader(&self) -> Docker {
        self.docker.clone().with_timeout(ANSWER_TIMEOUT)
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// True if the engine runs on this machine, so that its containers' addresses and published ports can be reached.
    ///
    /// A unix socket alone is no proof: it may lead into a virtual machine or through a tunnel.
    pub async fn is_here(&self) -> bool {
        let local = matches!(self.endpoint, Endpoint::Unix(_));
        let info = match local {
            true => self.reader().info().await.ok(),
            false => None,
        };
        let own = nix::unistd::gethostname().ok();
        let own = own.and_then(|name| name.into_string().ok());
        own.is_some() && info.and_then(|info| info.name) == own
    }

    /// Every replica of a service in any state, without one-offs and hooks, in the order of their numbers.
    pub async fn replicas(&self, key: &ServiceKey) -> Result<Vec<Replica>> {
        let labels = vec![
            format!("{}={}", label::COMPOSE_PROJECT, key.project),
            format!("{}={}", label::COMPOSE_SERVICE, key.service),
            format!("{}=False", label::COMPOSE_ONEOFF),
        ];
        let listed = self.matching(labels, true).await?;
        self.replicas_among(&listed, key).await
    }

    /// As [`Self::replicas`], from a list of containers.
    pub async fn replicas_among(
        &self,
        listed: &[ContainerSummary],
        key: &ServiceKey,
    ) -> Result<Vec<Replica>> {
        let mut replicas = self.inspected(shared::of_service(listed, key)).await?;
        replicas.sort_by_key(|replica| {
            let number = replica.labels.get(label::COMPOSE_NUMBER);
            let number = number.and_then(|n| n.parse::<u32>().ok());
            (number, replica.name.clone())
        });
        Ok(replicas)
    }

    /// Inspects listed containers; one that was removed since is left out.
    async fn inspected<'a>(
        &self,
        listed: impl Iterator<Item = &'a ContainerSummary>,
    ) -> Result<Vec<Replica>> {
        let ids = listed.filter_map(|own| own.id.as_deref());
        let inspected = try_join_all(ids.map(|id| self.inspect(id))).await?;
        let inspected = inspected.into_iter().flatten();
        Ok(inspected.filter_map(read::replica).collect())
    }

    /// Lists the containers that have all of these labels.
    pub async fn matching(&self, labels: Vec<String>, all: bool) -> Result<Vec<ContainerSummary>> {
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = query::ListContainersOptionsBuilder::default();
        self.list(options.all(all).filters(&filters)).await
    }

    /// Lists running containers. One in another container's network namespace is shown with that container's networks.
    pub async fn running(&self) -> Result<Vec<ContainerSummary>> {
        let running = self.list(query::ListContainersOptionsBuilder::default());
        Ok(shared::with_networks(running.await?))
    }

    /// Lists containers in any state.
    pub async fn containers(&self) -> Result<Vec<ContainerSummary>> {
        self.list(query::ListContainersOptionsBuilder::default().all(true))
            .await
    }

    async fn list(
        &self,
        options: query::ListContainersOptionsBuilder,
    ) -> Result<Vec<ContainerSummary>> {
        let options = options.build();
        let asked = async || self.reader().list_containers(Some(options.clone())).await;
        let list = again(REPARSE_TIMEOUT, is_unparsable, asked).await;
        list.map_err(|error| failed("list containers", &error))
    }

    /// `None` where the container does not exist.
    pub async fn inspect(&self, id: &str) -> Result<Option<ContainerInspectResponse>> {
        let asked = async || self.reader().inspect_container(id, None).await;
        let inspected = again(REPARSE_TIMEOUT, is_unparsable, asked).await;
        found(inspected, "inspect a container")
    }

    /// `None` where the replica does not exist any more.
    pub async fn replica(&self, id: &ContainerId) -> Result<Option<Replica>> {
        Ok(self.inspect(&id.0).await?.and_then(read::replica))
    }

    /// Inspects an image by reference or id; `None` where the engine does not have it.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let inspected = self.reader().inspect_image(reference).await;
        Ok(found(inspected, "inspect an image")?.map(image_of))
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

    /// Sends the container's stop signal and waits up to its grace period. Succeeds if it does not run.
    pub async fn stop(&self, id: &ContainerId) -> Result<()> {
        if let Ok(Some(replica)) = self.replica(id).await
            && replica.run == crate::model::Run::Paused
        {
            self.docker
                .unpause_container(&id.0)
                .await
                .map_err(|error| failed("unpause a container", &error))?;
        }
        // The engine answers only after the container has stopped, so the grace period adds to the timeout.
        let timeout = self.grace(id).await + Duration::from_secs(CALL_TIMEOUT);
        tolerate(
            self.docker
                .clone()
                .with_timeout(timeout)
                .stop_container(&id.0, Some(query::StopContainerOptions::default()))
                .await,
            &[304, 404],
            "stop a container",
        )
    }

    /// Starts an existing container. Succeeds if it runs.
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

    /// Removes a stopped container but keeps its anonymous volumes. Succeeds if it does not exist.
    pub async fn remove(&self, id: &ContainerId) -> Result<()> {
        let options = query::RemoveContainerOptionsBuilder::default()
            .force(false)
            .v(false)
            .build();
        let removed = async || {
            let options = Some(options.clone());
            self.docker.remove_container(&id.0, options).await
        };
        match again(HELPER_TIMEOUT, is_joined, removed).await {
            // 409: another removal is in progress.
            Err(error) if is_status(&error, 409) => {
                let _ = timeout(REMOVAL_TIMEOUT, self.was_removed(&id.0)).await;
                match self.inspect(&id.0).await? {
                    None => Ok(()),
                    Some(_) => Err(Error::failed(format!(
                        "container {id} could not be removed"
                    ))),
                }
            }
            other => tolerate(other, &[404], "remove a container"),
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

    /// The last lines that a container logged on both streams, as many as a failure shows.
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

    /// The engine's clock in milliseconds since 1970 (`/info` SystemTime), or this machine's clock.
    pub async fn clock_ms(&self) -> u64 {
        match self.own_clock_ms().await {
            Some(ms) => ms,
            None => UNIX_EPOCH
                .elapsed()
                .map_or(0, |since| since.as_millis() as u64),
        }
    }

    /// The engine's clock; `None` where the engine does not report it.
    pub async fn own_clock_ms(&self) -> Option<u64> {
        let time = self.reader().info().await.ok()?.system_time?;
        Some(since_1970(&time)?.as_millis() as u64)
    }

    /// Removes one of our own containers, also while it runs.
    pub async fn discard(&self, id: &str) -> Result<()> {
        self.discards(id).await.map(drop)
    }

    /// The same; whether this call has removed it, which is true of only one of several.
    pub async fn discards(&self, id: &str) -> Result<bool> {
        let options = query::RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        let removed = self.docker.remove_container(id, Some(options)).await;
        let is_removed = removed.is_ok();
        tolerate(removed, &[404, 409], "remove a container").map(|()| is_removed)
    }

    /// Imports the image of helpers from a tar archive of its root file system.
    pub async fn import_image(&self, tar: Vec<u8>, repo: &str, tag: &str) -> Result<()> {
        let protocol = format!("LABEL {}={}", label::HELPER, namespace::PROTOCOL);
        let options = query::CreateImageOptionsBuilder::default()
            .from_src("-")
            // Podman before 4.6 ignores the separate parameter for the tag.
            .repo(&format!("{repo}:{tag}"))
            .changes(vec!["ENTRYPOINT [\"/rollout\"]".to_owned(), protocol])
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
    // Plain values always serialize.
    let whole = serde_json::to_value(&config).unwrap_or_default();
    let layers = image.root_fs.and_then(|own| own.layers);
    Image {
        content: layers.map_or_else(String::new, |layers| content(&layers, &whole)),
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

fn content(layers: &[String], config: &serde_json::Value) -> String {
    let mut whole = serde_json::json!([layers, config]);
    whole.sort_all_objects();
    let digest = Sha256::digest(whole.to_string());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads RFC 3339 with an offset, as the engine writes it.
fn since_1970(time: &str) -> Option<Duration> {
    let read = time.parse::<jiff::Timestamp>().ok()?;
    read.as_duration().try_into().ok()
}

fn is_status(error: &Bollard, status: u16) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code, .. } if *status_code == status)
}

/// `None` where the engine has nothing of that name.
fn found<T>(answer: Result<T, Bollard>, what: &str) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_status(&error, 404) => Ok(None),
        Err(error) => Err(failed(what, &error)),
    }
}

/// Treats errors with one of the `accepted` status codes as success.
fn tolerate(result: Result<(), Bollard>, accepted: &[u16], what: &str) -> Result<()> {
    match result {
        Err(error) if !accepted.iter().any(|status| is_status(&error, *status)) => {
            Err(failed(what, &error))
        }
        _ => Ok(()),
    }
}

fn failed(what: &str, error: &Bollard) -> Error {
    let why = plain(error);
    let not_connected = causes(error).any(|cause| cause.is::<Error>());
    let prefix = if not_connected {
        "the engine does not answer: "
    } else {
        ""
    };
    Error::failed(format!("failed to {what}: {prefix}{why}"))
}

/// The engine's error in one line.
fn plain(error: &Bollard) -> String {
    match error {
        Bollard::DockerResponseServerError { message, .. }
        | Bollard::DockerStreamError { error: message } => message.trim().replace('\n', " "),
        Bollard::RequestTimeoutError => "the engine does not answer in time".to_owned(),
        other => {
            let last = causes(other).last();
            last.map_or_else(|| other.to_string(), ToString::to_string)
                .replace('\n', " ")
        }
    }
}

/// The causes of an error, outermost first.
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

    /// Records each notice with its time.
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<(Instant, String)>>>);

    impl Sink for Recorder {
        fn event(&mut self, _: std::time::SystemTime, _: &Scope, event: &Event) {
            if let Event::Notice { text } = event {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.push((Instant::now(), text.clone()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_never_answers_is_announced_once_after_two_seconds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let recorder = Recorder::default();
        let events = Events::new(vec![Box::new(recorder.clone())]);
        let began = Instant::now();
        let error = Engine::connect(Endpoint::Unix(path.clone()), &events).await;
        assert!(error.is_err_and(|error| error.message.contains("does not answer")));
        let notices = recorder.0.lock().unwrap().clone();
        let text = format!("waiting for the Docker engine at unix://{}", path.display());
        assert_eq!(notices, [(began + ANNOUNCE_AFTER, text)]);
    }

    #[test]
    fn changes_and_events_may_take_long() {
        assert!(!may_take_long(&Method::GET, "/v1.41/containers/json"));
        assert!(!may_take_long(&Method::HEAD, "/_ping"));
        assert!(may_take_long(&Method::POST, "/containers/a/stop"));
        assert!(may_take_long(&Method::GET, "/v1.41/events"));
    }

    #[test]
    fn a_time_with_an_offset_is_the_same_instant_as_in_utc() {
        let utc = since_1970("2026-11-25T08:26:11.5Z").unwrap();
        for same in ["2026-11-25T10:26:11.5+02:00", "2026-11-25T02:56:11.5-05:30"] {
            assert_eq!(since_1970(same), Some(utc), "{same}");
        }
        assert_eq!(since_1970("soon"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_an_instant_or_none(text in mutated_text("2026-11-25T10:26:11.5+02:00")) {
            since_1970(&text);
        }
    }
}
