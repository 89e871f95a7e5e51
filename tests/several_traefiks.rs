//! Several Traefiks in front of one service, one of which is late or does not answer: all must confirm.

use std::net::{Ipv4Addr, SocketAddr};

use testbed::{Load, LoadOptions, ROLL, Run, Stack, USUAL, free_port, front::Kind};

/// A second Traefik, which takes a change up to four seconds after the first one; both APIs are published.
const SECOND: &str = r#"  traefik:
    ports: ["127.0.0.1:${FIRST_API}:8080"]
  late:
    extends: { file: front.yaml, service: traefik }
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${COMPOSE_PROJECT_NAME}`)
      - --providers.file.directory=/etc/traefik/dynamic
      - --providers.providersthrottleduration=4s
      - --entrypoints.web.address=:80
      - --api.insecure=true
    volumes: [./dynamic:/etc/traefik/dynamic:ro]
    ports: !override ["127.0.0.1:${LATE_PORT}:80", "127.0.0.1:${LATE_API}:8080"]
"#;

/// A stack that both Traefiks route to.
struct Both {
    stack: Stack,
    late: u16,
    apis: [String; 2],
}

impl Both {
    async fn up(mut stack: Stack) -> Self {
        let [late, first_api, late_api] = [(); 3].map(|()| free_port());
        std::fs::create_dir_all(stack.path("dynamic")).unwrap();
        stack.write(
            "compose.yaml",
            &format!("services:\n  web:\n{USUAL}{SECOND}"),
        );
        stack.set("LATE_PORT", late);
        stack.set("FIRST_API", first_api).set("LATE_API", late_api);
        stack.up("v1").await;
        let both = Self {
            stack,
            late,
            apis: [first_api, late_api].map(|port| format!("http://127.0.0.1:{port}")),
        };
        both.late_answers("v1").await;
        both
    }

    async fn late_answers(&self, version: &str) {
        let Self { stack, late, .. } = self;
        let curl = format!(
            "curl -s --max-time 5 -H 'Host: {}' http://127.0.0.1:{late}",
            stack.host
        );
        stack.until(&curl, version).await;
    }

    fn loads(&self) -> [Load; 2] {
        let second = LoadOptions {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, self.late)),
            ..self.stack.load_options()
        };
        [self.stack.load(), Load::start(second)]
    }

    async fn is_rolled(&mut self, arguments: &[&str]) -> Run {
        let loads = self.loads();
        // The late one takes the first change after a pause at once, and the cutover after its throttle.
        let run = self.stack.rollout(arguments).await;
        self.late_answers("v2").await;
        for load in loads {
            let report = load.stop().await;
            assert!(report.nothing_lost(), "{report}\n{}", run.text);
        }
        run.code(0);
        self.stack.settled(1).await;
        run
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_are_named_by_their_urls_both_confirm_before_an_old_replica_is_stopped() {
    let mut both = Both::up(Stack::relabelled("")).await;
    both.stack.tag("v2");
    let [first, late] = both.apis.clone();
    let urls = ["--traefik-url", &first, "--traefik-url", &late, "web"];
    let run = both.is_rolled(&urls).await;
    assert!(run.text.contains(&first[7..]) && run.text.contains(&late[7..]));

    // One of the two does not answer: nothing is stopped, and the rollback is confirmed once it answers.
    let before = both.stack.replicas("web").await;
    both.stack.tag("v1").set("ROLLOUT_STABLE", "3s");
    let load = both.stack.load();
    let impatient = [&urls[..], &["--confirm-timeout", "3s"]].concat();
    let mut running = both.stack.start_rollout(&impatient);
    running.comes_after("create", "ready").await;
    let late = format!("{}-late-1", both.stack.name);
    both.stack.docker(&["pause", &late]).await;
    let run = running.wait().await;
    run.code(3);
    assert_eq!(both.stack.replicas("web").await.len(), 2, "{}", run.text);
    both.stack.docker(&["unpause", &late]).await;
    let abort = [&["abort"], &urls[..]].concat();
    let run = both.stack.rollout(&abort).await;
    run.code(0);
    let report = load.stop().await;
    // There and back again is what was asked for, so the versions take turns.
    assert_eq!(report.failed, 0, "{report}\n{}", run.text);
    assert_eq!(both.stack.replicas("web").await, before, "{}", run.text);
    both.stack.tag("v2");
    both.stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_are_found_both_confirm_before_an_old_replica_is_stopped() {
    let mut both = Both::up(Stack::usual("")).await;
    both.stack.tag("v2");
    let run = both.is_rolled(&["-v", "web"]).await;
    for name in ["traefik-1", "late-1"] {
        assert!(run.text.contains(name), "{name}: {}", run.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reads_through_the_socket_proxy_of_another_project_is_not_in_front() {
    let mut stack = Stack::relabelled("");
    stack.up("v1").await;
    let other = Stack::fresh_usual(Kind::Relabel, "");
    let front = std::fs::read_to_string(other.path("front.yaml")).unwrap();
    let is_constraint = |line: &&str| line.contains("docker.constraints");
    assert_eq!(front.lines().filter(is_constraint).count(), 1);
    let free: Vec<&str> = front.lines().filter(|line| !is_constraint(line)).collect();
    other.write("front.yaml", &free.join("\n"));
    other.front_up().await;
    let network = format!("{}_front", stack.name);
    let traefik = format!("{}-traefik-1", other.name);
    stack
        .docker(&["network", "connect", &network, &traefik])
        .await;
    stack.tag("v2");
    let run = stack.rollout(&ROLL).await;
    run.code(0);
    assert!(!run.text.contains(&traefik), "{}", run.text);
    stack.settled(1).await;
}
