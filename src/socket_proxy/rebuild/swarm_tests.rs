//! Only the named fields remain in an answer about Swarm. Every other text in these samples is replaced by a mark.

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::arbitrary::replaced;

const MARK: &str = "SECRET";

/// A full answer of Docker with the mark in each text that is at none of these places.
fn marked(mut answer: Value, kept: &[&str]) -> Value {
    mark(&mut answer, "", kept);
    answer
}

fn mark(value: &mut Value, at: &str, kept: &[&str]) {
    match value {
        Value::String(text) if !kept.contains(&at) => MARK.clone_into(text),
        Value::Array(all) => all.iter_mut().for_each(|one| mark(one, at, kept)),
        Value::Object(map) => {
            for (key, value) in map {
                mark(value, format!("{at}.{key}").trim_start_matches('.'), kept);
            }
        }
        _ => {}
    }
}

fn rebuilt<T: DeserializeOwned + Serialize>(answer: &Value) -> Value {
    let read = serde_json::from_str::<T>(&answer.to_string());
    read.map_or(Value::Null, |kept| json!(kept))
}

fn spec() -> Value {
    json!({
        "Name": "shop_web", "Labels": {"traefik.enable": "true"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "app", "Labels": {"a": "b"}, "Command": ["sh", "-c"], "Args": ["run"], "Hostname": "web",
                "Env": ["PASSWORD=a"], "Dir": "/", "User": "a", "Groups": ["a"],
                "Privileges": {"CredentialSpec": {"Config": "a", "File": "a"}, "SELinuxContext": {"User": "a"}},
                "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/a"}], "StopSignal": "SIGTERM",
                "Healthcheck": {"Test": ["CMD", "a"]}, "Hosts": ["10.0.0.1 a"],
                "DNSConfig": {"Nameservers": ["a"], "Search": ["a"], "Options": ["a"]},
                "Secrets": [{"SecretID": "a", "SecretName": "a", "File": {"Name": "a", "UID": "0", "GID": "0", "Mode": 292}}],
                "Configs": [{"ConfigID": "a", "ConfigName": "a", "File": {"Name": "a", "UID": "0", "GID": "0", "Mode": 292}}],
                "Sysctls": {"a": "b"}, "Isolation": "default",
            },
            "PluginSpec": {"Name": "a", "Remote": "a", "Env": ["a"]},
            "Resources": {"Reservations": {"GenericResources": [{"NamedResourceSpec": {"Kind": "a", "Value": "a"}}]}},
            "Placement": {"Constraints": ["node.labels.a==b"], "Platforms": [{"Architecture": "a", "OS": "a"}]},
            "Networks": [{"Target": "n1", "Aliases": ["web"], "DriverOpts": {"a": "b"}}],
            "LogDriver": {"Name": "a", "Options": {"token": "a"}}, "Runtime": "container", "ForceUpdate": 0,
        },
        "Mode": {"Replicated": {"Replicas": 2}},
        "UpdateConfig": {"Parallelism": 1, "FailureAction": "pause", "Order": "start-first"},
        "RollbackConfig": {"Parallelism": 1, "FailureAction": "pause", "Order": "stop-first"},
        "Networks": [{"Target": "n1", "Aliases": ["web"], "DriverOpts": {"a": "b"}}],
        "EndpointSpec": {"Mode": "vip", "Ports": [{"Name": "a", "Protocol": "tcp", "TargetPort": 80}]},
    })
}

