//! The view between a client and a fake engine, over real sockets.

use std::collections::BTreeMap;

use hyper::{Request, Response, StatusCode, body::Incoming};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    rewrite::{LABEL_PROJECT, LABEL_ROLLOUT, LABEL_SERVICE},
    *,
};
use crate::{
    docker::http::{Body, Endpoint, full, json, read_whole, refusal},
    fake_engine::FakeEngine,
    model::label::COMPOSE_NUMBER,
};

struct Scene {
    engine: FakeEngine,
    view: View,
    client: Upstream,
}

/// The answers of an engine with one old and one new replica.
fn old_and_new(method: &str, path: &str, _: &str) -> Response<Body> {
    match (method, path) {
        ("GET", "/containers/json") => {
            let summary = |id, rollout| json!({"Id": id, "Labels": labels(rollout)});
            json(
                StatusCode::OK,
                &json!([summary("old", None), summary("new", Some("r2"))]),
            )
        }
        ("GET", "/containers/old/json") => inspected("shop-web-1", None),
        ("GET", "/networks/front") => json(StatusCode::OK, &json!({"Id": "1f", "Name": "front"})),
        ("GET", "/containers/new/json") => inspected("shop-web-1.r2", Some("r2")),
        ("GET", _) => refusal(StatusCode::NOT_FOUND, "No such container"),
        _ => json(StatusCode::CREATED, &json!({"Id": "made"})),
    }
}

fn labels(rollout: Option<&str>) -> Value {
    let mut labels = json!({LABEL_PROJECT: "shop", LABEL_SERVICE: "web", COMPOSE_NUMBER: "1"});
    if let Some(rollout) = rollout {
        labels[LABEL_ROLLOUT] = rollout.into();
    }
    labels
}

fn inspected(name: &str, rollout: Option<&str>) -> Response<Body> {
    let value = json!({"Name": format!("/{name}"), "Config": {"Labels": labels(rollout)}});
    json(StatusCode::OK, &value)
}

async fn scene() -> Scene {
    scene_locked_by(None).await
}

async fn scene_locked_by(lock: Option<&str>) -> Scene {
    let engine = FakeEngine::start(old_and_new);
    let subject = Subject {
        project: "shop".to_owned(),
        service: "web".to_owned(),
        rollout: Some("r2".to_owned()),
        labels: BTreeMap::new(),
        volumes: BTreeMap::new(),
    };
    let upstream = Upstream::new(engine.endpoint());
    let view = View::start(upstream, subject, lock.map(str::to_owned)).await;
    let view = view.unwrap();
    let client = Upstream::new(view.docker_host().parse::<Endpoint>().unwrap());
    Scene {
        engine,
        view,
        client,
    }
}

