//! Additions that depend on Traefik's configuration, files that are refused, and the override file.

use serde_json::json;

use super::{super::*, FRAME, SERVICE, edited, edited_with, holds, is_complete, refused, result};

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
        let value = yaml::parse_merged(result(&done)).unwrap();
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
fn a_configuration_file_is_read_and_its_changes_are_left_to_a_person() {
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
    assert!(!result(&done).contains("api.insecure"), "{}", result(&done));
    let done = asked("providers: {docker: {}}\napi: {insecure: true}\n");
    assert_eq!(done.by_hand, [""; 0]);
    let unseen = edited(text).unwrap();
    assert!(
        unseen.by_hand[0].starts_with("check that Traefik's API is on"),
        "{:?}",
        unseen.by_hand
    );
}

#[test]
fn a_third_party_proxy_is_replaced_and_a_name_that_is_taken_is_not_reused() {
    let text = "services:\n  traefik:\n    image: traefik:v3.7\n    command: [--providers.docker, --api.insecure]\n    \
                environment:\n      - \"DOCKER_HOST=tcp://socket-proxy:2375\"\n    networks: [docker-api]\n  socket-proxy:\n    \
                image: lscr.io/linuxserver/socket-proxy\n    networks: [docker-api]\nnetworks: {docker-api: }\n";
    let done = edited(text).unwrap();
    let value = yaml::parse_merged(result(&done)).unwrap();
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
    is_complete(result(&done));
}

#[test]
fn an_address_that_has_no_effect_beside_docker_host_is_named() {
    let of = |release: &str| {
        let text = format!(
            "services:\n  traefik:\n    image: traefik:{release}\n    command: [--providers.docker.endpoint=tcp://old:2375, \
             --api.insecure]\n"
        );
        edited(&text).unwrap().by_hand
    };
    let new = of("v3.7");
    assert!(
        new[0].starts_with("remove providers.docker.endpoint=tcp://old:2375 from Traefik"),
        "{new:?}"
    );
    let old = of("v3.5");
    assert!(
        old[0].contains("make it --providers.docker.endpoint=tcp://socket-proxy:2375"),
        "{old:?}"
    );
}

#[test]
fn what_cannot_be_edited_safely_is_refused_with_what_to_add_by_hand() {
    for (text, why) in [
        (
            format!("{FRAME}  web: {{<<: *t, image: x}}\n").replace("  traefik:", "  traefik: &t"),
            "differently at services.web",
        ),
        (
            format!("{FRAME}---\nservices: {{}}\n"),
            "more than one document",
        ),
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
            "differently at x-e.DOCKER_HOST",
        ),
        (
            format!("{FRAME}    environment: [\n      A=b # home\n      ]\n"),
            "differently at services.traefik.environment",
        ),
        (
            format!("{FRAME}    environment: {{DOCKER_HOST: }}\n"),
            "not valid YAML",
        ),
        (
            format!("{FRAME}    depends_on:\n      - db # first\n"),
            "depends_on has comments",
        ),
        (
            format!("x-b: &b {{networks: [front]}}\n{FRAME}    <<: *b\n"),
            "differently at services.traefik.networks",
        ),
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

const GERBIL: &str = "services:
  gerbil:
    image: fosrl/gerbil
    ports: ['80:80', '8080:8080']
  traefik:
    image: traefik:v3.7
    network_mode: service:gerbil
    command: [--providers.docker]
";

#[test]
fn a_traefik_in_another_services_network_namespace_reads_by_that_ones_networks_and_ports() {
    let done = edited(GERBIL).unwrap();
    let value = yaml::parse_merged(result(&done)).unwrap();
    let services = &value["services"];
    assert_eq!(
        services["gerbil"]["networks"],
        json!(["default", "docker-api"])
    );
    let traefik = &services["traefik"];
    assert_eq!(traefik["networks"], Value::Null, "{}", result(&done));
    assert_eq!(
        traefik["environment"]["DOCKER_HOST"],
        json!("tcp://socket-proxy:2375")
    );
    let command = stack::words(&traefik["command"]).join(" ");
    assert!(
        command.ends_with("--api.insecure=true --entrypoints.traefik.address=:8099"),
        "8080 is published: {command}"
    );
    is_complete(result(&done));
}

#[test]
fn what_is_added_by_hand_is_a_valid_project_whichever_network_namespace_traefik_is_in() {
    let lines = |hint: &str| {
        let yaml = hint.split_once(":\n").unwrap().1;
        let yaml = yaml.split("\n      and ").next().unwrap();
        yaml::parse(yaml).unwrap_or_else(|error| panic!("{error}\n{hint}"))
    };
    let anchored = GERBIL.replace("  gerbil:\n", "  gerbil: &g\n") + "x-g: *g\n";
    let hint = refused(&anchored).hint.unwrap();
    let value = lines(&hint);
    assert_eq!(value["services"]["traefik"]["networks"], Value::Null);
    let networks = json!(["default", "docker-api"]);
    assert_eq!(value["services"]["gerbil"]["networks"], networks);
    let elsewhere = GERBIL.replace("service:gerbil", "container:gerbil");
    let hint = refused(&elsewhere).hint.unwrap();
    assert_eq!(lines(&hint)["services"]["traefik"]["networks"], Value::Null);
    assert!(
        hint.contains("put gerbil, whose network namespace"),
        "{hint}"
    );
    let host = refused(&GERBIL.replace("service:gerbil", "host"))
        .hint
        .unwrap();
    assert!(
        host.starts_with("give traefik networks and published ports of its own"),
        "{host}"
    );
}

#[test]
fn a_traefik_whose_swarm_provider_is_on_is_given_a_socket_proxy_that_answers_it() {
    let head = "services:\n  traefik:\n    image: traefik:v3.7\n";
    let file = |path: &str| {
        (path == "./conf/traefik.yml").then(|| "providers: {docker: {}, swarm: {}}".to_owned())
    };
    for rest in [
        "    command: [--providers.docker, --providers.swarm]\n",
        "    command: [--providers.docker.exposedbydefault=false, --providers.swarm]\n",
        "    command: --providers.swarm.endpoint=tcp://x:2375\n",
        "    environment: {TRAEFIK_PROVIDERS_SWARM: 'true'}\n",
        "    command: [--providers.docker.swarmmode=true]\n",
        "    volumes: ['./conf:/etc/traefik:ro']\n",
    ] {
        let done = edited_with(&format!("{head}{rest}"), &file).unwrap();
        let text = result(&done);
        assert!(
            text.contains("    command: [socket-proxy, --swarm]\n"),
            "{text}"
        );
        assert!(text.contains("DOCKER_HOST"), "{text}");
        assert_eq!(edited_with(text, &file).unwrap().text, None);
        let old = text.replace("[socket-proxy, --swarm]", "[socket-proxy]");
        let again = edited_with(&old, &file).unwrap();
        assert_eq!(
            result(&again),
            text,
            "one that is there gets the flag alone"
        );

        let error = edited_with(&format!("{head}{rest}").replace("v3.7", "v3.5"), &file);
        let error = error.unwrap_err();
        assert!(error.message.contains("Swarm provider"), "{error}");
        let hint = error.hint.unwrap();
        assert!(hint.contains("update Traefik, or"), "{hint}");
        assert!(hint.contains("--switch pin"), "{hint}");
    }
}

#[test]
fn traefik_is_found_by_its_image_or_by_name() {
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
            resolved: &Value::Null,
            others: &[],
            read: &|_| None,
            overrides: false,
        };
        edit(two, &request)
    };
    let done = ask("b").unwrap();
    assert_eq!(done.traefik, "b");
    assert!(result(&done).contains("    image: registry.test/rollout:1\n"));
    assert_eq!(ask("d").unwrap_err().message, "no service d in the file");
}

