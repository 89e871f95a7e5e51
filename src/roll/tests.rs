//! What a rollout asks the engine before its first step, and what a plan asks it.

use std::collections::BTreeMap;

use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use url::form_urlencoded;

use super::{Ended, Held, Prepared, Wanted, one_shot::Progress, roll, with_next};
use crate::{
    check::Check,
    compose::{self, Compose},
    context::{Beside, Purpose, RunContext},
    docker::{
        engine::Engine,
        http::{Body, json as answer, refusal},
    },
    error::{Error, Outcome},
    event::{Events, Plan, PlannedStep, ServiceResult},
    fake_engine::FakeEngine,
    here::Here,
    model::label,
    namespace,
    proxy::landscape::Landscape,
    settings::Partial,
    state::revisions::Revision,
};

const NETWORK: &str = "shop_default";

const PROJECT: &str = "name: shop
networks: {default: {name: shop_default}}
services:
  web: {image: web, networks: {default: null}, x-rollout: {proxy: none}}
  site: {image: site, networks: {default: null}, labels: {traefik.enable: 'true'}}
  api: {image: api, networks: {default: null}, x-rollout: {proxy: none}, depends_on: {web: {condition: service_started}}}
  job: {image: job, networks: {default: null}, ports: [{target: 80, published: '80'}]}
  late: {image: late, depends_on: {job: {condition: service_completed_successfully, required: true}}}
";

/// A container as both a list and an inspect have it.
fn container(name: &str, network: &str, labels: &Value) -> Value {
    json!({
        "Id": name,
        "Names": [format!("/{name}")],
        "Name": format!("/{name}"),
        "Image": "sha256:1",
        "Labels": labels,
        "State": "running",
        "NetworkSettings": {"Networks": {network: {}}},
    })
}

fn replica(service: &str) -> Value {
    let labels = json!({
        label::COMPOSE_PROJECT: "shop",
        label::COMPOSE_SERVICE: service,
        label::COMPOSE_ONEOFF: "False",
        label::COMPOSE_NUMBER: "1",
    });
    container(&format!("shop-{service}-1"), NETWORK, &labels)
}

/// A replica of each service, a Traefik beside them, and other containers that have nothing to do with them.
fn containers(unrelated: usize) -> Vec<Value> {
    let mut traefik = container("edge", NETWORK, &json!({}));
    traefik["Command"] = "traefik --providers.docker=true".into();
    let mut all = vec![replica("web"), replica("api"), traefik];
    let others =
        (0..unrelated).map(|at| container(&format!("other-{at}"), "elsewhere", &json!({})));
    all.extend(others);
    all
}

/// The containers that have the labels of a filter.
fn listed(all: &[Value], query: &str) -> Vec<Value> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let filters = pairs.find(|(key, _)| key == "filters");
    let filters: Value = filters.map_or(Value::Null, |(_, text)| {
        serde_json::from_str(&text).unwrap()
    });
    let wanted: Vec<&str> = filters["label"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let has = |own: &Value, wanted: &str| match wanted.split_once('=') {
        Some((key, value)) => own["Labels"][key] == value,
        None => own["Labels"].get(wanted).is_some(),
    };
    let admitted = all
        .iter()
        .filter(|own| wanted.iter().all(|label| has(own, label)));
    admitted.cloned().collect()
}

/// Whether a container has the name in a query.
fn is_name(own: &Value, query: &str) -> bool {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.any(|(key, name)| key == "name" && own["Id"] == *name)
}

fn inspected(own: &Value) -> Value {
    let mut own = own.clone();
    own["Config"] = json!({"Labels": own["Labels"], "Image": "web"});
    own["State"] = json!({"Status": "running", "Running": true});
    own["Path"] = "traefik".into();
    own["Args"] = json!(["--providers.docker=true"]);
    own
}

