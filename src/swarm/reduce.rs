//! What `docker stack config` prints, reduced to one service: as itself, or as its twin. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    docker::engine::swarm::ServiceSpec,
    error::{Error, Result, did_you_mean},
    model::{RolloutId, label},
    overlay::{ENABLE, Labels},
};

/// What a service of a Swarm needs beside itself, by the key in the file.
pub const PARTS: [&str; 4] = ["networks", "volumes", "configs", "secrets"];
/// Of these, what Swarm keeps by a name, and never changes.
pub const KEPT: [&str; 2] = ["configs", "secrets"];

/// The name of a service's twin in the stack.
pub fn twin_of(service: &str) -> String {
    format!("{service}-rollout-twin")
}

/// What a stack adds to the labels of a service and of its containers.
pub const OF_STACK: &str = "com.docker.stack.";

/// Without those that the stack adds.
fn own_labels(all: &Labels) -> Labels {
    let own = all.iter().filter(|(key, _)| !key.starts_with(OF_STACK));
    own.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// A service of a stack file.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    config: &'a Value,
    pub name: &'a str,
    own: &'a Map<String, Value>,
}

/// How a twin differs from its service.
pub struct Twin<'a> {
    pub rollout: &'a RolloutId,
    /// The revision that an undo goes back to.
    pub undo: Option<u64>,
    /// As many as the service where `None`.
    pub replicas: Option<u32>,
}

impl<'a> Wanted<'a> {
    pub fn find(config: &'a Value, name: &'a str) -> Result<Self> {
        let services = config["services"].as_object();
        let own = services.and_then(|all| all.get(name)?.as_object());
        let Some(own) = own else {
            let known: Vec<&str> = services
                .into_iter()
                .flat_map(|all| all.keys().map(String::as_str))
                .collect();
            let hint = match did_you_mean(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("the file has {}", known.join(", ")),
            };
            let message = format!("there is no service {name} in the stack file");
            return Err(Error::refused(message).hint(hint));
        };
        Ok(Self { config, name, own })
    }

