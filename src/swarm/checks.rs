//! What a rollout in a Swarm is refused for, before anything is touched. Pure.

use serde_json::Value;

use super::reduce::Wanted;
use crate::{
    docker::engine::swarm::Service,
    error::{Error, Result},
    model::name_and_tag,
    overlay::Labels,
    proxy::traefik::labels::{is_false, wants_traefik},
    settings::{ANALYSIS, OnFailure, PROMETHEUS, Partial, ProxyKind, Settings, Strategy},
    stack::choose::by_image,
};

/// The settings that a rollout in a Swarm has.
const HONOURED: [&str; 17] = [
    "strategy",
    "timeout",
    "stable",
    "bake",
    "analysis",
    "settle",
    "drain-timeout",
    "drain-quiet",
    "drain-wait",
    "twin-replicas",
    "confirm-timeout",
    "proxy",
    "traefik-url",
    "traefik-auth-file",
    "traefik-ca",
    "lock-wait",
    "on-failure",
];

/// The settings of a service: flags, the file and variables. One that is not honoured is refused.
pub fn settings(config: &Value, wanted: &Wanted<'_>, flags: &Partial) -> Result<Settings> {
    let (own, all) = (wanted.x_rollout(), config.get("x-rollout"));
    let places = [
        flags.clone(),
        Partial::from_service(wanted.name, own)?,
        Partial::from_project(all)?,
        Partial::from_own_environment()?,
    ];
    // `Partial` has no hooks and no steps, which are refused too.
    let keys = |file: Option<&'_ Value>| -> Vec<String> {
        let keys = file.and_then(Value::as_object).into_iter();
        keys.flat_map(|own| own.keys().cloned()).collect()
    };
    let names = |place: &Partial| -> Vec<String> { place.names().map(str::to_owned).collect() };
    refuse_other(&names(&places[0]), |name| format!("the flag --{name}"))?;
    refuse_other(&keys(own), |name| {
        format!("x-rollout of {} has {name}", wanted.name)
    })?;
    refuse_other(&keys(all), |name| {
        format!("x-rollout at the top level has {name}")
    })?;
    refuse_other(&names(&places[3]), |name| {
        let name = name.to_uppercase().replace('-', "_");
        format!("the variable ROLLOUT_{name}")
    })?;
    refuse_metrics(wanted.name, own)?;
    let settings = Settings::resolve(places);
    let why = match settings.strategy {
        Strategy::BlueGreen => return Ok(settings),
        Strategy::Rolling | Strategy::Recreate => {
            "Swarm's own update does that, by deploy.update_config: --proxy none leaves it to Swarm"
        }
        Strategy::Canary => {
            "Traefik's Swarm provider has one weight for all tasks of a service, so it cannot split their traffic"
        }
    };
    let strategy = settings.strategy.name();
    Err(
        Error::refused(format!("{strategy} is not possible in a Swarm: {why}"))
            .hint("leave out the strategy"),
    )
}

fn refuse_metrics(service: &str, x_rollout: Option<&Value>) -> Result<()> {
    let analysis = x_rollout.and_then(|own| own.get(ANALYSIS));
    match analysis.is_some_and(|own| own.get(PROMETHEUS).is_some()) {
        false => Ok(()),
        true => Err(Error::refused(format!(
            "x-rollout of {service} has {PROMETHEUS} in {ANALYSIS}, which a rollout in a Swarm does not ask"
        ))
        .hint("leave it out; the conditions of requests, memory and cpu count")),
    }
}

/// Refuses the first of these names that a rollout in a Swarm does not have; `place` says where it stands.
fn refuse_other(names: &[String], place: impl Fn(&str) -> String) -> Result<()> {
    let mut names = names.iter();
    let Some(name) = names.find(|name| !HONOURED.contains(&name.as_str())) else {
        return Ok(());
    };
    let place = place(name);
    Err(Error::refused(format!(
        "a rollout in a Swarm has no setting {name}: {place}"
    ))
    .hint(format!(
        "leave it out; in a Swarm there are {}",
        HONOURED.join(", ")
    )))
}

/// What a command does after a failure of one of several services: by flags, by the top level of the file, or by variables.
pub fn on_failure(config: &Value, flags: &Partial) -> Result<OnFailure> {
    let settings = Settings::resolve([
        flags.clone(),
        Partial::default(),
        Partial::from_project(config.get("x-rollout"))?,
        Partial::from_own_environment()?,
    ]);
    Ok(settings.on_failure)
}