fn table(all: &[Value], method: &str, path: &str, query: &str) -> Response<Body> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, &parts[..]) {
        ("GET", ["version"]) => answer(StatusCode::OK, &json!({"ApiVersion": "1.41"})),
        ("GET", ["info"]) => answer(
            StatusCode::OK,
            &json!({"SystemTime": "2026-01-01T00:00:00Z"}),
        ),
        ("GET", ["containers", "json"]) => answer(StatusCode::OK, &json!(listed(all, query))),
        ("GET", ["containers", id, "json"]) => match all.iter().find(|own| own["Id"] == *id) {
            Some(own) if own["State"] != "removing" => answer(StatusCode::OK, &inspected(own)),
            _ => refusal(StatusCode::NOT_FOUND, "No such container"),
        },
        ("GET", ["images", name, "json"]) => {
            let labels = json!({label::HELPER: namespace::PROTOCOL});
            let image = json!({"Id": format!("sha256:{name}"), "Config": {"Labels": labels}});
            answer(StatusCode::OK, &image)
        }
        ("POST", ["containers", "create"]) if all.iter().any(|own| is_name(own, query)) => {
            refusal(StatusCode::CONFLICT, "The container name is already in use")
        }
        ("POST", ["containers", "create"]) => {
            answer(StatusCode::CREATED, &json!({"Id": "made", "Warnings": []}))
        }
        ("GET", _) => refusal(StatusCode::NOT_FOUND, "No such thing"),
        _ => answer(StatusCode::OK, &json!({})),
    }
}

/// The hash that Compose gives every service.
const HASH: &str = "2f";
const COMPOSE: &str = "cat >/dev/null; echo web 2f; echo api 2f; echo job 2f";

/// An engine, and what a command on it works with.
pub struct Bench {
    pub fake: FakeEngine,
    pub engine: Engine,
    pub compose: Compose,
    pub project: compose::Project,
    events: Events,
}

impl Bench {
    pub async fn with(unrelated: usize) -> Self {
        Self::of(containers(unrelated)).await
    }

    /// An engine on which `web` is up to date, and locked by another process or not.
    pub async fn up_to_date(is_locked: bool) -> Self {
        let labels = [(label::COMPOSE_HASH, HASH)];
        let mut all = vec![replica_of("a", "sha256:web", &labels)];
        let lock = || container("rollout-lock.shop.web", "elsewhere", &json!({}));
        all.extend(is_locked.then(lock));
        Self::of(all).await
    }

    async fn of(all: Vec<Value>) -> Self {
        let fake = FakeEngine::start(move |method, path, query| table(&all, method, path, query));
        let events = Events::new(Vec::new());
        Self {
            engine: Engine::connect(fake.endpoint(), &events).await.unwrap(),
            compose: Compose::scripted(fake.endpoint(), COMPOSE).await,
            project: compose::resolved(PROJECT).unwrap(),
            events,
            fake,
        }
    }

    fn run(&self) -> RunContext<'_> {
        let project = (&self.compose, &self.project);
        RunContext::new(&self.engine, project, &self.events)
    }

    async fn prepare(&self, service: &str, landscape: &mut Landscape) -> Prepared<'_> {
        let (run, flags) = (self.run(), Partial::default());
        let prepared = run.prepare(service, &flags, Beside::default(), Purpose::Roll, landscape);
        prepared.await.unwrap()
    }

    /// What was read since the last time: paths with their queries, in order of the alphabet.
    fn reads(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.fake.asked.lock().unwrap());
        let reads = asked.into_iter().filter(|(method, ..)| method == "GET");
        // A subscription, whose moment is its own task's.
        let reads = reads.filter(|(_, path, _)| !path.contains("/events"));
        let mut reads: Vec<String> = reads.map(|(_, path, _)| path).collect();
        reads.sort();
        reads
    }
}

/// What a rollout of `web` reads until nothing is unfinished and it asks Compose for the version that is wanted.
async fn reads_before_the_first_step(unrelated: usize) -> Vec<String> {
    let bench = Bench::with(unrelated).await;
    let mut landscape = bench.run().landscape().await.unwrap();
    let prepared = bench.prepare("web", &mut landscape).await;
    let (_sender, interrupted) = watch::channel(false);
    let helper_image = prepared.helper_image(&landscape).await.unwrap();
    let lock = prepared.lock(&helper_image, &interrupted).await.unwrap();
    let held = Held {
        lock: &lock,
        helper_image,
        interrupted,
        group: None,
    };
    let locked = prepared.locked(held, &mut landscape).await.unwrap();
    let settled = locked.settle_unfinished().await.unwrap();
    assert_eq!(settled.replicas.len(), 1);
    bench.reads()
}

