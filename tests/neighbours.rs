//! Other containers behind the same Traefik: a rollout takes nothing away from them, and says what stands in its way.

use crate::bad_input::{refused, whole};
use testbed::{LoadOptions, Project, Stack, eventually};

use std::time::Duration;

/// A front that reads every container of the zone, whichever project it is of.
const ZONE: &str = r#"  traefik:
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`zone`,`${COMPOSE_PROJECT_NAME}`)
      - --entrypoints.web.address=:80
      - --api.insecure=true
  socket-proxy:
    command: [socket-proxy, "--only=zone=${COMPOSE_PROJECT_NAME}"]
"#;

/// A service with a router and these labels besides.
fn service(name: &str, zone: &str, labels: &[&str]) -> String {
    let labels: String = labels
        .iter()
        .map(|label| format!("      {label}\n"))
        .collect();
    format!(
        "  {name}:\n    image: rollout-demo:${{TAG}}\n    networks: [front]\n    labels:\n      \
         traefik.enable: \"true\"\n      zone: {zone}\n{labels}"
    )
}

async fn answers(stack: &Stack, host: &str) {
    let curl = format!(
        "curl -s -o /dev/null -w '%{{http_code}}' -H 'Host: {host}' http://127.0.0.1:{}",
        stack.port
    );
    stack.until(&curl, "200").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_that_a_neighbour_has_too_is_not_changed_unless_that_is_asked_for() {
    const GZ: &str = "traefik.http.middlewares.gz.compress: \"true\"";
    const RULE: &str = "traefik.http.routers.web.rule: Host(`localhost`)";
    let mut stack = Stack::relabelled("");
    let compose = |of_web: &[&str], of_b: &[&str]| {
        let web = service("web", "z", &[&[GZ, RULE], of_web].concat());
        let rule = "traefik.http.routers.b.rule: Host(`b.test`)";
        let used = "traefik.http.routers.b.middlewares: gz";
        let b = service("b", "z", &[&[GZ, rule, used], of_b].concat());
        format!("services:\n{web}{b}")
    };
    stack.write("compose.yaml", &compose(&[], &[]));
    stack.up("v1").await;
    answers(&stack, "b.test").await;
    let before = whole(&stack).await;
    let load = testbed::Load::start(LoadOptions {
        host: "b.test".to_owned(),
        ..stack.load_options()
    });

    let more = "traefik.http.middlewares.gz.Compress.MinResponseBodyBytes: \"2048\"";
    stack.write("compose.yaml", &compose(&[more], &[]));
    stack.tag("v2");
    let own = &stack.name;
    let error = format!(
        "{own}-web-1 and {own}-b-1 define middleware gz (compress.minresponsebodybytes) differently: Traefik drops it for \
         both"
    );
    let next = "give middleware gz another name in the labels of web, such as gz-2";
    refused(&stack.rollout(&["web"]).await, &error, next);
    let doctor = stack.rollout(&["doctor", "web", "b"]).await;
    doctor.code(1);
    let differently = format!("{own}-web-1 define middleware gz");
    assert!(!doctor.out.contains(&differently), "{}", doctor.out);
    assert!(doctor.out.contains("gz-2"), "{}", doctor.out);
    assert_eq!(whole(&stack).await, before);
    let report = load.stop().await;
    assert_eq!(report.failed, 0, "{report}");

    new_against_new(&stack, &compose).await;
    stack.write("compose.yaml", &compose(&[more], &[]));
    let run = stack.rollout(&["--ignore", "labels", "web"]).await;
    run.code(1);
    let said = format!("{error}; going on because of --ignore labels");
    assert!(run.notices().contains(&said.as_str()), "{}", run.text);
    let why = "the proxy loses the route of another service: router b of";
    assert!(run.text.contains(why), "{}", run.text);
    answers(&stack, "b.test").await;
    stack.answers("v1").await;
    stack.no_leftovers().await;
}

/// Neither running version has what both new ones define.
async fn new_against_new(stack: &Stack, compose: &impl Fn(&[&str], &[&str]) -> String) {
    const NEW: [&str; 2] = [
        "traefik.http.middlewares.new.ratelimit.average: \"5\"",
        "traefik.http.middlewares.new.ratelimit.average: \"6\"",
    ];
    stack.write("compose.yaml", &compose(&NEW[..1], &NEW[1..]));
    let before = whole(stack).await;
    let error = format!(
        "{}-web-1 and the new version of b define middleware new (ratelimit.average) differently: Traefik drops it for both",
        stack.name
    );
    for together in [&[][..], &["--together"]] {
        let run = stack.rollout(&[together, &["b", "web"]].concat()).await;
        assert_eq!(run.code(2).failure(), error);
        let hint = run.event("failed").unwrap()["hint"].to_string();
        assert!(
            hint.contains("in the labels of web, such as new-2"),
            "{hint}"
        );
    }
    let doctor = stack.rollout(&["doctor", "b", "web"]).await;
    let found =
        "web and the new version of b define middleware new (ratelimit.average) differently";
    assert!(doctor.code(1).out.contains(found), "{}", doctor.out);
    assert_eq!(whole(stack).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_that_another_router_uses_is_not_taken_away_unless_that_is_asked_for() {
    const GZ: &str = "traefik.http.middlewares.gz.compress: \"true\"";
    const RULE: &str = "traefik.http.routers.web.rule: Host(`localhost`)";
    let mut stack = Stack::relabelled("");
    let compose = |more: &[&str]| {
        let web = service("web", "z", &[&[RULE], more].concat());
        let rule = "traefik.http.routers.b.rule: Host(`b.test`)";
        let used = "traefik.http.routers.b.middlewares: gz";
        let b = service("b", "z", &[rule, used]);
        format!("services:\n{web}{b}")
    };
    stack.write("compose.yaml", &compose(&[GZ]));
    stack.up("v1").await;
    answers(&stack, "b.test").await;
    let before = whole(&stack).await;

    stack.write("compose.yaml", &compose(&[]));
    stack.tag("v2");
    let error = "the new version of web no longer has the middleware gz, and router b@docker uses it: Traefik would take \
                 that router out";
    let next = "keep the labels traefik.http.middlewares.gz";
    refused(&stack.rollout(&["web"]).await, error, next);
    let doctor = stack.rollout(&["doctor", "web"]).await;
    assert!(doctor.code(1).out.contains(error), "{}", doctor.out);
    // Another check that is ignored does not help.
    let run = stack.rollout(&["--ignore", "host-ports", "web"]).await;
    let note = "--ignore host-ports does not cover this";
    assert!(run.code(2).text.contains(note), "{}", run.text);
    assert_eq!(whole(&stack).await, before);
    stack.rollout(&["--ignore", "labels", "web"]).await.code(1);
    answers(&stack, "b.test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_project_with_the_same_router_or_service_is_refused_before_it_starts() {
    const RULE: &str = "traefik.http.routers.web.rule: Host(`localhost`)";
    const PORT: &str = "traefik.http.services.web.loadbalancer.server.port: \"80\"";
    let stack = Stack::relabelled("");
    let zone = &stack.name;
    let web = service("web", zone, &[RULE, PORT]);
    stack.write("compose.yaml", &format!("services:\n{web}{ZONE}"));
    stack.up("v1").await;
    stack.traefik_listens().await;
    let other = Project::new(format!("{zone}-other"));
    let file = other.path("compose.yaml").display().to_string();
    let network = format!("networks: {{ front: {{ external: true, name: {zone}_front }} }}\n");
    let roll = ["-f", &file, "-p", &other.name, "--proxy", "traefik", "web"];
    let load = stack.load();

    // The same labels: half of the requests would be answered by the second project.
    other.write("compose.yaml", &format!("services:\n{web}{network}"));
    let error = format!(
        "{}-web-1 and {zone}-web-1 both define service web: Traefik sends its requests to both",
        other.name
    );
    refused(&stack.rollout(&roll).await, &error, "--ignore labels");

    // Another rule: both routers would be gone.
    let rule = "traefik.http.routers.web.rule: Host(`other.test`)";
    let changed = service("web", zone, &[rule]);
    other.write("compose.yaml", &format!("services:\n{changed}{network}"));
    let error = format!(
        "{}-web-1 and {zone}-web-1 define router web (rule) differently: Traefik drops it for both",
        other.name
    );
    let next = format!("did you mean -p {zone}?");
    refused(&stack.rollout(&roll).await, &error, &next);
    assert!(other.replicas("web").await.is_empty());
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}");

    let run = stack
        .rollout(&[&["--ignore", "labels"], &roll[..]].concat())
        .await;
    run.code(1);
    let end = "nothing was running before";
    assert!(run.text.contains(end), "{}", run.text);
    assert!(other.replicas("web").await.is_empty(), "{}", run.text);
    stack.answers("v1").await;
}

/// What Traefik says at this path of its API's entrypoint.
async fn asked(stack: &Stack, path: &str) -> String {
    let address = stack.traefik_address().await;
    stack
        .shell(&format!("curl -s http://{address}:8080{path}"))
        .await
}

async fn server_is_down(stack: &Stack, service: &str) {
    let path = format!("/api/http/services/{service}@docker");
    let limit = Duration::from_secs(30);
    eventually("a server is DOWN", limit, async || {
        let service = asked(stack, &path).await;
        service.contains("DOWN").then_some(()).ok_or(service)
    })
    .await;
}

/// How many configurations Traefik has applied.
pub async fn reloads(stack: &Stack) -> u32 {
    let metrics = asked(stack, "/metrics").await;
    let mut lines = metrics.lines();
    let found = lines.find_map(|line| line.strip_prefix("traefik_config_reloads_total "));
    let found = found.unwrap_or_else(|| panic!("{metrics}"));
    found.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbours_server_that_is_down_is_told_of_and_a_rollout_reloads_traefik_once() {
    let mut stack = Stack::relabelled("");
    let checked = [
        "traefik.http.routers.nb.rule: Host(`nb.test`)",
        "traefik.http.services.nb.loadbalancer.healthcheck.path: /",
        "traefik.http.services.nb.loadbalancer.healthcheck.interval: 2s",
    ];
    let port =
        |port: &str| format!("traefik.http.services.nb.loadbalancer.server.port: \"{port}\"");
    let (good, closed) = (port("80"), port("81"));
    let nb = service("nb", "z", &[&checked[..], &[&good]].concat());
    let ill = service("ill", "z", &[&checked[..], &[&closed]].concat());
    let web = service(
        "web",
        "z",
        &["traefik.http.routers.web.rule: Host(`localhost`)"],
    );
    let traefik = ZONE.split("  socket-proxy:").next().unwrap();
    let traefik = traefik.replace(
        "Label(`zone`,`${COMPOSE_PROJECT_NAME}`)",
        "Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)",
    );
    let compose = format!("services:\n{web}{nb}{ill}{traefik}      - --metrics.prometheus=true\n");
    stack.write("compose.yaml", &compose);
    stack.up("v1").await;
    stack.traefik_listens().await;
    server_is_down(&stack, "nb").await;

    let before = reloads(&stack).await;
    stack.tag("v2");
    let load = stack.load();
    let run = stack.rollout(&["web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    for part in [
        "of nb@docker is DOWN by its health check in Traefik".to_owned(),
        "for up to 2s".to_owned(),
        format!("rollout relabel {}-ill-1 traefik.enable=false", stack.name),
    ] {
        assert!(run.text.contains(&part), "{part}: {}", run.text);
    }
    assert_eq!(reloads(&stack).await, before + 1, "{}", run.text);
    // A reload makes Traefik count every server as healthy until its next check.
    server_is_down(&stack, "nb").await;
    let doctor = stack.rollout(&["doctor", "web"]).await;
    let command = format!("rollout relabel {}-ill-1", stack.name);
    assert!(doctor.out.contains(&command), "{}", doctor.out);
}
