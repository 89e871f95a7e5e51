//! What a stack needs so that its traffic can be moved by the socket proxy, in words: the one place that has them.

/// The image that `make image` builds.
pub const IMAGE: &str = "rollout:latest";
/// What the service is called.
pub const SERVICE: &str = "socket-proxy";
/// The network that it shares with Traefik alone.
pub const NETWORK: &str = "docker-api";
/// The engine's socket, in the socket proxy's container.
pub const SOCKET: &str = "/var/run/docker.sock";
/// Where the overlay is kept.
pub const STATE: &str = "/var/lib/rollout";
/// The option by which Traefik can be asked; its port is not to be published.
pub const API: &str = "api.insecure=true";

/// Where Traefik reads, once the service is there.
pub fn address(service: &str) -> String {
    format!("tcp://{service}:2375")
}

/// Traefik's line, heeded by all but old releases.
pub fn docker_host() -> String {
    format!("DOCKER_HOST: {}", address(SERVICE))
}

/// Traefik's option, for those old ones.
pub fn endpoint(service: &str) -> String {
    format!("providers.docker.endpoint={}", address(service))
}

/// The service to add to a stack, in one line of YAML.
pub fn one_line() -> String {
    format!(
        "{SERVICE}: {{ image: '{IMAGE}', command: [{SERVICE}], volumes: ['{SOCKET}:{SOCKET}:ro'] }}"
    )
}

/// The three lines, Traefik's two as its release and its configuration want them.
pub fn three_lines(reads: &str, api: &str) -> String {
    format!(
        "\
add three lines to the stack, or let rollout init --write add them, and run docker compose up -d:
        a service:              {}
        {reads}
        {api}",
        one_line()
    )
}

/// The service as lines of YAML, two spaces a level.
pub fn service(name: &str, image: &str, socket: &str, network: &str, volume: &str) -> Vec<String> {
    let mount = format!("{socket}:{SOCKET}:ro");
    let quote = if mount.contains([' ', '#', '"', '\'', '{', '[']) {
        "\""
    } else {
        ""
    };
    vec![
        format!("{name}:"),
        format!("  image: {image}"),
        format!("  command: [{SERVICE}]"),
        "  volumes:".to_owned(),
        format!("    - {quote}{mount}{quote}"),
        format!("    - {volume}:{STATE}"),
        format!("  networks: [{network}]"),
        "  restart: unless-stopped".to_owned(),
    ]
}

/// All of it, for a file that has to be edited by hand.
pub fn by_hand(image: &str) -> String {
    let service = service(SERVICE, image, SOCKET, NETWORK, SERVICE);
    let service: String = service.iter().map(|line| format!("    {line}\n")).collect();
    format!(
        "\
add this by hand, take the engine's socket out of Traefik's volumes, and run docker compose up -d:
  services:
    traefik:                   # beside what is there
      environment: {{ {} }}
      command: [--{API}]       # unless the API is on; do not publish its port
      networks: [default, {NETWORK}]
      depends_on: {{ {SERVICE}: {{ condition: service_healthy }} }}
{service}  networks: {{ {NETWORK}: {{ internal: true }} }}
  volumes: {{ {SERVICE}: }}",
        docker_host().replace(": ", ": \"") + "\"",
    )
}