impl Scene {
    async fn ask(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(full(body.to_string())).unwrap();
        let response: hyper::Response<Incoming> = self.client.send(request).await.unwrap();
        let status = response.status();
        let body = read_whole(response.into_body()).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn message(answer: &(StatusCode, Value)) -> (u16, &str) {
    (
        answer.0.as_u16(),
        answer.1["message"].as_str().unwrap_or_default(),
    )
}

#[tokio::test]
async fn compose_sees_only_the_new_replica() {
    let scene = scene().await;
    for path in ["/v1.41/containers/json?all=1", "/containers/json?all=1"] {
        let (status, list) = scene.ask("GET", path, Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(list.as_array().unwrap().len(), 1);
        assert_eq!(list[0]["Id"], "new");
    }
    let asked = scene.engine.asked.lock().unwrap().clone();
    assert_eq!(asked[0].1, "/v1.41/containers/json?all=1");
}

#[tokio::test]
async fn the_engine_is_asked_for_the_temporary_name() {
    let scene = scene().await;
    let labels = json!({
        rewrite::LABEL_PROJECT: "shop",
        rewrite::LABEL_SERVICE: "web",
        COMPOSE_NUMBER: "1",
    });
    let body = json!({"Image": "a", "Labels": labels});
    let (status, _) = scene
        .ask("POST", "/v1.41/containers/create?name=shop-web-1", body)
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let (_, path, body) = scene.engine.changes().remove(0);
    assert_eq!(path, "/v1.41/containers/create?name=shop-web-1.r2");
    assert_eq!(body["Labels"][rewrite::LABEL_NAME], "shop-web-1");
    assert_eq!(body["Image"], "a");
}

#[tokio::test]
async fn changes_of_the_old_replica_are_refused_by_name_and_never_reach_the_engine() {
    let scene = scene().await;
    let stop = scene
        .ask("POST", "/v1.41/containers/old/stop?t=1", Value::Null)
        .await;
    assert_eq!(
        message(&stop),
        (
            403,
            "rollout does not let compose stop container shop-web-1"
        )
    );
    let remove = scene
        .ask("DELETE", "/v1.41/containers/old", Value::Null)
        .await;
    assert_eq!(
        message(&remove),
        (
            403,
            "rollout does not let compose remove container shop-web-1"
        )
    );
    let body = json!({"Container": "old"});
    let leave = scene
        .ask("POST", "/v1.41/networks/front/disconnect", body)
        .await;
    assert_eq!(
        message(&leave),
        (
            403,
            "rollout does not let compose disconnect container shop-web-1 from a network"
        )
    );
    assert_eq!(scene.engine.changes(), []);
    assert_eq!(
        scene.view.first_refusal().as_deref(),
        Some("stop container shop-web-1")
    );
}

#[tokio::test]
async fn the_new_replica_may_be_changed_and_the_engine_answers_for_missing_ones() {
    let scene = scene().await;
    for path in ["/v1.41/containers/new/stop?t=1", "/containers/none/stop"] {
        scene.ask("POST", path, Value::Null).await;
    }
    let body = json!({"Container": "new", "Force": true});
    scene
        .ask("POST", "/networks/front/disconnect", body.clone())
        .await;
    let changes = scene.engine.changes();
    assert_eq!(changes.len(), 3);
    assert_eq!(changes[0].1, "/v1.41/containers/new/stop?t=1");
    assert_eq!(changes[2].2, body);
    assert_eq!(scene.view.first_refusal(), None);
}

#[tokio::test]
async fn a_network_that_another_command_has_just_created_is_not_created_again() {
    let scene = scene().await;
    let create = async |name| {
        let body = json!({"Name": name});
        scene.ask("POST", "/v1.41/networks/create", body).await
    };
    let (status, answer) = create("front").await;
    assert_eq!((status, &answer["Id"]), (StatusCode::CREATED, &"1f".into()));
    assert_eq!(scene.engine.changes(), []);
    let (_, answer) = create("back").await;
    assert_eq!(answer["Id"], "made");
    assert_eq!(scene.engine.changes().len(), 1);
}

#[tokio::test]
async fn without_the_lock_nothing_is_created_or_started() {
    let labels = json!({
        rewrite::LABEL_PROJECT: "shop",
        rewrite::LABEL_SERVICE: "web",
        COMPOSE_NUMBER: "1",
    });
    let body = json!({"Image": "a", "Labels": labels});
    let points = [
        ("/v1.41/containers/create?name=shop-web-1", body),
        ("/v1.41/containers/new/start", Value::Null),
    ];
    for (lock, refused) in [("old", false), ("gone", true)] {
        let scene = scene_locked_by(Some(lock)).await;
        for (path, body) in &points {
            let (status, _) = scene.ask("POST", path, body.clone()).await;
            assert_eq!(status == StatusCode::FORBIDDEN, refused, "{path}");
        }
        assert_eq!(scene.engine.changes().is_empty(), refused);
    }
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let scene = scene().await;
    let host = scene.view.docker_host();
    let path = host.strip_prefix("unix://").unwrap();
    let mut stream = UnixStream::connect(path).await.unwrap();
    let head = "POST /v1.41/exec/x/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    stream.write_all(b"there and back").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "there and back");
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_a_bad_gateway() {
    let mut scene = scene().await;
    scene.engine = FakeEngine::start(old_and_new);
    let answer = scene
        .ask("GET", "/v1.41/containers/json", Value::Null)
        .await;
    assert_eq!(answer.0, StatusCode::BAD_GATEWAY);
}
