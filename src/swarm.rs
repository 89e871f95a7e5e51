//! The services of a stack in a Swarm: a twin has the traffic while Swarm updates one of them.

mod checks;
mod docker;
mod drain;
mod live;
mod plan;
mod preview;
mod record;
mod reduce;
mod rollout;
mod run;
mod status;
mod tasks;

use self::{
    checks::{on_failure, reason_to_leave},
    live::full_name,
    reduce::{Wanted, twin_of},
};
pub use self::{
    rollout::{Request, Source},
    status::overlays,
};
use crate::{
    docker::engine::{
        Engine,
        swarm::{NAMESPACE, Service, Swarm},
    },
    error::{Error, Result, did_you_mean},
    model::{ServiceKey, label},
    settings::{OnFailure, Partial},
    stack::choose::Left,
    state::revisions::{Revision, Revisions},
};

/// A stack that runs.
pub struct Stack {
    pub engine: Engine,
    pub name: String,
    services: Vec<Service>,
}

/// The stack of this name; `None` where the engine is no manager of a Swarm, or has no such stack.
pub async fn find(engine: &Engine, name: &str) -> Result<Option<Stack>> {
    let Some(services) = Swarm::of(engine).services(name).await? else {
        refuse_worker(engine, name).await?;
        return Ok(None);
    };
    if services.is_empty() {
        return Ok(None);
    }
    let of_project = vec![format!("{}={name}", label::COMPOSE_PROJECT)];
    if !engine.matching(of_project, true).await?.is_empty() {
        return Err(Error::refused(format!(
            "{name} is a stack of the Swarm and a Compose project: which one is meant is not clear"
        ))
        .hint(format!(
            "give one of them another name, or remove one: docker compose -p {name} down, or docker stack rm {name}"
        )));
    }
    Ok(Some(Stack {
        engine: engine.clone(),
        name: name.to_owned(),
        services,
    }))
}

/// Refuses a stack that has containers on an engine which is no manager.
async fn refuse_worker(engine: &Engine, name: &str) -> Result<()> {
    let of_stack = vec![format!("{NAMESPACE}={name}")];
    if engine.matching(of_stack, true).await?.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{name} is a stack of a Swarm of which this engine is no manager: {}",
        engine.endpoint()
    ))
    .hint(
        "run rollout on the manager that Traefik runs on, or name its engine with -H or --context",
    ))
}

impl Stack {
    pub fn key(&self, service: &str) -> ServiceKey {
        ServiceKey {
            project: self.name.clone(),
            service: service.to_owned(),
        }
    }

    /// The names of its services, as its file has them.
    pub fn names(&self) -> Vec<&str> {
        let is_own = |own: &&Service| !is_twin(own);
        let all = self.services.iter().filter(is_own);
        all.filter_map(|own| own.spec.name.strip_prefix(&self.name)?.strip_prefix('_'))
            .collect()
    }

    /// The named services, and with `all` every other one of the file that is not left alone.
    pub fn choose<'a>(
        &self,
        source: &'a Source,
        named: &[&'a str],
        all: bool,
    ) -> Result<(Vec<&'a str>, Vec<Left>)> {
        let (mut chosen, mut left) = (Vec::new(), Vec::new());
        for name in named {
            if !chosen.contains(name) {
                chosen.push(*name);
            }
        }
        let services = source.config["services"].as_object().into_iter().flatten();
        let names = services.map(|(name, _)| name.as_str());
        for name in names.filter(|name| all && !named.contains(name)) {
            let wanted = Wanted::find(&source.config, name)?;
            match reason_to_leave(&wanted, self.names().contains(&name)) {
                Some(reason) => left.push(Left::of(name, reason)),
                None => chosen.push(name),
            }
        }
        Ok((chosen, left))
    }

    /// What a command of several services does after a failure.
    pub fn on_failure(&self, source: &Source, flags: &Partial) -> Result<OnFailure> {
        on_failure(&source.config, flags)
    }

    pub fn refuse_unknown(&self, service: &str) -> Result<()> {
        let names = self.names();
        if names.contains(&service) {
            return Ok(());
        }
        let near = did_you_mean(service, names.iter().copied());
        let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        let stack = &self.name;
        Err(Error::refused(format!(
            "no service {service} runs in the stack {stack}{near}"
        ))
        .hint(format!("services: {}", names.join(", "))))
    }

    fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.named(&full_name(key))
    }

    fn twin(&self, key: &ServiceKey) -> Option<&Service> {
        let twin = self.named(&twin_of(&full_name(key)));
        twin.filter(|own| is_twin(own))
    }

    fn named(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|own| own.spec.name == name)
    }

    /// The revision that a service runs, where it is recorded.
    pub fn running(&self, key: &ServiceKey, revisions: &Revisions) -> Option<u64> {
        let own = record::recorded(revisions, &self.service(key)?.spec);
        own.map(|own| own.number)
    }

    /// Whether a service runs this revision.
    pub fn runs(&self, service: &str, revision: &Revision) -> bool {
        let own = self.service(&self.key(service));
        own.is_some_and(|own| tasks::hash(&own.spec) == revision.hash)
    }

    /// The revision to go back to. While a rollout is unfinished, that is what ran before it; while an undo is, its own.
    pub fn earlier<'a>(&self, key: &ServiceKey, revisions: &'a Revisions) -> Option<&'a Revision> {
        let begun = self.twin(key).and_then(undo_to);
        if let Some(begun) = begun.and_then(|number| revisions.get(number)) {
            return Some(begun);
        }
        let runs = self.service(key).filter(|_| self.twin(key).is_none());
        let hash = runs.map(|own| tasks::hash(&own.spec));
        let running = runs.and_then(|_| self.running(key, revisions));
        revisions.earlier(running, |own| Some(&own.hash) == hash.as_ref())
    }
}

/// The revision that the undo of this twin goes back to.
fn undo_to(twin: &Service) -> Option<u64> {
    twin.spec.labels.get(label::UNDO)?.parse().ok()
}

fn is_twin(service: &Service) -> bool {
    let role = service.spec.labels.get(label::ROLE);
    role.is_some_and(|role| role == label::TWIN)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::docker::http::Endpoint;

    fn service(name: &str, labels: Value) -> Service {
        serde_json::from_value(json!({"ID": name, "Spec": {"Name": name, "Labels": labels}}))
            .unwrap()
    }

    #[test]
    fn an_undo_that_is_unfinished_goes_on_to_the_same_revision() {
        let revision = |number| Revision {
            number,
            hash: number.to_string(),
            ..Revision::default()
        };
        let mut revisions = Revisions::default();
        (1..=3).for_each(|number| revisions.add(revision(number)));
        let to = |labels: Value| {
            let stack = Stack {
                engine: Engine::unconnected(Endpoint::Unix("/dev/null".into())),
                name: "shop".to_owned(),
                services: vec![
                    service("shop_web", json!({})),
                    service("shop_web-rollout-twin", labels),
                ],
            };
            let earlier = stack.earlier(&stack.key("web"), &revisions);
            earlier.map(|own| own.number)
        };
        let twin = |undo: &str| json!({label::ROLE: label::TWIN, label::UNDO: undo});
        assert_eq!(to(json!({label::ROLE: label::TWIN})), Some(3));
        assert_eq!(to(twin("1")), Some(1));
        // It is recorded no more.
        assert_eq!(to(twin("9")), Some(3));
    }
}
