//! Mounts as a Compose file writes them, in the short and in the long form.

use serde_json::Value;

/// One element of `volumes`, as written.
pub struct Mount {
    /// A path on the host or the name of a volume; empty without either.
    pub source: String,
    /// The path in the container.
    pub target: String,
}

impl Mount {
    pub fn of(value: &Value) -> Option<Self> {
        let key = |names: [&str; 2]| names.iter().find_map(|name| value[*name].as_str());
        match value.as_str() {
            Some(text) => Some(Self::short(text)),
            None => Some(Self {
                source: key(["source", "src"])?.to_owned(),
                target: key(["target", "dst"])?.to_owned(),
            }),
        }
    }

    /// `[source:]target[:mode]`; a colon in `${NAME:-path}` separates nothing.
    fn short(text: &str) -> Self {
        let mut depth = 0;
        let mut parts = text.split(|character| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            character == ':' && depth == 0
        });
        let first = parts.next().unwrap_or_default().to_owned();
        match parts.next() {
            Some(target) => Self {
                source: first,
                target: target.to_owned(),
            },
            None => Self {
                source: String::new(),
                target: first,
            },
        }
    }

    /// Whether this is the socket of an engine.
    pub fn is_socket(&self) -> bool {
        let named = |path: &str| path.trim_end_matches('}').ends_with("docker.sock");
        named(&self.source) || named(&self.target)
    }
}

/// The mounts of a service.
pub fn mounts(service: &Value) -> Vec<Mount> {
    let all = service["volumes"].as_array().into_iter().flatten();
    all.filter_map(Mount::of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mount_is_read_in_both_forms_and_with_variables() {
        let service = json!({"volumes": [
            "data:/data",
            "/anonymous",
            "${SOCK:-/run/docker.sock}:/var/run/docker.sock:ro",
            {"type": "bind", "source": "/run/podman/docker.sock", "target": "/x"},
            {"type": "tmpfs", "target": "/tmp"},
        ]});
        let read: Vec<_> = mounts(&service)
            .into_iter()
            .map(|own| (own.is_socket(), own.source, own.target))
            .collect();
        let mount = |is_socket, source: &str, target: &str| {
            (is_socket, source.to_owned(), target.to_owned())
        };
        assert_eq!(
            read,
            [
                mount(false, "data", "/data"),
                mount(false, "", "/anonymous"),
                mount(true, "${SOCK:-/run/docker.sock}", "/var/run/docker.sock"),
                mount(true, "/run/podman/docker.sock", "/x"),
            ]
        );
    }
}
