//! Parses a reader's request into one of the routes of [`Route`], and refuses everything else. Pure.

use std::collections::{BTreeMap, BTreeSet};

use hyper::{HeaderMap, Method, StatusCode, Uri, header};
use url::form_urlencoded;

use super::rebuild::{DIGEST, OWN};

/// Filters of a Docker query, by key.
pub type Filters = BTreeMap<String, BTreeSet<String>>;

/// An API version: major, minor.
pub type ApiVersion = (u16, u16);

/// A request that is allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The version in the path.
    pub version: Option<ApiVersion>,
    pub route: Route,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// `/_ping`
    Ping,
    /// `/version`
    Version,
    /// `/events`
    Events(Query),
    /// `/containers/json`
    List(Query),
    /// `/containers/{id}/json`
    Inspect(String),
    /// `/networks`
    Networks(Query),
    /// `/networks/{id}`
    Network(String),
    /// `/info`
    Info,
    /// `/services`
    Services(Query),
    /// `/services/{id}`
    Service(String),
    /// `/tasks`
    Tasks(Query),
    /// `/nodes`
    Nodes,
    /// `/nodes/{id}`
    Node(String),
}

/// A query rebuilt from its known keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// In the order in which they are sent.
    pub pairs: Vec<(&'static str, String)>,
    pub filters: Filters,
}

/// A request that is answered without asking the engine.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 403, or 400 for a known key with a value that Docker would refuse.
    pub status: StatusCode,
    /// For the answer and the log.
    pub message: String,
    /// Closes the connection: its next bytes may belong to this request.
    pub close: bool,
}

/// `swarm` says whether Swarm's routes are allowed.
pub fn parse(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    swarm: bool,
) -> Result<Call, Refusal> {
    refuse_tricks(uri, headers)?;
    if method != Method::GET && method != Method::HEAD {
        return Err(forbidden("only GET and HEAD are allowed"));
    }
    let (version, path) = split_version(uri.path());
    let query = |keys| Query::parse(uri.query().unwrap_or_default(), keys);
    let route = match path.split('/').collect::<Vec<_>>()[..] {
        ["", "_ping"] => Route::Ping,
        ["", "version"] => Route::Version,
        ["", "events"] => Route::Events(query(&["filters", "since", "until"])?),
        ["", "containers", "json"] => Route::List(query(&["all", "filters", "limit", "since"])?),
        ["", "containers", id, "json"] if is_name(id) => Route::Inspect(id.to_owned()),
        ["", "networks"] => Route::Networks(query(&["filters"])?),
        ["", "networks", id] if is_name(id) => Route::Network(id.to_owned()),
        ["", "info"] if swarm => Route::Info,
        ["", "services"] if swarm => Route::Services(query(&["filters"])?),
        ["", "services", id] if swarm && is_name(id) => Route::Service(id.to_owned()),
        ["", "tasks"] if swarm => Route::Tasks(query(&["filters"])?),
        // Without filters: those on labels would reveal labels of nodes, which readers do not see.
        ["", "nodes"] if swarm => Route::Nodes,
        ["", "nodes", id] if swarm && is_name(id) => Route::Node(id.to_owned()),
        _ => return Err(forbidden("this path is not allowed")),
    };
    Ok(Call { version, route })
}

fn refuse_tricks(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let closing = |message| Refusal {
        close: true,
        ..forbidden(message)
    };
    if uri.scheme().is_some() || uri.authority().is_some() {
        return Err(closing("only a path is allowed as request target"));
    }
    let upgrades = |value: &header::HeaderValue| {
        let value = value.as_bytes().to_ascii_lowercase();
        value.windows(7).any(|word| word == b"upgrade")
    };
    if headers.contains_key(header::UPGRADE)
        || headers.get_all(header::CONNECTION).iter().any(upgrades)
    {
        return Err(closing("upgrades are not allowed"));
    }
    let lengths = headers.get_all(header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) || lengths.iter().any(|length| length != "0")
    {
        return Err(closing("bodies are not allowed"));
    }
    Ok(())
}

