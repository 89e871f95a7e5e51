//! A daemon as a process of this machine, containers that go when the test does, and plain HTTP.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// The engine that the tests need.
pub const ENGINE: &str = "/var/run/docker.sock";

/// The binary under test: the static one where the testbed has built it.
pub fn binary() -> PathBuf {
    let built = env!("CARGO_BIN_EXE_rollout").into();
    std::env::var_os("ROLLOUT_BIN").map_or(built, PathBuf::from)
}

/// The image under test.
pub fn image() -> String {
    std::env::var("ROLLOUT_IMAGE").unwrap_or_else(|_| "rollout:latest".to_owned())
}

/// One daemon; it ends with the test.
pub struct Proxy {
    child: Child,
    state: tempfile::TempDir,
    /// Where readers connect.
    pub listen: SocketAddr,
}

impl Proxy {
    pub fn start() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    /// Starts on the state that another daemon has left.
    pub fn on(state: tempfile::TempDir) -> Self {
        let child = Command::new(binary())
            .args([
                "socket-proxy",
                "--listen",
                "127.0.0.1:0",
                "--socket",
                ENGINE,
            ])
            .arg("--state-dir")
            .arg(state.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("rollout starts");
        let hello = until("the daemon answers", || {
            control(state.path(), &[json!({"call": "hello"})]).ok()
        });
        let listen = hello[0]["ok"]["hello"]["listen"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        Self {
            child,
            state,
            listen,
        }
    }

    /// Calls on the control socket, one after another.
    pub fn control(&self, calls: &[Value]) -> Vec<Value> {
        control(self.state.path(), calls).expect("the control socket answers")
    }

    /// Sends a signal, and says how long the process took to end.
    pub fn end(mut self, signal: &str) -> (Duration, tempfile::TempDir) {
        let start = Instant::now();
        let id = self.child.id().to_string();
        run("kill", &["-s", signal, &id]);
        self.child.wait().unwrap();
        let state = std::mem::replace(&mut self.state, tempfile::tempdir().unwrap());
        (start.elapsed(), state)
    }

    /// GETs a path; the status and the JSON.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n");
        let answer = self.raw(request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        (
            status(head),
            serde_json::from_str(body).unwrap_or(Value::Null),
        )
    }

    /// Sends bytes as they are, and reads until the connection ends.
    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        // A refusal may come, and the connection end, before everything is written.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn control(state: &Path, calls: &[Value]) -> std::io::Result<Vec<Value>> {
    let mut socket = UnixStream::connect(state.join("control.sock"))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut replies = BufReader::new(socket.try_clone()?);
    let mut answers = Vec::new();
    for call in calls {
        let mut call = call.clone();
        call["control"] = json!(1);
        writeln!(socket, "{call}")?;
        let mut line = String::new();
        replies.read_line(&mut line)?;
        answers.push(serde_json::from_str(&line)?);
    }
    Ok(answers)
}

/// The status of an answer that has a status line, else 0.
pub fn status(answer: &str) -> u16 {
    let code = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Runs a program that must succeed; its standard output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs docker.
pub fn docker(arguments: &[&str]) -> String {
    run("docker", arguments)
}

/// Something on the engine that is removed with the test.
pub struct Thing {
    removal: &'static [&'static str],
    /// Unique to this test.
    pub name: String,
}

impl Thing {
    /// A container of `docker run -d`, or of `docker create`.
    pub fn container(verb: &[&str], options: &[&str]) -> Self {
        let removal = &["rm", "-f", "-v"];
        let thing = Self {
            removal,
            name: unique(),
        };
        let name = ["--name", &thing.name];
        docker(&[verb, &name, options].concat());
        thing
    }

    /// A network of its own.
    pub fn network() -> Self {
        let removal = &["network", "rm"];
        let thing = Self {
            removal,
            name: unique(),
        };
        docker(&["network", "create", &thing.name]);
        thing
    }

    /// The container's full id.
    pub fn id(&self) -> String {
        docker(&["inspect", "-f", "{{.Id}}", &self.name])
    }

    /// The container's address on its only network.
    pub fn address(&self) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "-f", format, &self.name])
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        let removal = Command::new("docker")
            .args(self.removal)
            .arg(&self.name)
            .output();
        let _ = removal;
    }
}

fn unique() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("rollout-test-{}-{number}", std::process::id())
}

/// Waits for a value.
pub fn until<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "never so: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A call that hides containers of `test/web`.
pub fn hide(epoch: u64, on: &[Value]) -> Value {
    let rules = on
        .iter()
        .map(|on| json!({"on": on, "labels": {"traefik.enable": "false"}}));
    let rules: Vec<_> = rules.collect();
    let claim =
        json!({"key": "test/web", "rollout": "r", "epoch": epoch, "stage": "hold", "rules": rules});
    json!({"call": "set", "claim": claim})
}
