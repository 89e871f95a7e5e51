//! What a rollout of a Swarm service would do: its steps, and what changes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Stack,
    live::{full_name, furthest},
    plan::{Observed, Side, Stage, Step, steps},
    record,
    reduce::{OF_STACK, PARTS, Wanted, twin_of},
    rollout::{Checked, Request, Source, bare, facts, refused_left, replaced, way},
    status::unfinished,
    tasks::FILE_IMAGE,
};
use crate::{
    docker::engine::swarm::{ServiceSpec, Swarm, Task},
    error::{Error, Result},
    event::{Change, Events, Plan, PlannedStep},
    model::ServiceKey,
    overlay::Labels,
    roll::{changed_labels, changed_variables},
    state::{revisions::Revisions, store},
};

impl Stack {
    /// Plans a rollout to what the stack file says; touches nothing.
    pub async fn plan(
        &self,
        source: &Source,
        asked: &Request<'_>,
        events: &Events,
    ) -> Result<Plan> {
        let key = self.key(asked.service);
        let mut checked = self.check(source, &key, asked).await?;
        checked
            .notice
            .take()
            .into_iter()
            .for_each(|text| events.notice(text));
        let service = checked.service;
        if checked.routes.is_none() && self.twin(&key).is_some() {
            return Err(refused_left(&key));
        }
        let files = store::look(&self.engine, &checked.image, &key).await?;
        let revisions = Revisions::read(&files);
        let running = self.running(&key, &revisions);
        let record = running.and_then(|number| revisions.get(number));
        let record = record.filter(|own| !own.found);
        let record = record.map(record::read).transpose()?;
        if record.is_none() {
            events.notice(format!(
                "no rollout has deployed what {} runs, so only its image, environment, labels and replicas are compared",
                asked.service
            ));
        }
        let (observed, unfinished) = self.left(&key, &checked).await?;
        let changes = changes(&self.name, &checked.wanted, &service.spec, record.as_ref());
        let facts = facts(checked.routes.as_ref(), &checked.settings);
        let steps = match changes.is_empty() && unfinished.is_none() {
            true => Vec::new(),
            false => steps(observed, facts, tasks_stay(&changes)),
        };
        let (name, twin) = (full_name(&key), twin_of(&full_name(&key)));
        let is_created = steps.contains(&Step::Create);
        Ok(Plan {
            image: bare(checked.wanted.image()).to_owned(),
            replaces: replaced(service),
            proxy: Some(way(checked.routes.as_ref()).await),
            replicas: checked.replicas,
            created: is_created.then(|| twin.clone()).into_iter().collect(),
            unfinished,
            changes,
            steps: steps
                .iter()
                .map(|own| planned(*own, &name, &twin))
                .collect(),
            ..Plan::default()
        })
    }

    /// What an earlier run has left.
    async fn left(
        &self,
        key: &ServiceKey,
        checked: &Checked<'_>,
    ) -> Result<(Observed, Option<String>)> {
        let claims = match &checked.routes {
            Some(routes) => routes
                .claims(&key.to_string())
                .await
                .map_err(Error::untouched)?,
            None => Vec::new(),
        };
        let claim = furthest(claims.iter().flatten())?;
        let mut twin = None;
        if let Some(own) = self.twin(key) {
            let tasks = Swarm::of(&self.engine).tasks(&own.id).await?;
            twin = Some((own, tasks.iter().any(Task::runs)));
        }
        let observed = Observed {
            claim: claim.map(|(stage, _)| stage),
            twin: twin.map(|(_, runs)| runs),
        };
        Ok((observed, unfinished(key, claim, twin)))
    }
}

