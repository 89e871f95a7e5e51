//! Single values of a Compose file.

use serde_json::json;

use super::*;

#[test]
fn a_port_is_published_in_every_form_and_if_it_cannot_be_parsed() {
    let service = |ports: Value| json!({"ports": ports});
    for (ports, is) in [
        (json!(["8080:80"]), false),
        (json!(["80:8080/tcp"]), true),
        (json!(["127.0.0.1:1-9:8075-8083"]), true),
        (json!([8080]), true),
        (json!([{"target": 8080, "published": "80"}]), true),
        (json!(["${PORT:-8080}:80"]), false),
        (json!(["80:${PORT}"]), true),
        (json!([{"published": "80"}]), true),
        (json!(null), false),
    ] {
        assert_eq!(publishes(&service(ports.clone()), 8080), is, "{ports}");
    }
}

#[test]
fn the_release_is_read_from_the_tag_as_compose_resolves_it() {
    let reads = |image: &str, resolved: Option<&str>| {
        let services = json!({"t": {"image": image}});
        let images = resolved.map(|own| ("t".to_owned(), own.to_owned()));
        let services = services.as_object().unwrap();
        reads_docker_host(services, "t", &images.into_iter().collect())
    };
    for (image, is) in [
        ("traefik:v3.7", true),
        ("traefik:v3", true),
        ("traefik", true),
        ("traefik:latest", true),
        ("localhost:5000/traefik:3.5.1", false),
        ("traefik:v3.6.0@sha256:0", false),
        ("traefik:v3.6@sha256:0", true),
        ("traefik:v2.11.30", false),
        ("traefik:${T:-v3.0}", false),
    ] {
        assert_eq!(reads(image, None), is, "{image}");
    }
    assert!(!reads("traefik:${T}", Some("traefik:v3.0.4")));
}

#[test]
fn the_socket_proxy_is_found_by_its_command() {
    let services = json!({
        "a": {"command": ["socket-proxy", "--listen", "0.0.0.0:80"]},
        "b": {"image": "x/socket-proxy"},
        "c": {"command": "socket-proxy"},
    });
    assert_eq!(ours(services.as_object().unwrap()), Some("c"));
    let limited = json!({"d": {"command": ["socket-proxy", "--only=traefik.enable=true"]}});
    assert_eq!(ours(limited.as_object().unwrap()), Some("d"));
}
