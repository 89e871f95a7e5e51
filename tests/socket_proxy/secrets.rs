//! Environment, mounts and commands are in no answer and in no event.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use testbed::{Temporary, daemon::Daemon, docker};

const SECRET: &str = "hunter2-of-this-test";

#[tokio::test]
async fn no_secret_is_in_any_answer_or_event() {
    let proxy = Daemon::start().await;
    let mut events = TcpStream::connect(proxy.listen).unwrap();
    events
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    events
        .write_all(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        .unwrap();
    let mut events = BufReader::new(events);
    let mut head = String::new();
    events.read_line(&mut head).unwrap();

    let variable = format!("TOKEN={SECRET}");
    let mount = format!("/tmp/{SECRET}:/secret");
    let hostname = &SECRET[..7];
    let health = format!("/app check; echo {SECRET}");
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
        "tag=hunter2-of-this-test",
        "rollout-demo:v1",
        "/app",
        SECRET,
    ];
    let container = Temporary::container(&["run", "-d"], &options);
    let name = &container.name;
    // What runs does not matter: the engine tells of the attempt, command and all.
    let exec = std::process::Command::new("docker")
        .args(["exec", name, "/app", "check", SECRET])
        .output();
    exec.unwrap();
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
    assert!(
        answers[2].1["Name"]
            .as_str()
            .unwrap()
            .ends_with(name.as_str())
    );
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
