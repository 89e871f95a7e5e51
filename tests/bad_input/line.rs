//! Command lines, variables and files that say nothing useful: no stack is needed to refuse them.

use super::refused;
use testbed::Stack;

/// A project whose containers are never made.
fn paper() -> Stack {
    Stack::usual("    container_name: ${COMPOSE_PROJECT_NAME}-only\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_is_one_line_that_names_the_word_and_the_nearest() {
    let stack = paper();
    let help = "rollout --help";
    for (arguments, error, next) in [
        (
            &["--drian-timeout", "3", "web"][..],
            "unknown option --drian-timeout; did you mean --drain-timeout?",
            help,
        ),
        (
            &["web", "--frobnicate"],
            "unknown option --frobnicate",
            help,
        ),
        (&[], "no service named", "write: rollout SERVICE"),
        (&["up"], "no service named", "write: rollout SERVICE"),
        (
            &["web", "--strategy", "blue-gren"],
            "--strategy: unknown value \"blue-gren\"; did you mean blue-green?",
            "known are blue-green, rolling, canary, recreate",
        ),
        (
            &["web", "--timeout", "soon"],
            "--timeout: \"soon\" is not a duration; write 30s, 1m30s, 250ms or a number of seconds",
            help,
        ),
        (
            &["web", "--scale=0"],
            "--scale: \"0\" is not a number from 1 on",
            help,
        ),
        (
            &["web", "--output", "yaml"],
            "--output: unknown value \"yaml\"; known are human, json",
            help,
        ),
        (
            &["web", "socket-proxy"],
            "service web stands before the name of a command",
            "rollout up SERVICE",
        ),
    ] {
        let run = stack.rollout(arguments).await;
        refused(&run, error, next);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_named_with_the_nearest_and_all_known() {
    let stack = paper();
    let run = stack.rollout(&["wbe"]).await;
    let error = format!(
        "no service \"wbe\" in project {}; did you mean \"web\"?",
        stack.name
    );
    refused(&run, &error, "services: socket-proxy, traefik, web");
    let run = stack.rollout(&["frontend"]).await;
    let error = format!("no service \"frontend\" in project {}", stack.name);
    refused(&run, &error, "services: socket-proxy, traefik, web");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_no_service_is_answered_with_the_command_that_was_meant() {
    let stack = paper();
    for (arguments, line) in [
        (&["statsu", "web"][..], "did you mean: rollout status web"),
        (&["deploy", "web"], "did you mean: rollout web"),
        (&["rollback"], "did you mean: rollout undo SERVICE"),
    ] {
        let run = stack.rollout(arguments).await;
        let error = format!("no service {:?} in project {}", arguments[0], stack.name);
        refused(&run, &error, line);
        refused(&run, &error, "services: socket-proxy, traefik, web");
    }
    // The project has no such service, whatever its name is.
    let run = stack.rollout(&["up", "status"]).await;
    let error = format!("no service \"status\" in project {}", stack.name);
    refused(&run, &error, "services: socket-proxy, traefik, web");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_compose_file_or_with_a_broken_one_compose_says_why() {
    let mut stack = paper();
    stack.write("broken.yaml", "services:\n  web:\n   - {image: a\n");
    stack.write("wrong.yaml", "services:\n  web:\n    imagge: a\n");
    for (file, error) in [
        ("missing.yaml", "no such file or directory"),
        ("broken.yaml", "yaml: "),
        ("wrong.yaml", "imagge"),
    ] {
        // Containers of the project would be a hint of another kind.
        let run = stack.rollout(&["-p", "nothing", "-f", file, "web"]).await;
        run.code(2);
        let message = run.failure();
        assert!(message.contains(error), "{file}: {message}");
        refused(&run, message, "docker compose");
    }
    stack.unset("COMPOSE_FILE");
    std::fs::remove_file(stack.path("compose.yaml")).unwrap();
    let run = stack.rollout(&["web"]).await;
    refused(
        &run,
        "docker compose: no configuration file provided: not found",
        "-f FILE",
    );
    // What is dropped needs a file again.
    stack.set("COMPOSE_FILE", "front.yaml");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_whose_file_is_elsewhere_is_found_by_its_containers() {
    let mut stack = Stack::usual("");
    stack.up("v1").await;
    let (here, there) = (stack.path("compose.yaml"), stack.path("elsewhere.yaml"));
    std::fs::rename(&here, &there).unwrap();
    stack.unset("COMPOSE_FILE");
    let run = stack.rollout(&["-p", &stack.name, "web"]).await;
    let made = format!("project {} was made from ", stack.name);
    refused(
        &run,
        "docker compose: no configuration file provided: not found",
        &made,
    );
    let gone = format!("{}, which is not on this machine", here.display());
    assert!(run.text.contains(&gone), "{}", run.text);
    stack
        .rollout(&["history", "-p", &stack.name, "web"])
        .await
        .code(0);
    std::fs::rename(&there, &here).unwrap();
    stack.set("COMPOSE_FILE", "front.yaml:compose.yaml");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_accepts_and_never_answers_is_waited_for_with_a_line() {
    let stack = paper();
    let socket = stack.path("silent.sock");
    let _listens = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let address = format!("unix://{}", socket.display());
    let mut running = stack.start_rollout(&["-H", &address, "web"]);
    running.reaches("notice", "").await;
    let events = running.kill().await;
    let text = format!("waiting for the Docker engine at {address}");
    assert!(
        events.iter().any(|event| event["text"] == text),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_proxy_outside_its_image_opens_nothing_by_default() {
    let run = paper().rollout(&["socket-proxy"]).await;
    run.code(2);
    let next = "--listen 127.0.0.1:2375";
    assert!(run.text.contains(next), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_does_not_answer_is_named() {
    let mut stack = paper();
    let next = "-H, --context or DOCKER_HOST";
    let dead = stack.path("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed_address = closed.local_addr().unwrap();
    drop(closed);
    for address in [
        format!("unix://{}", dead.display()),
        format!("unix://{}", stack.path("absent.sock").display()),
        format!("tcp://{closed_address}"),
    ] {
        let run = stack.rollout(&["-H", &address, "web"]).await;
        let message = run.failure().to_owned();
        let begin = format!("the Docker engine at {address} does not answer: ");
        assert!(message.starts_with(&begin), "{message}");
        refused(&run, &message, next);
        stack.set("DOCKER_HOST", &address);
        let by_variable = stack.rollout(&["web"]).await;
        stack.set("DOCKER_HOST", "");
        assert_eq!(by_variable.text, run.text);
    }
    let run = stack.rollout(&["-H", "npipe:////./x", "web"]).await;
    refused(
        &run,
        "cannot reach a Docker engine at \"npipe:////./x\": only unix://, tcp://, https:// and ssh:// are supported",
        next,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_docker_context_is_named() {
    let mut stack = paper();
    let run = stack.rollout(&["--context", "faraway", "web"]).await;
    let message = run.failure().to_owned();
    assert!(message.contains("faraway"), "{message}");
    refused(&run, &message, "docker context ls");
    stack.set("DOCKER_CONTEXT", "faraway");
    let by_variable = stack.rollout(&["web"]).await;
    assert_eq!(by_variable.text, run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_log_that_cannot_be_written_is_refused() {
    let place = [("ROLLOUT_EVENT_LOG", "/no/such/place")];
    let run = paper().start_rollout_with(&["web"], &place).wait().await;
    let said = "error: cannot write the event log /no/such/place: ";
    assert!(run.code(2).text.starts_with(said), "{}", run.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_setting_is_one_line_that_names_its_place() {
    let next = "rollout --help";
    for (yaml, error) in [
        (
            "{drian-timeout: 3}",
            "unknown key drian-timeout in x-rollout of web; did you mean drain-timeout?",
        ),
        (
            "{timeout: soon}",
            "timeout in x-rollout of web: \"soon\" is not a duration; write 30s, 1m30s, 250ms or a number of seconds",
        ),
        (
            "{scale: [2]}",
            "scale in x-rollout of web: [2] is not a single value",
        ),
        ("soon", "x-rollout of web is not a mapping of settings"),
    ] {
        let stack = Stack::usual(&format!("    x-rollout: {yaml}\n"));
        refused(&stack.rollout(&["web"]).await, error, next);
    }
    let mut stack = paper();
    for (name, value, error) in [
        (
            "ROLLOUT_SCALE",
            "none",
            "ROLLOUT_SCALE: \"none\" is not a number from 1 on",
        ),
        (
            "ROLLOUT_DRAIN_TIMEOT",
            "3",
            "unknown variable ROLLOUT_DRAIN_TIMEOT; did you mean ROLLOUT_DRAIN_TIMEOUT?",
        ),
        (
            "ROLLOUT_OUTPUT",
            "yaml",
            "ROLLOUT_OUTPUT: unknown value \"yaml\"; known are human, json",
        ),
    ] {
        stack.set(name, value);
        refused(&stack.rollout(&["web"]).await, error, next);
        stack.set(name, "");
    }
}
