//! `tls`: the certificate is the script's own, and the API is asked by it and its password.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::folder::Example;
use crate::shapes::lines::{moved_at_once, repeated, until_answered};
use testbed::{eventually, free_port};

/// A client that trusts the example's authority alone.
fn client(authority: &[u8], port: u16) -> reqwest::Client {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let authority = reqwest::Certificate::from_pem(authority).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    reqwest::Client::builder()
        .tls_certs_only([authority])
        .resolve("tls.localhost", address)
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

/// The version that answers.
async fn version(client: reqwest::Client, port: u16) -> Result<String, String> {
    let request = client.get(format!("https://tls.localhost:{port}/"));
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let version = answer.headers().get("x-version").cloned();
    match version {
        Some(version) if answer.status() == 200 => Ok(version.to_str().unwrap().to_owned()),
        _ => Err(answer.status().to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_with_a_certificate_of_ones_own_is_rolled_by_an_api_that_is_guarded() {
    let mut example = Example::new("tls", "WEB_IMAGE");
    let port = free_port();
    example.stack.set("HTTPS_PORT", port);
    example.stack.shell("sh certificates.sh").await;
    let authority = std::fs::read(example.stack.path("certs/ca.pem")).unwrap();
    let client = client(&authority, port);
    let ask = move || version(client.clone(), port);
    example.stack.compose(&["up", "-d"]).await;
    until_answered("v1", ask.clone()).await;
    let stop = watch::Sender::new(false);
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = answers.clone();
    let load = repeated(&stop, move || {
        let (counted, asked) = (counted.clone(), ask());
        async move {
            let answer = asked.await;
            counted.fetch_add(1, Ordering::Relaxed);
            answer
        }
    });
    eventually(
        "the load has been answered",
        Duration::from_secs(30),
        async || match answers.load(Ordering::Relaxed) {
            0 => Err("none"),
            _ => Ok(()),
        },
    )
    .await;
    example.is_well_but_for(&[]).await;
    example.ask_for_the_second();
    let run = example.stack.rollout(&["-v", "web"]).await;
    stop.send_replace(true);
    run.code(0);
    moved_at_once(&load.await.unwrap());
    assert!(run.text.contains("traefik.tls.localhost"), "{}", run.text);

    example.stack.write("certs/password", "admin:wrong\n");
    let wrong = example.stack.rollout(&["--force", "web"]).await;
    wrong.code(2);
    let refused = "refuses the user and password of the first line of ";
    assert!(wrong.text.contains(refused), "{}", wrong.text);
    example.stack.settled_beside_faults(1).await;
    example.taken_down().await;
}