    fn deploy(&self, key: &str) -> &'a Value {
        self.own.get("deploy").map_or(&Value::Null, |own| &own[key])
    }

    pub fn image(&self) -> &'a str {
        self.own
            .get("image")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// `replicated`, `global` or a job.
    pub fn mode(&self) -> &'a str {
        self.deploy("mode").as_str().unwrap_or("replicated")
    }

    pub fn replicas(&self) -> u64 {
        self.deploy("replicas").as_u64().unwrap_or(1)
    }

    /// How many tasks it has; `None` for one on each node.
    pub fn count(&self) -> Option<u64> {
        (self.mode() == "replicated").then(|| self.replicas())
    }

    /// Its names in each of its networks, in order.
    pub fn aliases(&self) -> Vec<BTreeSet<String>> {
        let own = self.own.get("networks");
        let names = |key: &String| {
            let given = own.and_then(|all| all.get(key)?.get("aliases")?.as_array());
            let given = given.into_iter().flatten().filter_map(Value::as_str);
            let all = given.chain([self.name]);
            all.map(str::to_owned).collect()
        };
        let mut all: Vec<BTreeSet<String>> = self.used("networks").iter().map(names).collect();
        all.sort();
        all
    }

    /// The labels of the service, which Traefik's Swarm provider reads.
    pub fn labels(&self) -> Labels {
        labels(self.deploy("labels"))
    }

    /// One without a value has an empty one.
    pub fn variables(&self) -> Labels {
        let mut all = labels(self.own.get("environment").unwrap_or(&Value::Null));
        all.values_mut()
            .filter(|own| *own == "null")
            .for_each(String::clear);
        all
    }

    /// The labels of its containers.
    pub fn container_labels(&self) -> Labels {
        labels(self.own.get("labels").unwrap_or(&Value::Null))
    }

    pub fn x_rollout(&self) -> Option<&'a Value> {
        self.own.get("x-rollout")
    }

    /// The names of its networks in the Swarm.
    pub fn networks(&self, stack: &str) -> BTreeSet<String> {
        let keys = self.used("networks");
        let name = |key: &String| {
            let own = self.config["networks"][key]["name"].as_str();
            own.map_or_else(|| format!("{stack}_{key}"), str::to_owned)
        };
        keys.iter().map(name).collect()
    }

    /// The file that deploys this service alone.
    pub fn itself(&self) -> Value {
        escaped(self.file(self.name, Value::Object(self.own.clone())))
    }

    /// What is recorded of it, as `docker stack config` would print it: with the image that Swarm has found for it, and with
    /// the configs and secrets by their names in the Swarm, since the files that they come from may change.
    pub fn recorded(&self, stack: &str, image: &str) -> Value {
        let mut file = self.file(self.name, Value::Object(self.own.clone()));
        file["services"][self.name]["image"] = json!(image);
        // Older ones have no name beside `external` for a config.
        file.as_object_mut().and_then(|file| file.remove("version"));
        for part in KEPT {
            let all = file.get_mut(part).and_then(Value::as_object_mut);
            for (key, own) in all.into_iter().flatten() {
                let is_external = own["external"] == true;
                let default = match is_external {
                    true => key.clone(),
                    false => format!("{stack}_{key}"),
                };
                let name = own["name"].as_str().unwrap_or(&default);
                *own = json!({ "external": true, "name": name });
            }
        }
        if let Some(settings) = self.config.get("x-rollout") {
            file["x-rollout"] = settings.clone();
        }
        file
    }

    /// What is recorded of a version that no file describes: what Swarm says of its image, command, variables, labels and
    /// number, and all else as in this file.
    pub fn found(&self, stack: &str, spec: &ServiceSpec) -> Value {
        let mut file = self.recorded(stack, spec.image());
        let own = &mut file["services"][self.name];
        let container = &spec.task_template["ContainerSpec"];
        let variables = container["Env"].as_array().into_iter().flatten();
        let variables = variables.filter_map(|own| own.as_str()?.split_once('='));
        let variables: BTreeMap<&str, &str> = variables.collect();
        own["environment"] = json!(variables);
        for (key, value) in [("entrypoint", "Command"), ("command", "Args")] {
            own.as_object_mut().and_then(|own| own.remove(key));
            // The schema of stack files refuses null.
            if container[value].is_array() {
                own[key] = container[value].clone();
            }
        }
        own["labels"] = json!(own_labels(&labels(&container["Labels"])));
        own["deploy"]["labels"] = json!(own_labels(&spec.labels));
        if let Some(replicas) = spec.replicas() {
            own["deploy"]["replicas"] = json!(replicas);
        }
        file
    }

    /// The file that deploys its twin: the same tasks, which no Traefik and no published port leads to.
    pub fn twin(&self, twin: &Twin<'_>) -> Value {
        let mut own = Value::Object(self.own.clone());
        if let Value::Object(own) = &mut own {
            own.remove("ports");
            // Other services reach the service by these, and the twin may not be well yet.
            let networks = own.get_mut("networks").and_then(Value::as_object_mut);
            for network in networks.into_iter().flat_map(|all| all.values_mut()) {
                if let Some(network) = network.as_object_mut() {
                    network.remove("aliases");
                }
            }
        }
        let mut labels = self.labels();
        labels.retain(|key, _| !key.starts_with("traefik."));
        labels.extend([
            (ENABLE.to_owned(), "false".to_owned()),
            (label::ROLE.to_owned(), label::TWIN.to_owned()),
            (label::ROLLOUT.to_owned(), twin.rollout.0.clone()),
        ]);
        let undo = twin.undo.map(|number| number.to_string());
        labels.extend(undo.map(|number| (label::UNDO.to_owned(), number)));
        own["deploy"]["labels"] = json!(labels);
        if let Some(replicas) = twin.replicas {
            own["deploy"]["replicas"] = json!(replicas);
        }
        escaped(self.file(&twin_of(self.name), own))
    }

    fn file(&self, name: &str, mut own: Value) -> Value {
        // `docker stack config` has added its content to the environment.
        own.as_object_mut().and_then(|own| own.remove("env_file"));
        let mut file = json!({ "services": { name: own } });
        if let Some(version) = self.config.get("version") {
            file["version"] = version.clone();
        }
        for part in PARTS {
            let used = self.used(part);
            let all = self.config[part].as_object().into_iter().flatten();
            let used = all.filter(|(key, _)| used.contains(*key));
            let used: Map<String, Value> =
                used.map(|(key, own)| (key.clone(), own.clone())).collect();
            if !used.is_empty() {
                file[part] = Value::Object(used);
            }
        }
        file
    }

    /// The keys of this part that the service names.
    fn used(&self, part: &str) -> BTreeSet<String> {
        let mut used: BTreeSet<String> = match self.own.get(part) {
            Some(Value::Object(own)) => own.keys().cloned().collect(),
            Some(Value::Array(own)) => own.iter().filter_map(source).collect(),
            _ => BTreeSet::new(),
        };
        if part == "networks" && used.is_empty() {
            used.insert("default".to_owned());
        }
        used
    }
}

