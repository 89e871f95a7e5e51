//! Revisions: recorded, listed, compared, gone back to; what is kept of them, and what is lost with the volume.

use std::time::Duration;

use serde_json::Value;

use testbed::{Run, Stack, eventually};

/// Far beyond the 15 s after which a lease is renewed.
const LIMIT: Duration = Duration::from_secs(60);

/// `latest` of an image of the test's own, moved as a build would move it.
async fn latest_is(stack: &Stack, version: &str) {
    let line = format!(
        "printf 'FROM rollout-demo:{version}\\nLABEL test={0}\\n' | DOCKER_BUILDKIT=0 docker build -q -t {1} -",
        stack.name,
        latest(stack)
    );
    stack.shell(&line).await;
}

/// What `latest` is now, by id.
async fn latest_id(stack: &Stack) -> String {
    let name = latest(stack);
    stack
        .docker(&["inspect", "--format", "{{.Id}}", &name])
        .await
}

fn latest(stack: &Stack) -> String {
    format!("{}:latest", stack.name)
}

/// A service whose image is `latest`, with a label that the second version of the file has lost.
fn stack() -> Stack {
    let stack = Stack::new("    image: none\n");
    file(&stack, "      shop.tier: gold\n");
    stack
}

fn file(stack: &Stack, label: &str) {
    let web = format!(
        "services:\n  web:\n    image: {}\n    labels:\n      traefik.enable: \"true\"\n      \
         traefik.http.routers.web.rule: Host(`localhost`)\n{label}    networks: [front]\n",
        latest(stack)
    );
    stack.write("compose.yaml", &web);
}

/// Image id and label of the one container.
async fn runs(stack: &Stack) -> (String, String) {
    let replicas = stack.replicas("web").await;
    assert_eq!(replicas.len(), 1, "{replicas:?}");
    assert_eq!(replicas[0].name, format!("{}-web-1", stack.name));
    let format = "{{.Image}} {{index .Config.Labels \"shop.tier\"}} ";
    let line = stack
        .docker(&["inspect", "--format", format, &replicas[0].id])
        .await;
    let (image, label) = line.split_once(' ').unwrap();
    (image.to_owned(), label.trim().to_owned())
}

async fn kept(stack: &Stack) -> Vec<String> {
    let repository = format!("rollout/{}-web", stack.name);
    let tags = stack
        .docker(&["images", "--format", "{{.Tag}}", &repository])
        .await;
    let mut tags: Vec<String> = tags.lines().map(str::to_owned).collect();
    tags.sort();
    tags
}

async fn numbers(stack: &Stack) -> Vec<u64> {
    let run = stack.rollout(&["history", "web", "--output", "json"]).await;
    run.code(0);
    let lines = run
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line.get("event").is_none())
        .map(|line| line["number"].as_u64().unwrap())
        .collect()
}

/// The lines of a report, without what only aligns them.
fn lines(run: &Run) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    run.out.lines().map(words).collect()
}

/// Two revisions, a file that has lost its label, and an older image that only our own name holds. What ran in each.
async fn two_revisions(stack: &Stack) -> [(String, String); 2] {
    latest_is(stack, "v1").await;
    stack.up("v1").await;
    let first = runs(stack).await;
    latest_is(stack, "v2").await;
    stack.rollout(&["web"]).await.code(0);
    let second = runs(stack).await;
    assert_ne!(first.0, second.0);
    file(stack, "");
    let own = format!("label=test={}", stack.name);
    let prune = ["image", "prune", "--force", "--filter", &own];
    stack.docker(&prune).await;
    [first, second]
}

/// The file has no label by now, and what runs has: a plain rollout takes it away. What status says before and after.
async fn the_label_is_taken_away(stack: &Stack, image: &str) {
    let status = stack.rollout(&["status", "web"]).await;
    status.code(1);
    let before = lines(&status);
    assert_eq!(before[0], "web: not settled, revision 3");
    let differs = |line: &String| line.starts_with("! config: ");
    assert!(before.iter().any(differs), "{}", status.out);
    stack.rollout(&["web"]).await.code(0);
    assert_eq!(runs(stack).await, (image.to_owned(), String::new()));
    let status = stack.rollout(&["status", "web", "--watch"]).await;
    status.code(0);
    let after = lines(&status);
    let settled = [
        "web: settled, revision 4".to_owned(),
        "NAME STATE HEALTH REVISION TRAFFIC IMAGE".to_owned(),
        format!(
            "{}-web-1 running healthy 4 live {}",
            stack.name,
            latest(stack)
        ),
    ];
    assert!(after.ends_with(&settled), "{}", status.out);
}

