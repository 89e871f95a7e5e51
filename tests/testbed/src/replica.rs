//! One container of the demo application, without a project.

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use crate::{
    engine::{Temporary, docker},
    wait::eventually,
};

/// A running container.
pub struct Replica {
    pub id: String,
    /// The process id of its application, as the host sees it.
    pub pid: String,
    /// Where it listens.
    pub address: SocketAddr,
    _container: Temporary,
}

impl Replica {
    /// The demo application, once it accepts connections; `environment` is name, value, name, value.
    pub async fn start(environment: &[&str]) -> Self {
        Self::start_image("rollout-demo:v1", environment).await
    }

    /// The same with another image.
    pub async fn start_image(image: &str, environment: &[&str]) -> Self {
        let replica = Self::create(image, environment);
        eventually(
            "the demo application listens",
            Duration::from_secs(10),
            async || TcpStream::connect(replica.address).await,
        )
        .await;
        replica
    }

    /// Without waiting.
    pub fn create(image: &str, environment: &[&str]) -> Self {
        let settings = environment.chunks_exact(2);
        let settings: Vec<String> = settings
            .map(|pair| format!("--env={}={}", pair[0], pair[1]))
            .collect();
        let mut options: Vec<&str> = settings.iter().map(String::as_str).collect();
        options.push(image);
        let container = Temporary::container(&["run", "-d"], &options);
        let format =
            "{{.Id}} {{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let found = docker(&["inspect", "--format", format, &container.name]);
        let fields: Vec<&str> = found.split(' ').collect();
        let port = if image.ends_with(":db") { 5432 } else { 80 };
        Self {
            id: fields[0].to_owned(),
            pid: fields[1].to_owned(),
            address: format!("{}:{port}", fields[2]).parse().expect("an address"),
            _container: container,
        }
    }
}
