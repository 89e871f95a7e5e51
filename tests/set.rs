//! `--set`: the variable counts for the rollout, and stands in the environment file after its success alone, byte for byte.

use serde_json::json;

use testbed::{Stack, USUAL};

/// An environment file in which the version stands amid what has to stay.
const FILE: &str = "# the shop\r\nOTHER='x y' # kept\r\nexport TAG=\"v1\"  # now\r\n\r\nLAST=1";

/// A stack whose version is in `.env` alone.
async fn stack(more: &str) -> Stack {
    let mut stack = Stack::usual(more);
    stack.unset("TAG");
    stack.write(".env", FILE);
    stack.up("v1").await;
    stack
}

#[track_caller]
fn file_is(stack: &Stack, text: &str) {
    let now = std::fs::read_to_string(stack.path(".env")).unwrap();
    assert_eq!(now, text);
    let drafts = std::fs::read_dir(stack.folder()).unwrap();
    let mut names = drafts.map(|own| own.unwrap().file_name().to_string_lossy().into_owned());
    assert!(!names.any(|name| name.starts_with(".rollout-")));
}

/// The file with this version.
fn with(version: &str) -> String {
    FILE.replace("\"v1\"", version)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_written_after_its_success_and_an_undo_puts_the_earlier_one_back() {
    let stack = stack("").await;
    for (arguments, says) in [
        (&["--set", "TGA=v2"][..], "uses the variable TGA"),
        (&["--set", "HTTP_PORT=1"], "overrides .env"),
        (&["--set", "TAG"], "is not NAME=VALUE"),
        (
            &["--set", "TAG=v2", "--env-file", "/proc/sys/kernel/ostype"],
            "cannot write /proc/sys/kernel/ostype",
        ),
    ] {
        let refused = stack.rollout(&[&["web"], arguments].concat()).await;
        assert!(refused.code(2).text.contains(says), "{}", refused.text);
    }
    let plan = stack.rollout(&["plan", "web", "--set", "TAG=v2"]).await;
    assert!(plan.code(10).out.contains("v2"), "{}", plan.out);
    let sick = ["web", "--set", "TAG=broken", "--timeout", "5"];
    let failed = stack.rollout(&sick).await;
    assert!(
        failed.code(1).text.contains(".env keeps its value of TAG"),
        "{}",
        failed.text
    );
    file_is(&stack, FILE);

    let load = stack.load();
    let run = stack.rollout(&["web", "--set", "TAG=v2"]).await;
    let written = run.code(0).event("variables_written").unwrap();
    assert_eq!(written["variables"], json!(["TAG"]));
    let file = stack.path(".env").canonicalize().unwrap();
    let named = std::path::Path::new(written["file"].as_str().unwrap());
    assert_eq!(named.canonicalize().unwrap(), file);
    file_is(&stack, &with("v2"));
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.settled(1).await;

    let run = stack.rollout(&["undo", "web"]).await;
    let report = load.stop().await;
    assert!(
        run.code(0).event("variables_written").is_some(),
        "{}",
        run.text
    );
    assert!(!run.text.contains("still asks"), "{}", run.text);
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    file_is(&stack, FILE);
    stack.settled(1).await;

    // What already runs is written, too, into the last file, which is made.
    let mut arguments = vec!["web", "--set", "TAG=v1"];
    stack.write("more.env", "");
    arguments.extend(["--env-file", ".env", "--env-file", "more.env"]);
    let run = stack.rollout(&arguments).await;
    assert!(run.code(0).event("nothing_to_do").is_some(), "{}", run.text);
    let more = std::fs::read_to_string(stack.path("more.env")).unwrap();
    assert_eq!(more, "TAG=v1\n");
    file_is(&stack, FILE);
}

/// `resume`, or the next rollout, finishes what was killed after its cutover, and undoes the rest.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_the_next_run_leaves_the_file_as_what_runs() {
    let stack = stack("").await;
    for (step, next, version) in [
        ("ready", &["resume", "web"][..], "v1"),
        ("ready", &["web"], "v1"),
        ("drain", &["resume", "web"], "v2"),
        ("undo", &["undo", "web"], "v1"),
        ("stop", &["web"], "v2"),
        ("", &["web", "--set", "TAG=v1"], "v1"),
        ("remove", &["web", "--set", "TAG=v2"], "v2"),
    ] {
        if step == "undo" {
            let mut running = stack.start_rollout(&["undo", "web"]);
            running.reaches("step_started", "drain").await;
            running.kill().await;
        } else if !step.is_empty() {
            let mut running = stack.start_rollout(&["web", "--set", "TAG=v2"]);
            running.reaches("step_started", step).await;
            running.kill().await;
            file_is_of_v1(&stack);
        }
        let run = stack.rollout(next).await;
        assert_eq!(run.code, Some(0), "{step} {next:?}: {}", run.text);
        let now = stack.version().await;
        assert_eq!(now.as_deref(), Some(version), "{step}: {}", run.text);
        let value = stack.shell("grep -o 'TAG=[\"v0-9]*' .env").await;
        let value = value.trim().replace('"', "");
        assert_eq!(value, format!("TAG={version}"), "{step}: {}", run.text);
        stack.settled(1).await;
    }
}

