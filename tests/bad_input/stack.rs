//! Services that cannot stand twice side by side, and others that a rollout would leave behind.

use std::net::TcpListener;

use super::{refused, whole};
use testbed::Stack;

const SERVICES: &str = r#"
  published: { image: 'rollout-demo:${TAG}', ports: ['127.0.0.1:${PUBLISHED}:80'] }
  named: { image: 'rollout-demo:${TAG}', container_name: '${COMPOSE_PROJECT_NAME}-own' }
  anonymous: { image: 'rollout-demo:${TAG}', volumes: [/data] }
  of-image: { image: '${ROLLOUT_TESTBED_IMAGE}' }
  on-host: { image: 'rollout-demo:${TAG}', network_mode: host }
  inside: { image: 'rollout-demo:${TAG}', network_mode: 'service:web' }
  addressed: { image: 'rollout-demo:${TAG}', networks: { fixed: { ipv4_address: 10.231.77.3 } } }
  needy: { image: 'rollout-demo:${TAG}', depends_on: [absent] }
  absent: { image: 'rollout-demo:${TAG}' }
  by-network: { image: 'rollout-demo:${TAG}' }
  its-network: { image: 'rollout-demo:${TAG}', network_mode: 'service:by-network' }
  by-pid: { image: 'rollout-demo:${TAG}' }
  its-pid: { image: 'rollout-demo:${TAG}', pid: 'service:by-pid' }
  by-ipc: { image: 'rollout-demo:${TAG}', ipc: shareable }
  its-ipc: { image: 'rollout-demo:${TAG}', ipc: 'service:by-ipc' }
  by-volume: { image: 'rollout-demo:${TAG}' }
  its-volume: { image: 'rollout-demo:${TAG}', volumes_from: [by-volume] }
networks:
  fixed: { ipam: { config: [{ subnet: 10.231.77.0/29 }] } }
"#;

const RECREATE: &str = "--strategy recreate";
const RENEW: &str = "--renew-anon-volumes";

fn port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// What is asked for, why it is refused, and what to do next.
type Refusal = (&'static str, String, &'static str);

fn what_only_one_set_can_have(project: &str, published: u16) -> [Refusal; 8] {
    [
        (
            "published",
            format!("published publishes host port 127.0.0.1:{published}"),
            RECREATE,
        ),
        (
            "named --scale 2",
            format!("named has container_name: {project}-own and 2 replicas"),
            "set scale to 1",
        ),
        (
            "anonymous",
            "anonymous has anonymous volumes, whose data new containers would not see: /data".into(),
            RENEW,
        ),
        (
            "of-image",
            "of-image has anonymous volumes, whose data new containers would not see: /var/lib/rollout (of the image)"
                .into(),
            RENEW,
        ),
        (
            "on-host",
            "on-host has network_mode: host, so both sets would share its ports".into(),
            RECREATE,
        ),
        (
            "inside",
            "inside has network_mode: service:web, so both sets would share its ports".into(),
            RECREATE,
        ),
        (
            "addressed",
            "addressed has the static address 10.231.77.3 on network fixed".into(),
            RECREATE,
        ),
        (
            "needy",
            "needy depends on absent, which has no container yet".into(),
            "docker compose up -d absent",
        ),
    ]
}

/// Services whose containers others have joined.
fn what_others_have_joined() -> [(String, String); 4] {
    [
        ("network", "network_mode"),
        ("pid", "pid"),
        ("ipc", "ipc"),
        ("volume", "volumes_from"),
    ]
    .map(|(what, how)| {
        let error = format!(
            "its-{what} uses the containers of by-{what} by {how} and would still use the old ones after the rollout"
        );
        (format!("by-{what}"), error)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_stand_twice_is_refused_before_anything_is_touched() {
    let mut stack = Stack::usual(SERVICES);
    let published = port();
    stack.set("PUBLISHED", published);
    let running = ["web", "published", "named", "anonymous", "by-network"];
    let traefik = ["traefik"];
    stack
        .compose(&[&["up", "-d"][..], &traefik, &running].concat())
        .await;
    stack.answers("v1").await;
    stack.tag("v2");
    let before = whole(&stack).await;
    for (asked, error, next) in what_only_one_set_can_have(&stack.name, published) {
        let arguments: Vec<&str> = asked.split(' ').collect();
        refused(&stack.rollout(&arguments).await, &error, next);
    }
    for (service, error) in what_others_have_joined() {
        let run = stack.rollout(&[service.as_str()]).await;
        refused(&run, &error, "docker compose up -d");
    }
    assert_eq!(whole(&stack).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_is_checked_before_the_first_is_rolled() {
    let mut stack = Stack::usual(
        "  other: { image: 'rollout-demo:${TAG}', depends_on: [fresh] }\n  fresh: { image: 'rollout-demo:${TAG}' }\n  \
         published: { image: 'rollout-demo:${TAG}', ports: ['127.0.0.1:${PUBLISHED}:80'] }\n",
    );
    stack.set("PUBLISHED", port());
    stack
        .compose(&["up", "-d", "--no-deps", "socket-proxy"])
        .await;
    stack.compose(&["up", "-d", "traefik", "web"]).await;
    stack.answers("v1").await;
    stack.tag("v2");
    let before = whole(&stack).await;
    let unknown = format!(
        "no service \"wbe\" in project {}; did you mean \"web\"?",
        stack.name
    );
    refused(
        &stack.rollout(&["web", "wbe"]).await,
        &unknown,
        "services: ",
    );
    let run = stack.rollout(&["web", "published"]).await;
    assert!(
        run.text.contains("\nerror: published publishes host port"),
        "{}",
        run.text
    );
    let absent = "other depends on fresh, which has no container yet";
    refused(
        &stack.rollout(&["web", "other"]).await,
        absent,
        "up -d fresh",
    );
    assert_eq!(whole(&stack).await, before);
    // A service that the same command starts is there in time, in whatever order they are named.
    stack.rollout(&["other", "fresh"]).await.code(0);
    assert_eq!(stack.replicas("other").await.len(), 1);
}
