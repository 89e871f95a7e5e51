//! What a rollout says: lines for people, progress on a terminal, events for programs.

use std::process::{Command, Stdio};

use serde_json::Value;

use testbed::{Run, Stack, binary};

const OPENING: &str = "web: reading the Compose files and the engine\n";

/// A text without the lines that a slow machine adds, each of which says what goes on.
fn without_waits(text: &str) -> String {
    let is_wait = |line: &&str| line.starts_with("    ") && !line.contains(" is ready");
    let lines = text.split_inclusive('\n');
    lines.filter(|line| !is_wait(&line.trim_end())).collect()
}

/// Times as `…`, since they differ.
fn masked(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for index in 0..words.len() {
        let unit = words.get(index + 1).copied().unwrap_or_default();
        let unit = unit.trim_end_matches([',', ')', '\n']);
        let number = !words[index].is_empty() && words[index].parse::<f64>().is_ok();
        if number
            && (matches!(unit, "ms" | "s") || unit.starts_with("ms\n") || unit.starts_with("s\n"))
        {
            words[index] = "…";
        }
    }
    words.join(" ").replace("… ms", "… s")
}

fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_plain_where_no_terminal_is() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    let expected = format!(
        "{OPENING}  ✓ pull              … s\n\
         web: rollout-demo:v1 → rollout-demo:v2, revision 2, 1 replica, Traefik ({0}-traefik-1) through the socket proxy\n  \
         ✓ prepare           … s\n  ✓ create            … s\n    new replica {1} is ready: {2}\n  \
         ✓ wait until ready  … s\n  ✓ switch            … s\n  ✓ confirm           … s\n  ✓ drain             … s\n  \
         ✓ stop              … s\n  ✓ remove            … s\n  ✓ rename            … s\n  ✓ release           … s\n\
         web: rollout-demo:v1 → rollout-demo:v2 live after … s (cutover … s), done after … s\n",
        stack.name,
        run.event("ready").unwrap()["replica"].as_str().unwrap(),
        run.event("ready").unwrap()["by"].as_str().unwrap(),
    );
    assert_eq!(masked(&without_waits(&run.text)), expected);
    assert_eq!(run.out, "");
    let again = stack.rollout(&["web"]).await;
    again.code(0);
    assert_eq!(
        masked(&without_waits(&again.text)),
        format!(
            "{OPENING}  ✓ pull              … s\nweb: nothing to do, 1 replica up to date (rollout-demo:v2)\n"
        )
    );
}

