//! Environment, mounts and commands are in no answer and in no event.

use std::{
    io::BufRead,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use testbed::{Temporary, daemon::Daemon, docker, eventually};

const SECRET: &str = "hunter2-of-this-test";

/// An application that serves, with the secret in its environment, its mount, its host name, its health command and its
/// log options.
fn serving() -> Temporary {
    let variable = format!("TOKEN={SECRET}");
    let mount = format!("/tmp/{SECRET}:/secret");
    let hostname = &SECRET[..7];
    let health = format!("/app check; echo {SECRET}");
    let log = format!("tag={SECRET}");
    let options = [
        "-e",
        &variable,
        "-v",
        &mount,
        "-h",
        hostname,
        "--health-cmd",
        &health,
        "--health-interval",
        "1s",
        "--log-opt",
        &log,
        "rollout-demo:v1",
    ];
    Temporary::container(&["run", "-d"], &options)
}

/// A command with the secret, run in the container, which must succeed once the application serves.
async fn exec_with_the_secret(name: &str) {
    let url = format!("http://127.0.0.1:80/?token={SECRET}");
    let exec = ["exec", name, "/app", "check", &url];
    eventually(
        "the application serves",
        Duration::from_secs(30),
        async || {
            let output = Command::new("docker").args(exec).output().unwrap();
            match output.status.success() {
                true => Ok(()),
                false => Err(output),
            }
        },
    )
    .await;
}

fn unix_time() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// The engine's own events of a container's execs since then.
fn execs_of(name: &str, since: u64) -> String {
    let (since, until) = (since.to_string(), (unix_time() + 1).to_string());
    let container = format!("container={name}");
    let time = ["--since", &since, "--until", &until];
    let what = ["--filter", &container, "--format", "{{.Action}}"];
    let events = docker(&[&["events"], &time[..], &what].concat());
    let execs = events.lines().filter(|line| line.starts_with("exec_"));
    execs.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn no_secret_is_in_any_answer_or_event() {
    let proxy = Daemon::start().await;
    let mut events = proxy.events();
    let began = unix_time();
    // An application that is given a word does not serve: only a list has its command.
    let command = ["rollout-demo:v1", "check", SECRET];
    let create = ["create", "-l", "traefik.docker.allownonrunning=true"];
    let _listed = Temporary::container(&create, &command);
    let container = serving();
    let name = &container.name;
    exec_with_the_secret(name).await;
    let execs = execs_of(name, began);
    assert!(execs.contains(SECRET), "{execs}");
    let answers = [
        "/containers/json?all=1",
        "/v1.24/containers/json?all=1&size=1",
        &format!("/containers/{name}/json"),
        &format!("/v1.24/containers/{name}/json?size=1"),
        "/networks",
        "/networks/bridge",
        "/version",
        "/_ping",
    ]
    .map(|path| proxy.get(path));
    assert!(
        answers.iter().all(|(status, _)| *status == 200),
        "{answers:?}"
    );
    let found = answers[2].1["Name"].as_str().unwrap();
    assert!(found.ends_with(name.as_str()), "{found}");
    docker(&["rm", "-f", "-v", name]);

    let mut heard = String::new();
    while !(heard.contains("\"destroy\"") && heard.contains(name.as_str())) {
        assert!(events.read_line(&mut heard).unwrap() > 0, "{heard}");
    }
    assert!(heard.contains("\"start\""), "{heard}");
    for text in [&format!("{answers:?}"), &heard] {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!text.contains("exec_"), "{text}");
    }
    let _ = std::fs::remove_dir(format!("/tmp/{SECRET}"));
}
