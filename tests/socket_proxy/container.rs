//! The image beside a real Traefik: it reads through it, follows the overlay, and is found by it.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::hide;
use testbed::{Temporary, daemon::ENGINE, docker, eventually, image};

const LIMIT: Duration = Duration::from_secs(30);

/// A control connection by `docker exec`, as the CLI has one.
struct Control {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Control {
    fn open(container: &str) -> Self {
        let mut child = Command::new("docker")
            .args([
                "exec",
                "-i",
                container,
                "/rollout",
                "socket-proxy",
                "--control",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = child.stdin.take().unwrap();
        let replies = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            requests,
            replies,
        }
    }

    fn call(&mut self, mut call: Value) -> Value {
        call["control"] = json!(1);
        writeln!(self.requests, "{call}").unwrap();
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        let reply: Value = serde_json::from_str(&line).expect("a reply");
        assert!(reply.get("ok").is_some(), "{call}: {reply}");
        reply["ok"].clone()
    }

    // The end of the requests ends the process in the container.
    fn close(mut self) {
        drop(self.requests);
        assert!(self.child.wait().unwrap().success());
    }
}

// Dropped in this order: a network goes last.
struct Stack {
    traefik: Temporary,
    proxy: Temporary,
    network: Temporary,
}

impl Stack {
    fn up() -> Self {
        let network = Temporary::network();
        let on = ["--network", network.name.as_str()];
        let socket = format!("{ENGINE}:{ENGINE}:ro");
        let proxy = ["-v", socket.as_str(), &image(), "socket-proxy"];
        let proxy = Temporary::container(&["run", "-d"], &[&on[..], &proxy].concat());
        let host = format!("DOCKER_HOST=tcp://{}:2375", proxy.name);
        let constraint = format!(
            "--providers.docker.constraints=Label(`test`,`{}`)",
            network.name
        );
        // Other tests' containers start and die on this engine, and each of their events would use up the default slot
        // of two seconds.
        let traefik = [
            "-e",
            &host,
            "traefik:v3.7",
            "--providers.docker=true",
            "--api.insecure=true",
            "--ping=true",
            "--entrypoints.web.address=:80",
            "--providers.providersthrottleduration=100ms",
            &constraint,
        ];
        let traefik = Temporary::container(&["run", "-d"], &[&on[..], &traefik].concat());
        Self {
            traefik,
            proxy,
            network,
        }
    }

    fn web(&self, rollout: &str) -> Temporary {
        let test = format!("test={}", self.network.name);
        let id = format!("io.rollout.id={rollout}");
        let options = [
            "--network",
            &self.network.name,
            "-l",
            &test,
            "-l",
            &id,
            "-l",
            "traefik.http.routers.web.rule=PathPrefix(`/`)",
            "-l",
            "traefik.http.services.web.loadbalancer.server.port=80",
            "rollout-demo:v1-plain",
        ];
        Temporary::container(&["run", "-d"], &options)
    }
}

fn fetch(control: &mut Control, traefik: &str, path: &str) -> Value {
    let url = format!("http://{traefik}:8080{path}");
    control.call(json!({"call": "fetch", "url": url}))["fetched"].clone()
}

// The servers that Traefik has, by address.
fn servers(control: &mut Control, traefik: &str) -> Vec<String> {
    let fetched = fetch(control, traefik, "/api/http/services/web@docker");
    let service: Value =
        serde_json::from_str(fetched["body"].as_str().unwrap()).unwrap_or_default();
    let servers = service["loadBalancer"]["servers"].as_array().cloned();
    let url = |server: Value| server["url"].as_str().unwrap_or_default().to_owned();
    servers.unwrap_or_default().into_iter().map(url).collect()
}

async fn until_servers_are(wanted: &[String], control: &mut Control, traefik: &str) {
    eventually("Traefik follows", LIMIT, async || {
        let mut servers = servers(control, traefik);
        servers.sort();
        if servers == wanted {
            Ok(())
        } else {
            Err(servers)
        }
    })
    .await;
}

async fn until_healthy(proxy: &Temporary) {
    eventually("the socket proxy is healthy", LIMIT, async || {
        let health = docker(&["inspect", "-f", "{{.State.Health.Status}}", &proxy.name]);
        assert_ne!(health, "unhealthy");
        if health == "healthy" {
            Ok(())
        } else {
            Err(health)
        }
    })
    .await;
}

fn ends_as_pid_one(proxy: &Temporary) {
    let processes = docker(&["top", &proxy.name, "-eo", "uid,pid,args"]);
    // Rollouts of other tests may be asking it.
    let mut own = processes.lines().skip(1);
    let owner = own.find(|line| !line.contains("--control")).unwrap();
    let owner = owner.trim_start();
    assert!(owner.starts_with("65532"), "{processes}");
    // By SIGTERM: one that has to be killed ends with 137.
    docker(&["stop", &proxy.name]);
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.ExitCode}}", &proxy.name]),
        "0"
    );
}

