//! What the tasks of a service and its update status say. Pure.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use serde_json::{Value, json};

use crate::{
    docker::engine::swarm::{Service, ServiceSpec, Task},
    state::store,
};

/// On a service of a stack: the image as the file names it.
pub const FILE_IMAGE: &str = "com.docker.stack.image";

/// Swarm's own default between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// How a set of new tasks is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// How many run, and what the others do.
    Starting(usize, String),
    Running,
    Failed(String),
}

/// Whether the tasks of a new service run: all that it wants, none of which has failed since it was created.
pub fn health(tasks: &[Task], wanted: Option<u64>) -> Health {
    for task in tasks {
        let why = match task.status.err.as_str() {
            "" => "it has ended",
            why => why,
        };
        match task.status.state.as_str() {
            "failed" | "rejected" | "complete" => {
                return Health::Failed(format!("task {} failed: {why}", task.place()));
            }
            "pending" if !task.status.err.is_empty() => {
                return Health::Failed(format!("task {} cannot be placed: {why}", task.place()));
            }
            _ => {}
        }
    }
    let running = tasks.iter().filter(|own| own.runs()).count();
    let others = tasks.iter().filter(|own| own.is_wanted() && !own.runs());
    let others: BTreeSet<&str> = others.map(|own| own.status.state.as_str()).collect();
    let is_whole = match wanted {
        Some(wanted) => running as u64 == wanted,
        None => running > 0,
    };
    match is_whole && others.is_empty() {
        true => Health::Running,
        false => {
            let others: Vec<&str> = others.into_iter().collect();
            Health::Starting(running, others.join(", "))
        }
    }
}

/// How far the update of a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// How many tasks of the new version run.
    Going(usize),
    Completed,
    Failed(String),
}

/// Swarm forgets the status of the last update when a service is deployed again; then the tasks alone tell.
pub fn progress(service: &Service, tasks: &[Task]) -> Progress {
    let status = service.update_status.clone().unwrap_or_default();
    let version = essence(&service.spec.task_template);
    let is_new = |own: &&Task| own.runs() && essence(&own.spec) == version;
    let new = tasks.iter().filter(is_new).count();
    match status.state.as_str() {
        "paused" | "rollback_paused" | "rollback_completed" => {
            let state = status.state.replace('_', " ");
            Progress::Failed(match status.message.as_str() {
                "" => state,
                why => format!("{state}: {why}"),
            })
        }
        "updating" | "rollback_started" => Progress::Going(new),
        _ => {
            let wanted = tasks.iter().filter(|own| own.is_wanted()).count();
            let is_whole = match service.spec.replicas() {
                Some(replicas) => new as u64 == replicas,
                None => new > 0,
            };
            match is_whole && wanted == new {
                true => Progress::Completed,
                false => Progress::Going(new),
            }
        }
    }
}

/// Tells two versions of a service apart: by its tasks, by the labels that Traefik reads, and by its published ports.
pub fn hash(spec: &ServiceSpec) -> String {
    let mut labels = spec.labels.clone();
    // An undo names the image with its digest.
    labels.remove(FILE_IMAGE);
    let mut parts = json!([essence(&spec.task_template), labels, spec.endpoint_spec]);
    parts.sort_all_objects();
    store::checksum(&parts.to_string())
}

/// What decides whether two tasks are of one version: all but what Swarm adds.
pub fn essence(template: &Value) -> Value {
    let mut essence = template.clone();
    if let Some(own) = essence.as_object_mut() {
        own.remove("Runtime");
        own.remove("ForceUpdate");
    }
    essence
}

/// Whether the tasks of a service and of its twin are of one version. A twin has other names in its networks.
pub fn are_same(own: &Service, twin: &Service) -> bool {
    let [own, twin] = [own, twin].map(|all| {
        let mut essence = essence(&all.spec.task_template);
        let networks = essence["Networks"].as_array_mut().into_iter().flatten();
        for network in networks.filter_map(Value::as_object_mut) {
            network.remove("Aliases");
        }
        essence
    });
    own == twin
}

/// Whether a service has these names in its networks.
pub fn has_aliases(own: &Service, wanted: &[BTreeSet<String>]) -> bool {
    let networks = own.spec.task_template["Networks"].as_array();
    let names = |network: &Value| {
        let all = network["Aliases"].as_array().into_iter().flatten();
        all.filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    };
    let mut all: Vec<BTreeSet<String>> = networks.into_iter().flatten().map(names).collect();
    all.sort();
    all == wanted
}

/// Whether Swarm stops no task of a service that gets this many: all that run are of its version.
pub fn stay(own: &Service, tasks: &[Task], wanted: Option<u64>) -> bool {
    let version = essence(&own.spec.task_template);
    let running: Vec<&Task> = tasks.iter().filter(|task| task.runs()).collect();
    running.iter().all(|task| essence(&task.spec) == version)
        && wanted.is_none_or(|wanted| running.len() as u64 <= wanted)
}

/// The time that Swarm gives a task between SIGTERM and SIGKILL.
pub fn grace(spec: &ServiceSpec) -> Duration {
    let own = spec.task_template["ContainerSpec"]["StopGracePeriod"].as_u64();
    own.map_or(GRACE, Duration::from_nanos)
}