// `/v1.41/…` → (1, 41) and `/…`. Any other prefix stays in the path, which is then refused.
fn split_version(path: &str) -> (Option<ApiVersion>, &str) {
    let split = || {
        let rest = path.strip_prefix("/v")?;
        let (version, _) = rest.split_once('/')?;
        Some((parse_version(version)?, &rest[version.len()..]))
    };
    match split() {
        Some((version, path)) => (Some(version), path),
        None => (None, path),
    }
}

/// Reads `1.41`.
pub fn parse_version(version: &str) -> Option<ApiVersion> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let (major, minor) = version.split_once('.')?;
    Some((number(major)?, number(minor)?))
}

// Docker's rule for names; ids fit it too.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.bytes().all(inner) && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn forbidden(message: &str) -> Refusal {
    Refusal {
        status: StatusCode::FORBIDDEN,
        message: message.to_owned(),
        close: false,
    }
}

impl Query {
    // As in Go, the first value of a key counts. Other keys are left out, `size` above all.
    fn parse(query: &str, keys: &[&'static str]) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        for key in keys {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let Some((_, value)) = pairs.find(|(name, _)| name == key) else {
                continue;
            };
            parsed.add(key, &value).ok_or_else(|| Refusal {
                status: StatusCode::BAD_REQUEST,
                message: format!("invalid value of {key}"),
                close: false,
            })?;
        }
        Ok(parsed)
    }

    fn add(&mut self, key: &'static str, value: &str) -> Option<()> {
        let value = match key {
            "filters" if value.is_empty() => return Some(()),
            "filters" => {
                self.filters = parse_filters(value)?;
                return Some(());
            }
            "all" => match value {
                "" | "0" | "false" | "False" => return Some(()),
                "1" | "true" | "True" => "1".to_owned(),
                _ => return None,
            },
            "limit" => value.parse::<i32>().ok()?.to_string(),
            _ if value.is_empty() => return Some(()),
            // Times, durations and container names.
            _ if value.len() <= 128 && value.bytes().all(is_plain) => value.to_owned(),
            _ => return None,
        };
        self.pairs.push((key, value));
        Some(())
    }

    /// `?all=1&filters=…`, or nothing.
    pub fn encode(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.pairs);
        if !self.filters.is_empty() {
            let on = |values: &BTreeSet<String>| -> BTreeMap<String, bool> {
                values.iter().map(|value| (value.clone(), true)).collect()
            };
            let filters: BTreeMap<_, _> = self.filters.iter().map(|(k, v)| (k, on(v))).collect();
            query.append_pair("filters", &serde_json::json!(filters).to_string());
        }
        match query.finish() {
            empty if empty.is_empty() => empty,
            query => format!("?{query}"),
        }
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.:+-".contains(&byte)
}

/// The filters on properties that answers and events contain anyway.
const FILTERS: [&str; 15] = [
    "container",
    "desired-state",
    "driver",
    "event",
    "health",
    "id",
    "is-task",
    "label",
    "name",
    "network",
    "scope",
    "service",
    "status",
    "type",
    "until",
];

/// Labels that readers do not see.
const HIDDEN: [&str; 2] = [OWN, DIGEST];

/// Reads both forms that Docker accepts: `{"type": {"container": true}}` and `{"type": ["container"]}`.
fn parse_filters(value: &str) -> Option<Filters> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Values {
        Map(BTreeMap<String, bool>),
        List(BTreeSet<String>),
    }
    let filters: BTreeMap<String, Values> = serde_json::from_str(value).ok()?;
    // Other filters, such as `volume` and `ancestor`, would reveal properties that readers do not see.
    if filters.keys().any(|key| !FILTERS.contains(&key.as_str())) {
        return None;
    }
    let values = |values| match values {
        Values::Map(map) => map.into_keys().collect(),
        Values::List(list) => list,
    };
    let filters = filters.into_iter();
    let filters: Filters = filters.map(|(key, all)| (key, values(all))).collect();
    // A filter on a hidden label would let a reader guess its value.
    let hidden = |label: &String| HIDDEN.contains(&label.split('=').next().unwrap_or_default());
    let mut labels = filters.get("label").into_iter().flatten();
    (!labels.any(hidden)).then_some(filters)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