fn planned(step: Step, name: &str, twin: &str) -> PlannedStep {
    let on = match step {
        Step::Create | Step::Remove | Step::Bake => vec![twin],
        Step::AwaitReady(side) | Step::Drain(side) | Step::Confirm(side) => match side {
            Side::Twin => vec![twin],
            Side::Service => vec![name],
        },
        Step::Claim(Stage::Cutover) => vec![name],
        Step::Update => vec![name],
        Step::Claim(_) | Step::Clear => Vec::new(),
    };
    let on: Vec<String> = on.into_iter().map(str::to_owned).collect();
    let hides = step == Step::Claim(Stage::Cutover);
    PlannedStep {
        old: on.iter().filter(|_| hides).cloned().collect(),
        ..PlannedStep::new(step.name(), on)
    }
}

/// Whether Swarm stops no task for these changes.
fn tasks_stay(changes: &[Change]) -> bool {
    let number = |text: &Option<String>| text.as_ref().and_then(|own| own.parse::<u64>().ok());
    changes.iter().all(|own| match own.part {
        "label" => true,
        "replicas" => number(&own.to) >= number(&own.from),
        _ => false,
    })
}

/// How what runs differs from the file. `record` is the file of its rollout; without one, what else it has is not known.
fn changes(
    stack: &str,
    wanted: &Wanted<'_>,
    runs: &ServiceSpec,
    record: Option<&Value>,
) -> Vec<Change> {
    let mut all = Vec::new();
    let with = |part, from: String, to: String| Change {
        from: Some(from),
        to: Some(to),
        ..Change::of(part)
    };
    let before = match wanted.image().contains('@') {
        true => runs.image(),
        false => bare(runs.image()),
    };
    // Swarm adds the tag `latest` to an image without one.
    let named = runs.labels.get(FILE_IMAGE).map(String::as_str);
    if before != wanted.image() && named != Some(wanted.image()) {
        all.push(with("image", before.to_owned(), wanted.image().to_owned()));
    }
    let none = Labels::new();
    all.extend(changed_variables(
        &variables(runs),
        &none,
        &wanted.variables(),
    ));
    let mut labels = runs.labels.clone();
    labels.retain(|key, _| !key.starts_with(OF_STACK));
    all.extend(changed_labels(&labels, &none, &wanted.labels()));
    if let (Some(before), Some(now)) = (runs.replicas(), wanted.count())
        && before != now
    {
        all.push(with("replicas", before.to_string(), now.to_string()));
    }
    match record {
        Some(record) => all.extend(settings(record, &wanted.recorded(stack, ""), wanted.name)),
        None => all.push(Change::of("config")),
    }
    all
}

fn variables(runs: &ServiceSpec) -> Labels {
    let all = runs.task_template["ContainerSpec"]["Env"].as_array();
    let all = all.into_iter().flatten().filter_map(Value::as_str);
    let pair = |own: &str| {
        let (name, value) = own.split_once('=').unwrap_or((own, ""));
        (name.to_owned(), value.to_owned())
    };
    all.map(pair).collect()
}

