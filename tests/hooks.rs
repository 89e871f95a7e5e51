//! What the operator wants done in an old replica before it is stopped.

use std::process::Command;

use testbed::{Run, Stack};

/// The demo application in an image that has a shell.
const IMAGE: &str = r#"FROM traefik:v3.7
COPY --from=rollout-demo:v1 /app /app
ARG VERSION
ENV VERSION=$VERSION
EXPOSE 80
ENTRYPOINT ["/app"]
CMD []
HEALTHCHECK --interval=1s --timeout=2s --start-period=15s CMD ["/app", "check"]
"#;

const WEB: &str = r#"    image: ${COMPOSE_PROJECT_NAME}:${TAG}
    networks: [front]
    scale: 2
    volumes: ["./ran:/ran"]
    labels:
      traefik.enable: "true"
      traefik.http.routers.web.rule: Host(`localhost`)
"#;

/// Notes that it ran, in which container, and that the application still answered there.
const TELL: &str =
    "wget -q -O - http://127.0.0.1/ >/dev/null && cat /proc/sys/kernel/hostname >>/ran/";

/// A stack whose images go with it: after its containers, so that nothing uses them any more.
pub struct Shell {
    pub stack: Stack,
    _images: Images,
}

/// The images `v1` and `v2` of a stack, named after it.
pub struct Images(Vec<String>);

impl Images {
    pub async fn build(stack: &mut Stack) -> Self {
        std::fs::create_dir(stack.path("image")).unwrap();
        stack.write("image/Dockerfile", IMAGE);
        let mut images = Self(Vec::new());
        for version in ["v1", "v2"] {
            let name = format!("{}:{version}", stack.name);
            let argument = format!("VERSION={version}");
            let build = [
                "build",
                "-q",
                "-t",
                &name,
                "--build-arg",
                &argument,
                "image",
            ];
            stack.set("DOCKER_BUILDKIT", 0).docker(&build).await;
            images.0.push(name);
        }
        images
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        let _ = Command::new("docker").arg("rmi").args(&self.0).output();
    }
}

impl Shell {
    pub async fn up(more: &str) -> Self {
        Self::of(Stack::new(&format!("{WEB}{more}"))).await
    }

    async fn of(mut stack: Stack) -> Self {
        std::fs::create_dir(stack.path("ran")).unwrap();
        let images = Images::build(&mut stack).await;
        stack.up("v1").await;
        Self {
            stack,
            _images: images,
        }
    }

    /// Rolls to v2 under load: whatever the hooks do, nothing is lost.
    pub async fn rolls(&mut self, options: &[&str]) -> Run {
        let load = self.stack.load();
        self.stack.tag("v2");
        let all = [&["--proxy", "traefik"], options, &["web"]].concat();
        let run = self.stack.rollout(&all).await;
        let report = load.stop().await;
        run.code(0);
        assert!(report.nothing_lost(), "{report}\n{}", run.text);
        self.stack.settled(2).await;
        run
    }

    /// The short ids of the replicas that run now, sorted.
    async fn ids(&self) -> Vec<String> {
        let replicas = self.stack.replicas("web").await;
        let mut ids: Vec<String> = replicas.iter().map(|own| own.id[..12].to_owned()).collect();
        ids.sort();
        ids
    }

    /// Where a hook has run, sorted.
    fn ran(&self, file: &str) -> Vec<String> {
        let mut lines = self.in_order(file);
        lines.sort();
        lines
    }

