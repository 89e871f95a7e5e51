//! A router with TLS on an entrypoint that has middlewares of its own, which must be there once, before, during and after.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::sleep};

use testbed::{Stack, free_port};

const SECURE: &str = r#"    image: rollout-demo:${TAG}
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
      traefik.http.routers.plain.rule: Host(`localhost`)
      traefik.http.routers.plain.entrypoints: web
      traefik.http.routers.web.entrypoints: secure
      traefik.http.routers.web.tls: "true"
      traefik.http.routers.web.tls.options: modern@file
    networks: [front]
  traefik:
    ports: ["127.0.0.1:${SECURE_PORT}:443"]
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)
      - --entrypoints.web.address=:80
      - --entrypoints.secure.address=:443
      - --entrypoints.secure.http.middlewares=stamp@file
      - --api.insecure=true
"#;

/// The entrypoint's middleware changes the path, so that one which ran twice would be seen.
const DYNAMIC: &str = r#"
http: { middlewares: { stamp: { addPrefix: { prefix: /stamped } } } }
tls: { options: { modern: { minVersion: VersionTLS13 } } }
"#;

/// Asks until it is stopped; every answer.
fn asked(port: u16, stop: &watch::Sender<bool>) -> JoinHandle<Vec<String>> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let mut stopped = stop.subscribe();
    tokio::spawn(async move {
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .resolve("localhost", SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let mut answers = Vec::new();
        while !*stopped.borrow_and_update() {
            let request = client.get(format!("https://localhost:{port}/x"));
            let text = match request.send().await {
                Ok(answer) if answer.status() == 200 => answer.text().await.unwrap_or_default(),
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.to_string(),
            };
            answers.push(text);
            sleep(Duration::from_millis(20)).await;
        }
        answers
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_with_tls_and_an_entrypoint_with_middlewares_lose_nothing() {
    let port = free_port();
    let mut stack = Stack::pinned_with(SECURE);
    stack.write("dynamic/tls.yml", DYNAMIC);
    stack.set("SECURE_PORT", port).compose(&["up", "-d"]).await;
    let curl = format!(
        "curl -sk --max-time 5 --resolve localhost:{port}:127.0.0.1 https://localhost:{port}/x"
    );
    stack.until(&curl, "path=/stamped/x").await;
    let stop = watch::Sender::new(false);
    let asking = asked(port, &stop);
    stack.tag("v2");
    let old_tls = format!("{curl} --tls-max 1.2 -o /dev/null -w '%{{http_code}}' || true");
    let mut running = stack.start_rollout(&["web"]);
    for (first, then) in [("hold", "create"), ("confirm", "drain")] {
        running.comes_after(first, then).await;
        running.pauses();
        assert_eq!(stack.pins().len(), 2, "no pin is in place");
        assert_eq!(stack.shell(&old_tls).await, "000", "before {then}");
        running.continues();
    }
    let run = running.wait().await;
    stop.send_replace(true);
    let answers = asking.await.unwrap();
    run.code(0);
    let odd: Vec<&String> = answers
        .iter()
        .filter(|answer| !answer.trim_end().ends_with("path=/stamped/x"))
        .collect();
    assert!(
        odd.is_empty(),
        "of {}: {odd:?}\n{}",
        answers.len(),
        run.text
    );
    assert!(answers.last().unwrap().contains("v2"), "{answers:?}");
    assert_eq!(stack.shell(&old_tls).await, "000");
    let files = stack.pins();
    assert_eq!(files, ["tls.yml"], "{}", run.text);
}
