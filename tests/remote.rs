//! Engines that are elsewhere: by tcp with TLS, by ssh, by a context; and one that is too new for its Traefik.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::Value;

use crate::{bad_input::refused, faulty::upstream::Upstream};
use testbed::{Run, Stack, binary, front::Kind};

/// The testbed's second engine.
pub struct Far {
    /// The newer docker, and an ssh with the testbed's key and known hosts.
    pub bin: String,
    tcp: String,
    certs: String,
    pub socket: String,
    pub ssh: String,
}

/// Starts it where it does not run yet.
pub fn far() -> &'static Far {
    static FAR: OnceLock<Far> = OnceLock::new();
    FAR.get_or_init(|| {
        let testbed = testbed::root().join("tests/testbed/testbed");
        let run = |command: &str| {
            let output = Command::new(&testbed).arg(command).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "testbed {command}: {error}");
            String::from_utf8(output.stdout).unwrap()
        };
        run("far");
        let exports = run("env");
        let exports: BTreeMap<&str, &str> = exports
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .collect();
        let get = |name: &str| exports[format!("ROLLOUT_TESTBED_FAR_{name}").as_str()].to_owned();
        Far {
            bin: get("BIN"),
            tcp: get("TCP"),
            certs: get("CERTS"),
            socket: get("SOCKET"),
            ssh: get("SSH"),
        }
    })
}

/// Traefik's option for where it reads Docker, which those before 3.6.1 need: they ignore `DOCKER_HOST`.
const ENDPOINT: &str = "--providers.docker.endpoint=tcp://socket-proxy:2375";

/// A stack of that engine, reached by its socket until another way is set.
fn stack(traefik: &str) -> Stack {
    let far = far();
    let mut stack = Stack::fresh_usual(Kind::Relabel, "");
    let front = std::fs::read_to_string(stack.path("front.yaml")).unwrap();
    let socket = "/var/run/docker.sock:/var/run/docker.sock";
    let option = "--api.insecure=true";
    for part in [socket, option] {
        assert!(front.contains(part), "{front}");
    }
    let front = front
        .replace(socket, &format!("{}:/var/run/docker.sock", far.socket))
        .replace(option, &format!("{option}\n      - {ENDPOINT}"));
    stack.write("front.yaml", &front);
    stack.set("TRAEFIK", traefik);
    let path = std::env::var("PATH").unwrap();
    stack.set("PATH", format!("{}:{path}", far.bin));
    stack.set("DOCKER_HOST", format!("unix://{}", far.socket));
    stack.lives_on(&far.socket);
    stack
}

fn with_tls(stack: &mut Stack) {
    let far = far();
    stack.set("DOCKER_HOST", &far.tcp);
    stack.set("DOCKER_TLS_VERIFY", 1);
    stack.set("DOCKER_CERT_PATH", &far.certs);
}