/// The key in one entry of a list, which is a text or a mapping.
fn source(entry: &Value) -> Option<String> {
    let text = entry.as_str().or_else(|| entry["source"].as_str())?;
    Some(text.split(':').next().unwrap_or_default().to_owned())
}

fn labels(value: &Value) -> Labels {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let all = value.as_object().into_iter().flatten();
    all.map(|(key, value)| (key.clone(), text(value))).collect()
}

/// Docker interpolates what it has interpolated already once more.
fn escaped(mut file: Value) -> Value {
    escape(&mut file);
    file
}

fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Array(all) => all.iter_mut().for_each(escape),
        Value::Object(all) => all.values_mut().for_each(escape),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    const FILE: &str = r#"
version: "3.8"
services:
  other: { image: other }
  web:
    image: app:v2
    configs: [{ source: hello }]
    secrets: [{ source: word }]
    environment: { PRICE: a$b }
    ports: [{ mode: ingress, target: 80, published: 8080 }]
    volumes: [{ type: volume, source: data, target: /data }, { type: bind, source: /srv, target: /srv }]
    networks: { front: { aliases: [w] } }
    stop_grace_period: 5s
    deploy:
      replicas: 2
      labels: { traefik.enable: "true", traefik.http.routers.web.rule: Host(`a`), team: x }