#[tokio::test]
async fn a_rollout_reads_the_same_with_no_and_with_two_hundred_unrelated_containers() {
    let alone = reads_before_the_first_step(0).await;
    let web = |path: &&String| path.contains("shop-web-1/json");
    // Once before the lock, and once as it is under the lock.
    assert_eq!(alone.iter().filter(web).count(), 2, "{alone:#?}");
    assert_eq!(alone, reads_before_the_first_step(200).await);
}

/// What is read of a service with labels for the Traefik, whose API is off.
async fn reads_before_a_refusal(unrelated: usize) -> Vec<String> {
    let bench = Bench::with(unrelated).await;
    let (run, flags) = (bench.run(), Partial::default());
    let mut landscape = run.landscape().await.unwrap();
    let refused = run.prepare(
        "site",
        &flags,
        Beside::default(),
        Purpose::Roll,
        &mut landscape,
    );
    let error = refused.await.map(drop).unwrap_err();
    assert!(
        error
            .message
            .contains("does not read through a socket proxy"),
        "{error}"
    );
    bench.reads()
}

#[tokio::test]
async fn a_refusal_by_what_is_in_front_reads_the_same_with_two_hundred_unrelated_containers() {
    let alone = reads_before_a_refusal(0).await;
    assert!(
        alone.iter().any(|path| path.contains("/edge/json")),
        "{alone:#?}"
    );
    assert_eq!(alone, reads_before_a_refusal(200).await);
}

#[tokio::test]
async fn a_name_is_taken_by_another_container_and_not_by_a_replica_that_is_being_removed() {
    let mut gone = replica("web");
    gone["State"] = "removing".into();
    let bench = Bench::of(vec![gone]).await;
    let mut landscape = bench.run().landscape().await.unwrap();
    let prepared = bench.prepare("web", &mut landscape).await;
    assert!(prepared.context.olds.is_empty());

    let mut other = replica("web");
    other["Labels"][label::COMPOSE_SERVICE] = "other".into();
    let bench = Bench::of(vec![other]).await;
    let (run, flags) = (bench.run(), Partial::default());
    let mut landscape = run.landscape().await.unwrap();
    let refused = run.prepare(
        "web",
        &flags,
        Beside::default(),
        Purpose::Roll,
        &mut landscape,
    );
    let error = refused.await.map(drop).unwrap_err();
    assert!(
        error.message.starts_with("the name shop-web-1 is taken"),
        "{error}"
    );
}

#[tokio::test]
async fn a_one_shot_service_is_prepared_whatever_is_in_front_and_needs_no_second_set() {
    let bench = Bench::with(0).await;
    let mut landscape = bench.run().landscape().await.unwrap();
    let prepared = bench.prepare("job", &mut landscape).await;
    assert!(prepared.context.runs_once && !prepared.proxy.routes());
    let reads = bench.reads();
    let asked = reads.iter().any(|path| path.contains("/edge/json"));
    assert!(!asked, "{reads:#?}");
}

#[tokio::test]
async fn a_service_that_cannot_run_twice_says_so_in_its_refusal() {
    let mut bench = Bench::with(0).await;
    let twice = PROJECT.replace("service_completed_successfully", "service_started");
    bench.project = compose::resolved(&twice).unwrap();
    let (run, flags) = (bench.run(), Partial::default());
    let mut landscape = run.landscape().await.unwrap();
    let refused = run.prepare(
        "job",
        &flags,
        Beside::default(),
        Purpose::Roll,
        &mut landscape,
    );
    let error = refused.await.map(drop).unwrap_err();
    assert_eq!(error.check, Some(Check::HostPorts), "{error:?}");
}

#[tokio::test]
async fn every_further_service_of_a_run_reads_its_own_replicas_and_image_alone() {
    let bench = Bench::with(3).await;
    let mut landscape = bench.run().landscape().await.unwrap();
    bench.prepare("web", &mut landscape).await;
    let first = bench.reads();
    assert!(
        first.iter().any(|path| path.contains("/edge/json")),
        "{first:#?}"
    );
    let prepared = bench.prepare("api", &mut landscape).await;
    assert_eq!(prepared.context.dependencies, [("web".to_owned(), 1)]);
    let further = bench.reads();
    let own = ["/containers/shop-api-1/json", "/images/api/json"];
    let is_own = |path: &String| own.iter().any(|own| path.ends_with(own));
    assert!(
        further.len() == 2 && further.iter().all(is_own),
        "{further:#?}"
    );
}

