//! Traefiks that stand elsewhere than in a service of their own: in another container's network namespace, beside Swarm, in
//! an included file, in a project of their own; and containers that stand in a replica's namespace.

use testbed::{Project, Stack};

/// A stack of one file, as `init` edits it.
fn stack(text: &str) -> Stack {
    let mut stack = Stack::fresh("");
    stack.set("COMPOSE_FILE", "stack.yaml");
    stack.write("stack.yaml", text);
    stack
}

/// Traefik in the network namespace of the container that publishes its ports, as Pangolin installs it.
const GERBIL: &str = r#"services:
  gerbil:
    image: rollout-demo:v1-plain
    ports: ["127.0.0.1:${HTTP_PORT}:8000"]
  traefik:
    image: traefik:v3.7
    network_mode: service:gerbil
    depends_on: [gerbil]
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)
      - --providers.file.directory=/etc/traefik/dynamic
      - --entrypoints.web.address=:8000
      - --api.insecure=true
    volumes:
      - /var/run/docker.sock:/var/run/docker.sock:ro
      - ./dynamic:/etc/traefik/dynamic:ro
  web:
    image: rollout-demo:${TAG}
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
"#;

async fn rolls(stack: &mut Stack, tag: &str, way: &str) {
    let load = stack.load();
    stack.tag(tag);
    let run = stack.rollout(&["-v", "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(run.text.contains(way), "{way}: {}", run.text);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    stack.answers(tag).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_in_another_containers_network_namespace_moves_the_traffic_by_either_way() {
    let mut stack = stack(GERBIL);
    stack.compose(&["up", "-d"]).await;
    stack.answers_steadily("v1").await;
    rolls(&mut stack, "v2", "pin").await;
    let run = stack.rollout(&["doctor"]).await;
    run.code(0);

    let image = testbed::image();
    let write = ["init", "--write", "--image", &image];
    stack.rollout(&write).await.code(0);
    let resolved = stack.compose(&["config"]).await;
    assert!(
        resolved.contains("network_mode: service:gerbil"),
        "{resolved}"
    );
    stack.compose(&["up", "-d"]).await;
    stack.traefik_listens().await;
    stack.answers_steadily("v2").await;
    rolls(&mut stack, "v1", "through the socket proxy").await;
    let run = stack.rollout(&["doctor"]).await;
    run.code(0);
    let gerbil = stack.rollout(&["gerbil"]).await;
    let refused = "is the Traefik that a rollout goes through";
    assert!(gerbil.code(2).text.contains(refused), "{}", gerbil.text);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_in_the_network_namespace_of_a_replica_is_refused_and_told_where_the_old_stops_first()
 {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let replica = format!("{}-web-1", stack.name);
    let mut other = Project::new(format!("{}-joined", stack.name));
    other.set("REPLICA", &replica);
    other.write(
        "compose.yaml",
        "services:\n  torrent:\n    image: rollout-demo:v1-plain\n    environment: { PORT: '9000' }\n    network_mode: \
         container:${REPLICA}\n",
    );
    other.compose(&["up", "-d"]).await;
    stack.tag("v2");
    let before = stack.replicas("web").await;
    let joined = format!(
        "{}-torrent-1 (project {}) uses the containers of web by network_mode",
        other.name, other.name
    );
    let run = stack.rollout(&["web"]).await;
    run.code(2);
    assert!(run.text.contains(&joined), "{}", run.text);
    assert!(run.text.contains("--strategy recreate"), "{}", run.text);
    assert_eq!(stack.replicas("web").await, before);
    let run = stack.rollout(&["doctor", "web"]).await;
    run.code(1);
    assert!(run.out.contains(&joined), "{}", run.out);

    let run = stack.rollout(&["--strategy", "recreate", "web"]).await;
    run.code(0);
    assert!(run.text.contains(&joined), "{}", run.text);
    let command = format!(
        "docker compose -p {} up -d --no-deps --force-recreate torrent",
        other.name
    );
    assert!(run.text.matches(&command).count() == 2, "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_whose_swarm_provider_is_on_is_told_to_read_through_a_socket_proxy_with_the_flag()
{
    let swarm = "  traefik:\n    command:\n      - --providers.docker.exposedbydefault=false\n      - --providers.swarm\n      - \
                 --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)\n      \
                 - --entrypoints.web.address=:80\n      - --api.insecure=true\n";
    let mut stack = Stack::relabelled(swarm);
    stack.up("v1").await;
    let run = stack.rollout(&["doctor"]).await;
    run.code(1);
    let lost = format!(
        "its Swarm provider reads through {}-socket-proxy-1, which refuses that without --swarm",
        stack.name
    );
    assert!(run.out.contains(&lost), "{}", run.out);
    assert!(
        run.out.contains("add --swarm to its command"),
        "{}",
        run.out
    );

    let socket = "    environment: { DOCKER_HOST: 'unix:///var/run/docker.sock' }\n    volumes: \
                  ['/var/run/docker.sock:/var/run/docker.sock:ro']\n";
    stack.write(
        "compose.yaml",
        &format!("services:\n  web:\n{}{swarm}{socket}", testbed::USUAL),
    );
    stack.up("v1").await;
    stack.tag("v2");
    for arguments in [&["web"][..], &["init", "--traefik", "traefik"]] {
        let run = stack.rollout(arguments).await;
        run.code(2);
        let line = "command: [socket-proxy, --swarm]";
        assert!(run.text.contains(line), "{}", run.text);
    }
    let run = stack.rollout(&["doctor"]).await;
    run.code(1);
    assert!(!run.out.contains(&lost), "{}", run.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_in_an_included_file_is_named_with_what_to_add_there() {
    let stack = stack(
        "include: [{ path: proxy/traefik.yaml }]\nservices:\n  web: { image: 'rollout-demo:${TAG}' }\n",
    );
    std::fs::create_dir(stack.path("proxy")).unwrap();
    stack.write(
        "proxy/traefik.yaml",
        "services:\n  edge:\n    image: traefik:v3.7\n    command: [--providers.docker]\n",
    );
    let run = stack.rollout(&["init", "--write"]).await;
    run.code(2);
    let message = "service edge is in proxy/traefik.yaml, which stack.yaml includes";
    for line in [
        message,
        "add this by hand to proxy/traefik.yaml",
        "    edge: #",
        "DOCKER_HOST: \"tcp://socket-proxy:2375\"",
        "cap_drop: [ALL]",
    ] {
        assert!(run.text.contains(line), "{line}: {}", run.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_in_the_project_of_a_traefik_alone_says_that_its_api_is_off() {
    let alone = GERBIL.split("  web:\n").next().unwrap();
    let stack = stack(&alone.replace("      - --api.insecure=true\n", ""));
    stack.compose(&["up", "-d"]).await;
    let run = stack.rollout(&["doctor"]).await;
    run.code(1);
    let off = format!("the API of Traefik ({}-traefik-1) is off", stack.name);
    assert!(run.out.contains(&off), "{}", run.out);
}
