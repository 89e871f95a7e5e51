//! Reasons against a second set, each with what takes it away.

use super::*;
use crate::doctor::testing;

const ROUTED: &str = "image: app\nlabels: {traefik.enable: 'true'}\n";

/// What is found, and the edits against it as people see them.
fn found(yaml: &str) -> Vec<(Check, String)> {
    let (facts, mut service) = testing::of(&format!("{ROUTED}{yaml}"));
    service.image.volumes = Vec::new();
    let printed = |finding: Finding| {
        let printed = finding.fix.unwrap().instructions().into_iter();
        let printed: Vec<String> = printed
            .map(|(what, snippet)| format!("{what}\n{snippet}"))
            .collect();
        (finding.check, printed.join(""))
    };
    check(&facts, &service).into_iter().map(printed).collect()
}

#[test]
fn each_reason_against_a_second_set_comes_with_the_edits_that_take_it_away() {
    let set = "set, replacing what has the same name:\n";
    for (yaml, check, edits) in [
        (
            "ports: [{target: 80, published: '8080'}]",
            Check::HostPorts,
            format!("remove services.web.ports\n{set}services:\n  web:\n    expose:\n    - '80'\n"),
        ),
        (
            "ports: [{target: 80, published: '8080'}, {target: 90}]\nexpose: ['80']",
            Check::HostPorts,
            format!("{set}services:\n  web:\n    ports:\n    - 90/tcp\n"),
        ),
        (
            "networks: {front: {ipv4_address: 10.0.0.2, ipv6_address: 'fd00::2'}}",
            Check::StaticAddress,
            "remove services.web.networks.front.ipv4_address\n\
             remove services.web.networks.front.ipv6_address\n"
                .to_owned(),
        ),
        (
            "mac_address: 02:42:ac:11:00:02",
            Check::MacAddress,
            "remove services.web.mac_address\n".to_owned(),
        ),
        (
            "container_name: one\nscale: 2",
            Check::ContainerName,
            "remove services.web.container_name\n".to_owned(),
        ),
        (
            "volumes: [{type: volume, target: /var/data}]",
            Check::AnonymousVolumes,
            format!(
                "remove the mount of /var/data in services.web.volumes\n\
                 add to services.web.volumes:\n- web-var-data:/var/data\n\
                 {set}volumes:\n  web-var-data: {{}}\n"
            ),
        ),
        (
            "network_mode: host",
            Check::NetworkMode,
            format!("{set}services:\n  web:\n    x-rollout:\n      strategy: recreate\n"),
        ),
    ] {
        assert_eq!(found(yaml), [(check, edits)], "{yaml}");
    }
}

#[test]
fn what_the_settings_allow_is_no_reason() {
    for yaml in [
        "ports: [{target: 80, published: '8080'}]\nx-rollout: {strategy: recreate}",
        "volumes: [{type: volume, target: /d}]\nx-rollout: {renew-anon-volumes: true}",
    ] {
        assert_eq!(found(yaml), [], "{yaml}");
    }
}

#[test]
fn a_volume_of_the_image_gets_a_name_too() {
    let (facts, mut service) = testing::of("image: postgres");
    service.image.volumes = vec!["/var/lib/postgresql/data".to_owned()];
    let found = check(&facts, &service).remove(0);
    let printed = found.fix.unwrap().instructions();
    assert_eq!(
        printed[0].1,
        "- web-var-lib-postgresql-data:/var/lib/postgresql/data\n"
    );
}
