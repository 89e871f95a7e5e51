//! What a plan says, held against what the rollout then does, and that a plan touches nothing.

use serde_json::{Value, json};

use testbed::{Run, Stack, USUAL};

/// The service in the state of each change; `$TAG` is the version.
fn file(stack: &Stack, more: &str, label: &str, networks: &str) {
    let web = format!(
        "services:\n  web:\n    image: rollout-demo:${{TAG}}\n{more}    labels:\n      traefik.enable: \"true\"\n      \
         traefik.docker.network: ${{COMPOSE_PROJECT_NAME}}_front\n      \
         traefik.http.routers.web.rule: Host(`localhost`)\n{label}    networks: [{networks}]\n\
         networks: {{ more: {{}} }}\n"
    );
    stack.write("compose.yaml", &web);
}

/// Names of an event that lists replicas, in any order.
fn sorted(names: &Value) -> Vec<String> {
    let names = names.as_array().into_iter().flatten();
    let mut names: Vec<String> = names
        .filter_map(|own| Some(own.as_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Steps that name the same replicas in a plan and in a rollout: new replicas have other names until the end.
const OF_OLD: [&str; 4] = ["drain", "hooks", "stop", "remove"];

fn step(own: &Value) -> (String, Vec<String>) {
    let name = own["step"].as_str().unwrap().to_owned();
    let replicas = match OF_OLD.contains(&name.as_str()) {
        true => sorted(&own["replicas"]),
        false => Vec::new(),
    };
    (name, replicas)
}

fn plan(run: &Run) -> &Value {
    run.event("plan")
        .unwrap_or_else(|| panic!("no plan: {}", run.text))
}

fn planned(run: &Run) -> Vec<(String, Vec<String>)> {
    let steps = plan(run)["steps"].as_array().unwrap();
    steps.iter().map(step).collect()
}

fn taken(run: &Run) -> Vec<(String, Vec<String>)> {
    let begun = run
        .events
        .iter()
        .filter(|event| event["event"] == "step_started");
    begun.map(step).collect()
}

async fn names(stack: &Stack) -> Vec<String> {
    let replicas = stack.replicas("web").await.into_iter();
    replicas.map(|own| own.name).collect()
}

/// What is on the engine of a project: containers with their states, volumes, networks, and images by their names.
pub async fn on_the_engine(stack: &Stack) -> Vec<Value> {
    let api = stack.api();
    let own = json!({"label": [format!("com.docker.compose.project={}", stack.name)]});
    let lock = json!({"name": [format!("rollout-lock.{}", stack.name)]});
    let mut all = Vec::new();
    for (kind, filter, fields) in [
        ("containers", &own, &["Id", "Names", "State", "Labels"][..]),
        ("containers", &lock, &["Id"]),
        ("volumes", &own, &["Name"]),
        (
            "volumes",
            &json!({"name": [stack.state_volume()]}),
            &["Name"],
        ),
        ("networks", &own, &["Id", "Name"]),
    ] {
        let found = api.list(kind, filter).into_iter();
        all.extend(found.map(|one| fields.iter().map(|field| one[*field].clone()).collect()));
    }
    let kept = format!("rollout/{}-", stack.name);
    let images = json!({"reference": [format!("{kept}*")]});
    // An image has names of other tests, too.
    let tags = api
        .list("images", &images)
        .into_iter()
        .flat_map(|own| sorted(&own["RepoTags"]));
    all.extend(tags.filter(|tag| tag.starts_with(&kept)).map(Value::from));
    all.sort_by_key(ToString::to_string);
    all
}

/// Plans, which touches nothing; then rolls, which does just that. The plan.
async fn holds(stack: &Stack, change: &str) -> Run {
    let before = on_the_engine(stack).await;
    let plan = stack.rollout(&["plan", "web"]).await;
    plan.code(10);
    assert_eq!(on_the_engine(stack).await, before, "{change}: {}", plan.out);
    let lines = plan.out.lines();
    assert!(
        lines
            .map(|line| line.chars().count())
            .all(|width| width <= 80),
        "{}",
        plan.out
    );
    let olds = names(stack).await;
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    assert_eq!(planned(&plan), taken(&run), "{change}: {}", plan.out);
    let own = self::plan(&plan);
    assert_eq!(sorted(&own["created"]), names(stack).await, "{change}");
    assert_eq!(sorted(&own["removed"]), olds, "{change}");
    let finished = run.event("finished").unwrap();
    for field in ["image", "replaces", "replicas"] {
        assert_eq!(own[field], finished[field], "{change}: {field}");
    }
    plan
}

/// Part and name of each change.
fn changes(run: &Run) -> Vec<String> {
    let changes = plan(run)["changes"].as_array().unwrap().iter();
    changes
        .map(|own| {
            let (part, name) = (own["part"].as_str().unwrap(), own["name"].as_str());
            format!("{part} {}", name.unwrap_or_default())
                .trim_end()
                .to_owned()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_takes_the_planned_steps_for_each_kind_of_change_and_a_plan_touches_nothing() {
    let mut stack = Stack::new("    image: none\n");
    let (a, b) = (
        "    environment: { A: secret-1 }\n",
        "    environment: { A: secret-2, B: '' }\n",
    );
    let priority = "      traefik.http.routers.web.priority: \"7\"\n";
    file(&stack, a, "", "front");
    stack.front_up().await;
    assert_eq!(changes(&holds(&stack, "first start").await), [""; 0]);

    let same = stack.rollout(&["web", "--dry-run"]).await;
    same.code(0);
    assert_eq!(planned(&same), []);
    let line = "web: nothing to do, 1 replica up to date (rollout-demo:v1)\n";
    assert_eq!(same.out, line);

    stack.tag("v2");
    assert_eq!(changes(&holds(&stack, "image").await), ["image"]);
    file(&stack, b, "", "front");
    let plan = holds(&stack, "environment").await;
    assert_eq!(changes(&plan), ["environment A", "environment B"]);
    let all = format!("{}{}{:?}", plan.out, plan.text, plan.events);
    assert!(!all.contains("secret-"), "{all}");
    file(&stack, b, priority, "front");
    let plan = holds(&stack, "label").await;
    assert_eq!(changes(&plan), ["label traefik.http.routers.web.priority"]);
    let label = "  + label traefik.http.routers.web.priority=7\n";
    assert!(plan.out.contains(label), "{}", plan.out);

    file(&stack, &format!("{b}    scale: 2\n"), priority, "front");
    assert_eq!(changes(&holds(&stack, "scale up").await), ["replicas"]);
    file(&stack, b, priority, "front");
    assert_eq!(changes(&holds(&stack, "scale down").await), ["replicas"]);
    let checked = format!("{b}    healthcheck: {{ interval: 3s }}\n");
    file(&stack, &checked, priority, "front");
    assert_eq!(
        changes(&holds(&stack, "healthcheck").await),
        ["config healthcheck"]
    );
    file(&stack, &checked, priority, "front, more");
    assert_eq!(
        changes(&holds(&stack, "network").await),
        ["config networks"]
    );
    let named = format!("{checked}    container_name: ${{COMPOSE_PROJECT_NAME}}-own\n");
    file(&stack, &named, priority, "front, more");
    assert_eq!(
        changes(&holds(&stack, "container_name").await),
        ["config container_name"]
    );
    let working = format!("{named}    extra_hosts: [ 'there:127.0.0.1' ]\n");
    file(&stack, &working, priority, "front, more");
    assert_eq!(changes(&holds(&stack, "another setting").await), ["config"]);
    let hooks = "{ pre-deploy: { host: 'true' }, post-deploy: { host: 'true' } }";
    let hooked = format!(
        "{}    x-rollout: {{ hooks: {hooks} }}\n",
        working.replace("127.0.0.1", "127.0.0.2")
    );
    file(&stack, &hooked, priority, "front, more");
    let plan = holds(&stack, "hooks").await;
    assert_eq!(planned(&plan).last().unwrap().0, "post-deploy");
    stack.rollout(&["plan", "web"]).await.code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rollout_refuses_its_plan_refuses_with_the_same_words() {
    let mut stack = Stack::usual("    volumes: [/anonymous]\n");
    stack.up("v1").await;
    stack.tag("missing");
    let no_image = ["web", "--pull", "never", "--ignore", "anonymous-volumes"];
    for (arguments, planning) in [
        (&["web"][..], vec!["plan", "web"]),
        (&["wbe"], vec!["wbe", "--dry-run"]),
        (&no_image, [&["plan"], &no_image[..]].concat()),
    ] {
        let before = on_the_engine(&stack).await;
        let plan = stack.rollout(&planning).await;
        assert_eq!(on_the_engine(&stack).await, before);
        let run = stack.rollout(arguments).await;
        assert_eq!(plan.code(2).failure(), run.code(2).failure());
        assert_eq!(
            plan.event("failed").unwrap()["hint"],
            run.event("failed").unwrap()["hint"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_the_project_has_a_line_for_what_is_unchanged_and_the_steps_of_what_is_not() {
    // A front that is kept may be of an earlier image of the socket proxy.
    let mut stack = Stack::fresh(&format!("{USUAL}  other:\n    image: rollout-demo:v1\n"));
    stack.up("v1").await;
    let all = stack.rollout(&["plan"]).await;
    all.code(0);
    let services = all.events.iter().filter(|event| event["event"] == "plan");
    assert_eq!(services.count(), 2);
    let left = "traefik (it carries the traffic)";
    assert!(all.text.contains(left), "{}", all.text);
    assert!(
        all.out
            .lines()
            .all(|line| line.contains(": nothing to do, ")),
        "{}",
        all.out
    );
    stack.tag("v2");
    let all = stack.rollout(&["plan", "--output", "json"]).await;
    all.code(10);
    let lines = all
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let changed =
        lines.filter(|event| event["steps"].as_array().is_some_and(|all| !all.is_empty()));
    let changed: Vec<Value> = changed.map(|event| event["service"].clone()).collect();
    assert_eq!(changed, ["web"]);
    // Nothing was rolled.
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
}

/// Kills a rollout when it comes here. The next plan touches nothing, and the next rollout takes its steps. The plan.
async fn killed(stack: &Stack, arguments: &[&str], kind: &str, step: &str) -> Run {
    let mut rollout = stack.start_rollout(arguments);
    rollout.reaches(kind, step).await;
    rollout.kill().await;
    let before = on_the_engine(stack).await;
    let plan = stack.rollout(&["plan", "web"]).await;
    plan.code(10);
    assert_eq!(on_the_engine(stack).await, before);
    let unfinished = self::plan(&plan)["unfinished"].as_str().unwrap();
    assert!(unfinished.contains("is unfinished"), "{unfinished}");
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    let words = |steps: Vec<(String, Vec<String>)>| {
        let words = steps.into_iter().map(|(name, _)| name);
        words.collect::<Vec<String>>()
    };
    assert_eq!(words(planned(&plan)), words(taken(&run)), "{}", plan.out);
    stack.settled(1).await;
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_rollout_is_planned_first() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let slow = ["web", "--stable", "3s"];
    killed(&stack, &slow, "step_started", "ready").await;
    stack.tag("v1");
    killed(&stack, &slow, "step_finished", "confirm").await;
    // The record of what ran is read through the lock that the killed run has left.
    stack.tag("v2");
    let stops_first = ["web", "--stable", "3s", "--strategy", "recreate"];
    let plan = killed(&stack, &stops_first, "step_started", "ready").await;
    assert!(
        planned(&plan).iter().any(|(name, _)| name == "start"),
        "{}",
        plan.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_batches_has_the_time_of_each_watch_and_tells_old_replicas_from_new_ones() {
    let mut stack = Stack::relabelled("    scale: 2\n");
    stack.up("v1").await;
    stack.some_replicas(2).await;
    stack.tag("v2");
    let flags = "--strategy rolling --order stop-first --delay 30s";
    let flags: Vec<&str> = ["plan", "web"]
        .into_iter()
        .chain(flags.split(' '))
        .collect();
    let run = stack.rollout(&flags).await;
    run.code(10);
    for said in ["    watch             30s\n", "hides old "] {
        assert!(run.out.contains(said), "no {said:?} in\n{}", run.out);
    }
    let mut steps = plan(&run)["steps"].as_array().unwrap().iter();
    let hold = steps.find(|own| own["step"] == "hold").unwrap();
    let (old, all) = (sorted(&hold["old"]), sorted(&hold["replicas"]));
    assert_eq!((old.len(), all.len()), (1, 3), "{hold}");
}
