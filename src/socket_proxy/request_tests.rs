//! The requests that are allowed, and those that are not.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::arbitrary::{mutated, replaced};

fn ask(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Call, Refusal> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, value.parse().unwrap());
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    parse(&method, &target.parse().unwrap(), &map, false)
}

/// As [`get`], with `--swarm`.
fn get_of_swarm(target: &str) -> Result<Call, Refusal> {
    let (uri, headers) = (target.parse().unwrap(), HeaderMap::new());
    parse(&Method::GET, &uri, &headers, true)
}

fn get(target: &str) -> Result<Call, Refusal> {
    ask("GET", target, &[])
}

fn route(target: &str) -> Route {
    get(target).unwrap().route
}

fn status(answer: Result<Call, Refusal>) -> u16 {
    answer.unwrap_err().status.as_u16()
}

#[test]
fn the_seven_routes_are_known_with_and_without_a_version() {
    assert_eq!(route("/_ping"), Route::Ping);
    assert_eq!(route("/version"), Route::Version);
    assert_eq!(route("/events"), Route::Events(Query::default()));
    assert_eq!(route("/containers/json"), Route::List(Query::default()));
    assert_eq!(
        route("/containers/a_b.c-1/json"),
        Route::Inspect("a_b.c-1".to_owned())
    );
    assert_eq!(route("/networks"), Route::Networks(Query::default()));
    assert_eq!(route("/networks/n1"), Route::Network("n1".to_owned()));
    let call = get("/v1.24/version").unwrap();
    assert_eq!((call.version, call.route), (Some((1, 24)), Route::Version));
}

#[test]
fn the_routes_of_swarm_are_known_with_its_flag_alone() {
    let none = Query::default;
    for (target, route) in [
        ("/info", Route::Info),
        ("/services", Route::Services(none())),
        ("/v1.41/services", Route::Services(none())),
        ("/services/s1", Route::Service("s1".to_owned())),
        (
            "/services?status=true&insertDefaults=1",
            Route::Services(none()),
        ),
        ("/tasks", Route::Tasks(none())),
        ("/nodes", Route::Nodes),
        ("/nodes?filters=no", Route::Nodes),
        ("/nodes/self", Route::Node("self".to_owned())),
    ] {
        assert_eq!(get_of_swarm(target).unwrap().route, route, "{target}");
        assert_eq!(status(get(target)), 403, "{target}");
    }
}

#[test]
fn the_filters_that_traefik_sends_to_swarm_pass() {
    let filters = json!({"desired-state": {"running": true}, "service": {"s1": true}});
    let encoded: String = form_urlencoded::byte_serialize(filters.to_string().as_bytes()).collect();
    let target = format!("/tasks?filters={encoded}");
    let Route::Tasks(query) = get_of_swarm(&target).unwrap().route else {
        panic!("{target}");
    };
    assert_eq!(format!("/tasks{}", query.encode()), target);
    for other in ["node", "up-to-date", "runtime"] {
        let filters = target.replace("desired-state", other);
        assert_eq!(status(get_of_swarm(&filters)), 400, "{other}");
    }
}

#[test]
fn every_other_path_is_forbidden_with_and_without_swarm() {
    for path in [
        "/",
        "//",
        "/v1.24",
        "/v1.24/",
        "/_ping/",
        "/v1.24//version",
        "//version",
        "/v1/version",
        "/v1.2.3/version",
        "/v+1.2/version",
        "/v1.99999/version",
        "/vv1.24/version",
        "/v1.24/v1.24/version",
        "/containers/a/json/",
        "/containers//json",
        "/containers/a/../json",
        "/containers/./json",
        "/containers/../json",
        "/containers/%61/json",
        "/containers/a%2Fb/json",
        "/containers/a/logs",
        "/containers/a/export",
        "/containers/a/archive",
        "/containers/a/top",
        "/containers/a/attach/ws",
        "/containers/a/stats",
        "/containers/a/changes",
        "/containers/-a/json",
        "/containers/a;b/json",
        "/containers/a@b/json",
        "/images/json",
        "/exec/a/json",
        "/secrets",
        "/configs",
        "/volumes",
        "/system/df",
        "/swarm",
        "/plugins",
        "/networks/",
        "/networks/a/b",
        "/networks/..",
        "/Version",
        "/containers/JSON",
    ] {
        assert_eq!(status(get_of_swarm(path)), 403, "{path}");
        assert_eq!(status(get(path)), 403, "{path}");
    }
}

