//! What a service of a stack runs, and where its traffic goes.

use super::{
    Stack,
    live::{full_name, furthest},
    plan::Stage,
    reduce::twin_of,
    tasks::essence,
    undo_to,
};
use crate::{
    docker::engine::swarm::{Service, Swarm, Task},
    error::{Error, Result},
    model::{ContainerId, Health, Replica, Run, ServiceKey, Share, label},
    overlay::{Claim, Overlay},
    proxy::{
        Observation, landscape::Landscape, socket_proxies::of_swarm, traefik::labels::wants_traefik,
    },
    roll::{Holder, Standing},
    state::lock,
};

impl Stack {
    /// Reads the status of a service that runs `revision`; changes nothing. Its routes are what the socket proxies show to
    /// Traefik.
    pub async fn standing(
        &self,
        key: &ServiceKey,
        revision: Option<u64>,
        overlays: &Result<Vec<Overlay>>,
    ) -> Result<Standing> {
        let Some(service) = self.service(key) else {
            return Ok(Standing::default());
        };
        let mut sides = vec![(service, self.tasks(service).await?)];
        let mut twin = None;
        if let Some(own) = self.twin(key) {
            let tasks = self.tasks(own).await?;
            twin = Some((own, tasks.iter().any(Task::runs)));
            sides.push((own, tasks));
        }
        let routed = wants_traefik(&service.spec.labels);
        let claim = match overlays {
            Ok(all) if routed => {
                let own = all
                    .iter()
                    .filter_map(|own| own.claims.get(&key.to_string()));
                furthest(own)
            }
            Err(error) if routed => Err(error.clone()),
            _ => Ok(None),
        };
        let unknown = claim.as_ref().err().map(|error| error.message.clone());
        let claim = claim.ok().flatten();
        let wanted = service.spec.replicas().unwrap_or(sides[0].1.len() as u64);
        let mut standing = Standing {
            desired: u32::try_from(wanted).unwrap_or(u32::MAX),
            routed,
            drift: updating(service).into_iter().collect(),
            unfinished: unfinished(key, claim, twin),
            unknown,
            ..Standing::default()
        };
        let is_claimed = claim.is_some_and(|(stage, _)| stage != Stage::Release);
        let to_twin = is_claimed && twin.is_some_and(|(_, runs)| runs);
        let mut routing = Observation::default();
        for (own, tasks) in sides {
            let is_twin = own.id != service.id;
            let share = match is_twin == to_twin {
                true => Share::Live,
                false => Share::Hidden,
            };
            for task in &tasks {
                let mut replica = replica(own, task);
                replica.revision = revision.filter(|_| !is_twin && is_new(own, task));
                routing.routing.insert(replica.id.clone(), share);
                standing.replicas.push(replica);
            }
        }
        standing.observed = Some(routing).filter(|_| standing.unknown.is_none());
        if let Some(holder) = lock::holder(&self.engine, key).await? {
            standing.holder = Some(Holder {
                whose: holder.whose(),
                lives: holder.lives(&self.engine).await,
            });
        }
        Ok(standing)
    }

    /// The command that rolls a service, or goes on with its unfinished undo.
    pub fn command(&self, service: &str) -> String {
        let key = self.key(service);
        command(&key, self.twin(&key))
    }

    /// The tasks that are to run, in the order of their numbers.
    pub(super) async fn tasks(&self, service: &Service) -> Result<Vec<Task>> {
        let mut tasks = Swarm::of(&self.engine).tasks(&service.id).await?;
        tasks.retain(Task::is_wanted);
        tasks.sort_by_key(|own| own.slot);
        Ok(tasks)
    }
}

/// Of each socket proxy on this node that shows Swarm's services. One of another project may not answer.
pub async fn overlays(landscape: &Landscape) -> Result<Vec<Overlay>> {
    let (shows, mut silent) = of_swarm(&landscape.socket_proxies).await;
    let mut all = Vec::new();
    for found in shows {
        match found.control.overlay().await {
            Ok(own) => all.push(own),
            Err(error) => silent = Some(error),
        }
    }
    match (all.is_empty(), silent) {
        (false, _) => Ok(all),
        (true, Some(error)) => Err(error),
        (true, None) => Err(Error::failed(
            "no socket proxy on this node shows Swarm's services",
        )),
    }
}

/// The rollout that is not finished, and the command that goes on with it; of the twin, whether a task of it runs.
pub fn unfinished(
    key: &ServiceKey,
    claim: Option<(Stage, &Claim)>,
    twin: Option<(&Service, bool)>,
) -> Option<String> {
    let of_twin = twin.and_then(|(own, _)| own.spec.labels.get(label::ROLLOUT));
    let rollout = claim.map(|(_, own)| &own.rollout).or(of_twin);
    if claim.is_none() && twin.is_none() {
        return None;
    }
    let rollout = rollout.map_or("", String::as_str);
    let (name, twin_name) = (full_name(key), twin_of(&full_name(key)));
    let state = match (claim.map(|(stage, _)| stage), twin) {
        (None, _) => format!("{twin_name} is there"),
        (Some(Stage::Release), _) => format!("the traffic returns to {name}"),
        (Some(_), Some((_, true))) => format!("{twin_name} has the traffic"),
        (Some(_), _) => format!("no task of {twin_name} runs, so {name} has the traffic"),
    };
    let command = command(key, twin.map(|(own, _)| own));
    Some(format!(
        "rollout {rollout} is unfinished, {state}; go on: {command}"
    ))
}

