//! The edits that put a socket proxy into a project and make a service read through it.

use serde_json::{Value, json};

use super::{SOCKET, STATE, SWARM, address};
use crate::{
    compose::edits::{Edit, add, plain, set},
    proxy::traefik::config::{Source, Written},
};

/// The socket proxy of a project.
pub struct SocketProxy<'a> {
    pub service: &'a str,
    pub network: &'a str,
    pub volume: &'a str,
    pub image: &'a str,
    pub command: &'a [String],
    /// The engine's socket on the host.
    pub socket: &'a str,
}

impl SocketProxy<'_> {
    /// The service, hardened: it is root only to read the group of the socket.
    pub fn service(&self) -> Value {
        json!({
            "image": self.image,
            "command": self.command,
            "volumes": [format!("{}:{SOCKET}:ro", self.socket), format!("{}:{STATE}", self.volume)],
            "networks": [self.network],
            "read_only": true,
            "cap_drop": ["ALL"],
            "cap_add": ["CHOWN", "SETGID", "SETUID"],
            "security_opt": ["no-new-privileges:true"],
            "restart": "unless-stopped",
        })
    }

    /// The service, its network and its volume.
    pub fn added(&self) -> Vec<Edit> {
        vec![
            set(&["services"], json!({self.service: self.service()})),
            set(&["networks"], json!({self.network: {"internal": true}})),
            set(&["volumes"], json!({self.volume: {}})),
        ]
    }
}

/// A service reads at the address of a socket proxy.
pub fn reads(service: &str, proxy: &str) -> Edit {
    let at = ["services", service, "environment"];
    set(&at, json!({"DOCKER_HOST": address(proxy)}))
}

/// A service joins a network, and stays in `default` if that is only implied.
pub fn joins(service: &str, networks: &Value, network: &str) -> Edit {
    let implied = networks.is_null() || *networks == json!([]);
    match implied || *networks == json!({"default": null}) {
        true => set(
            &["services", service],
            json!({"networks": ["default", network]}),
        ),
        false => add(&["services", service, "networks"], &[network]),
    }
}

/// A service starts once the socket proxy answers.
pub fn waits(service: &str, proxy: &str) -> Edit {
    let healthy = json!({proxy: {"condition": "service_healthy"}});
    set(&["services", service, "depends_on"], healthy)
}

/// A socket proxy answers Traefik's Swarm provider too; `None` if its command says so already, or is not written there.
pub fn passes_swarm(proxy: &str, command: &Value) -> Option<Edit> {
    let words = match command {
        Value::String(line) => line.split_whitespace().map(str::to_owned).collect(),
        Value::Array(words) => words.iter().map(plain).collect(),
        _ => Vec::new(),
    };
    let lacks = !words.is_empty() && !words.contains(&SWARM.to_owned());
    lacks.then(|| add(&["services", proxy, "command"], &[SWARM]))
}

/// A Traefik gets an option such as `api.insecure=true`; in words if its configuration is a file.
pub fn option(service: &str, source: &Source, option: &str) -> Result<Edit, String> {
    match source.written(option) {
        Written::InFile(what) => Err(what),
        Written::Variable(name, value) => Ok(set(
            &["services", service, "environment"],
            json!({name: value}),
        )),
        Written::Argument(argument) => Ok(add(&["services", service, "command"], &[&argument])),
    }
}
