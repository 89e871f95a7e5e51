//! Asks Compose for a service's current config hash.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use serde_json::Value;

use super::{Compose, Project, Target};
use crate::{
    error::{Error, Result},
    yaml,
};

/// The config hashes of several services, which Compose computes while other work goes on.
pub struct Hashes(Shared<BoxFuture<'static, BTreeMap<String, String>>>);

impl Hashes {
    /// Leaves out services that share volumes or namespaces with others: their hashes change with the others' containers.
    pub fn begin(compose: &Compose, project: &Project, services: &[&str]) -> Self {
        let (compose, project) = (compose.clone(), project.clone());
        let own = |name: &&&str| referred(&project.raw["services"][**name]).is_empty();
        let services = services.iter().filter(own).map(|&name| name.to_owned());
        let services: Vec<String> = services.collect();
        let computing = tokio::spawn(async move {
            let services: Vec<&str> = services.iter().map(String::as_str).collect();
            match services[..] {
                [] => BTreeMap::new(),
                // The next question for a hash has the same error.
                _ => compose
                    .config_hashes(&project, &services)
                    .await
                    .unwrap_or_default(),
            }
        });
        Self(computing.map(Result::unwrap_or_default).boxed().shared())
    }

    /// `None` where it must be asked for alone.
    pub async fn of(&self, service: &str) -> Option<String> {
        self.0.clone().await.remove(service)
    }
}

impl Compose {
    /// The `com.docker.compose.config-hash` that a new container of the service would get.
    pub async fn config_hash(&self, project: &Project, service: &str) -> Result<String> {
        let mut hashes = self.config_hashes(project, &[service]).await?;
        hashes.remove(service).ok_or_else(|| {
            Error::refused(format!("docker compose has no config hash for {service}"))
        })
    }

    /// The config hashes of several services, by one run of Compose.
    ///
    /// `config --hash` does not resolve `env_file`, so the resolved project is hashed. Where a service shares volumes or
    /// namespaces with another service, Compose hashes the id of that service's first container instead of its name
    /// (`convergence.resolveServiceReferences`), and so do we.
    pub async fn config_hashes(
        &self,
        project: &Project,
        services: &[&str],
    ) -> Result<BTreeMap<String, String>> {
        let text = self.with_containers(project, services).await?;
        let mut command = self.program.command(None);
        command.args(["--file", "-", "--profile", "*", "config"]);
        // The project is normalized and consistent already; a second pass fails on the ids.
        command.args(["--no-normalize", "--no-consistency", "--hash"]);
        command.arg(services.join(","));
        let output = self.ask(command, Some(text.as_bytes())).await?;
        Ok(hashes(&output))
    }

    async fn with_containers(&self, project: &Project, services: &[&str]) -> Result<String> {
        let mut chosen = project.only(services);
        for service in services {
            let service = &mut chosen["services"][*service];
            let mut ids = BTreeMap::new();
            for other in referred(service) {
                if let Some(id) = self.first_container(&project.name, &other).await? {
                    ids.insert(other, id);
                }
            }
            refer_to_containers(service, &ids);
        }
        Ok(yaml::json(&chosen))
    }

    /// The container whose id Compose hashes: the first by name, in any state.
    async fn first_container(&self, project: &str, service: &str) -> Result<Option<String>> {
        let containers = self.replicas(project, service, &[]).await?;
        let first = containers
            .iter()
            .min_by_key(|container| container["Names"][0].as_str());
        Ok(first.and_then(|container| container["Id"].as_str().map(str::to_owned)))
    }
}

const SHARED: [&str; 3] = ["network_mode", "pid", "ipc"];

/// The services whose volumes or namespaces a service shares.
fn referred(service: &Value) -> BTreeSet<String> {
    let namespaces = SHARED
        .iter()
        .filter_map(|key| service[*key].as_str()?.strip_prefix("service:"));
    let volumes = service["volumes_from"].as_array().into_iter().flatten();
    let volumes = volumes.filter_map(|from| match Target::of_volumes(from.as_str()?)? {
        Target::Service(name) => Some(name),
        Target::Container(_) => None,
    });
    namespaces.chain(volumes).map(str::to_owned).collect()
}

/// Replaces names by ids as Compose does; its `resolveVolumeFrom` drops the access mode, and so do we.
fn refer_to_containers(service: &mut Value, ids: &BTreeMap<String, String>) {
    for key in SHARED {
        let Some(mode) = service.get_mut(key) else {
            continue;
        };
        let named = mode.as_str().and_then(|mode| mode.strip_prefix("service:"));
        if let Some(id) = named.and_then(|name| ids.get(name)) {
            *mode = Value::from(format!("container:{id}"));
        }
    }
    let volumes = service
        .get_mut("volumes_from")
        .and_then(Value::as_array_mut);
    for entry in volumes.into_iter().flatten() {
        let id = match entry.as_str().and_then(Target::of_volumes) {
            Some(Target::Service(name)) => ids.get(name).cloned(),
            Some(Target::Container(name)) => Some(name.to_owned()),
            None => None,
        };
        if let Some(id) = id {
            *entry = Value::from(id);
        }
    }
}

/// Reads lines of `SERVICE HASH`.
fn hashes(output: &str) -> BTreeMap<String, String> {
    let lines = output.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(name, hash)| (name.to_owned(), hash.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::arbitrary::{mutated_text, replaced};

    #[test]
    fn the_hash_stands_behind_the_name() {
        let hashes = hashes("db 1\nweb 2f\n");
        assert_eq!(hashes["web"], "2f");
        assert_eq!(hashes["db"], "1");
    }

    #[test]
    fn names_of_services_give_way_to_ids_and_nothing_else_does() {
        let mut service = json!({
            "pid": "service:db", "ipc": "host", "volumes_from": ["db:ro", "container:x:ro", "disk"],
        });
        assert!(referred(&service).iter().eq(["db", "disk"]));
        let ids = BTreeMap::from([("db".to_owned(), "1f".to_owned())]);
        refer_to_containers(&mut service, &ids);
        assert_eq!(
            service,
            json!({"pid": "container:1f", "ipc": "host", "volumes_from": ["1f", "x", "disk"]})
        );
    }

    #[test]
    fn a_service_that_shares_nothing_is_left_as_compose_wrote_it() {
        let mut service = json!({"image": "a", "network_mode": "host"});
        refer_to_containers(&mut service, &BTreeMap::new());
        assert_eq!(service, json!({"image": "a", "network_mode": "host"}));
    }

    proptest! {
        #[test]
        fn the_hash_in_any_output_is_what_stands_behind_the_name_on_its_last_line(
            output in mutated_text("db 1\nweb 2f4c\nwebb 3\n"),
        ) {
            let line = output.lines().filter_map(|line| line.strip_prefix("web ")).next_back();
            let hash = line.map(|hash| hash.trim().to_owned());
            let hashes = hashes(&output);
            prop_assert_eq!(hashes.get("web"), hash.as_ref());
        }

        #[test]
        fn in_a_service_with_values_of_any_type_names_give_way_to_ids(
            service in replaced(json!({"pid": "service:db", "volumes_from": ["db:ro", "container:x:ro", "disk"]})),
        ) {
            let ids = referred(&service).into_iter().map(|name| (name, "1f".to_owned()));
            let ids: BTreeMap<String, String> = ids.collect();
            let mut own = service.clone();
            refer_to_containers(&mut own, &ids);
            prop_assert!(!ids.is_empty() || own["pid"] == service["pid"]);
            let names = own["pid"].as_str().is_some_and(|mode| mode.starts_with("service:"));
            prop_assert!(!names, "{}", own);
        }
    }
}
