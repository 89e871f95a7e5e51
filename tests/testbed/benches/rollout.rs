//! Figures beside a baseline of the same run: inspects through the socket proxy against direct ones, the phases of a
//! rollout against a plain `docker compose up -d`, many services against one of them, aborts, and the gaps of a recreate.

mod counted;
mod memory;
mod others;
mod several;
mod strategies;

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use testbed::{
    Run, Stack, Temporary,
    daemon::{Daemon, ENGINE},
    front::Kind,
};
use tokio::net::{TcpStream, UnixStream};

const ROUNDS: u32 = 10;
const INSPECTS: u32 = 1_000;

type AnyError = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    inspects().await?;
    rollouts().await;
    several::several().await;
    strategies::strategies().await;
    Ok(())
}

/// Both ways take turns, so that other work on the machine slows both.
async fn inspects() -> Result<(), AnyError> {
    let container = Temporary::container(&["create"], &["rollout-demo:v1"]);
    let daemon = Daemon::start().await;
    let path = format!("/containers/{}/json", container.name);
    let (mut direct, mut through) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        // A connection is opened when it is needed: the socket proxy closes one that has not asked within 5 s.
        let stream = UnixStream::connect(ENGINE).await?;
        direct += inspects_over(connect(stream).await?, &path).await?;
        let stream = TcpStream::connect(daemon.listen).await?;
        stream.set_nodelay(true)?;
        through += inspects_over(connect(stream).await?, &path).await?;
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(ROUNDS * INSPECTS);
    println!(
        "{} inspects, one after another, on one connection a thousand",
        ROUNDS * INSPECTS
    );
    println!("  directly (baseline)        {:8.1} µs each", each(direct));
    println!("  through the socket proxy   {:8.1} µs each", each(through));
    println!(
        "  ratio                      {:8.2}\n",
        through.as_secs_f64() / direct.as_secs_f64()
    );
    Ok(())
}

async fn connect<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>, AnyError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn inspects_over(
    mut sender: SendRequest<Empty<Bytes>>,
    path: &str,
) -> Result<Duration, AnyError> {
    let start = Instant::now();
    for _ in 0..INSPECTS {
        let request = Request::get(path)
            .header("host", "docker")
            .body(Empty::new())?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("{path} answered {}", response.status()).into());
        }
        response.into_body().collect().await?;
    }
    Ok(start.elapsed())
}

/// One idle stack, rolled back and forth.
async fn rollouts() {
    let mut stack = Stack::fresh_usual(Kind::Relabel, "");
    stack.unset("ROLLOUT_STABLE").up("v1").await;
    println!("rollouts of one replica, nothing in flight");
    let start = Instant::now();
    stack.tag("v2").up("v2").await;
    row(
        "docker compose up -d, until the new version answers (baseline)",
        start.elapsed(),
    );
    for (name, tag) in [
        ("checked every second", "v1"),
        ("checked every 30 s", "v2-slowcheck"),
    ] {
        let run = stack.tag(tag).rollout(&["--proxy", "traefik", "web"]).await;
        let done = SystemTime::now();
        run.code(0);
        let ready = done
            .duration_since(listened_at(&stack).await)
            .unwrap_or_default();
        row(
            &format!("{name}, whole rollout"),
            milliseconds(&run, "total_ms"),
        );
        row(
            &format!("{name}, from the application's start to the end"),
            ready,
        );
        row(
            "  confirmed by Traefik after the cutover",
            milliseconds(&run, "cutover_ms"),
        );
        row(
            "  drain, with its pause of 250 ms",
            Duration::from_millis(run.ms("drain")),
        );
    }
    let name = stack.replicas("web").await[0].name.clone();
    let run = stack
        .rollout(&["relabel", &name, "traefik.enable=false"])
        .await;
    let hidden = run
        .code(0)
        .event("relabelled")
        .and_then(|event| event["ms"].as_u64());
    row(
        "one container hidden by hand, until Traefik agrees",
        Duration::from_millis(hidden.unwrap_or_default()),
    );
}

fn milliseconds(run: &Run, field: &str) -> Duration {
    let value = run
        .event("finished")
        .and_then(|event| event[field].as_u64());
    Duration::from_millis(value.unwrap_or_default())
}

/// When the application in `web-1` began to listen, by the engine's log.
async fn listened_at(stack: &Stack) -> SystemTime {
    let script = format!("docker logs --timestamps {}-web-1 2>&1", stack.name);
    let log = stack.shell(&script).await;
    let line = log.lines().find(|line| line.contains("listening on"));
    let time = line
        .and_then(|line| line.split(' ').next())
        .expect("the application says so");
    humantime::parse_rfc3339(time).expect("a time")
}

fn row(what: &str, time: Duration) {
    println!("  {what:<64} {:8.2} s", time.as_secs_f64());
}