/// The command that rolls a service, or goes on with the undo of this twin.
fn command(key: &ServiceKey, twin: Option<&Service>) -> String {
    let (project, service) = (&key.project, &key.service);
    match twin.and_then(undo_to) {
        Some(number) => format!("rollout undo {service} -p {project} --to {number}"),
        None => format!("rollout -f FILE -p {project} {service}"),
    }
}

/// How far Swarm's own update is, until it ends.
fn updating(service: &Service) -> Option<String> {
    let status = service.update_status.as_ref()?;
    let state = match status.state.as_str() {
        "paused" | "rollback_paused" => "is paused",
        "updating" => "goes on",
        "rollback_started" => "is rolled back",
        _ => return None,
    };
    Some(format!("Swarm's update {state}: {}", status.message))
}

/// Whether a task is of the version that its service has now.
fn is_new(service: &Service, task: &Task) -> bool {
    essence(&task.spec) == essence(&service.spec.task_template)
}

fn replica(service: &Service, task: &Task) -> Replica {
    let name = format!("{}.{}", service.spec.name, task.place());
    let image = task.spec["ContainerSpec"]["Image"].as_str();
    let image = image.unwrap_or_default().split('@').next();
    Replica {
        // It has no container before a node has taken it.
        id: ContainerId(match task.status.container_status.container.as_str() {
            "" => name.clone(),
            id => id.to_owned(),
        }),
        name,
        run: match task.status.state.as_str() {
            "running" => Run::Running,
            "complete" | "failed" | "shutdown" | "rejected" | "remove" | "orphaned" => Run::Exited,
            _ => Run::Created,
        },
        // A task runs once its health check has passed.
        health: Health::None,
        reference: image.unwrap_or_default().to_owned(),
        ..Replica::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(stage: &str) -> Claim {
        serde_json::from_value(json!({
            "key": "shop/web", "rollout": "r1", "epoch": 1, "stage": stage, "rules": [],
        }))
        .unwrap()
    }

    fn service(name: &str, labels: Value) -> Service {
        let value = json!({"ID": name, "Spec": {"Name": name, "Labels": labels,
            "TaskTemplate": {"ContainerSpec": {"Image": "app:v1"}}}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_claim_of_another_kind_is_refused() {
        let claims = [claim("swarm-cutover"), claim("committed")];
        let error = furthest(claims.iter()).unwrap_err();
        assert!(error.message.contains("committed"), "{error}");
    }

    #[test]
    fn an_unfinished_rollout_is_named_with_what_has_the_traffic_and_what_goes_on() {
        let key = ServiceKey {
            project: "shop".to_owned(),
            service: "web".to_owned(),
        };
        let twin = service("shop_web-rollout-twin", json!({"io.rollout.id": "r0"}));
        let of = |stages: &[&str], twin: Option<(&Service, bool)>| {
            let claims: Vec<Claim> = stages.iter().map(|own| claim(own)).collect();
            unfinished(&key, furthest(claims.iter()).unwrap(), twin)
        };
        assert_eq!(of(&[], None), None);
        let said = of(&["swarm-cutover", "swarm-release"], Some((&twin, true))).unwrap();
        assert_eq!(
            said,
            "rollout r1 is unfinished, the traffic returns to shop_web; go on: rollout -f FILE -p shop web"
        );
        let said = of(&["swarm-cutover"], Some((&twin, true))).unwrap();
        assert!(
            said.contains("shop_web-rollout-twin has the traffic"),
            "{said}"
        );
        let said = of(&["swarm-update"], Some((&twin, false))).unwrap();
        assert!(said.contains("so shop_web has the traffic"), "{said}");
        let said = of(&[], Some((&twin, true))).unwrap();
        assert!(said.contains("rollout r0 is unfinished"), "{said}");
        let of_undo = service("shop_web-rollout-twin", json!({"io.rollout.undo": "3"}));
        let said = of(&["swarm-cutover"], Some((&of_undo, true))).unwrap();
        let command = "go on: rollout undo web -p shop --to 3";
        assert!(said.ends_with(command), "{said}");
    }

    #[test]
    fn an_update_by_swarm_that_has_not_ended_is_named() {
        let of = |state: &str| {
            let value = json!({"ID": "s", "Spec": {"Name": "shop_web"},
                "UpdateStatus": {"State": state, "Message": "why"}});
            updating(&serde_json::from_value(value).unwrap())
        };
        for (state, expected) in [
            ("updating", "Swarm's update goes on: why"),
            ("paused", "Swarm's update is paused: why"),
            ("rollback_started", "Swarm's update is rolled back: why"),
            ("rollback_paused", "Swarm's update is paused: why"),
        ] {
            assert_eq!(of(state).as_deref(), Some(expected));
        }
        assert_eq!((of("completed"), of("rollback_completed")), (None, None));
    }

    #[test]
    fn a_task_is_shown_by_its_number_or_its_node_and_with_what_it_does() {
        let own = service("shop_web", json!({}));
        let task = |slot: u64, state: &str| -> Task {
            serde_json::from_value(json!({
                "Slot": slot, "NodeID": "n1", "DesiredState": "running", "Status": {"State": state},
                "Spec": {"ContainerSpec": {"Image": "app:v1@sha256:1"}},
            }))
            .unwrap()
        };
        let shown = |slot, state| {
            let own = replica(&own, &task(slot, state));
            (own.name, own.run, own.reference)
        };
        let expected = |name: &str, run| (name.to_owned(), run, "app:v1".to_owned());
        assert_eq!(shown(2, "running"), expected("shop_web.2", Run::Running));
        assert_eq!(shown(0, "starting"), expected("shop_web.n1", Run::Created));
        assert_eq!(shown(1, "failed"), expected("shop_web.1", Run::Exited));
    }
}
