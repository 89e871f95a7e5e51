//! The analysis by a real Prometheus that scrapes the Traefik in front.

use std::{fs, time::Duration};

use tokio::process::{Child, Command};

use testbed::{Stack, eventually, free_port, front::Kind, http, root};

/// The share of the answers of the service that are errors, over the last seconds.
const QUERY: &str = concat!(
    r#"sum(rate(traefik_service_requests_total{service=~"web-.*@docker",code=~"5.."}[5s]) or vector(0))"#,
    r#" / sum(rate(traefik_service_requests_total{service=~"web-.*@docker"}[5s]))"#
);

/// A Prometheus on this machine that scrapes Traefik once a second; it ends with the value.
async fn prometheus(stack: &Stack, port: u16) -> Child {
    let testbed = root().join("tests/testbed/testbed");
    let line = format!("{} prometheus", testbed.display());
    let program = stack.shell(&line).await.trim().to_owned();
    let address = stack.traefik_address().await;
    let config = format!(
        "scrape_configs: [{{job_name: traefik, scrape_interval: 1s, static_configs: [{{targets: ['{address}:8080']}}]}}]\n"
    );
    stack.write("prometheus.yml", &config);
    let data = stack.path("prometheus");
    Command::new(program)
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!(
            "--config.file={}",
            stack.path("prometheus.yml").display()
        ))
        .stderr(fs::File::create(stack.path("prometheus.log")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A service whose errors are judged by a Prometheus on this port, behind a Traefik with metrics.
fn scraped(port: u16) -> Stack {
    let web = format!(
        r#"    environment: {{ ERROR_EVERY: "${{ERRORS:-0}}" }}
    x-rollout:
      bake: 12s
      analysis:
        # The figures of the wire alone would let it pass.
        success-rate: 50%
        prometheus:
          - address: http://127.0.0.1:{port}
            query: >-
              {QUERY}
            success: "< 0.02"
            interval: 1s
            failure-limit: 1
"#
    );
    let stack = Stack::fresh_usual(Kind::Relabel, &web);
    let front = fs::read_to_string(stack.path("front.yaml")).unwrap();
    let insecure = "      - --api.insecure=true\n";
    let scraped = format!("{insecure}      - --metrics.prometheus=true\n");
    stack.write("front.yaml", &front.replace(insecure, &scraped));
    stack
}

async fn counts_requests(port: u16) {
    let asked = "/api/v1/query?query=traefik_service_requests_total";
    let limit = Duration::from_secs(30);
    eventually("Prometheus counts requests", limit, async || {
        let answer = http::get(port, "localhost", asked).await;
        let body = answer.map(|own| String::from_utf8_lossy(own.body()).into_owned());
        let counts = body
            .as_ref()
            .is_some_and(|own| own.contains(r#""service":"web-"#));
        counts.then_some(()).ok_or(body)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_a_query_goes_back_and_one_that_meets_it_is_rolled_out() {
    let port = free_port();
    let mut stack = scraped(port);
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let server = prometheus(&stack, port).await;
    let load = stack.load();
    counts_requests(port).await;

    stack.set("ERRORS", 10).tag("v2");
    let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
    run.code(1);
    let undoing = run.event("undoing").unwrap()["reason"].to_string();
    assert!(
        undoing.contains("fails the analysis: sum(rate("),
        "{undoing}"
    );
    assert!(
        undoing.contains("and must be < 0.02 (2 failures, 1 allowed)"),
        "{undoing}"
    );
    assert_eq!(stack.replicas("web").await, before);

    stack.set("ERRORS", 0);
    let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
    drop(load);
    run.code(0);
    assert!(!run.text.contains("not analysed"), "{}", run.text);
    stack.answers("v2").await;

    // Without the server nothing is known, and the report says so.
    drop(server);
    stack.tag("v1");
    let run = stack.rollout(&["--proxy", "traefik", "web"]).await;
    assert!(
        run.code(0).text.contains("not analysed in full"),
        "{}",
        run.text
    );
    assert!(run.text.contains("Prometheus: "), "{}", run.text);
    stack.settled(1).await;
}