networks: { front: { name: edge, external: true }, back: {} }
volumes: { data: {}, cache: {} }
configs: { hello: { file: /a }, unused: { file: /b } }
secrets: { word: { file: /c } }
"#;

    fn config() -> Value {
        yaml::parse(FILE).unwrap()
    }

    #[test]
    fn the_file_of_one_service_has_what_it_names_and_nothing_of_the_others() {
        let config = config();
        let web = Wanted::find(&config, "web").unwrap();
        let file = web.itself();
        let keys = |part: &str| {
            file[part]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(keys("services"), ["web"]);
        assert_eq!(keys("networks"), ["front"]);
        assert_eq!(keys("volumes"), ["data"]);
        assert_eq!(keys("configs"), ["hello"]);
        assert_eq!(keys("secrets"), ["word"]);
        assert_eq!(file["version"], "3.8");
        let mut same = config["services"]["web"].clone();
        escape(&mut same);
        assert_eq!(file["services"]["web"], same);
        assert_eq!(file["services"]["web"]["environment"]["PRICE"], "a$$b");
        assert_eq!(web.networks("shop"), BTreeSet::from(["edge".to_owned()]));
    }

    #[test]
    fn a_record_is_a_stack_file_that_needs_no_other_file() {
        let mut config = config();
        config["x-rollout"] = json!({"timeout": "5s"});
        config["services"]["web"]["env_file"] = json!(["./a.env"]);
        config["services"]["web"]["configs"] = json!(["hello", "own", "there", "older"]);
        config["configs"] = json!({
            "hello": {"file": "/a"}, "own": {"file": "/a", "name": "own-name"},
            "there": {"external": true}, "older": {"external": true, "name": "x"},
        });
        let web = Wanted::find(&config, "web").unwrap();
        let record = web.recorded("shop", "app:v2@sha256:1");
        let external = |name: &str| json!({"external": true, "name": name});
        assert_eq!(record["configs"]["hello"], external("shop_hello"));
        assert_eq!(record["configs"]["own"], external("own-name"));
        assert_eq!(record["configs"]["there"], external("there"));
        assert_eq!(record["configs"]["older"], external("x"));
        assert_eq!(record["secrets"]["word"], external("shop_word"));
        assert_eq!(record["x-rollout"]["timeout"], "5s");
        assert_eq!(record.get("version"), None);
        let own = &record["services"]["web"];
        assert_eq!(own["image"], "app:v2@sha256:1");
        assert_eq!(own.get("env_file"), None);
        // It is read again as it is, so nothing is escaped.
        assert_eq!(own["environment"]["PRICE"], "a$b");
        let again = Wanted::find(&record, "web").unwrap();
        assert_eq!(again.recorded("shop", "app:v2@sha256:1"), record);
        assert_eq!(
            again.itself()["services"]["web"]["environment"]["PRICE"],
            "a$$b"
        );
    }

    #[test]
    fn a_service_without_networks_is_in_the_default_one() {
        let config = config();
        let other = Wanted::find(&config, "other").unwrap();
        let default = BTreeSet::from(["shop_default".to_owned()]);
        assert_eq!(other.networks("shop"), default);
        assert_eq!(other.itself()["networks"], Value::Null);
        assert_eq!((other.replicas(), other.mode()), (1, "replicated"));
    }

    #[test]
    fn a_twin_has_the_same_tasks_and_neither_routes_nor_published_ports() {
        let config = config();
        let web = Wanted::find(&config, "web").unwrap();
        let rollout = RolloutId("r1".to_owned());
        let twin = Twin {
            rollout: &rollout,
            undo: Some(3),
            replicas: Some(5),
        };
        let file = web.twin(&twin);
        let own = &file["services"]["web-rollout-twin"];
        let labels = json!({
            "traefik.enable": "false", "team": "x", "io.rollout.role": "twin", "io.rollout.id": "r1",
            "io.rollout.undo": "3",
        });
        assert_eq!(own["deploy"]["labels"], labels);
        assert_eq!(own["deploy"]["replicas"], 5);
        let mut without = web.itself()["services"]["web"].clone();
        let mut own = own.clone();
        for key in ["ports", "deploy"] {
            without.as_object_mut().unwrap().remove(key);
            own.as_object_mut().unwrap().remove(key);
        }
        without["networks"]["front"] = json!({});
        assert_eq!(own, without);
        let names = ["w", "web"].map(str::to_owned);
        assert_eq!(web.aliases(), [BTreeSet::from(names)]);
    }

    #[test]
    fn an_unknown_service_is_refused_with_a_near_name() {
        let config = config();
        let error = Wanted::find(&config, "wep").map(|_| ()).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean web?"));
        let error = Wanted::find(&Value::Null, "web").map(|_| ()).unwrap_err();
        assert!(error.message.contains("web"), "{error}");
    }

    #[test]
    fn what_no_file_describes_is_recorded_as_swarm_says_it() {
        let config = config();
        let web = Wanted::find(&config, "web").unwrap();
        let spec = serde_json::from_value(json!({
            "Name": "shop_web", "Mode": {"Replicated": {"Replicas": 3}},
            "Labels": {"com.docker.stack.namespace": "shop", "traefik.enable": "true"},
            "TaskTemplate": {"ContainerSpec": {
                "Image": "app:v1", "Env": ["A=1=2", "B="], "Args": ["serve"],
                "Labels": {"com.docker.stack.namespace": "shop"},
            }},
        }));
        let own = &web.found("shop", &spec.unwrap())["services"]["web"];
        assert_eq!(own["image"], "app:v1");
        assert_eq!(own["environment"], json!({"A": "1=2", "B": ""}));
        assert_eq!(own["command"], json!(["serve"]));
        // The schema of stack files refuses null.
        assert!(own.get("entrypoint").is_none());
        assert_eq!(own["labels"], json!({}));
        assert_eq!(own["deploy"]["labels"], json!({"traefik.enable": "true"}));
        assert_eq!(own["deploy"]["replicas"], 3);
        assert_eq!(own["configs"], config["services"]["web"]["configs"]);
    }
}
