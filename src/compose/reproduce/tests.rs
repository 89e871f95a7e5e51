//! Inspected containers, and the Compose files that recreate them.

use proptest::prelude::*;

use super::*;
use crate::arbitrary::replaced;

/// The service `web` of the file that the inspect answer becomes.
fn made(container: &Value, image: &Value) -> (Value, Vec<String>) {
    let settings =
        json!({"x-rollout": {"wait": "9s", "notify": "https://h/secret"}, "image": "newer"});
    let reproduced = reproduce(&Original {
        project: "shop",
        service: "web",
        container,
        image,
        settings: &settings,
    });
    let whole = yaml::parse(&reproduced.config).unwrap();
    (whole, reproduced.lost)
}

fn image() -> Value {
    json!({
        "Env": ["PATH=/bin", "VERSION=1"], "Entrypoint": ["/app"], "ExposedPorts": {"80/tcp": {}},
        "Labels": {"vendor": "x"}, "Healthcheck": {"Test": ["CMD", "/app", "check"], "Interval": 2_000_000_000},
    })
}

#[test]
fn only_settings_that_differ_from_the_image_are_written() {
    let container = json!({
        "Id": "78d74b7cc91bd538cc95", "Name": "/shop-web-1",
        "Config": {
            "Image": "app:v1", "Hostname": "78d74b7cc91b", "Env": ["A=b$c", "PATH=/bin", "VERSION=1"],
            "Entrypoint": ["/app"], "Cmd": ["--home", "$HOME"], "ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
            "Labels": {"vendor": "x", "shop.tier": "gold", "com.docker.compose.project": "shop"},
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000u64, "Retries": 3},
            "StopTimeout": 3, "User": "1000",
        },
        "HostConfig": {
            "Binds": ["shop_data:/data:rw", "/srv/x:/x:ro"], "NetworkMode": "shop_front", "ShmSize": 67_108_864,
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}, "CapDrop": ["ALL"], "IpcMode": "private",
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}, "NanoCpus": 500_000_000, "PidsLimit": -1,
            "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "Tmpfs": {"/run": ""}, "ConsoleSize": [0, 0],
            "Mounts": [{"Type": "volume", "Source": "shop_more", "Target": "/m", "VolumeOptions": {"Labels": {"a": "b"}}}],
            "MaskedPaths": ["/proc/kcore"], "Runtime": "runc",
        },
        "NetworkSettings": {"Networks": {
            "shop_front": {"Aliases": ["shop-web-1", "web", "shop", "78d74b7cc91b"], "IPAMConfig": {}},
            "shop_back": {"Aliases": ["shop-web-1.r12-abc", "web"], "IPAMConfig": null},
        }},
    });
    let (whole, lost) = made(&container, &image());
    assert_eq!(lost, [""; 0]);
    assert_eq!(
        whole["services"]["web"],
        json!({
            "image": "app:v1", "environment": ["A=b$$c"], "command": ["--home", "$$HOME"], "user": "1000",
            "labels": {"shop.tier": "gold"}, "stop_grace_period": "3s", "expose": ["81/tcp"],
            "healthcheck": {"test": ["CMD-SHELL", "true"], "interval": "5000ms", "retries": 3},
            "volumes": ["shop_data:/data:rw", "/srv/x:/x:ro", {"type": "volume", "source": "shop_more", "target": "/m"}],
            "tmpfs": ["/run"], "restart": "unless-stopped", "cap_drop": ["ALL"], "cpus": 0.5,
            "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
            "ulimits": {"nofile": {"soft": 100, "hard": 200}},
            "networks": {"shop_front": {"aliases": ["shop"], "priority": 1}, "shop_back": {}},
            "x-rollout": {"wait": "9s"},
        })
    );
    let external = |name: &str| json!({"name": name, "external": true});
    assert_eq!(
        whole["networks"],
        json!({"shop_front": external("shop_front"), "shop_back": external("shop_back")})
    );
    assert_eq!(
        whole["volumes"],
        json!({"shop_data": external("shop_data"), "shop_more": external("shop_more")})
    );
}