#[test]
fn an_interrupted_run_ends_with_the_command_to_type_next() {
    let again = "rollout undo web --to 3".to_owned();
    let error = with_next(
        Error::interrupted("interrupted"),
        ("web", ""),
        again.clone(),
    );
    assert_eq!(error.hint, Some(again));
}

/// What the status of all services reads, with one landscape.
async fn reads_of_the_status(unrelated: usize) -> Vec<String> {
    let bench = Bench::with(unrelated).await;
    let (run, flags) = (bench.run(), Partial::default());
    let mut landscape = run.landscape().await.unwrap();
    for service in bench.project.services.values() {
        let wanted = Wanted::of("sha256:1");
        let standing = run.standing(service, &flags, &wanted, &mut landscape);
        assert_eq!(standing.await.unwrap().desired, 1);
    }
    bench.reads()
}

#[tokio::test]
async fn the_status_of_a_project_lists_the_containers_once_and_reads_the_same_with_two_hundred_more()
 {
    let alone = reads_of_the_status(0).await;
    let lists = alone
        .iter()
        .filter(|path| path.contains("/containers/json"));
    assert_eq!(lists.count(), 1, "{alone:#?}");
    assert!(
        alone.iter().any(|path| path.contains("shop-web-1/json")),
        "{alone:#?}"
    );
    assert_eq!(alone, reads_of_the_status(200).await);
}

/// A replica of `web` with this id that runs this image and has more labels.
fn replica_of(id: &str, image: &str, more: &[(&str, &str)]) -> Value {
    let mut own = replica("web");
    (own["Id"], own["Image"]) = (id.into(), image.into());
    for (label, value) in more {
        own["Labels"][*label] = (*value).into();
    }
    own
}

/// The plan of `web` over these replicas. It changes nothing on the engine.
async fn plan(replicas: Vec<Value>) -> Plan {
    let bench = Bench::of(replicas).await;
    let mut landscape = bench.run().landscape().await.unwrap();
    let prepared = bench.prepare("web", &mut landscape).await;
    let plan = prepared.preview().await.unwrap();
    assert_eq!(bench.fake.changes(), []);
    plan
}

fn names(steps: &[PlannedStep]) -> Vec<&str> {
    steps.iter().map(|own| own.step).collect()
}

#[tokio::test]
async fn a_plan_reads_alone_and_has_the_steps_the_replicas_and_the_changes() {
    let plan = plan(vec![replica_of(
        "a",
        "sha256:1",
        &[(label::COMPOSE_HASH, "1e")],
    )])
    .await;
    let steps = [
        "pull", "create", "ready", "drain", "stop", "remove", "rename",
    ];
    assert_eq!(names(&plan.steps), steps);
    assert_eq!(
        (plan.created, plan.removed),
        (vec!["shop-web-1".to_owned()], vec!["shop-web-1".to_owned()])
    );
    assert!(!plan.fetches);
    let parts: Vec<&str> = plan.changes.iter().map(|own| own.part).collect();
    // The test's Compose gives every config the same hash.
    assert_eq!(parts, ["image", "config"]);
}

#[tokio::test]
async fn a_plan_of_what_runs_already_has_no_steps_and_a_first_start_has_no_changes() {
    let same = plan(vec![replica_of(
        "a",
        "sha256:web",
        &[(label::COMPOSE_HASH, HASH)],
    )])
    .await;
    assert_eq!((same.steps, same.changes), (Vec::new(), Vec::new()));
    let first = plan(Vec::new()).await;
    assert_eq!(names(&first.steps), ["pull", "create", "ready", "rename"]);
    assert_eq!((first.changes, first.replaces), (Vec::new(), None));
    assert_eq!(first.removed, [""; 0]);
}

#[tokio::test]
async fn an_unfinished_rollout_is_planned_first_and_what_it_leaves_may_be_all() {
    let labels = [
        (label::COMPOSE_HASH, HASH),
        (label::ROLLOUT, "r1"),
        (label::REPLICAS, "1"),
        (label::NAME, "shop-web-1"),
    ];
    let old = replica_of("a", "sha256:1", &[(label::COMPOSE_HASH, "1e")]);
    let mut new = replica_of("b", "sha256:web", &labels);
    new["Name"] = "/shop-web-1.r1".into();
    let plan = plan(vec![old, new]).await;
    let unfinished = plan.unfinished.unwrap();
    assert!(
        unfinished.contains("rollout r1 is unfinished; the next run would finish it"),
        "{unfinished}"
    );
    let steps = ["ready", "drain", "stop", "remove", "rename", "pull"];
    assert_eq!(names(&plan.steps), steps);
    assert_eq!(plan.removed, ["shop-web-1"]);
}