/// Rolls under load; nothing is lost, nothing mixed, and Compose finds it as it would have made it.
async fn rolls(stack: &mut Stack, to: &str, arguments: &[&str]) {
    let load = stack.load();
    stack.tag(to);
    let run = stack.rollout(&[arguments, &["web"]].concat()).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report:?}\n{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some(to));
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_elsewhere_is_rolled_without_loss_by_tls_by_a_context_and_by_ssh() {
    let far = far();
    let mut stack = stack("v3.7");
    with_tls(&mut stack);
    stack.up("v1").await;
    rolls(&mut stack, "v2", &[]).await;

    // Docker's configuration alone says where the engine is, and how.
    let config = stack.path("docker-config");
    std::fs::create_dir(&config).unwrap();
    if let Some(own) = std::env::var_os("DOCKER_CONFIG") {
        let plugins = Path::new(&own).join("cli-plugins");
        std::os::unix::fs::symlink(plugins, config.join("cli-plugins")).unwrap();
    }
    stack.set("DOCKER_CONFIG", config.display());
    for name in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        stack.set(name, "");
    }
    let (tcp, certs) = (&far.tcp, &far.certs);
    let docker = format!("host={tcp},ca={certs}/ca.pem,cert={certs}/cert.pem,key={certs}/key.pem");
    stack
        .docker(&["context", "create", "far", "--docker", &docker])
        .await;
    stack.set("DOCKER_CONTEXT", "far");
    rolls(&mut stack, "v1", &["--context", "far"]).await;

    stack.set("DOCKER_CONTEXT", "").set("DOCKER_HOST", &far.ssh);
    rolls(&mut stack, "v2", &[]).await;
    // The far side's docker would take another socket by itself.
    let by_path = format!("{}{}", far.ssh, far.socket);
    let run = stack.rollout(&["-v", "-H", &by_path, "web"]).await;
    run.code(0);
    assert!(run.event("nothing_to_do").is_some(), "{}", run.text);
    assert!(run.text.contains("by a helper"), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_that_the_engine_is_too_new_for_is_served_by_the_socket_proxy() {
    let mut stack = stack("v3.0");
    let engine = Upstream::new(&format!("unix://{}", far().socket));
    // What Traefik 3.0 asks for, and all that it can ask for.
    let refused = engine.get("/v1.24/containers/json").await.unwrap();
    assert_eq!(refused.0, 400, "{refused:?}");
    stack.up("v1").await;
    rolls(&mut stack, "v2", &[]).await;
}

/// Refused because no engine answers at `host`, for a reason that ends with docker's own text.
fn unanswered(run: &Run, host: &str, error: &str, next: &str) {
    let message = run.failure();
    let begin = format!("the Docker engine at {host} does not answer: ");
    assert!(
        message.starts_with(&begin) && message.ends_with(error),
        "{message}"
    );
    refused(run, message, next);
}

/// A directory with some of the client's files.
fn some_of(stack: &Stack, name: &str, files: &[&str]) -> String {
    let directory = stack.path(name);
    std::fs::create_dir(&directory).unwrap();
    for file in files {
        std::fs::copy(Path::new(&far().certs).join(file), directory.join(file)).unwrap();
    }
    directory.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tls_fails_at_is_one_line() {
    let tcp = &far().tcp;
    let mut stack = stack("v3.7");
    with_tls(&mut stack);
    let nothing = some_of(&stack, "nothing", &[]);
    let nobody = some_of(&stack, "nobody", &["ca.pem"]);
    let keyless = some_of(&stack, "keyless", &["ca.pem", "cert.pem"]);
    let other = some_of(&stack, "other", &["cert.pem", "key.pem"]);
    std::fs::copy(format!("{other}/cert.pem"), format!("{other}/ca.pem")).unwrap();
    let no_file = format!("open {nothing}/ca.pem: no such file or directory");
    for (certs, error) in [
        (&nothing, no_file.as_str()),
        (&keyless, "tls: certificate required"),
        (&nobody, "tls: certificate required"),
        (&other, "x509: certificate signed by unknown authority"),
    ] {
        stack.set("DOCKER_CERT_PATH", certs);
        let run = stack.rollout(&["web"]).await;
        unanswered(&run, tcp, error, "DOCKER_CERT_PATH names the directory");
    }
    stack.set("DOCKER_TLS_VERIFY", "");
    let run = stack.rollout(&["web"]).await;
    let error = format!(
        "the Docker engine at {tcp} does not answer: Client sent an HTTP request to an HTTPS server."
    );
    refused(&run, &error, "DOCKER_TLS_VERIFY=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ssh_fails_at_is_one_line() {
    let far = far();
    let mut stack = stack("v3.7");
    let closed = testbed::free_port();
    let refusing = format!("ssh://root@127.0.0.1:{closed}");
    let nowhere = format!("{}/nowhere.sock", far.ssh);
    let own_path = std::env::var("PATH").unwrap();
    let far_path = format!("{}:{own_path}", far.bin);
    let empty = stack.path("").display().to_string();
    let connection_refused = format!("port {closed}: Connection refused");
    for (path, host, error, next) in [
        (
            &far_path,
            &refusing,
            connection_refused.as_str(),
            "try: ssh ssh://root@127.0.0.1",
        ),
        (
            &own_path,
            &far.ssh,
            "Host key verification failed.",
            "compare the key: ssh ssh://",
        ),
        (
            &empty,
            &far.ssh,
            "docker was not found",
            "install the Docker CLI",
        ),
        (
            &far_path,
            &nowhere,
            "/nowhere.sock: connect: no such file or directory",
            "try: ssh ssh://",
        ),
    ] {
        stack.set("PATH", path);
        let run = stack.rollout(&["-H", host, "web"]).await;
        unanswered(&run, host, error, next);
    }
}

/// The script of `rollout help ci`, as it stands there.
fn script_of_a_job() -> String {
    let help = Command::new(binary())
        .args(["help", "ci"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let begins = help.find("    #!/bin/bash").unwrap();
    let lines = help[begins..].lines();
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    let lines = lines.map(|line| format!("{}\n", line.get(4..).unwrap_or_default()));
    lines.collect()
}

/// Keeps what a login is given, as docker does; all else is docker's.
fn docker_with_a_registry(docker: &str) -> String {
    format!(
        r#"#!/bin/sh
case "$1" in
login) cat >"$DOCKER_CONFIG/password" && echo "$@" >login && echo "$DOCKER_CONFIG" >place ;;
*) exec {docker} "$@" ;;
esac
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_of_a_ci_job_rolls_over_ssh_and_leaves_no_login_behind() {
    let far = far();
    let mut stack = stack("v3.7");
    stack.up("v1").await;
    fs::create_dir(stack.path("bin")).unwrap();
    symlink(binary(), stack.path("bin/rollout")).unwrap();
    let docker = docker_with_a_registry(&format!("{}/docker", far.bin));
    for (name, text) in [("bin/docker", &docker), ("deploy.sh", &script_of_a_job())] {
        stack.write(name, text);
        fs::set_permissions(stack.path(name), Permissions::from_mode(0o755)).unwrap();
    }
    let bin = stack.path("bin").display().to_string();
    let path = std::env::var("PATH").unwrap();
    stack.set("PATH", format!("{bin}:{}:{path}", far.bin));
    stack.set("DOCKER_HOST", "").set("DEPLOY_HOST", &far.ssh);
    stack
        .set("GITHUB_ACTIONS", "true")
        .set("REGISTRY", "registry.example");
    stack
        .set("REGISTRY_USER", "ci")
        .set("REGISTRY_PASSWORD", "s3cret");
    let job = async |stack: &Stack, service: &str| -> Output {
        let mut job = stack.command(stack.path("deploy.sh"), &[service]);
        let output = job.output().await.unwrap();
        let login = fs::read_to_string(stack.path("login")).unwrap();
        assert_eq!(
            login,
            "login --username ci --password-stdin registry.example\n"
        );
        let place = fs::read_to_string(stack.path("place")).unwrap();
        assert!(!Path::new(place.trim()).exists(), "{place}");
        output
    };

    let load = stack.load();
    stack.tag("v2");
    let output = job(&stack, "web").await;
    let report = load.stop().await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(report.nothing_lost(), "{report:?}");
    let events = fs::read(stack.path("rollout.jsonl")).unwrap();
    assert_eq!(output.stdout, events);
    let events = String::from_utf8(events).unwrap();
    let mut events = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(events.any(|event| event["event"] == "finished"));

    let output = job(&stack, "wbe").await;
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    let annotation = "::error title=rollout::no service \"wbe\" in project ";
    assert!(
        error.lines().any(|line| line.starts_with(annotation)),
        "{error}"
    );
    stack.set("GITHUB_ACTIONS", "").set("DOCKER_HOST", &far.ssh);
    stack.settled(1).await;
}
