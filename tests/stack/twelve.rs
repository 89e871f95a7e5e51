//! Twelve services in four layers, three of them under load: their order, and what a broken one means for the others.

use std::time::Duration;

use serde_json::Value;

use testbed::{Load, LoadOptions, LoadReport, Run, Stack, docker, image};

use super::{place, result};

/// Each service and what it needs.
const SERVICES: [(&str, &[&str]); 12] = [
    ("web", &["cart", "pay"]),
    ("admin", &["pay", "worker"]),
    ("cart", &["api", "search", "users"]),
    ("pay", &["api"]),
    ("worker", &["mail", "users"]),
    ("api", &["db", "migrate"]),
    ("search", &["audit"]),
    ("users", &["migrate"]),
    ("audit", &[]),
    ("db", &[]),
    ("mail", &[]),
    ("migrate", &[]),
];

/// Those with a router, which are under load.
const ROUTED: [&str; 3] = ["web", "api", "admin"];

/// Those with three replicas.
const THREEFOLD: [&str; 2] = ["web", "api"];

/// Two runs of the CLI on a slow machine.
pub const LONGEST: Duration = Duration::from_secs(300);

/// The stack in its first version.
pub async fn twelve() -> Stack {
    docker(&["tag", "rollout-demo:v1-plain", "rollout-demo/postgres:16"]);
    let (web, others) = SERVICES.split_first().unwrap();
    let others = others.iter();
    let others: String = others
        .map(|own| format!("  {}:\n{}", own.0, yaml(own)))
        .collect();
    let mut stack = Stack::new(&format!("{}{others}", yaml(web)));
    docker(&["tag", &image(), &format!("{}:migrate", stack.name)]);
    asks_for(&mut stack, "v1-plain").up("v1").await;
    for service in ROUTED {
        stack.answers_at(&path(service), "v1").await;
    }
    stack
}

/// A service as the Compose file has it, without its name.
fn yaml((name, needs): &(&str, &[&str])) -> String {
    let mut own = match *name {
        "db" => "    image: rollout-demo/postgres:16\n".to_owned(),
        "migrate" => "    image: ${COMPOSE_PROJECT_NAME}:migrate\n    command: [--version]\n    \
                      environment: { RELEASE: \"${TAG}\" }\n"
            .to_owned(),
        "cart" => "    image: rollout-demo:${CART}\n".to_owned(),
        _ => "    image: rollout-demo:${TAG}\n".to_owned(),
    };
    own += "    networks: [front]\n    depends_on:";
    let needs = needs.iter().map(|need| match *need {
        "migrate" => "migrate: { condition: service_completed_successfully }".to_owned(),
        need => format!("{need}: {{ condition: service_started }}"),
    });
    own += &format!(" {{ {} }}\n", needs.collect::<Vec<String>>().join(", "));
    if THREEFOLD.contains(name) {
        own += "    scale: 3\n";
    }
    if ROUTED.contains(name) {
        own += &format!(
            "    labels:\n      traefik.enable: \"true\"\n      \
             traefik.http.routers.{name}.rule: Host(`localhost`) && Path(`{}`)\n",
            path(name)
        );
    }
    own
}

/// The path of a service with a router. Without its route it is answered by none.
fn path(service: &str) -> String {
    match service {
        "web" => "/".to_owned(),
        other => format!("/{other}"),
    }
}

/// The tag of all images from here on.
pub fn asks_for<'a>(stack: &'a mut Stack, tag: &str) -> &'a mut Stack {
    stack.tag(tag).set("CART", tag)
}

/// Load on the three services that have a router.
pub fn loads(stack: &Stack) -> Vec<Load> {
    let load = |service: &str| {
        Load::start(LoadOptions {
            paths: vec![path(service)],
            connections: 4,
            rate_per_second: 50,
            max_duration: LONGEST,
            ..stack.load_options()
        })
    };
    ROUTED.map(load).into()
}

/// Ends the load, of which no request has failed.
pub async fn stop(loads: Vec<Load>, text: &str) -> Vec<LoadReport> {
    let mut reports = Vec::new();
    for load in loads {
        let report = load.stop().await;
        assert!(
            report.requests > 0 && report.failed == 0,
            "{report}\n{text}"
        );
        reports.push(report);
    }
    reports
}

pub async fn roll(stack: &Stack, arguments: &[&str]) -> Run {
    let running = stack.start_rollout(arguments);
    running.wait_for(LONGEST).await
}

/// What becomes of a service where nothing fails.
fn of_a_success(service: &str) -> &'static str {
    match service {
        "db" => "left_alone",
        "migrate" => "completed",
        _ => "rolled",
    }
}

/// The service has its replicas, by Compose's own names, of this tag.
pub async fn runs(stack: &Stack, service: &str, tag: &str) {
    let replicas = stack.replicas(service).await.into_iter();
    let found = replicas.map(|own| {
        let image = stack.api().inspect(&own.id)["Config"]["Image"].clone();
        (own.name, image)
    });
    let count = if THREEFOLD.contains(&service) { 3 } else { 1 };
    let expected = (1..=count).map(|number| {
        let image = Value::from(format!("rollout-demo:{tag}"));
        (format!("{}-{service}-{number}", stack.name), image)
    });
    assert_eq!(
        found.collect::<Vec<(String, Value)>>(),
        expected.collect::<Vec<(String, Value)>>()
    );
}

/// The services that are rolled to the tag in the file: all but the database and the one-shot service.
pub fn rolled() -> impl Iterator<Item = &'static str> {
    let names = SERVICES.into_iter().map(|(name, _)| name);
    names.filter(|name| of_a_success(name) == "rolled")
}

