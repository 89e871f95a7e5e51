//! Compose files as people write them, edited: what is added where, that all else stays, and that twice is once.

use serde_json::json;

use super::*;

/// The service as it is added, two spaces a level.
const SERVICE: &str = "  socket-proxy:
    image: rollout:latest
    command: [socket-proxy]
    volumes:
      - /var/run/docker.sock:/var/run/docker.sock:ro
      - socket-proxy:/var/lib/rollout
    networks: [docker-api]
    restart: unless-stopped
";

fn edited_with(text: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Edit> {
    let request = Request {
        traefik: None,
        image: advice::IMAGE,
        images: &BTreeMap::new(),
        others: &[],
        read,
    };
    edit(text, &request)
}

fn edited(text: &str) -> Result<Edit> {
    edited_with(text, &|_| None)
}

/// The edit is `after`, and an edit of that is nothing.
#[track_caller]
fn becomes(before: &str, after: &str) {
    let done = edited(before).unwrap();
    assert_eq!(done.text, after);
    let again = edited(&done.text).unwrap();
    assert_eq!(again.text, done.text, "twice is not once");
    assert_eq!(again.changes, BTreeSet::new());
}

/// The edit holds good as YAML reads it; every line that was there and is not the socket's stays, in its order.
#[track_caller]
fn holds(before: &str) -> Value {
    let done = edited(before).unwrap_or_else(|error| panic!("{error}\n{before}"));
    let again = edited(&done.text).unwrap_or_else(|error| panic!("{error}\n{}", done.text));
    assert_eq!(again.text, done.text, "twice is not once");
    let mut lines = done.text.lines();
    let kept = before.lines().filter(|line| !line.contains("docker.sock"));
    for line in kept.filter(|line| !line.contains("# changes")) {
        assert!(
            lines.any(|own| own == line),
            "{line:?} is gone:\n{}",
            done.text
        );
    }
    let value = yaml::parse_merged(done.text.trim_start_matches('\u{feff}')).unwrap();
    assert_eq!(value["networks"]["docker-api"], json!({"internal": true}));
    assert_eq!(value["volumes"]["socket-proxy"], Value::Null);
    let own = &value["services"]["socket-proxy"];
    assert_eq!(own["networks"], json!(["docker-api"]), "{}", done.text);
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
    networks:
      - default
      - docker-api
    depends_on:
      socket-proxy:
        condition: service_healthy

{SERVICE}
  # The site
  web:
    image: traefik/whoami:v1.11

networks:
  docker-api:
    internal: true

volumes:
  socket-proxy:
"
    );
    becomes(before, &after);
}

#[test]
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
        - db   # certificates
        - cache
    db:
        image: postgres
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
            db: { condition: service_started }   # certificates
            cache: { condition: service_started }
            socket-proxy: { condition: service_healthy }
    socket-proxy:
        image: rollout:latest
        command: [socket-proxy]
        volumes:
        - /run/user/1000/docker.sock:/var/run/docker.sock:ro
        - socket-proxy:/var/lib/rollout
        networks: [docker-api]
        restart: unless-stopped
    db:
        image: postgres
networks:
    front:
    docker-api:
        internal: true
volumes:
    data:
        name: data
    socket-proxy:
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
  socket-proxy:
    image: rollout:latest
    command: [socket-proxy]
    volumes:
      - \"${SOCK:-/var/run/docker.sock}:/var/run/docker.sock:ro\"
      - socket-proxy:/var/lib/rollout
    networks: [docker-api]
    restart: unless-stopped
  db: { image: postgres }
networks: { front: { name: front }, docker-api: { internal: true } }
volumes: { socket-proxy: }
";
    becomes(before, after);
}

/// `${…}` stands for what each case is about.
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
        "    environment: [\n      TZ=UTC, # home\n      A=b # changes\n    ]\n",
        "    networks:\n",
        "    networks:\n      front:\n        aliases: [a]\n",
        "    networks:\n    - front\n",
        "    networks: { front: { aliases: [a] } } # changes\n",
        "    depends_on:\n      db: { condition: service_started }\n",
        "    depends_on: {} # changes\n",
        "    depends_on: []   # changes\n",
        "    volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro']\n",
        "    volumes:\n      - /var/run/docker.sock:/var/run/docker.sock:ro # ours\n",
        "    volumes:\n      # ours\n      - '/var/run/docker.sock:/var/run/docker.sock'\n      - data:/data\n",
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

