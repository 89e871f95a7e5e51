//! A UDP service behind Traefik: every datagram a session of its own, and one session that stays across the cutover.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{sleep, timeout},
};

use super::lines::{moved_at_once, repeated, until_answered};
use testbed::{Stack, eventually, free_port};

const UDP: &str = r#"    image: rollout-demo:${TAG}
    environment: { MODE: udp, PORT: "5300" }
    labels:
      traefik.enable: "true"
      traefik.udp.routers.web.entrypoints: datagrams
      traefik.udp.services.web.loadbalancer.server.port: "5300"
    networks: [front]
  traefik:
    ports: ["127.0.0.1:${DATAGRAMS_PORT}:5300/udp"]
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)
      - --entrypoints.web.address=:80
      - --entrypoints.datagrams.address=:5300/udp
      - --api.insecure=true
"#;

async fn ask(socket: &UdpSocket) -> Result<String, String> {
    let mut answer = [0; 64];
    let exchange = async {
        socket.send(b"hello").await?;
        socket.recv(&mut answer).await
    };
    match timeout(Duration::from_secs(2), exchange).await {
        Ok(Ok(length)) => {
            let text = String::from_utf8_lossy(&answer[..length]).into_owned();
            let version = text.strip_suffix(" hello").map(str::to_owned);
            version.ok_or(text)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".into()),
    }
}

/// Every socket has an address of its own: a port that is used again within seconds is the same session to Traefik.
async fn socket(address: SocketAddr) -> UdpSocket {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 1, high, low), 0)).await;
    let socket = socket.unwrap();
    socket.connect(address).await.unwrap();
    socket
}

async fn session(address: SocketAddr) -> Result<String, String> {
    ask(&socket(address).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_udp_service_loses_no_datagram_and_keeps_a_busy_session_to_its_end() {
    let port = free_port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stack = Stack::new(UDP);
    stack.set("DATAGRAMS_PORT", port).tag("v1-plain");
    stack.compose(&["up", "-d"]).await;
    until_answered("v1", || session(address)).await;
    let stop = watch::Sender::new(false);
    let load = repeated(&stop, move || session(address));
    let long = socket(address).await;
    assert_eq!(ask(&long).await.as_deref(), Ok("v1"));
    stack.tag("v2-plain");
    let running = stack.start_rollout(&["--proxy", "traefik", "--drain-quiet", "2s", "web"]);
    eventually("the drain begins", Duration::from_secs(60), async || {
        assert_eq!(ask(&long).await.as_deref(), Ok("v1"));
        let events = running.events();
        let drains = events.iter().any(|event| event["step"] == "drain");
        if drains { Ok(()) } else { Err(events) }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(ask(&long).await.as_deref(), Ok("v1"));
        sleep(Duration::from_millis(100)).await;
    }
    drop(long);
    let run = running.wait().await;
    stop.send_replace(true);
    run.code(0);
    moved_at_once(&load.await.unwrap());
    assert!(run.event("confirmed").is_some(), "{}", run.text);
    stack.settled(1).await;
}
