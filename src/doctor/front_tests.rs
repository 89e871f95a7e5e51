//! Traefiks that read Docker in every way, and those that are not there.

use serde_json::json;

use super::*;
use crate::compose::edits::{Edit, add, remove_mount, set};
use crate::doctor::{Level, SocketProxyFacts, testing};
use crate::proxy::traefik::config::{Given, Holder, Source, read};

const SOCKET: &str = "/var/run/docker.sock";
const TRAEFIK: &str = "image: traefik:v3.7\ncommand: [--providers.docker]\nnetworks: {front: null}\nvolumes: [{type: bind, \
                       source: /var/run/docker.sock, target: /var/run/docker.sock}]";

/// A project with a Traefik in front of `web`.
fn facts(traefik: TraefikFacts) -> Facts {
    let (mut facts, _) = testing::of("image: app\nlabels: {traefik.enable: 'true'}");
    testing::add(&mut facts, "traefik", TRAEFIK);
    facts.services.truncate(1);
    facts.services[0].is_alone = false;
    facts.services[0].fronts = vec![traefik.name.clone()];
    facts.traefiks = vec![traefik];
    facts
}

fn failed(facts: &Facts) -> Vec<Check> {
    let all = check(facts);
    let failed = all.iter().filter(|own| own.level == Level::Fail);
    failed.map(|own| own.check).collect()
}

fn edits(facts: &Facts) -> Vec<Edit> {
    let all = check(facts);
    let first = all.into_iter().find(|own| own.level == Level::Fail);
    first.unwrap().fix.unwrap().edits
}

#[test]
fn each_way_to_read_docker_is_judged_with_what_its_version_lacks() {
    let socket = || Reads::Socket(SOCKET.to_owned());
    let through = || Reads::SocketProxy("shop-socket-proxy-1".to_owned());
    for (version, reads, pin, failures) in [
        ("3.7.15", through(), false, &[][..]),
        ("3.0.4", through(), false, &[]),
        ("3.7.15", socket(), false, &[Check::Switch]),
        ("3.7.15", socket(), true, &[]),
        (
            "3.7.15",
            Reads::Other("tcp://tecnativa:2375".to_owned()),
            false,
            &[Check::Switch],
        ),
        (
            "3.7.15",
            Reads::Other("tcp://tecnativa:2375".to_owned()),
            true,
            &[],
        ),
        ("3.7.15", Reads::Nothing, true, &[Check::Switch]),
    ] {
        let mut traefik = testing::traefik(version, reads.clone());
        if pin {
            traefik.pin = Ok("/etc/traefik/dynamic".to_owned());
        }
        assert_eq!(
            failed(&facts(traefik)),
            failures,
            "{version} {reads:?} {pin}"
        );
    }
}

#[test]
fn an_old_traefik_is_deaf_to_docker_host_and_may_be_refused_by_a_new_engine() {
    let mut deaf = testing::traefik("3.3.6", Reads::Socket(SOCKET.to_owned()));
    deaf.is_deaf = true;
    assert_eq!(failed(&facts(deaf)), [Check::Traefik]);
    let mut old = testing::traefik("3.3.6", Reads::Socket(SOCKET.to_owned()));
    old.pin = Ok("/dynamic".to_owned());
    let mut facts = facts(old);
    facts.engine.least_api = "1.12".to_owned();
    assert_eq!(failed(&facts), []);
    facts.engine.least_api = "1.44".to_owned();
    assert_eq!(failed(&facts), [Check::Traefik]);
}

#[test]
fn a_traefik_of_version_2_is_a_warning_that_says_what_works() {
    for (version, level) in [
        ("2.9.10", Level::Warn),
        ("2.11.31", Level::Warn),
        ("3.0.4", Level::Ok),
        ("1.7", Level::Fail),
    ] {
        let traefik = testing::traefik(version, Reads::SocketProxy("p".to_owned()));
        let all = check(&facts(traefik));
        let found = all.iter().find(|own| own.check == Check::Traefik).unwrap();
        assert_eq!(found.level, level, "{found:?}");
        let says = found.text.contains("through the socket proxy alone");
        assert_eq!(says, level == Level::Warn, "{found:?}");
    }
}

#[test]
fn a_traefik_that_reads_the_socket_gets_a_socket_proxy_a_network_and_its_address() {
    let traefik = testing::traefik("3.7.15", Reads::Socket(SOCKET.to_owned()));
    let edits = edits(&facts(traefik));
    let at = ["services", "traefik"];
    assert!(matches!(&edits[0], Edit::Set { yaml, .. } if yaml.contains("rollout:latest")));
    for edit in [
        set(&["networks"], json!({"docker-api": {"internal": true}})),
        set(&["volumes"], json!({"socket-proxy": {}})),
        add(&[at[0], at[1], "networks"], &["docker-api"]),
        set(
            &[at[0], at[1], "environment"],
            json!({"DOCKER_HOST": "tcp://socket-proxy:2375"}),
        ),
        remove_mount("traefik", SOCKET),
    ] {
        assert!(edits.contains(&edit), "{edit:?} is not in {edits:#?}");
    }
}

