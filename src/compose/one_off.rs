//! Starts a one-off container of a service: its configuration, with another command.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Compose, Project, view::Subject};
use crate::{error::Result, yaml};

/// A command in a container of its own, which has no ports, no aliases, and no routes.
pub struct OneOff<'a> {
    pub project: &'a Project,
    pub service: &'a str,
    /// The id of its image.
    pub image: &'a str,
    /// The rollout id, by whose label it is found.
    pub rollout: &'a str,
    /// The container that is the rollout's lock. Without it, nothing is created.
    pub lock: &'a str,
    /// In place of the entrypoint and the command.
    pub command: &'a [String],
    /// Added to the service's environment.
    pub environment: &'a BTreeMap<&'static str, String>,
}

impl Compose {
    /// Creates and starts the container, and does not wait for its end.
    pub async fn start_one_off(
        &self,
        one_off: &OneOff<'_>,
        on_line: impl FnMut(String),
    ) -> Result<()> {
        let (project, service) = (&one_off.project.name, one_off.service);
        let subject = Subject {
            project: project.clone(),
            service: service.to_owned(),
            rollout: Some(one_off.rollout.to_owned()),
            ..Subject::default()
        };
        let view = self.view(subject, Some(one_off.lock)).await?;
        let compose = self.recorded(&yaml::json(&one_off.file()), project);
        let arguments = [
            "run",
            "--detach",
            "--no-deps",
            "-T",
            "--interactive=false",
            service,
        ];
        let doing = format!("could not run a container of {service}");
        compose.through(&view, &arguments, &doing, on_line).await
    }
}

/// The keys of a service that are for its replicas alone.
const OF_REPLICAS: [&str; 8] = [
    "build",
    "command",
    "container_name",
    "hostname",
    "mac_address",
    "post_start",
    "pre_start",
    "pre_stop",
];

/// The keys of a service's network that are for its replicas alone.
const OF_REPLICAS_IN_NETWORKS: [&str; 5] = [
    "aliases",
    "ipv4_address",
    "ipv6_address",
    "link_local_ips",
    "mac_address",
];

impl OneOff<'_> {
    /// The Compose file of the container.
    fn file(&self) -> Value {
        let mut project = self.project.clone();
        if let Some(service) = project.raw["services"][self.service].as_object_mut() {
            service.retain(|key, _| !OF_REPLICAS.contains(&key.as_str()));
            let networks = service.get_mut("networks").and_then(Value::as_object_mut);
            for network in networks.into_iter().flat_map(Map::values_mut) {
                if let Some(network) = network.as_object_mut() {
                    network.retain(|key, _| !OF_REPLICAS_IN_NETWORKS.contains(&key.as_str()));
                }
            }
            service.insert("image".to_owned(), json!(self.image));
            service.insert("pull_policy".to_owned(), json!("never"));
            service.insert("entrypoint".to_owned(), json!(self.command));
            let environment = service.entry("environment").or_insert_with(|| json!({}));
            let own = self.environment.iter();
            let own = own.map(|(name, value)| ((*name).to_owned(), json!(value)));
            if let Some(environment) = environment.as_object_mut() {
                environment.extend(own);
            }
        }
        project.alone(self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::resolved;

    fn file(text: &str) -> Value {
        let project = resolved(text).unwrap();
        let command = ["/bin/sh", "-c", "echo $HOME"].map(str::to_owned);
        let environment = BTreeMap::from([("ROLLOUT_IMAGE", "app:v2".to_owned())]);
        let one_off = OneOff {
            project: &project,
            service: "web",
            image: "sha256:aa",
            rollout: "r2",
            lock: "lock",
            command: &command,
            environment: &environment,
        };
        one_off.file()
    }

    #[test]
    fn a_one_off_is_the_service_with_another_command_and_nothing_that_belongs_to_a_replica() {
        let file = file(
            "name: shop
services:
  web:
    image: app:v2
    build: {context: .}
    pull_policy: always
    command: [serve]
    container_name: web
    hostname: web
    environment: {A: a$$b, B: null}
    volumes: [{type: volume, source: d, target: /d}]
    networks: {default: null, front: {ipv4_address: 10.0.0.2, aliases: [www], priority: 1}}
    pre_stop: [{command: [x]}]
  db: {image: db}
networks: {default: {name: shop_default}, front: {name: shop_front}}
",
        );
        let wanted = json!({
            "image": "sha256:aa",
            "pull_policy": "never",
            "entrypoint": ["/bin/sh", "-c", "echo $$HOME"],
            "environment": {"A": "a$$b", "B": null, "ROLLOUT_IMAGE": "app:v2"},
            "volumes": [{"type": "volume", "source": "d", "target": "/d"}],
            "networks": {"default": null, "front": {"priority": 1}},
        });
        assert_eq!(file["services"], json!({ "web": wanted }));
        assert_eq!(file["networks"]["front"]["name"], "shop_front");
    }

    #[test]
    fn a_service_without_an_environment_gets_one() {
        let file = file("name: shop\nservices: {web: {image: a}}\n");
        let environment = &file["services"]["web"]["environment"];
        assert_eq!(*environment, json!({"ROLLOUT_IMAGE": "app:v2"}));
    }
}
