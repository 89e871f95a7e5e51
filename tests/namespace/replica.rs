//! A container of the demo application, removed when it goes out of scope.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A running container.
pub struct Replica {
    /// Its id.
    pub id: String,
    /// Its first process, seen from here.
    pub pid: String,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Replica {
    /// The demo application, once it accepts connections; `environment` is name, value, name, value.
    pub async fn start(environment: &[&str]) -> Self {
        Self::start_image("rollout-demo:v1", environment).await
    }

    /// The same with another image.
    pub async fn start_image(image: &str, environment: &[&str]) -> Self {
        let replica = Self::create(image, environment);
        let connect = async {
            while TcpStream::connect(replica.address).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let connected = timeout(Duration::from_secs(10), connect).await;
        connected.expect("the demo application listens");
        replica
    }

    /// Without waiting.
    pub fn create(image: &str, environment: &[&str]) -> Self {
        let settings: Vec<String> = environment
            .chunks_exact(2)
            .map(|pair| format!("--env={}={}", pair[0], pair[1]))
            .collect();
        let mut arguments = vec!["run", "--detach", "--label=io.rollout.test=namespace"];
        arguments.extend(settings.iter().map(String::as_str));
        arguments.push(image);
        let id = docker(&arguments);
        let format = "{{.State.Pid}} {{.NetworkSettings.IPAddress}}:";
        let found = docker(&["inspect", "--format", format, &id]);
        let port = if image.ends_with(":db") { 5432 } else { 80 };
        let (pid, address) = found.split_once(' ').expect("two fields");
        Self {
            pid: pid.to_owned(),
            address: format!("{address}{port}").parse().expect("an address"),
            id,
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rm", "--force", "--volumes", &self.id])
            .output();
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .args(arguments)
        .output()
        .expect("a Docker client");
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