#[test]
fn a_socket_proxy_that_is_there_is_not_added_again_and_an_old_traefik_is_given_the_endpoint() {
    let mut deaf = testing::traefik("3.3.6", Reads::Socket(SOCKET.to_owned()));
    deaf.is_deaf = true;
    let mut facts = facts(deaf);
    testing::add(
        &mut facts,
        "socket-proxy",
        "image: rollout:latest\nnetworks: {front: null}",
    );
    facts.services.truncate(1);
    let edits = edits(&facts);
    let command = ["services", "traefik", "command"];
    let endpoint = "--providers.docker.endpoint=tcp://socket-proxy:2375";
    assert!(edits.contains(&add(&command, &[endpoint])), "{edits:#?}");
    let added = |edit: &Edit| matches!(edit, Edit::Set { at, .. } if *at == ["services"]);
    assert!(!edits.iter().any(added), "{edits:#?}");
}

#[test]
fn an_old_traefik_with_another_endpoint_gets_a_fix_in_words() {
    let mut old = testing::traefik("3.3.6", Reads::Other("tcp://tecnativa:2375".to_owned()));
    if let Some(docker) = &mut old.config.docker {
        docker.endpoint = "tcp://tecnativa:2375".to_owned();
    }
    let fix = check(&facts(old)).pop().unwrap().fix.unwrap();
    assert_eq!(fix.edits, []);
    let replace = "put tcp://socket-proxy:2375 in the place of tcp://tecnativa:2375";
    assert!(fix.text.contains(replace), "{}", fix.text);
}

#[test]
fn an_api_that_is_off_is_switched_on_where_traefik_reads_its_options() {
    let off = |source| {
        let mut traefik = testing::traefik("3.7.15", Reads::SocketProxy("p".to_owned()));
        traefik.api = Err(Error::refused("the API is off").hint("add it"));
        traefik.config.source = source;
        facts(traefik)
    };
    let at = ["services", "traefik"];
    assert_eq!(
        edits(&off(Source::Command)),
        [add(&[at[0], at[1], "command"], &["--api.insecure=true"])]
    );
    assert_eq!(
        edits(&off(Source::Environment)),
        [set(
            &[at[0], at[1], "environment"],
            json!({"TRAEFIK_API_INSECURE": "true"})
        )]
    );
    assert_eq!(
        edits(&off(Source::File("/etc/traefik/traefik.yml".to_owned()))),
        []
    );
}

#[test]
fn a_labelled_service_without_a_traefik_fails_and_one_without_labels_does_not() {
    let mut facts = facts(testing::traefik("3.7.15", Reads::Nothing));
    facts.traefiks.clear();
    facts.services[0].is_alone = true;
    assert_eq!(failed(&facts), [Check::Traefik]);
    let found = check(&facts).remove(0).fix.unwrap();
    assert_eq!(found.run.as_deref(), Some("docker compose up -d traefik"));
    facts.services[0].is_labelled = false;
    assert_eq!(failed(&facts), []);
}

/// A Traefik with both providers.
fn with_swarm(version: &str, reads: Reads) -> TraefikFacts {
    let arguments = ["--providers.docker", "--providers.swarm"].map(str::to_owned);
    let mut traefik = testing::traefik(version, reads);
    let given = Given {
        arguments: &arguments,
        ..Given::default()
    };
    traefik.config = read(given).unwrap();
    traefik
}

#[test]
fn a_swarm_provider_that_reads_through_a_socket_proxy_without_the_flag_fails_with_the_flag_as_fix()
{
    const NAME: &str = "shop-socket-proxy-1";
    let through = |service: Option<&str>, rejects_swarm| {
        let mut traefik = with_swarm("3.7.15", Reads::SocketProxy(NAME.to_owned()));
        traefik.swarm_through = Some(NAME.to_owned());
        let mut facts = facts(traefik);
        testing::add(
            &mut facts,
            "socket-proxy",
            "image: rollout:latest\ncommand: [socket-proxy]",
        );
        facts.services.truncate(1);
        facts.socket_proxies = vec![SocketProxyFacts {
            name: NAME.to_owned(),
            service: service.map(str::to_owned),
            rejects_swarm,
        }];
        facts
    };
    assert_eq!(failed(&through(Some("socket-proxy"), false)), []);
    let lacking = through(Some("socket-proxy"), true);
    assert_eq!(failed(&lacking), [Check::Traefik]);
    let flag = add(&["services", "socket-proxy", "command"], &["--swarm"]);
    assert_eq!(edits(&lacking), [flag]);
    let elsewhere = through(None, true);
    assert_eq!(edits(&elsewhere), []);
    let all = check(&elsewhere);
    let fix = all.into_iter().find_map(|own| own.fix).unwrap();
    let command = format!("add --swarm to the command of {NAME}");
    assert!(fix.text.starts_with(&command), "{}", fix.text);
}

