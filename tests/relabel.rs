//! `rollout relabel`: a drain by hand, beside rollouts, restarts and the end of the container.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use testbed::{Stack, eventually, http};

const HIDE: &str = "traefik.enable=false";

/// The hosts that answer a number of requests in a row.
async fn hosts(stack: &Stack, requests: usize) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    for _ in 0..requests {
        let answer = http::get(stack.port, "localhost", "/").await.unwrap();
        let text = String::from_utf8_lossy(answer.body());
        let host = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix("hostname="));
        hosts.insert(host.unwrap_or_else(|| panic!("{text}")).to_owned());
    }
    hosts
}

fn relabelled(run: &testbed::Run) -> &Value {
    let event = run.event("relabelled");
    event.unwrap_or_else(|| panic!("{}", run.text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_taken_out_by_hand_and_comes_back_without_a_lost_request() {
    let stack = Stack::usual("    scale: 3\n");
    stack.up("v1").await;
    let replicas = stack.replicas("web").await;
    let second = &replicas[1];
    let own = &second.id[..12];
    eventually("all three answer", Duration::from_secs(30), async || {
        let seen = hosts(&stack, 12).await;
        if seen.len() == 3 { Ok(()) } else { Err(seen) }
    })
    .await;
    let load = stack.load();

    let run = stack
        .rollout(&["relabel", &second.name, HIDE, "io.other=1"])
        .await;
    run.code(0);
    assert_eq!(relabelled(&run)["route"], "hidden");
    assert!(relabelled(&run)["ms"].is_u64(), "{}", run.text);
    assert!(
        run.text.contains("io.other is no traefik. label"),
        "{}",
        run.text
    );
    let seen = hosts(&stack, 60).await;
    assert!(seen.len() == 2 && !seen.contains(own), "{seen:?}");

    // The overlay is durable, and Traefik comes back to it.
    stack.compose(&["restart", "-t", "1", "socket-proxy"]).await;
    stack.traefik_listens().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!hosts(&stack, 60).await.contains(own));
    let list = stack.rollout(&["relabel", "--list"]).await;
    list.code(0);
    let row = list.out.lines().find(|line| line.contains(&second.name));
    let row = row.unwrap_or_else(|| panic!("{}", list.out));
    assert!(row.contains(HIDE) && row.contains("by hand"), "{row}");
    let list = stack
        .rollout(&["relabel", "--list", "--output", "json"])
        .await;
    let rows = list
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let rows: Vec<Value> = rows.collect();
    assert!(
        rows.iter()
            .any(|row| row["containers"] == second.name.as_str()
                && row["labels"]["traefik.enable"] == "false"),
        "{rows:?}"
    );

    // A rollout with nothing to do succeeds, without a wait for a replica that is taken out.
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    assert!(run.event("nothing_to_do").is_some(), "{}", run.text);

    let run = stack
        .rollout(&["relabel", &second.id[..8], "--clear"])
        .await;
    run.code(0);
    assert_eq!(relabelled(&run)["route"], "live", "{}", run.text);
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}");
    assert_eq!(hosts(&stack, 30).await.len(), 3);
    assert_eq!(stack.claims().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_go_their_way_beside_a_hidden_replica_and_take_what_was_said_of_it_along() {
    let mut stack = Stack::usual("    scale: 2\n");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    let load = stack.load();
    let hide = stack.rollout(&["relabel", &before[0].name, HIDE]).await;
    hide.code(0);

    // A version that fails: the traffic stays with the replica that is left, without a wait for the hidden one.
    stack.tag("broken");
    let run = stack.rollout(&["--timeout", "5", "web"]).await;
    run.code(1);
    assert_eq!(stack.replicas("web").await, before);
    assert_eq!(hosts(&stack, 20).await.len(), 1);
    assert_eq!(stack.claims().await, 1);

    stack.tag("v2");
    let run = stack.rollout(&["web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(hosts(&stack, 20).await.len(), 2);
    stack.settled(2).await;
    assert_eq!(stack.claims().await, 0);

    // The last two: done, and said.
    let now = stack.replicas("web").await;
    stack
        .rollout(&["relabel", &now[0].name, HIDE])
        .await
        .code(0);
    let run = stack.rollout(&["relabel", &now[1].name, HIDE]).await;
    run.code(0);
    assert!(
        run.text.contains("was the last container of web"),
        "{}",
        run.text
    );
    assert_eq!(stack.version().await, None);
    stack
        .compose(&["up", "-d", "--force-recreate", "web"])
        .await;
    stack.answers("v2").await;
    assert_eq!(stack.claims().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_container_is_refused_in_one_line() {
    let stack = Stack::usual("");
    stack.up("v1").await;
    let name = stack.replicas("web").await[0].name.clone();
    let slip = name.replace("-web-", "-wbe-");
    for (given, message) in [
        (
            slip.as_str(),
            format!("no container {slip:?} on this engine; did you mean {name:?}?"),
        ),
        (
            "socket-proxy",
            "socket-proxy is a service, not a container".to_owned(),
        ),
    ] {
        let run = stack.rollout(&["relabel", given, HIDE]).await;
        run.code(2);
        assert_eq!(run.event("failed").unwrap()["message"], message.as_str());
    }
    assert_eq!(stack.claims().await, 0);
}