/// The rollout that was killed has not written anything.
#[track_caller]
fn file_is_of_v1(stack: &Stack) {
    let text = std::fs::read_to_string(stack.path(".env")).unwrap();
    assert!(
        text.contains("TAG=\"v1\"") || text.contains("TAG=v1"),
        "{text}"
    );
}

/// Another service with the same version, and one that is not rolled.
const SEVERAL: &str = "    x-rollout: { strategy: canary, steps: [{ weight: 10%, pause: {} }] }
  api:
    image: rollout-demo:${TAG}
  other:
    image: rollout-demo:v1-plain
    environment: { RELEASE: \"${TAG}\" }
";

#[tokio::test(flavor = "multi_thread")]
async fn of_several_services_with_a_canary_the_file_is_written_once_all_run_with_it() {
    let mut stack = Stack::relabelled(SEVERAL);
    stack.unset("TAG");
    stack.write(".env", FILE);
    stack.up("v1").await;
    let both = ["web", "api", "--set", "TAG=v2"];
    let run = stack.rollout(&both).await;
    run.code(5);
    let notices = run.notices().join("\n");
    assert!(notices.contains("also used by other"), "{}", run.text);
    assert!(
        notices.contains(".env keeps its value of TAG"),
        "{}",
        run.text
    );
    file_is(&stack, FILE);
    stack.rollout(&["abort", "web"]).await.code(0);
    file_is(&stack, FILE);
    stack.rollout(&both).await.code(5);
    let run = stack.rollout(&["promote", "web"]).await;
    assert!(
        run.code(0).event("variables_written").is_some(),
        "{}",
        run.text
    );
    file_is(&stack, &with("v2"));
    let run = stack.rollout(&["undo", "web", "api"]).await;
    run.code(0);
    file_is(&stack, FILE);
}

/// The Compose file cannot be read without the variable, which is in no file before the end of the canary.
#[tokio::test(flavor = "multi_thread")]
async fn a_canary_with_a_variable_that_is_in_no_file_yet_is_aborted_or_promoted() {
    let canary = "    x-rollout: { strategy: canary, steps: [{ weight: 10%, pause: {} }] }\n";
    let web = USUAL.replace("${TAG}", "${TAG:?no version}");
    let mut stack = Stack::relabelled_with(&format!("{web}{canary}"));
    stack.write(".env", "OTHER=1\n");
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    stack.unset("TAG");
    let load = stack.load();
    let given = ["web", "--set", "TAG=v2"];
    stack.rollout(&given).await.code(5);
    let aborted = stack.rollout(&["abort", "web"]).await;
    aborted.code(0);
    stack.answers_steadily("v1").await;
    assert_eq!(stack.replicas("web").await, before, "{}", aborted.text);
    file_is(&stack, "OTHER=1\n");

    stack.rollout(&given).await.code(5);
    let promoted = stack.rollout(&["promote", "web"]).await;
    let report = load.stop().await;
    promoted.code(0);
    assert_eq!(report.failed, 0, "{report}\n{}", promoted.text);
    file_is(&stack, "OTHER=1\nTAG=v2\n");
    stack.answers_steadily("v2").await;
    stack.settled(1).await;
}

/// Two commands that write the same file, for services of their own.
#[tokio::test(flavor = "multi_thread")]
async fn two_commands_at_the_same_time_both_write_the_file() {
    let api = "  api:\n    image: rollout-demo:${API_TAG}\n";
    let mut stack = Stack::usual(api);
    stack.unset("TAG");
    let file = "TAG=v1\nAPI_TAG=v1\n";
    stack.write(".env", file);
    stack.up("v1").await;
    for (version, text) in [("v2", "TAG=v2\nAPI_TAG=v2\n"), ("v1", file)] {
        let [web, own] = ["TAG", "API_TAG"].map(|name| format!("{name}={version}"));
        let web = stack.start_rollout(&["web", "--set", &web]);
        let api = stack.start_rollout(&["api", "--set", &own]);
        let (web, api) = tokio::join!(web.wait(), api.wait());
        web.code(0);
        api.code(0);
        file_is(&stack, text);
    }
}