#[test]
fn a_traefik_with_a_swarm_provider_gets_a_socket_proxy_with_the_flag_or_an_update() {
    let socket = || Reads::Socket(SOCKET.to_owned());
    let both = facts(with_swarm("3.7.15", socket()));
    let all = edits(&both);
    let volumes = json!([format!("{SOCKET}:{SOCKET}:ro")]);
    let mut file = json!({"services": {"traefik": {"volumes": volumes}}});
    all.iter().for_each(|edit| edit.make(&mut file).unwrap());
    let command = &file["services"]["socket-proxy"]["command"];
    assert_eq!(*command, json!(["socket-proxy", "--swarm"]));

    let mut both = facts(with_swarm("3.7.15", socket()));
    testing::add(
        &mut both,
        "socket-proxy",
        "image: rollout:latest\ncommand: [socket-proxy]",
    );
    both.services.truncate(1);
    let flag = add(&["services", "socket-proxy", "command"], &["--swarm"]);
    assert!(edits(&both).contains(&flag), "the project has one");

    let old = check(&facts(with_swarm("3.5.0", socket())));
    let fix = old.into_iter().find_map(|own| own.fix).unwrap();
    assert_eq!(fix.edits, []);
    assert!(fix.text.contains("update Traefik"), "{}", fix.text);
}

#[test]
fn a_traefik_in_another_services_network_namespace_joins_by_that_ones_networks() {
    let holder = |service: Option<&str>| {
        let mut traefik = testing::traefik("3.7.15", Reads::Socket(SOCKET.to_owned()));
        traefik.holder = Some(Holder {
            id: "g".to_owned(),
            name: "shop-gerbil-1".to_owned(),
            service: service.map(str::to_owned),
        });
        let mut facts = facts(traefik);
        testing::add(
            &mut facts,
            "gerbil",
            "image: gerbil\nnetworks: {default: null}",
        );
        facts.services.truncate(1);
        facts
    };
    let edits = edits(&holder(Some("gerbil")));
    let networks = json!({"networks": ["default", "docker-api"]});
    assert!(
        edits.contains(&set(&["services", "gerbil"], networks)),
        "{edits:#?}"
    );
    let elsewhere = check(&holder(None));
    let fix = elsewhere.into_iter().find_map(|own| own.fix).unwrap();
    assert!(
        fix.edits.is_empty() && fix.text.contains("put shop-gerbil-1"),
        "{}",
        fix.text
    );
}

#[test]
fn a_traefik_of_the_own_project_is_judged_although_it_is_in_front_of_nothing() {
    let mut traefik = testing::traefik("3.7.15", Reads::SocketProxy("p".to_owned()));
    traefik.api = Err(Error::refused("the API is off").hint("add it"));
    let mut facts = facts(traefik);
    testing::add(&mut facts, "traefik", TRAEFIK);
    facts.services.remove(0);
    facts.services[0].part = Some(Part::Traefik);
    assert_eq!(failed(&facts), [Check::Api]);
}

#[test]
fn a_traefik_that_takes_only_what_enables_it_need_not_see_all_containers() {
    let reads = |exposed_by_default, sees_all| {
        let mut traefik = testing::traefik("3.7.15", Reads::SocketProxy("p".to_owned()));
        let docker = traefik.config.docker.as_mut().unwrap();
        docker.exposed_by_default = exposed_by_default;
        traefik.sees_all = sees_all;
        let found = check(&facts(traefik));
        found
            .iter()
            .any(|own| own.level == Level::Ok && own.text.contains(ONLY_ENABLED))
    };
    assert!(reads(false, true));
    assert!(!reads(true, true) && !reads(false, false));
    let mut traefik = with_swarm("3.7.15", Reads::SocketProxy("p".to_owned()));
    traefik.config.docker.as_mut().unwrap().exposed_by_default = false;
    traefik.sees_all = true;
    let all = check(&facts(traefik));
    assert!(!all.iter().any(|own| own.text.contains(ONLY_ENABLED)));
}