/// What becomes of the recorded revision 1, which is to replace `chosen` while revision 2 with the same content runs; the
/// methods of its changes on the engine.
async fn rolled_back(chosen: u64) -> (Ended, Vec<String>) {
    let labels = [(label::COMPOSE_HASH, HASH), (label::REVISION, "2")];
    let bench = Bench::of(vec![replica_of("a", "sha256:web", &labels)]).await;
    let mut recorded = Revision {
        number: 1,
        hash: HASH.to_owned(),
        ..Revision::default()
    };
    recorded.image.id = "sha256:web".to_owned();
    let run = RunContext {
        back: Some(&recorded),
        replaces: Some(chosen),
        ..bench.run()
    };
    let ended = rolled(run).await;
    let changes = bench.fake.changes().into_iter();
    (ended, changes.map(|(method, ..)| method).collect())
}

/// How a rollout of `web` ends.
async fn rolled(run: RunContext<'_>) -> Ended {
    let mut landscape = run.landscape().await.unwrap();
    let flags = Partial::default();
    let prepared = run.prepare(
        "web",
        &flags,
        Beside::default(),
        Purpose::Roll,
        &mut landscape,
    );
    let prepared = prepared.await.unwrap();
    let (_sender, interrupted) = watch::channel(false);
    let ended = roll(prepared, &mut landscape, interrupted, (None, None));
    ended.await.unwrap()
}

#[tokio::test]
async fn what_another_run_has_rolled_since_is_left_alone_by_one_that_was_to_replace_something_else()
{
    let (ended, changes) = rolled_back(1).await;
    assert_eq!(
        (ended.result, ended.revision),
        (ServiceResult::LeftAlone, Some(2))
    );
    // The lock alone.
    assert_eq!(changes, ["POST", "DELETE"]);
    let (ended, _) = rolled_back(2).await;
    assert_eq!(ended.result, ServiceResult::Unchanged);
}

#[tokio::test]
async fn an_image_other_than_the_one_that_an_agent_has_decided_on_is_left_alone() {
    let bench = Bench::of(vec![replica_of("a", "sha256:1", &[])]).await;
    let run = RunContext {
        decided: Some("sha256:9"),
        ..bench.run()
    };
    assert_eq!(rolled(run).await.result, ServiceResult::LeftAlone);
}

#[tokio::test]
async fn a_plan_ends_with_the_hooks_that_follow_the_rollout() {
    let mut bench = Bench::of(Vec::new()).await;
    let hooks = "{proxy: none, hooks: {post-deploy: {host: 'true'}}}";
    let hooked = PROJECT.replacen("{proxy: none}", hooks, 1);
    bench.project = compose::resolved(&hooked).unwrap();
    let mut landscape = bench.run().landscape().await.unwrap();
    let prepared = bench.prepare("web", &mut landscape).await;
    let plan = prepared.preview().await.unwrap();
    let steps = ["pull", "create", "ready", "rename", "post-deploy"];
    assert_eq!(names(&plan.steps), steps);
}

