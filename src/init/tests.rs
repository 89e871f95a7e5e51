//! Edits of Compose files as people write them: what is added where, that everything else stays, and that a second edit
//! does nothing.

mod what;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::arbitrary::mutated_text;

/// The service as it is added, two spaces a level.
const SERVICE: &str = "  socket-proxy:
    image: rollout:latest
    command: [socket-proxy]
    networks: [docker-api]
    volumes:
      - /var/run/docker.sock:/var/run/docker.sock:ro
      - socket-proxy:/var/lib/rollout
    read_only: true
    cap_drop: [ALL]
    cap_add: [CHOWN, SETGID, SETUID]
    security_opt: [\"no-new-privileges:true\"]
    restart: unless-stopped
";

fn edited_with(text: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Edited> {
    let request = Request {
        traefik: None,
        image: advice::IMAGE,
        images: &BTreeMap::new(),
        resolved: &Value::Null,
        others: &[],
        read,
        overrides: false,
    };
    edit(text, &request)
}

fn edited(text: &str) -> Result<Edited> {
    edited_with(text, &|_| None)
}

/// The result is `after`, and a second edit does nothing.
#[track_caller]
fn becomes(before: &str, after: &str) {
    let done = edited(before).unwrap();
    assert_eq!(result(&done), after);
    is_complete(after);
}

fn result(done: &Edited) -> &str {
    done.text.as_deref().unwrap()
}

#[track_caller]
fn is_complete(text: &str) {
    let again = edited(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.text, None, "a second edit changes more");
}

#[test]
fn a_traefik_that_takes_only_enabled_containers_sees_no_others() {
    let with = |options: &str| {
        let file =
            format!("services:\n  traefik:\n    image: traefik:v3.7\n    command: [{options}]\n");
        result(&edited(&file).unwrap()).contains(&format!(
            "command: [socket-proxy, {}]",
            advice::ONLY_ENABLED
        ))
    };
    assert!(with("--providers.docker.exposedbydefault=false"));
    assert!(!with("--providers.docker=true"));
}

/// The result has what it should; every line stays in its order, except those of the socket and those that change.
#[track_caller]
fn holds(before: &str) -> Value {
    let done = edited(before).unwrap_or_else(|error| panic!("{error}\n{before}"));
    let text = result(&done);
    is_complete(text);
    let mut lines = text.lines();
    let kept = before.lines().filter(|line| !line.contains("docker.sock"));
    for line in kept.filter(|line| !line.contains("# changes")) {
        assert!(lines.any(|own| own == line), "{line:?} is gone:\n{text}");
    }
    let value = yaml::parse_merged(text.trim_start_matches('\u{feff}')).unwrap();
    assert_eq!(value["networks"]["docker-api"], json!({"internal": true}));
    assert_eq!(value["volumes"]["socket-proxy"], json!({}));
    let own = &value["services"]["socket-proxy"];
    assert_eq!(own["networks"], json!(["docker-api"]), "{text}");
    let traefik = value["services"][&done.traefik].clone();
    let reads = "DOCKER_HOST=tcp://socket-proxy:2375".to_owned();
    assert!(stack::environment(&traefik).contains(&reads), "{traefik}");
    assert!(
        stack::keys(&traefik["networks"]).contains(&"docker-api".to_owned()),
        "{traefik}"
    );
    let waits = &traefik["depends_on"]["socket-proxy"];
    assert_eq!(*waits, json!({"condition": "service_healthy"}));
    assert!(!traefik.to_string().contains("docker.sock"), "{traefik}");
    traefik
}

#[track_caller]
fn refused(text: &str) -> Error {
    let error = edited(text).unwrap_err();
    assert_eq!(error.outcome, crate::error::Outcome::Refused);
    assert!(!error.message.contains('\n'), "{error}");
    error
}

#[test]
fn a_stack_as_traefik_documents_it_gets_what_it_lacks_and_keeps_the_rest() {
    let before = "\
services:

  traefik:
    # The v3.7 release
    image: traefik:v3.7
    command:
      - --providers.docker=true
      - --entrypoints.web.address=:80
    ports:
      - \"80:80\"   # HTTP
    volumes:
      # So that Traefik can listen to the Docker events
      - /var/run/docker.sock:/var/run/docker.sock:ro
      - ./letsencrypt:/letsencrypt

  # The site
  web:
    image: traefik/whoami:v1.11
";
    let after = format!(
        "\
services:

  traefik:
    # The v3.7 release
    image: traefik:v3.7
    command:
      - --providers.docker=true
      - --entrypoints.web.address=:80
      - --api.insecure=true
    ports:
      - \"80:80\"   # HTTP
    volumes:
      # So that Traefik can listen to the Docker events
      - ./letsencrypt:/letsencrypt
    environment:
      DOCKER_HOST: tcp://socket-proxy:2375
    networks: [default, docker-api]
    depends_on:
      socket-proxy:
        condition: service_healthy

  # The site
  web:
    image: traefik/whoami:v1.11

{SERVICE}
networks:
  docker-api:
    internal: true

volumes:
  socket-proxy: {{}}
"
    );
    becomes(before, &after);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a whole file, before and after")]
fn what_is_there_in_block_style_is_added_to_in_its_own_style() {
    let before = "\
services:
    proxy:
        image: docker.io/library/traefik:v3.5@sha256:00
        environment:
        - TZ=Europe/Berlin
        command: --api.insecure=true --providers.docker
        networks:
        - front   # public
        volumes:
        - type: bind
          source: /run/user/1000/docker.sock
          target: /var/run/docker.sock
        depends_on:
        - db
        - cache
    db:
        image: postgres # ours
networks:
    front:
volumes:
    data:
        name: data
# the end";
    let after = "\
services:
    proxy:
        image: docker.io/library/traefik:v3.5@sha256:00
        environment:
        - TZ=Europe/Berlin
        - DOCKER_HOST=tcp://socket-proxy:2375
        command: --api.insecure=true --providers.docker --providers.docker.endpoint=tcp://socket-proxy:2375
        networks:
        - front   # public
        - docker-api
        depends_on:
            cache:
                condition: service_started
            db:
                condition: service_started
            socket-proxy:
                condition: service_healthy
    db:
        image: postgres # ours
    socket-proxy:
        image: rollout:latest
        command: [socket-proxy]
        networks: [docker-api]
        volumes:
            - /run/user/1000/docker.sock:/var/run/docker.sock:ro
            - socket-proxy:/var/lib/rollout
        read_only: true
        cap_drop: [ALL]
        cap_add: [CHOWN, SETGID, SETUID]
        security_opt: [\"no-new-privileges:true\"]
        restart: unless-stopped
networks:
    front:
    docker-api:
        internal: true
volumes:
    data:
        name: data
    socket-proxy: {}
# the end";
    becomes(before, after);
}

#[test]
fn what_is_there_in_flow_style_is_added_to_between_its_brackets() {
    let before = "\
services:
  edge:
    image: \"traefik:${TRAEFIK:-v3.0}\"
    command: [\"--providers.docker=true\", \"--api=true\"]
    environment: { TZ: UTC }
    volumes: [ './certs:/certs:ro', \"${SOCK:-/var/run/docker.sock}:/var/run/docker.sock:ro\" ]
    networks: [front]
    depends_on: [db]
  db: { image: postgres }
networks: { front: { name: front } }
volumes: {}
";
    let after = "\
services:
  edge:
    image: \"traefik:${TRAEFIK:-v3.0}\"
    command: [\"--providers.docker=true\", \"--api=true\", \"--providers.docker.endpoint=tcp://socket-proxy:2375\", \"--api.insecure=true\"]
    environment: { TZ: UTC, DOCKER_HOST: \"tcp://socket-proxy:2375\" }
    volumes: [ './certs:/certs:ro' ]
    networks: [front, docker-api]
    depends_on: { db: { condition: service_started }, socket-proxy: { condition: service_healthy } }
  db: { image: postgres }
  socket-proxy:
    image: rollout:latest
    command: [socket-proxy]
    networks: [docker-api]
    volumes:
      - ${SOCK:-/var/run/docker.sock}:/var/run/docker.sock:ro
      - socket-proxy:/var/lib/rollout
    read_only: true
    cap_drop: [ALL]
    cap_add: [CHOWN, SETGID, SETUID]
    security_opt: [\"no-new-privileges:true\"]
    restart: unless-stopped
networks: { front: { name: front }, docker-api: { internal: true } }
volumes: { socket-proxy: {} }
";
    becomes(before, after);
}

/// The head of each case.
const FRAME: &str = "services:\n  traefik:\n    image: traefik:v3.7\n    command: [--providers.docker, --api.insecure]\n";

#[test]
fn every_way_to_write_a_section_holds() {
    for section in [
        "",
        "    environment:\n",
        "    environment:   # none yet\n      # to come\n    ports: ['80:80']\n",
        "    environment:\n      TZ: UTC # home\n      # more\n    restart: always\n",
        "    environment: {} # changes\n",
        "    environment: [] # changes\n",
        "    environment: [TZ=UTC,] # changes\n",
        "    environment: [\n      TZ=UTC, # home\n      A=b ] # changes\n",
        "    networks: # changes\n",
        "    networks:\n      front:\n        aliases: [a]\n",
        "    networks:\n    - front\n",
        "    networks: { front: { aliases: [a] } } # changes\n",
        "    depends_on:\n      db: { condition: service_started }\n",
        "    depends_on: {} # changes\n",
        "    depends_on: []   # changes\n",
        "    volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro']\n",
        "    volumes:\n      - /var/run/docker.sock:/var/run/docker.sock:ro # ours\n",
        "    volumes:\n      # ours\n      - '/var/run/docker.sock:/var/run/docker.sock'\n      - data:/data\n",
        "    networks: [] # changes\n",
        "    volumes:\n    - data:/data\n    - {type: bind, source: /var/run/docker.sock, target: /var/run/docker.sock}\n",
        "    volumes: ['/var/run/docker.sock:/var/run/docker.sock', 'data:/data']\n",
        "    labels:\n      a: |\n        text\n\n    # a comment of it\n  # a comment behind it\n",
        "    ports:\n      - 80:80\n\n\n\n  web:\n    image: x\n",
    ] {
        let text = format!("{FRAME}{section}");
        holds(&text);
        holds(&text.replace('\n', "\r\n"));
        holds(text.trim_end());
        holds(&format!("\u{feff}{text}"));
        holds(&format!("# ünïcode\n{text}"));
    }
}

#[test]
fn sections_of_the_file_are_added_to_wherever_they_stand() {
    let service = FRAME.strip_prefix("services:\n").unwrap();
    for (head, tail) in [
        ("", "networks:\nvolumes:\n"),
        ("networks:\n  front:\n# between\nvolumes:\n  data: {}\n", ""),
        (
            "volumes: {data: } # changes\n\n",
            "networks: {front: {}} # changes\n",
        ),
        (
            "name: shop\nx-log: &log { driver: local }\n",
            "\nconfigs: {a: {content: 'services:'}}\n",
        ),
        ("---\n", ""),
    ] {
        holds(
            &format!("{head}services:\n{service}    logging: *log\n{tail}").replace(
                "    logging: *log\n",
                if head.contains("&log") {
                    "    logging: *log\n"
                } else {
                    ""
                },
            ),
        );
    }
}

/// The examples have what `init` would add.
#[test]
fn the_examples_lack_nothing_and_the_one_that_keeps_the_socket_can_be_changed() {
    let examples = [
        include_str!("../../compose-examples/quickstart/compose.yaml"),
        include_str!("../../compose-examples/socket-proxy/compose.yaml"),
        include_str!("../../compose-examples/several-services/compose.yaml"),
        include_str!("../../compose-examples/tcp/compose.yaml"),
        include_str!("../../compose-examples/tls/compose.yaml"),
        include_str!("../../compose-examples/two-hosts/compose.yaml"),
    ];
    for example in examples {
        let done = edited(example).unwrap();
        assert_eq!(done.text, None);
        assert_eq!(done.by_hand, [""; 0]);
    }
    let pinned = include_str!("../../compose-examples/file-provider/compose.yaml");
    let changes = ("networks: [web]", "networks: [web] # changes");
    holds(&pinned.replacen(changes.0, changes.1, 1));
}

#[test]
fn what_was_begun_by_hand_is_finished() {
    let before = "\
services:
  traefik:
    image: traefik:v3.7
    command: [--providers.docker, --api.insecure]
    networks: [default, private]
  proxy:
    image: rollout:latest
    command: [socket-proxy]
    networks: [private]
networks:
  private: { internal: true }
";
    let after = before.replace(
        "private]\n  proxy",
        "private]
    environment:
      DOCKER_HOST: tcp://proxy:2375
    depends_on:
      proxy:
        condition: service_healthy
  proxy",
    );
    becomes(before, &after);
}

const PLAIN: &str = "services:
  traefik:
    image: traefik:v3.7
    command:
      - --providers.docker=true
      - --api=true
    ports: [\"80:80\", \"443:443\"]
    volumes:
      - /var/run/docker.sock:/var/run/docker.sock:ro
      - ./x:/x
    environment: {A: b}
    networks: [front]

  web:
    image: web # ours
    labels:
      traefik.http.routers.web.rule: Host(`a`)

networks:
  front:
";

proptest! {
    #[test]
    fn whatever_is_edited_differs_in_the_places_of_the_edits_alone(text in mutated_text(PLAIN)) {
        if let Ok(done) = edited(&text) && let Some(after) = &done.text {
            let body = |text: &str| yaml::parse_merged(text.trim_start_matches('\u{feff}')).unwrap();
            let differs = verify::check_resolved(&body(&text), &body(after), &done.edits);
            prop_assert_eq!(differs, Ok(()));
        }
    }
}