/// The other keys that differ, of the service and of what it needs.
fn settings(record: &Value, now: &Value, name: &str) -> Vec<Change> {
    let own = |file: &Value| {
        let mut own = file["services"][name].clone();
        if let Some(own) = own.as_object_mut() {
            // These are compared with what runs, or only rollout reads them.
            own.retain(|key, _| !["image", "environment", "x-rollout"].contains(&key.as_str()));
            let deploy = own.get_mut("deploy").and_then(Value::as_object_mut);
            if let Some(deploy) = deploy {
                deploy.retain(|key, _| key != "labels" && key != "replicas");
                if deploy.is_empty() {
                    own.remove("deploy");
                }
            }
        }
        own
    };
    let (before, after) = (own(record), own(now));
    let keys = |own: &Value| -> BTreeSet<String> {
        let keys = own.as_object().into_iter().flatten();
        keys.map(|(key, _)| key.clone()).collect()
    };
    let both: BTreeSet<String> = keys(&before).union(&keys(&after)).cloned().collect();
    let differ = both
        .into_iter()
        .filter(|key| before.get(key) != after.get(key));
    let mut all: Vec<Change> = differ
        .map(|key| Change {
            name: Some(key),
            ..Change::of("config")
        })
        .collect();
    let mut parts = PARTS.iter();
    if parts.any(|part| record.get(*part) != now.get(*part)) {
        all.push(Change::of("config"));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Value {
        json!({
            "services": {"web": {
                "image": "app:v1", "environment": {"A": "1", "B": null}, "command": ["run"],
                "networks": {"front": null},
                "deploy": {"replicas": 2, "labels": {"traefik.enable": "true"}},
            }},
            "networks": {"front": {}},
        })
    }

    fn runs(image: &str) -> ServiceSpec {
        serde_json::from_value(json!({
            "Name": "shop_web",
            "Labels": {"traefik.enable": "true", "com.docker.stack.image": "app:v1"},
            "Mode": {"Replicated": {"Replicas": 2}},
            "TaskTemplate": {"ContainerSpec": {"Image": image, "Env": ["A=1", "B"]}},
        }))
        .unwrap()
    }

    fn judged(config: &Value, image: &str, record: Option<&Value>) -> Vec<Change> {
        let wanted = Wanted::find(config, "web").unwrap();
        changes("shop", &wanted, &runs(image), record)
    }

    fn record() -> Value {
        let config = config();
        let wanted = Wanted::find(&config, "web").unwrap();
        wanted.recorded("shop", "app:v1@sha256:1")
    }

    #[test]
    fn the_file_of_what_runs_changes_nothing_where_that_is_recorded() {
        assert_eq!(judged(&config(), "app:v1@sha256:1", Some(&record())), []);
        assert_eq!(judged(&config(), "app:v1", None), [Change::of("config")]);
    }

    #[test]
    fn an_image_without_a_tag_is_the_one_that_the_stack_has_named() {
        let mut config = config();
        config["services"]["web"]["image"] = json!("app");
        let wanted = Wanted::find(&config, "web").unwrap();
        let mut runs = runs("app:latest@sha256:1");
        let named = "com.docker.stack.image".to_owned();
        for (name, expected) in [("app", 0), ("app:v1", 1)] {
            runs.labels.insert(named.clone(), name.to_owned());
            let all = changes("shop", &wanted, &runs, Some(&record()));
            assert_eq!(all.len(), expected, "{all:?}");
        }
    }

    #[test]
    fn each_part_that_differs_is_named() {
        let mut config = config();
        let web = &mut config["services"]["web"];
        web["image"] = json!("app:v2");
        web["environment"] = json!({"A": "2"});
        web["command"] = json!(["walk"]);
        web["deploy"] =
            json!({"replicas": 3, "labels": {"traefik.enable": "false"}, "mode": "replicated"});
        config["networks"]["front"]["external"] = json!(true);
        let all = judged(&config, "app:v1", Some(&record()));
        let named: Vec<(&str, Option<&str>)> = all
            .iter()
            .map(|own| (own.part, own.name.as_deref()))
            .collect();
        let expected = [
            ("image", None),
            ("environment", Some("A")),
            ("environment", Some("B")),
            ("label", Some("traefik.enable")),
            ("replicas", None),
            ("config", Some("command")),
            ("config", Some("deploy")),
            ("config", None),
        ];
        assert_eq!(named, expected);
        assert_eq!(
            (all[0].from.as_deref(), all[0].to.as_deref()),
            (Some("app:v1"), Some("app:v2"))
        );
    }

    #[test]
    fn tasks_stay_where_only_labels_change_or_more_tasks_are_wanted() {
        let replicas = |from: &str, to: &str| Change {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            ..Change::of("replicas")
        };
        assert!(tasks_stay(&[Change::of("label"), replicas("9", "10")]));
        assert!(!tasks_stay(&[replicas("3", "2")]));
        assert!(!tasks_stay(&[Change::of("config")]));
    }
}