#[test]
fn the_api_is_put_where_it_is_not_published() {
    let api = |rest: &str| {
        let head = "services:\n  traefik:\n    image: traefik:v3.7\n";
        holds(&format!("{head}{rest}"))
    };
    let command = |traefik: &Value| stack::words(&traefik["command"]).join(" ");
    for (rest, wanted) in [
        (
            "    command: --providers.docker\n",
            "--providers.docker --api.insecure=true",
        ),
        (
            "    command: [--providers.docker, --api.insecure=true]\n    ports: ['8080:8080']\n",
            "--providers.docker --api.insecure=true",
        ),
        (
            "    command: [--providers.docker, --api]\n    labels: {traefik.http.routers.d.service: api@internal}\n",
            "--providers.docker --api",
        ),
        (
            "    command: --providers.docker\n    ports: ['127.0.0.1:8000-8100:8000-8098']\n",
            "--providers.docker --api.insecure=true --entrypoints.traefik.address=:8099",
        ),
        (
            "    command: --providers.docker --entrypoints.web.address=:8080\n",
            "--providers.docker --entrypoints.web.address=:8080 --api.insecure=true --entrypoints.traefik.address=:8099",
        ),
        (
            "    command: >-\n      --providers.docker\n      --entrypoints.web.address=:80\n    restart: always # changes\n",
            "--providers.docker --entrypoints.web.address=:80 --api.insecure=true",
        ),
    ] {
        let rest = rest.replace("command: --", "command:   --");
        let head = "services:\n  traefik:\n    image: traefik:v3.7\n";
        let done = edited(&format!("{head}{rest}")).unwrap();
        let value = yaml::parse_merged(&done.text).unwrap();
        assert_eq!(command(&value["services"]["traefik"]), wanted);
    }
    let traefik = api("    environment: {TRAEFIK_PROVIDERS_DOCKER: 'true', A: b} # changes\n");
    assert_eq!(
        traefik["environment"]["TRAEFIK_API_INSECURE"],
        json!("true")
    );
    assert_eq!(traefik["command"], Value::Null);
    let open = refused(
        "services:\n  traefik:\n    image: traefik:v3.7\n    command: --providers.docker --entrypoints.traefik.address=:9000\n    ports: ['9000:9000']\n",
    );
    assert!(open.message.contains("port 9000"), "{open}");
}

#[test]
fn a_configuration_file_is_read_and_what_it_lacks_is_left_to_a_person() {
    let text = "services:\n  traefik:\n    image: traefik:v3.7\n    volumes:\n      - ./conf:/etc/traefik:ro\n";
    let asked = |file: &'static str| {
        let read = move |path: &str| (path == "./conf/traefik.yml").then(|| file.to_owned());
        edited_with(text, &read).unwrap()
    };
    let done = asked("providers: {docker: {}}\n");
    assert_eq!(
        done.by_hand,
        ["add api: { insecure: true } to Traefik's /etc/traefik/traefik.yml"]
    );
    assert!(!done.text.contains("api.insecure"), "{}", done.text);
    let done = asked("providers: {docker: {}}\napi: {insecure: true}\n");
    assert_eq!(done.by_hand, [""; 0]);
    let unseen = edited(text).unwrap();
    assert!(
        unseen.by_hand[0].starts_with("see that Traefik's API is on"),
        "{:?}",
        unseen.by_hand
    );
}

#[test]
fn another_makers_proxy_gives_way_and_a_name_that_is_taken_is_not_taken_again() {
    let text = "services:\n  traefik:\n    image: traefik:v3.7\n    command: [--providers.docker, --api.insecure]\n    \
                environment:\n      - \"DOCKER_HOST=tcp://socket-proxy:2375\"\n    networks: [docker-api]\n  socket-proxy:\n    \
                image: lscr.io/linuxserver/socket-proxy\n    networks: [docker-api]\nnetworks: {docker-api: }\n";
    let done = edited(text).unwrap();
    let value = yaml::parse_merged(&done.text).unwrap();
    let traefik = &value["services"]["traefik"];
    assert_eq!(
        traefik["environment"],
        json!(["DOCKER_HOST=tcp://rollout-socket-proxy:2375"])
    );
    assert_eq!(
        traefik["networks"],
        json!(["docker-api", "rollout-docker-api"])
    );
    assert!(
        done.by_hand[0].contains("through socket-proxy:"),
        "{:?}",
        done.by_hand
    );
    assert_eq!(edited(&done.text).unwrap().text, done.text);
}