#[tokio::test]
async fn a_one_shot_service_that_still_runs_with_the_same_version_is_in_progress() {
    let mut job = replica("job");
    job["Image"] = "sha256:job".into();
    for (hash, expected) in [(HASH, Progress::Runs), ("1e", Progress::Open)] {
        job["Labels"][label::COMPOSE_HASH] = hash.into();
        let bench = Bench::of(vec![job.clone()]).await;
        let mut landscape = bench.run().landscape().await.unwrap();
        let prepared = bench.prepare("job", &mut landscape).await;
        let image = prepared.image().await.unwrap().unwrap();
        assert_eq!(prepared.progress(&image).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn what_has_no_effect_on_a_one_shot_service_is_named() {
    let mut bench = Bench::of(Vec::new()).await;
    let given = "x-rollout: {scale: 3, hooks: {failed: {host: 'true'}}}, ports:";
    bench.project = compose::resolved(&PROJECT.replacen("ports:", given, 1)).unwrap();
    let mut landscape = bench.run().landscape().await.unwrap();
    let prepared = bench.prepare("job", &mut landscape).await;
    let notice = "job is a one-shot service, which Compose itself runs; without effect on it: scale, x-rollout.hooks";
    assert_eq!(prepared.notices, [notice]);
    assert_eq!(prepared.context.replicas, 1);
}

#[tokio::test]
async fn a_folder_that_is_mounted_at_another_path_here_is_a_warning_of_the_rollout() {
    let mut bench = Bench::of(Vec::new()).await;
    let bound = "web: {volumes: [{type: bind, source: /project/html, target: /www}],";
    bench.project = compose::resolved(&PROJECT.replacen("web: {", bound, 1)).unwrap();
    bench.project.directory = "/project".into();
    let mut landscape = bench.run().landscape().await.unwrap();
    let prepared = bench.prepare("web", &mut landscape).await;
    let elsewhere = Here::of(&[("/project", Some("/srv/shop"))]);
    let warnings = prepared.warnings(&elsewhere).await;
    let start = "/www would be an empty folder: this program runs in a container, and its /project/html is \
                 /srv/shop/html on the host; run this container with the project at the path";
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with(start), "{warnings:?}");
    let same = Here::of(&[("/project", Some("/project"))]);
    assert_eq!(prepared.warnings(&same).await, [""; 0]);
}

/// A service whose image has this label, prepared before the image is there and judged again afterwards, beside a container
/// of another project.
async fn judged_with(label: (&str, &str)) -> crate::error::Result<()> {
    let theirs = json!({
        label::COMPOSE_PROJECT: "blog",
        label::COMPOSE_SERVICE: "web",
        "traefik.enable": "true",
        "traefik.http.middlewares.gz.compress": "true",
    });
    let mut all = containers(0);
    all.push(container("blog-web-1", NETWORK, &theirs));
    let bench = Bench::of(all).await;
    let flags = Partial::of("ignore", "switch").or(Partial::of("pull", "always"));
    let mut landscape = bench.run().landscape().await.unwrap();
    let run = bench.run();
    let prepared = run.prepare(
        "site",
        &flags,
        Beside::default(),
        Purpose::Roll,
        &mut landscape,
    );
    let mut prepared = prepared.await.unwrap();
    assert!(!prepared.lacked_image());
    let mut image = run.engine.image("site").await.unwrap().unwrap();
    image.labels.insert(label.0.to_owned(), label.1.to_owned());
    prepared.context.image = Some(image);
    assert!(prepared.lacked_image());
    prepared
        .judge_again(BTreeMap::new(), &mut landscape)
        .await?;
    assert!(!prepared.lacked_image());
    Ok(())
}

#[tokio::test]
async fn the_labels_of_an_image_count_once_it_is_there() {
    let key = "traefik.http.middlewares.gz.compress";
    judged_with((key, "true")).await.unwrap();
    let error = judged_with((key, "false")).await.unwrap_err();
    assert_eq!(
        error.message,
        "shop-site-1 and blog-web-1 define middleware gz (compress) differently: Traefik drops it for both"
    );
    assert_eq!(error.outcome, Outcome::Refused);
}

#[tokio::test]
async fn an_image_that_was_fetched_ahead_is_not_fetched_again() {
    let mut bench = Bench::with(0).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = format!("echo \"$0 $*\" >>{}", log.display());
    bench.compose = Compose::scripted(bench.fake.endpoint(), &script).await;
    let (run, flags) = (bench.run(), Partial::of("pull", "always"));
    let mut landscape = run.landscape().await.unwrap();
    let prepared = run.prepare(
        "web",
        &flags,
        Beside::default(),
        Purpose::Roll,
        &mut landscape,
    );
    let mut prepared = prepared.await.unwrap();
    assert!(prepared.context.image.is_none());
    prepared.fetch_ahead().await.unwrap();
    assert!(prepared.context.image.is_some());
    let mut phases = BTreeMap::new();
    let again = run.fetch_image(&prepared.context, &mut phases);
    again.await.unwrap();
    let asked = std::fs::read_to_string(&log).unwrap();
    let pulls = asked.lines().filter(|line| line.contains("pull"));
    assert_eq!(pulls.count(), 1, "{asked}");
}