/// Each service began once all that it needs was done.
fn was_in_order(run: &Run) {
    let done = |need: &str| match need {
        "migrate" => place(run, "completed", need),
        need => place(run, "finished", need),
    };
    for (service, needs) in SERVICES {
        for need in needs.iter().filter(|need| **need != "db") {
            assert!(
                done(need) < place(run, "started", service),
                "{service} before {need}\n{}",
                run.text
            );
        }
    }
}

/// The most services that were rolled at a time.
fn most_at_once(run: &Run) -> usize {
    let (mut now, mut most) = (0, 0);
    for event in &run.events {
        match event["event"].as_str() {
            Some("started") => now += 1,
            Some("finished") => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_services_are_rolled_in_their_order_and_side_by_side_and_none_loses_a_request() {
    let mut stack = twelve().await;
    let mut took = Vec::new();
    for (tag, parallel, most) in [("v2-plain", "1", 1..=1), ("v1-plain", "4", 2..=4)] {
        let load = loads(asks_for(&mut stack, tag));
        let run = roll(&stack, &["--all", "--parallel", parallel]).await;
        let reports = stop(load, &run.text).await;
        run.code(0);
        for report in reports {
            assert!(report.nothing_lost(), "{report}\n{}", run.text);
            assert_eq!(report.first_answers.len(), 2, "{report}\n{}", run.text);
        }
        was_in_order(&run);
        let at_once = most_at_once(&run);
        assert!(most.contains(&at_once), "{at_once} at once\n{}", run.text);
        for (service, _) in SERVICES {
            let expected = of_a_success(service);
            assert_eq!(result(&run, service), expected, "{service}\n{}", run.text);
        }
        for service in rolled() {
            runs(&stack, service, tag).await;
        }
        took.push(run.event("stack_finished").unwrap()["total_ms"].as_f64());
    }
    let seconds: Vec<f64> = took.into_iter().map(|ms| ms.unwrap() / 1e3).collect();
    println!(
        "12 services: {:.1} s side by side, {:.1} s one after the other, ratio {:.2}",
        seconds[1],
        seconds[0],
        seconds[1] / seconds[0]
    );
    stack.settled(3).await;
}

/// Rolls under load, and fails in `cart`. The run, and the services in the order in which they begin.
async fn fails_in_cart(stack: &Stack, arguments: &[&str]) -> (Run, Vec<String>) {
    let load = loads(stack);
    let run = roll(stack, &[&["--all"], arguments].concat()).await;
    stop(load, &run.text).await;
    run.code(1);
    for (service, expected) in [
        ("cart", "failed"),
        ("web", "not_begun"),
        ("db", "left_alone"),
    ] {
        assert_eq!(result(&run, service), expected, "{service}\n{}", run.text);
    }
    let order = &run.event("stack_started").unwrap()["services"];
    let order = order.as_array().unwrap().iter();
    let order = order.map(|name| name.as_str().unwrap().to_owned());
    let order: Vec<String> = order.collect();
    assert_eq!(order.len(), 11, "{order:?}");
    (run, order)
}

/// Where the undo of a service begins among all events.
fn undone(run: &Run, service: &str) -> Option<usize> {
    let is = |event: &Value| event["event"] == "started" && event["undo_to"].is_u64();
    let mut events = run.events.iter();
    events.position(|event| is(event) && event["service"] == service)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_one_of_twelve_means_for_the_others_is_as_the_command_asks() {
    let mut stack = twelve().await;
    asks_for(&mut stack, "v2-plain").set("CART", "crash");
    let stops = ["--parallel", "1", "--on-failure", "stop"];
    let (run, order) = fails_in_cart(&stack, &stops).await;
    let cart = order.iter().position(|name| name == "cart").unwrap();
    let (before, after) = (&order[..cart], &order[cart + 1..]);
    for service in before {
        let expected = of_a_success(service);
        assert_eq!(result(&run, service), expected, "{service}\n{}", run.text);
    }
    for service in after {
        let own = result(&run, service);
        assert_eq!(own, "not_begun", "{service}\n{}", run.text);
    }

    let (run, _) = fails_in_cart(&stack, &["--on-failure", "continue"]).await;
    for service in before {
        let own = result(&run, service);
        assert_eq!(own, "unchanged", "{service}\n{}", run.text);
    }
    for service in after.iter().filter(|service| *service != "web") {
        assert_eq!(result(&run, service), "rolled", "{service}\n{}", run.text);
    }

    asks_for(&mut stack, "v1-plain").set("CART", "crash");
    let (run, _) = fails_in_cart(&stack, &["--on-failure", "rollback"]).await;
    assert_eq!(result(&run, "migrate"), "completed", "{}", run.text);
    // What cart needs was rolled; of the rest, what had begun.
    for service in ["api", "audit", "search", "users"] {
        let own = result(&run, service);
        assert_eq!(own, "rolled_back", "{service}\n{}", run.text);
    }
    for service in rolled().filter(|service| !["cart", "web"].contains(service)) {
        let was_begun = result(&run, service) != "not_begun";
        assert_eq!(undone(&run, service).is_some(), was_begun, "{}", run.text);
        runs(&stack, service, "v2-plain").await;
    }
    assert!(undone(&run, "search") < undone(&run, "audit"));
    for service in ["cart", "web"] {
        runs(&stack, service, "v1-plain").await;
    }
    stack.no_leftovers().await;
}