#[test]
fn no_other_path_of_swarm_is_allowed_by_its_flag() {
    for path in [
        "/configs/a",
        "/secrets/a",
        "/info/",
        "/services/",
        "/services/a/logs",
        "/services/a/update",
        "/services/a%2Fb",
        "/services/../swarm",
        "/tasks/",
        "/tasks/a",
        "/tasks/a/logs",
        "/nodes/",
        "/nodes/a/update",
        "/nodes/..",
        "/swarm/unlockkey",
    ] {
        assert_eq!(status(get_of_swarm(path)), 403, "{path}");
        assert_eq!(status(get(path)), 403, "{path}");
    }
}

#[test]
fn every_other_method_is_forbidden() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        assert_eq!(status(ask(method, "/version", &[])), 403, "{method}");
        let of_swarm = Uri::from_static("/services/create");
        let name = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = parse(&name, &of_swarm, &HeaderMap::new(), true);
        assert_eq!(status(answer), 403, "{method}");
    }
    assert!(ask("HEAD", "/_ping", &[]).is_ok());
}

#[test]
fn absolute_targets_upgrades_and_bodies_are_forbidden_and_end_the_connection() {
    let answers = [
        get("http://docker/version"),
        ask("CONNECT", "docker:80", &[]),
        ask("GET", "/version", &[("upgrade", "h2c")]),
        ask("GET", "/version", &[("connection", "keep-alive, UPGRADE")]),
        ask("GET", "/version", &[("content-length", "5")]),
        ask(
            "GET",
            "/version",
            &[("content-length", "0"), ("content-length", "5")],
        ),
        ask("GET", "/version", &[("content-length", "+0")]),
        ask("GET", "/version", &[("transfer-encoding", "chunked")]),
        ask("GET", "/version", &[("transfer-encoding", "identity")]),
    ];
    for answer in answers {
        let refusal = answer.unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.close), (403, true));
    }
    assert!(ask("GET", "/version", &[("content-length", "0")]).is_ok());
}

