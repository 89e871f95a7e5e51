//! Every Traefik that people run, by every way to switch: a rollout under load for each cell of a table.

use std::{fmt::Write as _, io::Write as _};

use futures_util::{StreamExt, stream};

use testbed::{LoadReport, Run, Stack, free_port};

/// Tags of the image.
const VERSIONS: [&str; 4] = ["v3.0", "v3.3", "v3.6", "v3.7"];
/// What `--switch` takes.
const WAYS: [&str; 2] = ["relabel", "pin"];
/// Cells at a time: each waits for most of its time.
const AT_ONCE: usize = 2;

/// Two replicas behind routers of two protocols: before 3.6, Traefik says nothing of the state of TCP servers.
const WEB: &str = r#"    scale: 2
  traefik:
    ports: ["127.0.0.1:${TCP_PORT}:5000"]
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)
      - READS
      - --entrypoints.web.address=:80
      - --entrypoints.tcp.address=:5000
      - --api.insecure=true
"#;

const TCP_LABELS: &str = r#"      traefik.http.routers.web.entrypoints: web
      traefik.tcp.routers.raw.rule: HostSNI(`*`)
      traefik.tcp.routers.raw.entrypoints: tcp
      traefik.tcp.services.raw.loadbalancer.server.port: "80"
    networks: [front]
"#;

/// One cell: how it went, in a line.
struct Cell {
    line: String,
    passed: bool,
}

fn stack(version: &str, way: &str) -> Stack {
    let mut stack = match way {
        "pin" => Stack::pinned(WEB),
        _ => Stack::relabelled(WEB),
    };
    let compose = std::fs::read_to_string(stack.path("compose.yaml")).unwrap();
    let compose = compose.replacen("    networks: [front]\n", TCP_LABELS, 1);
    // Before 3.6.1, Traefik ignores DOCKER_HOST.
    let reads = match way {
        "pin" => "--providers.file.directory=/etc/traefik/dynamic",
        _ => "--providers.docker.endpoint=tcp://socket-proxy:2375",
    };
    let compose = compose.replace("READS", reads);
    stack.write("compose.yaml", &compose);
    stack.set("TRAEFIK", version).set("TCP_PORT", free_port());
    stack
}

async fn cell(version: &'static str, way: &'static str) -> Cell {
    let mut stack = stack(version, way);
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2");
    let run = stack.rollout(&["--switch", way, "web"]).await;
    let report = load.stop().await;
    let mut line = format!("traefik {version}  {way:<8}");
    let passed = match judge(&run, &report) {
        Ok(()) => {
            stack.settled(2).await;
            let answer = stack
                .shell("curl -sfi http://127.0.0.1:${TCP_PORT}/")
                .await
                .to_lowercase();
            assert!(answer.contains("x-version: v2"), "{answer}");
            true
        }
        Err(why) => {
            let _ = write!(line, "FAILED: {why}");
            false
        }
    };
    if passed {
        let finished = run.event("finished").unwrap();
        let _ = write!(
            line,
            "ok: {} requests, 0 failed, 0 mixed; cutover in {} ms, {} ms in all",
            report.requests, finished["cutover_ms"], finished["total_ms"]
        );
    }
    // Straight to the terminal: what a test prints is shown only where it fails.
    let _ = writeln!(std::io::stderr(), "{line}");
    Cell { line, passed }
}

fn judge(run: &Run, report: &LoadReport) -> Result<(), String> {
    if run.code != Some(0) {
        return Err(format!("exit code {:?}\n{}", run.code, run.text));
    }
    if !report.nothing_lost() || report.first_answer_of("v2").is_none() {
        return Err(format!("{report}\n{}", run.text));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_traefik_is_switched_by_every_way_without_a_lost_request() {
    let cells = VERSIONS
        .iter()
        .flat_map(|version| WAYS.iter().map(|way| cell(version, way)));
    let mut cells: Vec<Cell> = stream::iter(cells)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    cells.sort_by(|a, b| a.line.cmp(&b.line));
    assert_eq!(cells.len(), VERSIONS.len() * WAYS.len());
    let table: Vec<&str> = cells.iter().map(|cell| cell.line.as_str()).collect();
    assert!(
        cells.iter().all(|cell| cell.passed),
        "\n{}",
        table.join("\n")
    );
}