/// The addresses of a task, one in each of its networks.
pub fn addresses(task: &Task) -> BTreeSet<IpAddr> {
    let all = task.networks_attachments.iter();
    let all = all.flat_map(|own| &own.addresses);
    all.filter_map(|own| own.split('/').next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(state: &str, desired: &str, err: &str, image: &str) -> Task {
        let value = json!({
            "Slot": 1, "DesiredState": desired, "Status": {"State": state, "Err": err},
            "Spec": {"ContainerSpec": {"Image": image}, "ForceUpdate": 0,
                     "Networks": [{"Target": "n", "Aliases": ["web"]}]},
            "NetworksAttachments": [{"Addresses": ["10.0.0.5/24"]}, {"Addresses": ["10.0.1.4/24", "fd00::4/64"]}],
        });
        serde_json::from_value(value).unwrap()
    }

    fn service(state: &str, image: &str, alias: &str) -> Service {
        let value = json!({
            "ID": "s", "UpdateStatus": {"State": state, "Message": "why"},
            "Spec": {"Name": "shop_web", "Mode": {"Replicated": {"Replicas": 2}},
                     "TaskTemplate": {"ContainerSpec": {"Image": image}, "ForceUpdate": 3, "Runtime": "container",
                                      "Networks": [{"Target": "n", "Aliases": [alias]}]}},
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn new_tasks_run_once_all_do_and_fail_with_the_first_that_fails_or_has_no_place() {
        let running = || task("running", "running", "", "a");
        assert_eq!(health(&[running(), running()], Some(2)), Health::Running);
        assert_eq!(health(&[running()], None), Health::Running);
        let starting = task("starting", "running", "", "a");
        let expected = Health::Starting(1, "starting".to_owned());
        assert_eq!(health(&[running(), starting.clone()], Some(2)), expected);
        assert_eq!(health(&[running(), starting], None), expected);
        assert_eq!(health(&[], None), Health::Starting(0, String::new()));
        let failed = |task| match health(&[running(), task], Some(2)) {
            Health::Failed(why) => why,
            other => panic!("{other:?}"),
        };
        let why = failed(task("failed", "shutdown", "task: non-zero exit (1)", "a"));
        assert_eq!(why, "task 1 failed: task: non-zero exit (1)");
        let why = failed(task("pending", "running", "no suitable node", "a"));
        assert_eq!(why, "task 1 cannot be placed: no suitable node");
        assert_eq!(
            failed(task("complete", "shutdown", "", "a")),
            "task 1 failed: it has ended"
        );
    }

    #[test]
    fn an_update_is_complete_once_swarm_says_so_and_all_tasks_are_new() {
        let new = || task("running", "running", "", "b");
        let old = || task("running", "running", "", "a");
        let of = |state, tasks: &[Task]| progress(&service(state, "b", "web"), tasks);
        for state in ["", "completed"] {
            assert_eq!(of(state, &[new(), new()]), Progress::Completed);
            assert_eq!(of(state, &[new(), old()]), Progress::Going(1));
            assert_eq!(of(state, &[new(), new(), old()]), Progress::Going(2));
        }
        assert_eq!(of("updating", &[new(), new()]), Progress::Going(2));
        let gone = task("shutdown", "shutdown", "", "a");
        assert_eq!(of("", &[new(), new(), gone]), Progress::Completed);
        for (state, why) in [
            ("paused", "paused: why"),
            ("rollback_completed", "rollback completed: why"),
        ] {
            let failed = Progress::Failed(why.to_owned());
            assert_eq!(of(state, &[new(), new()]), failed);
        }
    }

    #[test]
    fn a_twin_is_of_the_same_version_but_for_its_names() {
        let own = service("", "a", "web");
        assert!(are_same(&own, &service("", "a", "web-rollout-twin")));
        assert!(!are_same(&own, &service("", "b", "web-rollout-twin")));
    }

    #[test]
    fn other_names_in_a_network_are_a_change() {
        let own = service("", "a", "web");
        let names = |own: &str| BTreeSet::from([own.to_owned()]);
        assert!(has_aliases(&own, &[names("web")]));
        assert!(!has_aliases(&own, &[names("w")]));
        assert!(!has_aliases(&own, &[]));
    }

    #[test]
    fn tasks_stay_if_all_are_of_the_version_and_no_fewer_are_wanted() {
        let own = service("", "a", "web");
        let running = |image| task("running", "running", "", image);
        let three = [running("a"), running("a"), running("a")];
        assert!(stay(&own, &three, Some(3)));
        assert!(stay(&own, &three, Some(4)));
        assert!(stay(&own, &three, None));
        assert!(!stay(&own, &three, Some(2)));
        assert!(!stay(&own, &[running("a"), running("b")], Some(3)));
        let gone = task("shutdown", "shutdown", "", "b");
        assert!(stay(&own, &[running("a"), gone], Some(1)));
    }

    #[test]
    fn a_task_has_an_address_in_each_network() {
        let all = addresses(&task("running", "running", "", "a"));
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["10.0.0.5", "10.0.1.4", "fd00::4"]);
    }
}