#[test]
fn a_query_is_rebuilt_from_its_known_keys() {
    let sent = |target: &str| match route(target) {
        Route::List(query) | Route::Events(query) | Route::Networks(query) => query.encode(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        sent("/containers/json?size=1&all=true&x=%0d%0a&limit=05"),
        "?all=1&limit=5"
    );
    assert_eq!(
        sent(
            "/containers/json?all=0&limit=&size=true"
                .replace("limit=&", "")
                .as_str()
        ),
        ""
    );
    assert_eq!(sent("/containers/json?all=1&all=0"), "?all=1");
    assert_eq!(
        sent("/events?since=1700000000.5&until=10m&all=1"),
        "?since=1700000000.5&until=10m"
    );
    let filters = "?filters=%7B%22label%22%3A%7B%22a%3Db+c%26%22%3Atrue%7D%7D";
    assert_eq!(sent(&format!("/networks{filters}")), filters);
    let list = "/networks?filters=%7B%22label%22%3A%5B%22a%3Db+c%26%22%5D%7D";
    assert_eq!(sent(list), filters);
}

#[test]
fn a_known_key_with_a_value_that_is_none_is_a_bad_request() {
    for query in [
        "/containers/json?all=maybe",
        "/containers/json?limit=many",
        "/containers/json?since=a%20b",
        "/containers/json?filters=no",
        "/containers/json?filters=%7B%22label%22%3A%5B%22io.rollout.digest%3Dguess%22%5D%7D",
        "/containers/json?filters=%7B%22label%22%3A%7B%22io.rollout.role%22%3Atrue%7D%7D",
        "/containers/json?filters=%5B%5D",
        "/containers/json?filters=%7B%22a%22%3A%7B%22b%22%3A%7B%7D%7D%7D",
        "/events?since=%0d%0aX:y",
    ] {
        assert_eq!(status(get(query)), 400, "{query}");
    }
}

// The target of the request that a call sends to the engine.
fn target(call: &Call) -> String {
    let version = call
        .version
        .map(|(major, minor)| format!("/v{major}.{minor}"));
    let path = match &call.route {
        Route::Ping => "/_ping".to_owned(),
        Route::Version => "/version".to_owned(),
        Route::Events(query) => format!("/events{}", query.encode()),
        Route::List(query) => format!("/containers/json{}", query.encode()),
        Route::Inspect(id) => format!("/containers/{id}/json"),
        Route::Networks(query) => format!("/networks{}", query.encode()),
        Route::Network(id) => format!("/networks/{id}"),
        Route::Info => "/info".to_owned(),
        Route::Services(query) => format!("/services{}", query.encode()),
        Route::Service(id) => format!("/services/{id}"),
        Route::Tasks(query) => format!("/tasks{}", query.encode()),
        Route::Nodes => "/nodes".to_owned(),
        Route::Node(id) => format!("/nodes/{id}"),
    };
    version.unwrap_or_default() + &path
}

const TARGETS: [&str; 9] = [
    "/v1.41/containers/json?all=1&limit=5&since=a&size=1&filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D",
    "/events?since=1700000000.5&until=10m&filters=%7B%22type%22%3A%7B%22container%22%3Atrue%7D%7D",
    "/v1.24/containers/a_b.c-1/json",
    "/networks?filters=%7B%22name%22%3A%5B%22n%22%5D%7D",
    "/_ping",
    "/v1.41/services?filters=%7B%22id%22%3A%5B%22a%22%5D%7D&status=true",
    "/tasks?filters=%7B%22desired-state%22%3A%7B%22running%22%3Atrue%7D%2C%22service%22%3A%7B%22a%22%3Atrue%7D%7D",
    "/services/a1",
    "/nodes/n1",
];

proptest! {
    #[test]
    fn a_target_that_passes_is_one_of_the_routes_and_the_same_after_rebuilding(
        target_of in (0..TARGETS.len()).prop_flat_map(|index| mutated(TARGETS[index].as_bytes())),
    ) {
        let Ok(uri) = Uri::try_from(target_of) else { return Ok(()) };
        let Ok(call) = parse(&Method::GET, &uri, &HeaderMap::new(), true) else { return Ok(()) };
        let rebuilt = target(&call);
        prop_assert!(rebuilt.is_ascii() && !rebuilt.contains([' ', '\r', '\n', '#']), "{}", rebuilt);
        prop_assert_eq!(get_of_swarm(&rebuilt), Ok(call));
    }

    #[test]
    fn no_method_but_two_and_no_header_that_changes_the_framing_passes(
        method in mutated(b"HEAD"), name in mutated(b"transfer-encoding"), value in mutated(b"keep-alive, upgrade"),
    ) {
        let (Ok(method), Ok(name), Ok(value)) = (
            Method::from_bytes(&method), header::HeaderName::from_bytes(&name), header::HeaderValue::from_bytes(&value),
        ) else { return Ok(()) };
        let headers = HeaderMap::from_iter([(name.clone(), value)]);
        if parse(&method, &Uri::from_static("/version"), &headers, true).is_ok() {
            prop_assert!(method == Method::GET || method == Method::HEAD);
            let framing = [header::TRANSFER_ENCODING, header::UPGRADE, header::CONTENT_LENGTH];
            prop_assert!(name == header::CONTENT_LENGTH && headers[&name] == "0" || !framing.contains(&name));
        }
    }

    #[test]
    fn filters_that_pass_match_only_visible_properties(
        filters in replaced(serde_json::json!({"label": ["a=b"], "type": {"container": true}, "name": ["n"]})),
    ) {
        if let Some(read) = parse_filters(&filters.to_string()) {
            prop_assert!(read.keys().all(|key| FILTERS.contains(&key.as_str())));
        }
    }
}

#[test]
fn filters_that_stand_deep_in_one_another_are_a_bad_request() {
    assert_eq!(parse_filters(&"[".repeat(100_000)), None);
    assert_eq!(parse_filters(&"{\"label\":".repeat(100_000)), None);
}