async fn the_history_lists_it(stack: &Stack) {
    let history = stack.rollout(&["history", "web"]).await;
    assert!(history.code(0).out.contains("undo to 1"), "{}", history.out);
    for (revisions, differs) in [
        ("3..4", "-      shop.tier: gold"),
        ("1..2", "-# image sha256:"),
    ] {
        let diff = ["history", "web", "--diff", revisions];
        let diff = stack.rollout(&diff).await;
        assert!(diff.code(0).out.contains(differs), "{}", diff.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_runs_exactly_the_recorded_revision_after_latest_moved_and_the_file_lost_a_label() {
    let stack = stack();
    let [first, second] = two_revisions(&stack).await;
    let load = stack.load();
    let run = stack.rollout(&["undo", "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(runs(&stack).await, first);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    assert_eq!(run.event("finished").unwrap()["revision"], 3);
    let again = stack.rollout(&["undo", "web", "--to", "1"]).await;
    assert!(
        again.code(0).event("nothing_to_do").is_some(),
        "{}",
        again.text
    );

    the_label_is_taken_away(&stack, &first.0).await;
    the_history_lists_it(&stack).await;
    // An undo brings the label back.
    let run = stack.rollout(&["undo", "web", "--to", "2"]).await;
    run.code(0);
    assert_eq!(runs(&stack).await, second);
    assert_eq!(numbers(&stack).await, [1, 2, 3, 4, 5]);
    stack.no_leftovers().await;
    let refused = stack.rollout(&["undo", "web", "--to", "9"]).await;
    assert!(
        refused.code(2).text.contains("available: 1, 2, 3, 4, 5"),
        "{}",
        refused.text
    );
}

/// Compose goes by the name, which can be given to another image at any time.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_takes_the_name_while_the_rollout_runs_gets_no_traffic() {
    let stack = stack();
    latest_is(&stack, "v1").await;
    stack.up("v1").await;
    latest_is(&stack, "v2").await;
    stack.rollout(&["web"]).await.code(0);
    let before = runs(&stack).await;
    let load = stack.load();
    let undo = ["undo", "web"];
    let mut running = stack.start_rollout(&undo);
    running.reaches("step_started", "create").await;
    // Compose is about to make the container: there is no time for a process.
    stack.api().tag("rollout-demo:v2-plain", &latest(&stack));
    let run = running.wait().await;
    let report = load.stop().await;
    run.code(1);
    assert!(run.text.contains("runs another image"), "{}", run.text);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(runs(&stack).await, before);
    assert_eq!(numbers(&stack).await, [1, 2]);
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_fails_leaves_what_ran_and_gives_the_image_its_name_back() {
    let stack = stack();
    latest_is(&stack, "broken").await;
    stack.compose(&["up", "-d"]).await;
    latest_is(&stack, "v1").await;
    let v1 = latest_id(&stack).await;
    stack.rollout(&["web"]).await.code(0);
    stack.answers("v1").await;
    let before = stack.replicas("web").await;
    let run = stack.rollout(&["undo", "web", "--timeout", "5"]).await;
    run.code(1);
    assert_eq!(stack.replicas("web").await, before);
    assert_eq!(latest_id(&stack).await, v1);
    assert_eq!(numbers(&stack).await, [1, 2]);
    let history = stack.rollout(&["history", "web"]).await;
    let failed = |line: &&str| line.starts_with('-') && line.contains("failed: ");
    assert_eq!(
        history.out.lines().filter(failed).count(),
        1,
        "{}",
        history.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_lets_go_of_the_oldest_images_and_a_corrupt_record_is_reported_and_left() {
    let stack = stack();
    latest_is(&stack, "v1").await;
    stack.up("v1").await;
    // What Compose has made is the first revision, and the way back to it.
    let run = stack.rollout(&["web"]).await;
    assert!(run.code(0).event("nothing_to_do").is_some(), "{}", run.text);
    for version in ["v2", "v1"] {
        latest_is(&stack, version).await;
        stack.rollout(&["web", "--keep", "2"]).await.code(0);
    }
    assert_eq!(numbers(&stack).await, [1, 2, 3]);
    assert_eq!(kept(&stack).await, ["2", "3"]);
    let history = stack.rollout(&["history", "web"]).await;
    // The newest name of an image keeps it for every revision that ran it.
    assert!(!history.out.contains("not kept"), "{}", history.out);
    let marked = |line: &String| line.starts_with("3 * ") && line.contains("live");
    assert!(lines(&history).iter().any(marked), "{}", history.out);

    // The newest record is cut short, as a full disk would.
    let line = format!(
        "set -e; id=$(docker create -v {0}:/state {1}); \
         docker cp $id:/state/{2}/web/revisions - | tar x; \
         for f in revisions/3-*; do head -c 40 $f > cut; mv cut $f; done; \
         docker cp revisions $id:/state/{2}/web; docker rm $id",
        stack.state_volume(),
        latest(&stack),
        stack.name
    );
    stack.shell(&line).await;
    let history = stack.rollout(&["history", "web"]).await;
    assert!(
        history.code(0).text.contains("is corrupt"),
        "{}",
        history.text
    );
    latest_is(&stack, "v2").await;
    // What runs is known all the same, and is recorded once more beside what cannot be read.
    let run = stack.rollout(&["web"]).await;
    assert!(run.code(0).text.contains("is corrupt"), "{}", run.text);
    assert_eq!(numbers(&stack).await, [1, 2, 3, 4]);
    let line = format!(
        "id=$(docker create -v {0}:/state {1}); docker cp $id:/state/{2}/web/revisions - | tar tv; docker rm $id",
        stack.state_volume(),
        latest(&stack),
        stack.name
    );
    let files = stack.shell(&line).await;
    let cut = |line: &&str| line.contains(" 40 ") && line.contains("/3-");
    assert_eq!(files.lines().filter(cut).count(), 1, "{files}");

    // Without the volume, history begins anew and says so, and the numbers go on.
    let volume = stack.state_volume();
    stack.docker(&["volume", "rm", &volume]).await;
    latest_is(&stack, "v1").await;
    let run = stack.rollout(&["web"]).await;
    assert!(
        run.code(0).text.contains("a new one begins"),
        "{}",
        run.text
    );
    assert_eq!(numbers(&stack).await, [4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_is_killed_is_undone_or_finished_and_the_image_has_the_right_name() {
    let stack = stack();
    latest_is(&stack, "v1").await;
    stack.up("v1").await;
    let first = runs(&stack).await;
    latest_is(&stack, "v2").await;
    stack.rollout(&["web"]).await.code(0);
    let second = runs(&stack).await;
    let newest = latest_id(&stack).await;
    let load = stack.load();
    // Before the cutover: a plain rollout undoes it, and takes the newest image for what it is.
    let mut running = stack.start_rollout(&["undo", "web"]);
    running.reaches("step_started", "ready").await;
    assert_ne!(latest_id(&stack).await, newest);
    running.kill().await;
    let run = stack.rollout(&["web"]).await;
    assert!(run.code(0).event("nothing_to_do").is_some(), "{}", run.text);
    assert_eq!(latest_id(&stack).await, newest);
    assert_eq!(runs(&stack).await, second);
    // After it: the same command finishes it, and it is recorded as what it is.
    let mut running = stack.start_rollout(&["undo", "web"]);
    running.reaches("step_started", "drain").await;
    running.kill().await;
    let run = stack.rollout(&["undo", "web"]).await;
    let report = load.stop().await;
    assert!(run.code(0).event("nothing_to_do").is_some(), "{}", run.text);
    assert_eq!(report.failed, 0, "{report}");
    assert_eq!(runs(&stack).await, first);
    let history = stack.rollout(&["history", "web"]).await;
    assert!(history.code(0).out.contains("undo to 1"), "{}", history.out);
    stack.no_leftovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_during_a_bake_moves_the_traffic_back_to_replicas_that_still_run() {
    let stack = stack();
    latest_is(&stack, "v1").await;
    stack.up("v1").await;
    let before = stack.replicas("web").await;
    latest_is(&stack, "v2").await;
    let bake = ["web", "--bake", "100s"];
    let mut running = stack.start_rollout(&bake);
    running.reaches("step_started", "bake").await;
    stack.answers("v2").await;
    the_lease_is_renewed(&stack).await;
    let undo = stack.rollout(&["undo", "web"]).await;
    undo.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    let run = running.wait().await;
    assert!(run.code(1).text.contains("undone by"), "{}", run.text);
    assert_eq!(stack.replicas("web").await, before);
    stack.no_leftovers().await;
}

/// A running rollout renews the lease in its lock: when it ends, by the engine's clock.
async fn the_lease_is_renewed(stack: &Stack) {
    let lock = format!("rollout-lock.{}.web", stack.name);
    let format = "{{index .Config.Labels \"io.rollout.lock.epoch\"}}";
    let epoch = stack.docker(&["inspect", "--format", format, &lock]).await;
    let epoch: u64 = epoch.trim().parse().unwrap();
    let line = format!("docker cp {lock}:/rollout-lease - | tar xO");
    let until = eventually("the lease is renewed", LIMIT, async || {
        let mut copy = stack.command("sh", &["-c", &line]);
        let text = String::from_utf8(copy.output().await.unwrap().stdout).unwrap();
        text.parse::<u64>()
    })
    .await;
    assert!(until >= epoch + 45_000 + 14_000, "{until} after {epoch}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_serves_although_nothing_can_be_written_down() {
    let stack = stack();
    let volume = stack.state_volume();
    let full = "type=tmpfs device=tmpfs o=size=4k,nr_inodes=1";
    let options = full.split(' ').flat_map(|option| ["--opt", option]);
    let create: Vec<&str> = ["volume", "create"].into_iter().chain(options).collect();
    stack
        .docker(&[&create[..], &[volume.as_str()]].concat())
        .await;
    latest_is(&stack, "v1").await;
    stack.up("v1").await;
    latest_is(&stack, "v2").await;
    let run = stack.rollout(&["web"]).await;
    run.code(0);
    assert!(
        run.text.contains("revision 2 is not recorded"),
        "{}",
        run.text
    );
    assert!(run.text.contains("no space left"), "{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    stack.settled(1).await;
}

/// A service with more than an image: what a container has of its own must come back with it.
const FURNISHED: &str = r#"    image: rollout-demo:${TAG}
    environment: { SHOP: "open $$HOME" }
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
      shop.tier: gold
    volumes: ["shelf:/shelf"]
    tmpfs: [/run]
    cap_drop: [MKNOD]
    restart: unless-stopped
    networks: { front: { aliases: [shop] } }
volumes:
  shelf:
"#;

/// Of the one container, all that is not of its one life.
async fn furniture(stack: &Stack) -> Value {
    let replicas = stack.replicas("web").await;
    assert_eq!(replicas.len(), 1, "{replicas:?}");
    let inspected = stack.api().inspect(&replicas[0].id);
    let config = &inspected["Config"];
    let network = format!("{}_front", stack.name);
    let endpoint = &inspected["NetworkSettings"]["Networks"][&network];
    let labels = ["shop.tier", "com.docker.compose.config-hash"];
    let options = [
        "Binds",
        "Tmpfs",
        "CapDrop",
        "RestartPolicy",
        "LogConfig",
        "IpcMode",
    ];
    serde_json::json!({
        "image": inspected["Image"],
        "reference": config["Image"],
        "command": [config["Entrypoint"], config["Cmd"]],
        "environment": config["Env"],
        "check": config["Healthcheck"],
        "labels": labels.map(|key| config["Labels"][key].clone()),
        "host": options.map(|key| inspected["HostConfig"][key].clone()),
        "alias": endpoint["Aliases"].as_array().unwrap().contains(&Value::from("shop")),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rollout_is_undone_by_what_its_containers_were_and_the_line_to_change_is_named() {
    let mut stack = Stack::new(FURNISHED);
    stack.unset("TAG");
    stack.write(".env", "TAG=v1\n");
    stack.up("v1").await;
    let before = furniture(&stack).await;
    // Nothing of the first version is left in the files.
    stack.write(".env", "# the shop\nTAG=v2\n");
    let without = FURNISHED
        .replace("    cap_drop: [MKNOD]\n", "")
        .replace("tier: gold", "tier: tin");
    stack.write("compose.yaml", &format!("services:\n  web:\n{without}"));
    let run = stack.rollout(&["web"]).await;
    let finished = run.code(0).event("finished").unwrap();
    assert_eq!(finished["image"], "rollout-demo:v2");
    assert_eq!(finished["replaces"], "rollout-demo:v1");
    assert!(
        run.text.contains("rollout-demo:v1 → rollout-demo:v2"),
        "{}",
        run.text
    );

    let load = stack.load();
    let run = stack.rollout(&["undo", "web"]).await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
    assert_eq!(furniture(&stack).await, before);
    let line = |notice: &&str| notice.contains(".env:2 ") && notice.ends_with("TAG=v1");
    assert_eq!(
        run.notices().into_iter().filter(line).count(),
        1,
        "{}",
        run.text
    );
    assert_eq!(numbers(&stack).await, [1, 2, 3]);
    // With the old files back, Compose finds what it would have made.
    stack.write(".env", "TAG=v1\n");
    stack.write("compose.yaml", &format!("services:\n  web:\n{FURNISHED}"));
    stack.settled(1).await;

    // A machine that has no file of the project still reads what is recorded of it.
    stack.set("COMPOSE_FILE", "gone.yaml");
    assert_eq!(numbers(&stack).await, [1, 2, 3]);
    stack.rollout(&["unlock", "web"]).await.code(0);
    let refused = stack.rollout(&["web"]).await;
    let given = format!("-p {}", stack.name);
    assert!(refused.code(2).text.contains(&given), "{}", refused.text);
}