#[test]
fn options_without_a_compose_key_are_named() {
    let container = json!({
        "Id": "78d7", "Name": "/shop-web-1", "Config": {"Image": "app:v1"},
        "HostConfig": {
            "NetworkMode": "shop_front", "AutoRemove": true, "Links": ["/db:/shop-web-1/db"], "Privileged": false,
            "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"NonRecursive": true}}],
        },
        "NetworkSettings": {"Networks": {"shop_front": {"DriverOpts": {"a": "b"}}}},
    });
    let (_, lost) = made(&container, &Value::Null);
    assert_eq!(
        lost,
        [
            "AutoRemove",
            "Links",
            "Mounts.BindOptions.NonRecursive",
            "DriverOpts of network shop_front"
        ]
    );
}

#[test]
fn a_joined_network_a_fixed_name_and_ports_are_written() {
    let container = json!({
        "Id": "78d7", "Name": "/proxy",
        "Config": {"Image": "sha256:12", "Hostname": "host", "Entrypoint": [], "Healthcheck": {"Test": ["NONE"]}},
        "HostConfig": {
            "NetworkMode": "host", "PortBindings": {"53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}]},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4},
            "Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "rwm"}],
            "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 9}}],
        },
    });
    let (whole, lost) = made(&container, &image());
    assert_eq!(lost, [""; 0]);
    assert_eq!(
        whole["services"]["web"],
        json!({
            "image": "sha256:12", "container_name": "proxy", "entrypoint": [], "command": [],
            "healthcheck": {"disable": true}, "network_mode": "host", "restart": "on-failure:4",
            "devices": ["/dev/a:/dev/b:rwm"],
            "ports": [{"mode": "ingress", "protocol": "udp", "target": 53, "host_ip": "127.0.0.1", "published": "53"}],
            "volumes": [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": 9}}],
            "x-rollout": {"wait": "9s"},
        })
    );
    assert_eq!(whole["networks"], json!({}));
}

fn with_every_option() -> Value {
    json!({
        "Id": "78d7", "Name": "/shop-web-1",
        "Config": {
            "Image": "app:v1", "Env": ["A=b"], "Labels": {"a": "b"}, "StopTimeout": 3, "Volumes": {"/own": {}},
            "Healthcheck": {"Test": ["CMD", "a"], "Retries": 3}, "ExposedPorts": {"81/tcp": {}},
        },
        "HostConfig": {
            "Binds": ["data:/data:rw"], "NetworkMode": "front", "RestartPolicy": {"Name": "always"}, "PidsLimit": 5,
            "LogConfig": {"Type": "local", "Config": {"a": "b"}}, "NanoCpus": 5, "BlkioWeight": 3, "Tmpfs": {"/run": "x"},
            "Ulimits": [{"Name": "nofile", "Soft": 1}], "Devices": [{"PathOnHost": "/dev/a"}], "VolumesFrom": ["x"],
            "PortBindings": {"53/udp": [{"HostIp": "::1", "HostPort": "53"}]},
            "Mounts": [{"Type": "volume", "Source": "m", "Target": "/m", "VolumeOptions": {"NoCopy": true, "More": 1}}],
        },
        "NetworkSettings": {"Networks": {
            "front": {"Aliases": ["web", "b"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}, "back": {},
        }},
    })
}

proptest! {
    #[test]
    fn an_inspect_answer_with_values_of_any_type_is_a_compose_file_of_its_one_service(
        container in replaced(with_every_option()), image in replaced(image()),
    ) {
        let (whole, _) = made(&container, &image);
        let services: Vec<&String> = keys(&whole["services"]).collect();
        prop_assert_eq!(services, ["web"]);
        prop_assert_eq!(&whole["services"]["web"]["x-rollout"], &json!({"wait": "9s"}));
        let networks: Vec<&String> = keys(&whole["services"]["web"]["networks"]).collect();
        prop_assert_eq!(networks, keys(&whole["networks"]).collect::<Vec<_>>());
    }
}
