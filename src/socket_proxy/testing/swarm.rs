//! Swarm in the fake engine: services and their tasks, and one node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use hyper::StatusCode;
use serde_json::{Value, json};
use url::form_urlencoded;

#[derive(Default)]
pub struct Swarm {
    services: Mutex<BTreeMap<String, Value>>,
    tasks: Mutex<Vec<Value>>,
}

impl Swarm {
    /// Adds a service with these labels and one task in each of these states.
    pub fn create(&self, id: &str, labels: &[(&str, &str)], states: &[&str]) {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let service = json!({"ID": id, "Spec": {"Name": format!("shop_{id}"), "Labels": labels}});
        self.services.lock().unwrap().insert(id.to_owned(), service);
        let tasks = states.iter().enumerate().map(|(slot, state)| {
            json!({"ID": format!("{id}-{slot}"), "ServiceID": id, "NodeID": "n1", "DesiredState": "running",
                "Status": {"State": state}})
        });
        self.tasks.lock().unwrap().extend(tasks);
    }

    /// Removes a service with its tasks.
    pub fn remove(&self, id: &str) {
        self.services.lock().unwrap().remove(id);
        self.end(id);
    }

    /// Removes the tasks of a service.
    pub fn end(&self, id: &str) {
        let mut tasks = self.tasks.lock().unwrap();
        tasks.retain(|task| task["ServiceID"] != id);
    }

    pub fn answer(&self, path: &str, query: &str) -> Option<(StatusCode, Value)> {
        let filters = filters(query);
        let services = self.services.lock().unwrap();
        let missing = || (StatusCode::NOT_FOUND, json!({"message": "not found"}));
        if let Some(id) = path.strip_prefix("/services/") {
            let found = services.get(id).cloned();
            return Some(found.map_or_else(missing, |found| (StatusCode::OK, found)));
        }
        Some(match path {
            "/services" => {
                let by = filters.get("id").cloned().unwrap_or_default();
                let is = |id: &&String| by.is_empty() || by.iter().any(|own| id.starts_with(own));
                let found = services.iter().filter(|(id, _)| is(id));
                let found: Vec<_> = found.map(|(_, service)| service).collect();
                (StatusCode::OK, json!(found))
            }
            "/tasks" => {
                let by = filters.get("service").cloned().unwrap_or_default();
                if by.iter().any(|id| !services.contains_key(id)) {
                    return Some(missing());
                }
                let tasks = self.tasks.lock().unwrap();
                let is = |task: &&Value| {
                    by.is_empty() || by.iter().any(|id| task["ServiceID"] == id.as_str())
                };
                let found: Vec<_> = tasks.iter().filter(is).collect();
                (StatusCode::OK, json!(found))
            }
            "/nodes/n1" => (
                StatusCode::OK,
                json!({"ID": "n1", "Status": {"Addr": "10.0.0.1"}}),
            ),
            _ => return None,
        })
    }
}

fn filters(query: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let filters = pairs.find(|(key, _)| key == "filters");
    let Some((_, filters)) = filters else {
        return BTreeMap::new();
    };
    let filters: BTreeMap<String, BTreeMap<String, bool>> = serde_json::from_str(&filters).unwrap();
    let values = |all: BTreeMap<String, bool>| all.into_keys().collect();
    filters
        .into_iter()
        .map(|(key, all)| (key, values(all)))
        .collect()
}