/// Why `--all` leaves a service alone.
pub fn reason_to_leave(wanted: &Wanted<'_>, runs: bool) -> Option<String> {
    match wanted.mode() {
        "replicated" if wanted.replicas() == 0 => Some("its replicas are 0".to_owned()),
        "replicated" | "global" if !runs => {
            Some("it does not run yet; docker stack deploy starts it".to_owned())
        }
        "replicated" | "global" => by_image(name_and_tag(wanted.image()).0),
        _ => Some("it is a job".to_owned()),
    }
}

pub fn refuse_mode(wanted: &Wanted<'_>, settings: &Settings) -> Result<()> {
    let name = wanted.name;
    match wanted.mode() {
        "replicated" if wanted.replicas() == 0 => Err(Error::refused(format!(
            "{name} has deploy.replicas 0 in the stack file"
        ))
        .hint("docker stack deploy stops it")),
        "global" if settings.twin_replicas.is_some() => Err(Error::refused(format!(
            "{name} runs on each node (mode: global), and so does its twin"
        ))
        .hint("leave out --twin-replicas")),
        "replicated" | "global" => Ok(()),
        mode => Err(Error::refused(format!(
            "{name} is a job (mode: {mode}), which serves no traffic"
        ))
        .hint("docker stack deploy runs it")),
    }
}

/// Whether Traefik routes to the service, by the labels that its Swarm provider reads.
pub fn is_routed(wanted: &Wanted<'_>, service: &Service, settings: &Settings) -> Result<bool> {
    let name = wanted.name;
    match settings.proxy {
        ProxyKind::None => Ok(false),
        _ if wants_traefik(&wanted.labels()) => Ok(true),
        // The rollout would wait for servers that Traefik no longer has.
        _ if wants_traefik(&service.spec.labels) => Err(Error::refused(format!(
            "the new version of {name} takes its traefik labels away, and a rollout keeps the route"
        ))
        .hint("use docker stack deploy for that: afterwards no Traefik routes to it")),
        ProxyKind::Auto if wants_traefik(&wanted.container_labels()) => {
            Err(Error::refused(format!(
                "the traefik labels of {name} stand in labels, which Traefik's Swarm provider does not read"
            ))
            .hint("move them to deploy.labels; --proxy none leaves the update to Swarm"))
        }
        ProxyKind::Auto => Ok(false),
        ProxyKind::Traefik => Err(Error::refused(format!(
            "{name} has no traefik labels in deploy.labels, so no Traefik routes to it"
        ))
        .hint("add them, or leave out --proxy traefik: then Swarm updates it")),
    }
}

/// Refuses labels under which a twin cannot take the traffic over.
pub fn refuse_labels(wanted: &Wanted<'_>, service: &Service) -> Result<()> {
    let (new, old) = (wanted.labels(), &service.spec.labels);
    let by_address = |labels: &Labels| {
        let keys = ["traefik.swarm.lbswarm", "traefik.docker.lbswarm"];
        let mut own = labels.iter();
        own.any(|(key, value)| {
            keys.contains(&key.to_ascii_lowercase().as_str()) && !is_false(value)
        })
    };
    if by_address(&new) || by_address(old) {
        return Err(Error::refused(format!(
            "{} has the label lbswarm, with which Traefik sends to one address of Swarm instead of the tasks",
            wanted.name
        ))
        .hint("remove the label by docker stack deploy first"));
    }
    match server_labels(old) == server_labels(&new) {
        true => Ok(()),
        // While the twin has the traffic, Traefik reads the labels of the version that it replaces.
        false => Err(Error::refused(format!(
            "the labels loadbalancer.server of {} differ between the two versions, and Traefik reads one set for both",
            wanted.name
        ))
        .hint("keep the port and the scheme for this rollout; docker stack deploy changes them, with a gap")),
    }
}