#[test]
fn what_cannot_be_edited_safely_is_refused_with_what_to_add_by_hand() {
    let service = "image: traefik:v3.7, command: [--providers.docker]";
    for (text, why) in [
        (
            format!("services: {{traefik: {{{service}}}}}\n"),
            "not written as a block",
        ),
        (
            format!("services:\n  traefik: {{{service}}}\n"),
            "not written as a block",
        ),
        (
            format!(
                "services:\n  web: {{image: x}}\n  traefik: &t\n{}",
                &FRAME[21..]
            ),
            "has an anchor",
        ),
        (format!("{FRAME}---\nservices: {{}}\n"), "several documents"),
        (
            format!("{FRAME}    extends: {{service: base}}\n"),
            "extends another",
        ),
        (format!("include: [a.yaml]\n{FRAME}"), "includes others"),
        (
            format!("{FRAME}    network_mode: host\n"),
            "network_mode: host",
        ),
        (
            format!("x-e: &e {{A: b}}\n{FRAME}    environment: *e\n"),
            "is an alias",
        ),
        (
            format!("{FRAME}    environment: &e\n      A: b\n"),
            "has an anchor",
        ),
        (
            format!("x-b: &b {{networks: [front]}}\n{FRAME}    <<: *b\n"),
            "comes from a merge",
        ),
        (
            format!(
                "{FRAME}    volumes: [\n      '/var/run/docker.sock:/var/run/docker.sock', # ours\n      ]\n"
            ),
            "over several lines",
        ),
        (format!("{FRAME}    networks: []\n"), "is empty"),
        (
            format!("{FRAME}    environment: {{DOCKER_HOST: }}\n"),
            "is not written there as a value",
        ),
        (format!("{FRAME}...\n"), ""),
    ] {
        let error = refused(&text);
        assert!(error.message.contains(why), "{why}: {error}");
        let hint = error.hint.unwrap_or_default();
        assert!(
            hint.contains("DOCKER_HOST: \"tcp://socket-proxy:2375\""),
            "{text}\n{}\n{hint}",
            error.message
        );
    }
}

#[test]
fn which_service_is_traefik_is_told_by_its_image_or_by_name() {
    let two = "services:\n  a:\n    image: traefik:v3\n  b:\n    image: ghcr.io/x/traefik\n  c:\n    image: traefik/whoami\n";
    let error = refused(two);
    assert_eq!(
        error.message,
        "several services have an image called traefik: a, b"
    );
    assert!(
        refused("services:\n  c:\n    image: traefik/whoami\n")
            .message
            .starts_with("no service")
    );
    assert!(refused("a: 1\n").message.contains("no services"));
    assert!(refused("a: [\n").message.contains("cannot edit"));
    let ask = |name| {
        let request = Request {
            traefik: Some(name),
            image: "registry.test/rollout:1",
            images: &BTreeMap::new(),
            others: &[],
            read: &|_| None,
        };
        edit(two, &request)
    };
    let done = ask("b").unwrap();
    assert_eq!(done.traefik, "b");
    assert!(done.text.contains("    image: registry.test/rollout:1\n"));
    assert_eq!(ask("d").unwrap_err().message, "no service d in the file");
}

#[test]
fn a_service_that_other_files_add_to_is_refused_and_their_names_are_not_taken_again() {
    let ask = |other: &str| {
        let request = Request {
            traefik: None,
            image: advice::IMAGE,
            images: &BTreeMap::new(),
            others: &[yaml::parse(other).unwrap()],
            read: &|_| None,
        };
        edit(FRAME, &request)
    };
    let error = ask("services: {traefik: {ports: ['80:80']}}").unwrap_err();
    assert!(error.message.contains("from several files"), "{error}");
    let done = ask("networks: {docker-api: }").unwrap();
    assert!(done.text.contains("rollout-docker-api"), "{}", done.text);
}