    /// The lines that hooks have written, in the order in which they came.
    pub fn in_order(&self, file: &str) -> Vec<String> {
        let path = self.stack.path(&format!("ran/{file}"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pre_stop_hook_runs_in_each_old_replica_before_it_is_stopped() {
    let mut shell = Shell::up("").await;
    let olds = shell.ids().await;
    shell
        .rolls(&["--pre-stop-hook", &format!("{TELL}flag")])
        .await;
    assert_eq!(shell.ran("flag"), olds);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_of_the_new_file_s_label_goes_before_the_one_of_the_container() {
    let label = format!("      docker-rollout.pre-stop-hook: {TELL}${{HOOK:-container}}\n");
    let mut shell = Shell::up(&label).await;
    let olds = shell.ids().await;
    shell.stack.set("HOOK", "file");
    shell.rolls(&[]).await;
    assert_eq!((shell.ran("file"), shell.ran("container")), (olds, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_only_the_old_container_knows_runs_all_the_same() {
    let label = format!("      docker-rollout.pre-stop-hook: {TELL}container\n");
    let mut shell = Shell::up(&label).await;
    let olds = shell.ids().await;
    shell
        .stack
        .write("compose.yaml", &format!("services:\n  web:\n{WEB}"));
    shell.rolls(&[]).await;
    assert_eq!(shell.ran("container"), olds);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flag_goes_before_the_label() {
    let label = format!("      docker-rollout.pre-stop-hook: {TELL}label\n");
    let mut shell = Shell::up(&label).await;
    let olds = shell.ids().await;
    shell
        .rolls(&["--pre-stop-hook", &format!("{TELL}flag")])
        .await;
    assert_eq!((shell.ran("flag"), shell.ran("label")), (olds, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_is_reported_and_stops_nothing() {
    let mut shell = Shell::up("").await;
    let hook = "echo no such queue; exit 7";
    let run = shell.rolls(&["--pre-stop-hook", hook]).await;
    let notices: Vec<&str> = run
        .notices()
        .into_iter()
        .filter(|text| text.contains("pre-stop hook"))
        .collect();
    assert_eq!(notices.len(), 2, "one for each old replica: {notices:?}");
    assert!(
        notices
            .iter()
            .all(|text| text.contains("ended with 7: no such queue")),
        "{notices:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_hangs_is_given_up_after_the_drain_timeout() {
    let mut shell = Shell::up("").await;
    let options = ["--drain-timeout", "2s", "--pre-stop-hook", "sleep 600"];
    let run = shell.rolls(&options).await;
    let hung = |text: &&str| text.contains("pre-stop hook") && text.contains("did not end");
    assert_eq!(run.notices().into_iter().filter(hung).count(), 2);
    // Far from the end of the hook itself.
    let took = run.ms("hooks");
    assert!((2_000..60_000).contains(&took), "{took} ms");
}

async fn compose_s_own_pre_stop_hooks_run_in_their_order(suite: &str) {
    let project = r#"    pre_stop:
      - command: ["sh", "-c", "echo first $$WHICH >>/ran/$$(cat /proc/sys/kernel/hostname)"]
        environment: { WHICH: one }
      - command: ["sh", "-c", "echo second $$(pwd) >>/ran/$$(cat /proc/sys/kernel/hostname)"]
        working_dir: /tmp
"#;
    let mut stack = Stack::new(&format!("{WEB}{project}"));
    stack.compose_version(suite);
    let mut shell = Shell::of(stack).await;
    let olds = shell.ids().await;
    let run = shell.rolls(&["--drain-timeout", "5s"]).await;
    for old in &olds {
        assert_eq!(shell.in_order(old), ["first one", "second /tmp"], "{old}");
    }
    let place = |kind: &str, step: &str| {
        let is = |event: &serde_json::Value| event["event"] == kind && event["step"] == step;
        run.events.iter().position(is).unwrap()
    };
    assert!(place("step_finished", "hooks") < place("step_started", "stop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn compose_s_own_pre_stop_hooks_run_in_their_order_after_which_the_replica_is_stopped() {
    compose_s_own_pre_stop_hooks_run_in_their_order("sid").await;
}

/// Compose 2.26.1 passes the key on and does not run the hooks itself; the rollout does.
#[tokio::test(flavor = "multi_thread")]
async fn compose_s_own_pre_stop_hooks_run_with_compose_2_26_too() {
    compose_s_own_pre_stop_hooks_run_in_their_order("trixie").await;
}