#[test]
fn a_service_that_other_files_add_to_is_refused_and_their_names_are_not_reused() {
    let ask = |other: &str| {
        let request = Request {
            traefik: None,
            image: advice::IMAGE,
            images: &BTreeMap::new(),
            resolved: &Value::Null,
            others: &[yaml::parse(other).unwrap()],
            read: &|_| None,
            overrides: false,
        };
        edit(FRAME, &request)
    };
    let error = ask("services: {traefik: {ports: ['80:80']}}").unwrap_err();
    assert!(error.message.contains("from several files"), "{error}");
    let done = ask("networks: {docker-api: }").unwrap();
    assert!(
        result(&done).contains("rollout-docker-api"),
        "{}",
        result(&done)
    );
}

const WITH_SOCKET: &str = "services:
  traefik:
    image: traefik:v3.7
    command: --providers.docker
    environment: [A=b]
    networks: [front]
    depends_on: [db]
    volumes: ['/var/run/docker.sock:/var/run/docker.sock', 'certs:/certs']
";

fn overridden(others: &[Value], resolved: &Value) -> Edited {
    let request = Request {
        traefik: None,
        image: advice::IMAGE,
        images: &BTreeMap::new(),
        resolved,
        others,
        read: &|_| None,
        overrides: true,
    };
    edit(WITH_SOCKET, &request).unwrap()
}

#[test]
fn an_override_file_has_the_additions_and_replaces_what_compose_would_not_merge() {
    let done = overridden(&[], &Value::Null);
    assert_eq!(
        result(&done),
        format!(
            "services:
{SERVICE}  traefik:
    command: --providers.docker --api.insecure=true
    environment:
      DOCKER_HOST: tcp://socket-proxy:2375
    networks: [docker-api]
    volumes: !override [\"certs:/certs\"]
    depends_on:
      socket-proxy:
        condition: service_healthy

networks:
  docker-api:
    internal: true

volumes:
  socket-proxy: {{}}
"
        )
    );
}

#[test]
fn an_override_file_that_compose_has_merged_is_not_needed_again() {
    let merged = "services:
  socket-proxy: {command: [socket-proxy], networks: {docker-api: }}
  traefik:
    image: traefik:v3.7
    command: [--providers.docker, --api.insecure=true]
    environment: {A: b, DOCKER_HOST: tcp://socket-proxy:2375}
    networks: {front: , docker-api: }
    depends_on: {socket-proxy: {condition: service_healthy}}
";
    let first = overridden(&[], &Value::Null);
    let others = [yaml::parse_merged(result(&first)).unwrap()];
    let done = overridden(&others, &yaml::parse(merged).unwrap());
    assert_eq!(done.text, None);
}
