//! One reason after the other against a second set.

use super::{super::parse, *};

fn messages(yaml: &str, replicas: u32, image_volumes: &[&str]) -> Vec<String> {
    let project = parse::project(&format!("name: p\nservices: {yaml}"), "-").unwrap();
    let image_volumes: Vec<String> = image_volumes.iter().map(|&v| v.to_owned()).collect();
    let web = &project.services["web"];
    let joined = joined(&project, web, &[]);
    check(&project, web, replicas, &image_volumes, &joined)
        .into_iter()
        .map(|problem| problem.message)
        .collect()
}

#[test]
fn an_ordinary_service_has_no_problem() {
    let yaml = "{web: {image: a, networks: {n: null}, tmpfs: [/t], ports: [{target: 80}],
        depends_on: {db: {condition: service_healthy}},
        volumes: [{type: volume, source: v, target: /v}, {type: bind, source: /b, target: /b}]}, db: {image: b}}";
    assert_eq!(messages(yaml, 3, &["/v/", "/t"]), Vec::<String>::new());
}

#[test]
fn a_fixed_host_port_is_named_with_its_address_and_protocol() {
    let yaml = r#"{web: {image: a, ports: [{target: 80, published: "8080", host_ip: 127.0.0.1},
        {target: 53, published: "53", protocol: udp}]}}"#;
    assert_eq!(
        messages(yaml, 1, &[]),
        [
            "web publishes host port 127.0.0.1:8080",
            "web publishes host port 53/udp"
        ]
    );
}

#[test]
fn a_range_is_a_problem_only_without_room_for_both_sets() {
    let yaml = "{web: {image: a, ports: [{target: 80, published: 9000-9003}]}}";
    assert!(messages(yaml, 2, &[]).is_empty());
    assert_eq!(
        messages(yaml, 3, &[]),
        ["web publishes host port 9000-9003, which has no room for both sets"]
    );
}

#[test]
fn a_shared_network_namespace_is_a_problem_but_none_and_bridge_are_not() {
    for mode in ["host", "container:x", "service:db"] {
        let yaml = format!("{{web: {{image: a, network_mode: '{mode}'}}, db: {{image: b}}}}");
        let message = format!("web has network_mode: {mode}, so both sets would share its ports");
        assert_eq!(messages(&yaml, 1, &[]), [message]);
    }
    assert!(messages("{web: {image: a, network_mode: none}}", 1, &[]).is_empty());
    assert!(messages("{web: {image: a, network_mode: bridge}}", 1, &[]).is_empty());
}

#[test]
fn fixed_addresses_and_names_are_problems() {
    let yaml = "{web: {image: a, container_name: w, mac_address: '02:42:ac:11:00:03',
        networks: {n: {ipv4_address: 10.0.0.2, ipv6_address: 'fd00::2'}}}}";
    assert_eq!(
        messages(yaml, 2, &[]),
        [
            "web has the static address 10.0.0.2 on network n",
            "web has the static address fd00::2 on network n",
            "web has the fixed mac_address 02:42:ac:11:00:03",
            "web has container_name: w and 2 replicas",
        ]
    );
    assert!(messages("{web: {image: a, container_name: w}}", 1, &[]).is_empty());
}

#[test]
fn anonymous_volumes_of_file_and_image_are_named_unless_something_is_mounted_there() {
    let yaml = "{web: {image: a, volumes: [{type: volume, target: /data}, {type: volume, source: v, target: /v}]}}";
    assert_eq!(
        messages(yaml, 1, &["/v", "/cache"]),
        [
            "web has anonymous volumes, whose data new containers would not see: /data, /cache (of the image)"
        ]
    );
}

#[test]
fn services_that_join_this_one_are_named_with_the_key() {
    let yaml = "{web: {image: a}, side: {image: b, network_mode: 'service:web', pid: 'service:web'},
        copy: {image: c, ipc: 'service:web', volumes_from: ['web:ro']}, alone: {image: d, ipc: 'service:side'}}";
    assert_eq!(
        messages(yaml, 1, &[]),
        [
            "copy uses the containers of web by ipc and would still use the old ones after the rollout",
            "copy uses the containers of web by volumes_from and would still use the old ones after the rollout",
            "side uses the containers of web by network_mode and would still use the old ones after the rollout",
            "side uses the containers of web by pid and would still use the old ones after the rollout",
        ]
    );
}

#[test]
fn a_missing_required_dependency_is_named() {
    let yaml = "{web: {image: a, depends_on: {db: {condition: service_started, required: true},
        mail: {condition: service_started, required: false}}}}";
    assert_eq!(
        messages(yaml, 1, &[]),
        ["web depends on \"db\", which is not in project p"]
    );
}