/// Where Traefik connects to.
fn server_labels(labels: &Labels) -> Labels {
    let all = labels
        .iter()
        .map(|(key, value)| (key.to_ascii_lowercase(), value.clone()));
    all.filter(|(key, _)| key.starts_with("traefik.") && key.contains(".loadbalancer.server."))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(labels: Value) -> Service {
        let value = json!({"ID": "s", "Spec": {"Name": "shop_web", "Labels": labels}});
        serde_json::from_value(value).unwrap()
    }

    fn config(deploy: Value, labels: Value) -> Value {
        json!({"services": {"web": {"image": "a", "deploy": deploy, "labels": labels}}})
    }

    fn settings_of(config: &Value, flags: &Partial) -> Result<Settings> {
        settings(config, &Wanted::find(config, "web").unwrap(), flags)
    }

    fn routed(labels: Value, proxy: &str) -> Result<bool> {
        let config = config(json!({"labels": labels["deploy"]}), labels["own"].clone());
        let settings = settings_of(&config, &Partial::of("proxy", proxy))?;
        let wanted = Wanted::find(&config, "web").unwrap();
        is_routed(&wanted, &service(json!({})), &settings)
    }

    #[test]
    fn traefik_routes_by_the_labels_of_the_service_and_those_of_its_containers_are_a_mistake() {
        let own = json!({"traefik.enable": "true"});
        let deploy = json!({"deploy": own});
        assert_eq!(routed(deploy.clone(), "auto"), Ok(true));
        assert_eq!(routed(deploy, "none"), Ok(false));
        assert_eq!(routed(json!({}), "auto"), Ok(false));
        assert!(routed(json!({}), "traefik").is_err());
        let error = routed(json!({ "own": own }), "auto").unwrap_err();
        assert!(error.hint.unwrap().contains("deploy.labels"));
        assert_eq!(routed(json!({ "own": own }), "none"), Ok(false));
    }

    #[test]
    fn a_version_that_takes_the_route_away_is_refused() {
        let judge = |labels: Value, proxy: &str| {
            let config = config(json!({ "labels": labels }), json!({}));
            let settings = settings_of(&config, &Partial::of("proxy", proxy)).unwrap();
            let old = service(json!({"traefik.enable": "true"}));
            is_routed(&Wanted::find(&config, "web").unwrap(), &old, &settings)
        };
        for labels in [json!({}), json!({"traefik.enable": "false"})] {
            let error = judge(labels.clone(), "auto").unwrap_err();
            assert!(error.hint.unwrap().contains("docker stack deploy"));
            assert_eq!(judge(labels, "none"), Ok(false));
        }
        assert_eq!(judge(json!({"traefik.enable": "true"}), "auto"), Ok(true));
    }

    #[test]
    fn a_setting_that_a_swarm_does_not_have_is_refused_wherever_it_stands() {
        let mut config = config(json!({}), json!({}));
        assert!(settings_of(&config, &Partial::of("timeout", "5s")).is_ok());
        let error = settings_of(&config, &Partial::of("scale", "5")).unwrap_err();
        assert!(error.message.contains("the flag --scale"), "{error}");
        for strategy in ["rolling", "canary", "recreate"] {
            let error = settings_of(&config, &Partial::of("strategy", strategy)).unwrap_err();
            assert!(error.message.contains(strategy), "{error}");
        }
        for (key, value) in [("keep", json!(3)), ("hooks", json!({"pre-deploy": []}))] {
            config["services"]["web"]["x-rollout"] = json!({ key: value });
            let error = settings_of(&config, &Partial::default()).unwrap_err();
            assert!(error.message.contains(key), "{error}");
            assert!(error.message.contains("x-rollout of web"), "{error}");
        }
    }

    #[test]
    fn labels_that_lead_a_twin_to_another_port_are_refused() {
        let port = "traefik.http.services.web.loadbalancer.server.port";
        let config = config(
            json!({"labels": {port: 80, "traefik.enable": "true"}}),
            json!({}),
        );
        let wanted = Wanted::find(&config, "web").unwrap();
        let judge = |labels| refuse_labels(&wanted, &service(labels));
        assert_eq!(judge(json!({port: "80"})), Ok(()));
        assert!(judge(json!({port: "81"})).is_err());
        assert!(judge(json!({port: "80", "traefik.swarm.lbswarm": "true"})).is_err());
    }

    #[test]
    fn jobs_and_what_has_no_tasks_are_refused() {
        let of = |deploy: Value, flags: &Partial| {
            let config = config(deploy, json!({}));
            let settings = settings_of(&config, flags).unwrap();
            refuse_mode(&Wanted::find(&config, "web").unwrap(), &settings)
        };
        let none = Partial::default();
        assert_eq!(of(json!({}), &none), Ok(()));
        assert_eq!(of(json!({"mode": "global"}), &none), Ok(()));
        let two = Partial::of("twin-replicas", "2");
        for (deploy, flags) in [
            (json!({"replicas": 0}), &none),
            (json!({"mode": "global-job"}), &none),
            (json!({"mode": "global"}), &two),
        ] {
            assert!(of(deploy.clone(), flags).is_err(), "{deploy}");
        }
    }
}