#[tokio::test]
async fn it_runs_as_another_user_without_capabilities_on_a_read_only_root() {
    let group = docker_group();
    let socket = format!("{ENGINE}:{ENGINE}:ro");
    let volume = "/var/lib/rollout";
    let shapes: [&[&str]; 3] = [
        &["--user", "1234:1234", "--group-add", &group],
        &[
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "--read-only",
        ],
        &[
            "--cap-drop",
            "ALL",
            "--cap-add",
            "CHOWN",
            "--cap-add",
            "SETUID",
            "--cap-add",
            "SETGID",
            "--read-only",
        ],
    ];
    for shape in shapes {
        let rest = [
            "-v",
            socket.as_str(),
            "-v",
            volume,
            &image(),
            "socket-proxy",
        ];
        let proxy = Temporary::container(&["run", "-d"], &[shape, &rest].concat());
        until_healthy(&proxy).await;
        let mut control = Control::open(&proxy.name);
        let changed = control.call(hide(1, &[json!({"id": "a"})]));
        assert_eq!(changed["changed"]["generation"], 1, "{shape:?}");
        control.close();
        docker(&["restart", &proxy.name]);
        let mut control = eventually("it is there again", LIMIT, async || {
            running(&proxy).ok_or(())
        })
        .await;
        let overlay = control.call(json!({"call": "get"}));
        assert_eq!(
            overlay["overlay"]["claims"]["test/web"]["epoch"], 1,
            "{shape:?}"
        );
    }
}

// A daemon that has just been started may not have its control socket yet.
fn running(proxy: &Temporary) -> Option<Control> {
    let exec = ["exec", &proxy.name, "/rollout", "socket-proxy", "--check"];
    let check = Command::new("docker").args(exec).output().unwrap();
    check.status.success().then(|| Control::open(&proxy.name))
}

fn docker_group() -> String {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(ENGINE).unwrap().gid().to_string()
}

#[tokio::test]
async fn traefik_reads_through_it_and_follows_each_change_of_the_overlay() {
    let stack = Stack::up();
    let (old, new) = (stack.web("r1"), stack.web("r2"));
    let traefik = stack.traefik.address();
    let url = |thing: &Temporary| format!("http://{}:80", thing.address());
    let (old, new) = (url(&old), url(&new));
    let mut both = vec![old.clone(), new.clone()];
    both.sort();
    until_healthy(&stack.proxy).await;
    let mut control = Control::open(&stack.proxy.name);

    let reader = eventually("Traefik's stream is open", LIMIT, async || {
        let answer = control.call(json!({"call": "readers"}));
        let readers = answer["readers"]["readers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        readers
            .into_iter()
            .find(|reader| reader["streams"] == 1)
            .ok_or(answer)
    })
    .await;
    assert_eq!(reader["address"], traefik.as_str());
    assert_eq!(reader["container"]["name"], stack.traefik.name.as_str());
    let agent = reader["user_agent"].as_str().unwrap();
    assert!(agent.starts_with("Traefik 3."), "{agent}");
    assert_eq!(fetch(&mut control, &traefik, "/ping")["body"], "OK");

    until_servers_are(&both, &mut control, &traefik).await;
    let label = |id: &str| json!({"label": {"key": "io.rollout.id", "value": id}});
    for (epoch, hidden, left) in [(1, "r2", &old), (2, "r1", &new)] {
        control.call(hide(epoch, &[label(hidden)]));
        until_servers_are(std::slice::from_ref(left), &mut control, &traefik).await;
    }
    control.close();
    ends_as_pid_one(&stack.proxy);
}
