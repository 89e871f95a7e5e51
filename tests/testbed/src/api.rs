//! The engine's API over its Unix socket: what the kit asks and removes so often that a process for each would slow all
//! tests down.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use serde_json::{Value, json};

/// One engine.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// `host` is a `DOCKER_HOST`: a Unix socket, or empty for the engine of this machine.
    pub fn new(host: &str) -> Self {
        let socket = host
            .strip_prefix("unix://")
            .unwrap_or("/var/run/docker.sock");
        Self {
            socket: socket.into(),
        }
    }

    /// Everything of a kind (`containers`, `networks`, `volumes`, `images`) that passes a filter, such as
    /// `{"label": ["a=b"]}`.
    pub fn list(&self, kind: &str, filter: &Value) -> Vec<Value> {
        let (path, more) = match kind {
            "containers" => ("/containers/json", "all=1&"),
            "images" => ("/images/json", ""),
            "volumes" => ("/volumes", ""),
            _ => ("/networks", ""),
        };
        let filter: String =
            form_urlencoded::byte_serialize(filter.to_string().as_bytes()).collect();
        let answer = self.call("GET", &format!("{path}?{more}filters={filter}"));
        let list = if kind == "volumes" {
            &answer["Volumes"]
        } else {
            &answer
        };
        list.as_array().cloned().unwrap_or_default()
    }

    pub fn inspect(&self, container: &str) -> Value {
        self.call("GET", &format!("/containers/{container}/json"))
    }

    /// Removes something by id or name, whether it is in use or not there.
    pub fn remove(&self, kind: &str, name: &str) {
        let more = if kind == "containers" {
            "?force=1&v=1"
        } else {
            ""
        };
        self.call("DELETE", &format!("/{kind}/{name}{more}"));
    }

    /// Gives an image another name, `REPOSITORY:TAG`.
    pub fn tag(&self, image: &str, name: &str) {
        let (repository, tag) = name.rsplit_once(':').expect("a name with a tag");
        self.call(
            "POST",
            &format!("/images/{image}/tag?repo={repository}&tag={tag}"),
        );
    }

    /// The JSON of an answer; null where there is none.
    fn call(&self, method: &str, path: &str) -> Value {
        let answer = self.exchange(method, path).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    /// By HTTP/1.0, whose answers end with their connection.
    fn exchange(&self, method: &str, path: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// A filter by one label.
pub fn label(key: &str, value: &str) -> Value {
    json!({"label": [format!("{key}={value}")]})
}
