//! `kill -9` in the middle of a run of several services: the next run settles each of them.

use super::{
    result,
    twelve::{asks_for, loads, roll, rolled, runs, stop, twelve},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_twelve_services_that_is_killed_is_settled_by_the_next_run_and_loses_nothing() {
    let mut stack = twelve().await;
    for (tag, (service, step, forward)) in [
        ("v2-plain", ("api", "ready", false)),
        ("v1-plain", ("api", "drain", true)),
        ("v2-plain", ("web", "stop", true)),
    ] {
        let point = format!("{step} of {service}");
        let load = loads(asks_for(&mut stack, tag));
        let mut running = stack.start_rollout(&["--all"]);
        running.reaches_of(service, "step_started", step).await;
        let events = running.kill().await;
        let ended = events
            .iter()
            .any(|event| event["event"] == "stack_finished");
        assert!(!ended, "{point}: it was over before it was killed");

        let run = roll(&stack, &["--all"]).await;
        let reports = stop(load, &run.text).await;
        assert_eq!(run.code, Some(0), "{point}: {}", run.text);
        for report in reports {
            assert!(report.nothing_lost(), "{point}: {report}\n{}", run.text);
        }
        let settles = |event: &&serde_json::Value| {
            event["event"] == "unfinished" && event["service"] == service
        };
        let settles = run.events.iter().find(settles);
        let settles = settles.unwrap_or_else(|| panic!("{point}: {}", run.text));
        assert_eq!(settles["forward"], forward, "{point}: {}", run.text);
        for service in rolled() {
            let own = result(&run, service);
            assert!(["rolled", "unchanged"].contains(&own), "{service}: {own}");
            runs(&stack, service, tag).await;
        }
        stack.no_leftovers().await;
    }
    stack.settled(3).await;
}