fn service() -> Value {
    let mut previous = spec();
    previous["Name"] = json!(MARK);
    let answer = json!({
        "ID": "s1", "Version": {"Index": 7}, "CreatedAt": "a", "UpdatedAt": "a", "Spec": spec(), "PreviousSpec": previous,
        "Endpoint": {
            "Spec": {"Mode": "vip", "Ports": [{"Name": "a", "Protocol": "tcp", "TargetPort": 80}]},
            "Ports": [{"Name": "a", "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}],
            "VirtualIPs": [{"NetworkID": "n1", "Addr": "10.0.1.2/24"}],
        },
        "UpdateStatus": {"State": "updating", "Message": "a"}, "ServiceStatus": {"RunningTasks": 2}, "JobStatus": null,
    });
    let kept = [
        "ID",
        "Spec.Name",
        "Spec.Labels.traefik.enable",
        "Spec.EndpointSpec.Mode",
        "Endpoint.Ports.Protocol",
        "Endpoint.Ports.PublishMode",
        "Endpoint.VirtualIPs.NetworkID",
        "Endpoint.VirtualIPs.Addr",
    ];
    marked(answer, &kept)
}

fn task() -> Value {
    let answer = json!({
        "ID": "t1", "Version": {"Index": 9}, "CreatedAt": "a", "UpdatedAt": "a", "Name": "a", "Labels": {"a": "b"},
        "Spec": spec()["TaskTemplate"], "ServiceID": "s1", "Slot": 2, "NodeID": "n1",
        "AssignedGenericResources": [{"NamedResourceSpec": {"Kind": "a", "Value": "a"}}],
        "Status": {
            "Timestamp": "2026-11-21T10:00:00Z", "State": "running", "Message": "a", "Err": "a",
            "ContainerStatus": {"ContainerID": "a", "PID": 7, "ExitCode": 0},
            "PortStatus": {"Ports": [{"Protocol": "tcp", "TargetPort": 80}]},
        },
        "DesiredState": "running", "JobIteration": {"Index": 1}, "Volumes": [{"ID": "a", "Source": "a", "Target": "a"}],
        "NetworksAttachments": [{
            "Network": {
                "ID": "o1", "CreatedAt": "a",
                "Spec": {"Name": "shop_default", "Labels": {"a": "b"}, "DriverConfiguration": {"Options": {"a": "b"}}},
                "DriverState": {"Name": "overlay", "Options": {"a": "b"}}, "IPAMOptions": {"Configs": [{"Subnet": "a"}]},
            },
            "Addresses": ["10.0.1.5/24"],
        }],
    });
    let kept = [
        "ID",
        "ServiceID",
        "NodeID",
        "DesiredState",
        "Status.State",
        "Status.Timestamp",
        "NetworksAttachments.Network.ID",
        "NetworksAttachments.Network.Spec.Name",
        "NetworksAttachments.Addresses",
    ];
    marked(answer, &kept)
}

fn node() -> Value {
    let answer = json!({
        "ID": "n1", "Version": {"Index": 3}, "CreatedAt": "a", "UpdatedAt": "a",
        "Spec": {"Name": "a", "Labels": {"a": "b"}, "Role": "manager", "Availability": "active"},
        "Description": {
            "Hostname": "m1", "Platform": {"Architecture": "a", "OS": "a"}, "Resources": {"NanoCPUs": 1},
            "Engine": {"EngineVersion": "a", "Labels": {"a": "b"}, "Plugins": [{"Type": "a", "Name": "a"}]},
            "TLSInfo": {"TrustRoot": "a", "CertIssuerSubject": "a", "CertIssuerPublicKey": "a"},
        },
        "Status": {"State": "ready", "Message": "a", "Addr": "192.0.2.1"},
        "ManagerStatus": {"Leader": true, "Reachability": "a", "Addr": "a"},
    });
    let kept = [
        "ID",
        "Spec.Role",
        "Spec.Availability",
        "Description.Hostname",
        "Status.Addr",
    ];
    marked(answer, &kept)
}

fn info() -> Value {
    let answer = json!({
        "ID": "a", "Containers": 3, "Driver": "a", "Labels": ["a=b"], "Name": "a", "HttpProxy": "http://user:password@a",
        "RegistryConfig": {"Mirrors": ["a"]}, "DockerRootDir": "a", "SecurityOptions": ["a"], "Warnings": ["a"],
        "Swarm": {
            "NodeID": "n1", "NodeAddr": "192.0.2.1", "LocalNodeState": "active", "ControlAvailable": true, "Error": "a",
            "RemoteManagers": [{"NodeID": "a", "Addr": "a"}], "Nodes": 3, "Managers": 1,
            "Cluster": {
                "ID": "a", "Spec": {"Name": "a", "Labels": {"a": "b"}, "CAConfig": {"ExternalCAs": [{"URL": "a", "CACert": "a"}]}},
                "TLSInfo": {"TrustRoot": "a", "CertIssuerSubject": "a", "CertIssuerPublicKey": "a"},
                "JoinTokens": {"Worker": "a", "Manager": "a"},
            },
        },
    });
    let kept = ["Swarm.NodeID", "Swarm.NodeAddr", "Swarm.LocalNodeState"];
    marked(answer, &kept)
}

#[test]
fn a_service_keeps_what_traefik_reads_and_nothing_else() {
    let expected = json!({
        "ID": "s1", "Version": {"Index": 7},
        "Spec": {
            "Name": "shop_web", "Labels": {"traefik.enable": "true"}, "Mode": {"Replicated": {"Replicas": 2}},
            "EndpointSpec": {"Mode": "vip"},
        },
        "Endpoint": {
            "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}],
            "VirtualIPs": [{"NetworkID": "n1", "Addr": "10.0.1.2/24"}],
        },
    });
    assert_eq!(rebuilt::<Service>(&service()), expected);
    let global = json!({"ID": "s1", "Spec": {"Mode": {"Global": {}}, "EndpointSpec": null}});
    assert_eq!(
        rebuilt::<Service>(&global)["Spec"]["Mode"],
        json!({"Global": {}})
    );
    assert_eq!(
        rebuilt::<Service>(&global)["Spec"].get("EndpointSpec"),
        None
    );
}

#[test]
fn a_task_a_node_and_the_info_keep_what_traefik_reads_and_nothing_else() {
    let expected = json!({
        "ID": "t1", "Version": {"Index": 9}, "ServiceID": "s1", "NodeID": "n1", "Slot": 2,
        "Status": {"Timestamp": "2026-11-21T10:00:00Z", "State": "running"}, "DesiredState": "running",
        "NetworksAttachments": [{
            "Network": {"ID": "o1", "Spec": {"Name": "shop_default"}}, "Addresses": ["10.0.1.5/24"],
        }],
    });
    assert_eq!(rebuilt::<Task>(&task()), expected);
    let expected = json!({
        "ID": "n1", "Version": {"Index": 3}, "Spec": {"Role": "manager", "Availability": "active"},
        "Description": {"Hostname": "m1"}, "Status": {"Addr": "192.0.2.1"},
    });
    assert_eq!(rebuilt::<Node>(&node()), expected);
    let expected = json!({"Swarm": {
        "NodeID": "n1", "NodeAddr": "192.0.2.1", "LocalNodeState": "active", "ControlAvailable": true,
    }});
    assert_eq!(rebuilt::<Info>(&info()), expected);
}

#[test]
fn a_time_and_an_address_that_are_not_known_are_left_out() {
    let task = rebuilt::<Task>(&json!({"ID": "t1", "Status": {"State": "new"}}));
    assert_eq!(task["Status"], json!({"State": "new"}));
    let service = json!({"Endpoint": {"VirtualIPs": [{"NetworkID": "n1"}]}});
    let ips = &rebuilt::<Service>(&service)["Endpoint"]["VirtualIPs"];
    assert_eq!(*ips, json!([{"NetworkID": "n1"}]));
}

#[test]
fn the_digest_of_secrets_is_no_label_of_a_service() {
    let answer = json!({"ID": "s1", "Spec": {"Labels": {DIGEST: MARK, "a": "b"}}});
    let service: Service = serde_json::from_value(answer).unwrap();
    let shown = service.for_reader(&Overlay::default(), &[]).unwrap();
    assert_eq!(json!(shown.spec.labels), json!({"a": "b"}));
}

proptest! {
    #[test]
    fn no_secret_survives_in_an_answer_with_values_of_any_type(
        service in replaced(service()), task in replaced(task()), node in replaced(node()), info in replaced(info()),
    ) {
        let kept = [
            rebuilt::<Service>(&service), rebuilt::<Task>(&task), rebuilt::<Node>(&node), rebuilt::<Info>(&info),
        ];
        for kept in kept {
            prop_assert!(!kept.to_string().contains(MARK), "{}", kept);
        }
    }

    #[test]
    fn what_is_rebuilt_is_rebuilt_as_itself(service in replaced(service()), task in replaced(task())) {
        let once = (rebuilt::<Service>(&service), rebuilt::<Task>(&task));
        prop_assert_eq!(&rebuilt::<Service>(&once.0), &once.0);
        prop_assert_eq!(&rebuilt::<Task>(&once.1), &once.1);
    }
}
