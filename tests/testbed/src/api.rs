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
        let socket = match host {
            "" => "/var/run/docker.sock",
            host => host.strip_prefix("unix://").expect("a Unix socket"),
        };
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
        let path = format!("{path}?{more}filters={filter}");
        let (status, answer) = self.call("GET", &path);
        // An engine that ends in the middle of a test is no second panic where the stack is dropped.
        let ok = status == 200 || std::thread::panicking();
        assert!(ok, "{path}: {status} {answer}");
        let list = if kind == "volumes" {
            &answer["Volumes"]
        } else {
            &answer
        };
        list.as_array().cloned().unwrap_or_default()
    }

    /// Null where there is no such container.
    pub fn inspect(&self, container: &str) -> Value {
        let (status, answer) = self.call("GET", &format!("/containers/{container}/json"));
        assert!(
            [200, 404].contains(&status),
            "{container}: {status} {answer}"
        );
        if status == 200 { answer } else { Value::Null }
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
        let path = format!("/images/{image}/tag?repo={repository}&tag={tag}");
        let (status, answer) = self.call("POST", &path);
        assert_eq!(status, 201, "{path}: {answer}");
    }

    /// Status and JSON of an answer; 0 where there is no answer, null where it has no JSON.
    fn call(&self, method: &str, path: &str) -> (u16, Value) {
        let answer = self.exchange(method, path).unwrap_or_default();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        (status.unwrap_or_default(), body)
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
