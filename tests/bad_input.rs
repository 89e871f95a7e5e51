//! What is refused: in one line, with exit code 2, and with nothing touched.

use serde_json::Value;
use testbed::{Run, Stack};

mod front;
mod line;
mod stack;

/// One line for the error, one that begins with what to do next, and the same as event.
#[track_caller]
pub fn refused(run: &Run, error: &str, next: &str) {
    run.code(2);
    // A busy engine may take longer than the 2 s after which a run says what it waits for.
    let waits = |text: &str| {
        text.contains("waiting for the Docker engine")
            || text.contains("reading the Compose files and the engine")
            || text.starts_with("    waiting (")
    };
    let mut lines = run.text.lines().filter(|line| !waits(line));
    assert_eq!(lines.next(), Some(format!("error: {error}").as_str()));
    let rest: Vec<&str> = lines.collect();
    assert!(rest[0].starts_with("next: "), "{}", run.text);
    assert!(rest.join("\n").contains(next), "{}", run.text);
    assert!(
        rest[1..].iter().all(|line| line.starts_with("      ")),
        "{}",
        run.text
    );
    let last = run.events.last().unwrap();
    assert_eq!(
        (&last["event"], &last["code"]),
        (&"failed".into(), &2.into())
    );
    assert_eq!(last["message"], error);
    let of_waiting =
        |event: &&Value| event["event"] == "opening" || event["text"].as_str().is_some_and(waits);
    let others = run.events.iter().filter(|event| !of_waiting(event)).count();
    assert_eq!(others, 1, "{:#?}", run.events);
}

/// All that a rollout could touch: containers with their start times, locks, the overlay with its generation, images.
pub async fn whole(stack: &Stack) -> String {
    let project = format!("label=com.docker.compose.project={}", stack.name);
    let lock = format!("name=rollout-lock.{}.", stack.name);
    let ids = stack
        .docker(&["ps", "-aq", "--no-trunc", "--filter", &project])
        .await;
    let mut inspect = vec![
        "inspect",
        "--format",
        "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Status}}",
    ];
    inspect.extend(ids.lines());
    let containers = stack.docker(&inspect).await;
    let locks = stack.docker(&["ps", "-aq", "--filter", &lock]).await;
    assert_eq!(locks, "", "a lock is held");
    let images = stack.docker(&["images", "-q", "rollout-helper"]).await;
    format!("{containers}{images}{}", stack.overlay().await)
}