fn reported(run: &Run) -> Vec<Value> {
    assert_eq!(run.text, "");
    let events = objects(&run.out);
    assert_eq!(events, run.events);
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_json_is_an_event_and_the_last_says_how_it_ended() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let run = stack.rollout(&["--output", "json", "web"]).await;
    run.code(0);
    let events = reported(&run);
    let last = events.last().unwrap();
    assert_eq!(last["event"], "finished");
    assert_eq!(
        (&last["service"], &last["revision"], &last["replicas"]),
        (&"web".into(), &2.into(), &1.into())
    );
    assert!(last["cutover_ms"].as_u64().unwrap() <= last["total_ms"].as_u64().unwrap());
    for phase in [
        "pull", "hold", "create", "ready", "cutover", "confirm", "drain", "stop", "remove",
    ] {
        assert!(last["phases"][phase].is_u64(), "{phase}: {last}");
    }
    let run = stack.rollout(&["up", "web", "--output=json"]).await;
    assert_eq!(
        reported(run.code(0)).last().unwrap()["event"],
        "nothing_to_do"
    );
    stack.set("ROLLOUT_OUTPUT", "json");
    for arguments in [&["wbe"][..], &["web", "--frobnicate"], &[]] {
        let run = stack.rollout(arguments).await;
        let last = reported(run.code(2)).pop().unwrap();
        assert_eq!(
            (&last["event"], &last["code"]),
            (&"failed".into(), &2.into())
        );
    }
    stack.tag("broken");
    let run = stack.rollout(&["web", "--timeout", "3"]).await;
    let last = reported(run.code(1)).pop().unwrap();
    assert_eq!(
        (&last["event"], &last["code"]),
        (&"failed".into(), &1.into())
    );
    assert!(
        last["hint"].as_str().unwrap().contains("rollout web"),
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_does_not_end_a_rollout() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let mut rollout = stack.start_rollout(&["-vv", "--output", "json", "web"]);
    rollout.close_pipes();
    rollout.wait().await.code(0);
    stack.settled(1).await;
    stack.tag("v1");
    let mut rollout = stack.start_rollout(&["web"]);
    rollout.close_pipes();
    let run = rollout.wait().await;
    assert_eq!(run.code(0).events.last().unwrap()["event"], "finished");
}

/// Runs the CLI on a terminal of its own; all that it draws.
async fn on_a_terminal(stack: &Stack, arguments: &str) -> String {
    let line = format!("{} {arguments}", binary().display());
    let mut script = stack.command(
        "script",
        &["--quiet", "--return", "--command", &line, "/dev/null"],
    );
    let output = script.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_shows_progress_in_colour_unless_told_otherwise() {
    let mut stack = Stack::usual("");
    stack.set("TERM", "xterm-256color").unset("NO_COLOR");
    stack.up("v1").await;
    stack.tag("v2");
    let drawn = on_a_terminal(&stack, "web").await;
    assert!(
        drawn.contains("waiting until the new replicas are ready"),
        "{drawn}"
    );
    assert!(drawn.contains("\x1b[32m✓\x1b[0m"), "{drawn}");
    assert!(drawn.contains("live after"), "{drawn}");
    stack.tag("v1").set("NO_COLOR", 1);
    let drawn = on_a_terminal(&stack, "web").await;
    assert!(
        drawn.contains("waiting until the new replicas are ready"),
        "{drawn}"
    );
    assert!(drawn.contains("✓ wait until ready"), "{drawn}");
    let colours = drawn.split("\x1b[").skip(1);
    for code in colours {
        let end = code
            .find(|letter: char| letter.is_ascii_alphabetic())
            .unwrap();
        assert_ne!(&code[end..=end], "m", "{drawn:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_services_are_a_table_on_a_terminal_and_each_has_its_log_file() {
    let mut stack =
        Stack::usual("  worker:\n    image: rollout-demo:${TAG}-plain\n    networks: [front]\n");
    stack.set("TERM", "xterm-256color").set("NO_COLOR", 1);
    stack.up("v1").await;
    stack.tag("v2");
    let refused = stack.rollout(&["--log-dir", "compose.yaml", "web"]).await;
    let message = "cannot write to the log directory compose.yaml";
    assert!(refused.code(2).text.contains(message), "{}", refused.text);
    let drawn = on_a_terminal(&stack, "--log-dir made/logs web worker").await;
    let table = drawn.split("SERVICE").next().unwrap();
    for part in ["web     to come", "worker  to come", "wait until ready: "] {
        assert!(table.contains(part), "{part}: {drawn}");
    }
    assert!(!table.contains("✓ create"), "{drawn}");
    for service in ["web", "worker"] {
        let log = stack.path(&format!("made/logs/{service}.log"));
        let log = std::fs::read_to_string(log).unwrap();
        let first = log.lines().next().unwrap();
        assert!(first.ends_with("--log-dir made/logs web worker"), "{log}");
        for part in ["creating the new replicas", "✓ create", "done after"] {
            assert!(log.contains(part), "{part}: {log}");
        }
        assert!(!log.contains('\x1b'), "{log:?}");
    }
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_about_a_run_is_written_at_its_end_and_a_bad_place_is_refused_first() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    stack.tag("v2");
    let refused = stack
        .rollout(&["--report", "missing/run.html", "web"])
        .await;
    let message = "cannot write the report missing/run.html";
    assert!(refused.code(2).text.contains(message), "{}", refused.text);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    let done = stack.rollout(&["--report", "run.html", "web"]).await;
    done.code(0);
    let page = std::fs::read_to_string(stack.path("run.html")).unwrap();
    for part in [
        "<title>web: done</title>",
        "rollout-demo:v1",
        "rollout-demo:v2",
        "<th>create</th>",
        "<th>switch</th>",
        "<th>drain</th>",
        "<svg",
        ">100 %</text>",
        "</html>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    stack.tag("crash");
    let failed = stack.rollout(&["--report", "run.html", "web"]).await;
    failed.code(1);
    let page = std::fs::read_to_string(stack.path("run.html")).unwrap();
    assert!(page.contains("<title>web: failed</title>"), "{page}");
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
}

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions_are_printed_for_each_shell_even_to_a_reader_that_has_had_enough() {
    for (shell, begin) in [
        ("bash", "_clap_complete_rollout() {"),
        ("zsh", "#compdef rollout"),
        ("fish", "complete "),
    ] {
        let text = printed(&["completions", shell]);
        assert!(text.trim_start().starts_with(begin), "{shell}: {text}");
        let call = format!("ROLLOUT_COMPLETE=\"{shell}\"");
        let bare = format!("ROLLOUT_COMPLETE={shell}");
        assert!(
            text.contains(&call) || text.contains(&bare),
            "{shell}: {text}"
        );
        let mut child = Command::new(binary())
            .args(["completions", shell])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

#[test]
fn docker_is_told_what_its_plugin_is() {
    let metadata: Value = serde_json::from_str(&printed(&["docker-cli-plugin-metadata"])).unwrap();
    assert_eq!(metadata["SchemaVersion"], "0.1.0");
    assert_eq!(metadata["Version"], env!("CARGO_PKG_VERSION"));
    for key in ["Vendor", "ShortDescription"] {
        assert!(!metadata[key].as_str().unwrap().is_empty(), "{key}");
    }
}

const SETTINGS: [&str; 26] = [
    "proxy",
    "switch",
    "traefik-url",
    "traefik-auth-file",
    "traefik-ca",
    "strategy",
    "scale",
    "pull",
    "build",
    "force",
    "renew-anon-volumes",
    "allow-split",
    "timeout",
    "wait",
    "wait-after-healthy",
    "stable",
    "ready-http",
    "confirm-timeout",
    "settle",
    "drain-timeout",
    "drain-quiet",
    "bake",
    "pre-stop-hook",
    "on-unfinished",
    "lock-wait",
    "keep",
];

const EXIT_CODES: [&str; 6] = [
    "  0    done, or nothing to do",
    "  1    failed; the old version serves",
    "  2    refused before anything was touched",
    "  3    failed, and needs a person",
    "  4    locked by another rollout",
    "  130  interrupted",
];

#[test]
fn help_names_each_setting_and_exit_code() {
    let help = printed(&["--help"]);
    for setting in SETTINGS {
        let option = format!("--{setting}");
        // A value that may be left out stands in brackets right behind the name.
        let is = |word: &str| {
            let rest = word.strip_prefix(&option);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        };
        let lists = |line: &str| line.split_whitespace().take(2).any(is);
        assert!(help.lines().any(lists), "{option}: {help}");
    }
    for code in EXIT_CODES {
        assert!(help.lines().any(|line| line.starts_with(code)), "{code}");
    }
    for word in ["x-rollout:", "socket-proxy"] {
        assert!(help.contains(word), "{word}");
    }
    assert_eq!(
        printed(&["--version"]),
        format!("rollout {}\n", env!("CARGO_PKG_VERSION"))
    );
}
