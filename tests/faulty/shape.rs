//! What a call to the engine looks like once the names in it are left out, so that two runs can be compared.

use hyper::{Request, header::USER_AGENT};

/// Method and path; before them the caller, where that is docker's own command, and after them what a new container is for.
pub fn of<B>(request: &Request<B>) -> String {
    let agent = request.headers().get(USER_AGENT);
    let agent = agent
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    let by_docker = ["compose", "Docker-Client", "docker"]
        .iter()
        .any(|name| agent.contains(name));
    let caller = if by_docker { "compose " } else { "" };
    let uri = request.uri();
    let path = path(uri.path());
    let what = match path.as_str() {
        "/containers/create" => purpose(uri.query().unwrap_or_default(), by_docker),
        _ => "",
    };
    format!("{caller}{} {path}{what}", request.method())
}

fn purpose(query: &str, by_docker: bool) -> &'static str {
    match () {
        () if by_docker => "",
        () if query.contains("name=rollout-lock") => " (lock)",
        () => " (helper)",
    }
}

fn path(path: &str) -> String {
    let mut segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let version = segments[0].strip_prefix('v');
    if version.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit())) {
        segments.remove(0);
    }
    let of_all = ["create", "json", "prune", "search", "load"];
    match segments[..] {
        [
            kind @ ("containers" | "networks" | "volumes" | "images" | "exec"),
            first,
            ..,
        ] if !of_all.contains(&first) || segments.len() > 2 => {
            // An image's name may have slashes, and only few words follow it.
            let verbs = ["json", "tag", "push", "history", "get"];
            let verb = match (kind, &segments[2..]) {
                ("images", [.., last]) if verbs.contains(last) => (*last).to_owned(),
                ("images", _) => String::new(),
                (_, rest) => rest.join("/"),
            };
            let separator = if verb.is_empty() { "" } else { "/" };
            format!("/{kind}/{{id}}{separator}{verb}")
        }
        _ => format!("/{}", segments.join("/")),
    }
}

#[test]
fn names_and_versions_are_left_out_of_a_shape() {
    for (given, wanted) in [
        ("/v1.41/containers/json", "/containers/json"),
        ("/containers/ab12/json", "/containers/{id}/json"),
        ("/v1.41/containers/ab12", "/containers/{id}"),
        ("/v1.41/exec/ab12/start", "/exec/{id}/start"),
        ("/images/reg:5000/a/b:v1/json", "/images/{id}/json"),
        ("/images/a/b:v1", "/images/{id}"),
        ("/images/create", "/images/create"),
        ("/networks", "/networks"),
        ("/networks/x/connect", "/networks/{id}/connect"),
        ("/_ping", "/_ping"),
    ] {
        assert_eq!(path(given), wanted);
    }
}
