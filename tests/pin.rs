//! Stacks whose Traefik reads the engine's socket itself and is switched by a pin file: what only a pin has to get right.
//! `make soak` runs the main job with a pin too.

mod places;
mod secure;

use testbed::{Load, LoadOptions, Stack, Temporary, USUAL};

/// A router whose rule and middlewares differ between the versions, and one that only one version has.
const DIFFERING: &str = r#"    image: rollout-demo:${TAG}
    labels:
      - traefik.enable=true
      - traefik.http.routers.web.rule=${RULE}
      - traefik.http.routers.web.middlewares=strip, mark
      - traefik.http.middlewares.strip.stripprefix.prefixes=/app
      - traefik.http.middlewares.mark.headers.customresponseheaders.x-mark=${TAG}
      - traefik.http.routers.${MORE}.rule=Host(`localhost`) && PathPrefix(`/more-than-the-other`)
      - traefik.http.routers.${MORE}.middlewares=auth
      - traefik.http.middlewares.auth.basicauth.users=user:$$apr1$$lApUSBe9$$l6lEr.cBd2q5dUkQ7o7WS0
    networks: [front]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn rules_middlewares_and_routers_that_differ_between_the_versions_move_at_once() {
    let mut stack = Stack::pinned_with(DIFFERING);
    stack.set("RULE", "Host(`localhost`) && PathPrefix(`/app`)");
    stack.set("MORE", "old-only");
    stack.compose(&["up", "-d"]).await;
    let address = format!("http://127.0.0.1:{}", stack.port);
    let curl = format!("curl -s -i --max-time 5 -H 'Host: localhost' {address}");
    stack.until(&format!("{curl}/app/x"), "path=/x").await;
    let load = Load::start(LoadOptions {
        paths: vec!["/app/here".into()],
        ..stack.load_options()
    });
    stack.tag("v2").set("MORE", "new-only").set(
        "RULE",
        "Host(`localhost`) && (PathPrefix(`/app`) || PathPrefix(`/never`))",
    );
    let mut running = stack.start_rollout(&["web"]);
    running.comes_after("hold", "create").await;
    let held = stack.shell(&format!("{curl}/app/x")).await.to_lowercase();
    assert!(
        held.contains("x-mark: v1") && held.contains("path=/x"),
        "{held}"
    );
    running.comes_after("confirm", "drain").await;
    let moved = stack.shell(&format!("{curl}/app/x")).await.to_lowercase();
    assert!(
        moved.contains("x-mark: v2") && moved.contains("path=/x"),
        "{moved}"
    );
    let closed = stack.shell(&format!("{curl}/more-than-the-other")).await;
    assert!(closed.starts_with("HTTP/1.1 401"), "{closed}");
    let run = running.wait().await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    let settled = stack.shell(&format!("{curl}/app/x")).await.to_lowercase();
    assert!(settled.contains("x-mark: v2"), "{settled}");
    stack.settled(1).await;
}

/// Docker itself calls the new replica healthy half a minute after it has proved that it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_pin_of_a_service_that_is_checked_rarely_stays_until_docker_agrees() {
    let mut stack = Stack::pinned("");
    stack.up("v1").await;
    let load = stack.load();
    stack.tag("v2-slowcheck");
    let mut running = stack.start_rollout(&["web"]);
    running.comes_after("confirm", "release").await;
    let before = running.events();
    assert_eq!(stack.pins().len(), 1, "{before:#?}");
    assert_eq!(stack.version().await.as_deref(), Some("v2"));
    let run = running.wait().await;
    let report = load.stop().await;
    run.code(0);
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    let until_moved = ["hold", "create", "ready", "cutover", "confirm"].map(|step| run.ms(step));
    assert!(until_moved.iter().sum::<u64>() < 15_000, "{}", run.text);
    assert!(
        run.text
            .contains("the pin stays until Docker's own health check"),
        "{}",
        run.text
    );
    stack.settled(1).await;
}

/// A new replica that comes back with another address, while Docker's own check is waited for, is followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_waits_to_be_removed_follows_a_replica_that_comes_back_elsewhere() {
    let mut stack = Stack::pinned("");
    stack.up("v1").await;
    stack.tag("v2-slowcheck");
    let mut running = stack.start_rollout(&["web"]);
    running.comes_after("confirm", "release").await;
    let new = stack.newest("web").await;
    let network = format!("{}_front", stack.name);
    let address = async || stack.address(&new).await;
    let before = address().await;
    let sleeper = ["run", "-d", "--rm", "--entrypoint", "sleep", "--network"];
    stack.docker(&["stop", "-t", "0", &new]).await;
    // Others take its address, and what the old replica has left.
    let squatter = [&sleeper[..], &[&network, "traefik:v3.7", "120"]].concat();
    let squatters = [stack.docker(&squatter).await, stack.docker(&squatter).await];
    stack.docker(&["start", &new]).await;
    assert_ne!(address().await, before);
    stack.answers("v2").await;
    let run = running.wait().await;
    let [one, other] = squatters.each_ref().map(|id| id.trim());
    stack.docker(&["rm", "-f", one, other]).await;
    run.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v2"), "{}", run.text);
    stack.settled(1).await;
}

/// What was pinned when the run died has another address when the next one begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_leads_nowhere_any_more_is_mended_by_the_next_run() {
    let mut stack = Stack::pinned("");
    stack.up("v1").await;
    stack.tag("v2");
    let mut running = stack.start_rollout(&["web"]);
    running.comes_after("cutover", "drain").await;
    running.kill().await;
    assert_eq!(stack.pins().len(), 1);
    let new = stack.newest("web").await;
    // Another container takes its address.
    stack.docker(&["stop", "-t", "0", &new]).await;
    let network = format!("{}_front", stack.name);
    let sleeper = [
        "run",
        "-d",
        "--rm",
        "--network",
        &network,
        "--entrypoint",
        "sleep",
    ];
    let squatter = stack
        .docker(&[&sleeper[..], &["traefik:v3.7", "120"]].concat())
        .await;
    stack.docker(&["start", &new]).await;
    assert_eq!(stack.version().await, None, "the pin still leads somewhere");
    let run = stack.rollout(&["web"]).await;
    stack.docker(&["rm", "-f", squatter.trim()]).await;
    run.code(0);
    assert_eq!(stack.version().await.as_deref(), Some("v2"), "{}", run.text);
    stack.settled(1).await;
}

/// The same while the run lives: an old replica that is restarted during a hold gets its requests at its new address.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_follows_an_old_replica_that_comes_back_elsewhere() {
    let delayed = "    scale: 2\n    environment: { START_DELAY: \"${DELAY:-0}\" }\n";
    let mut stack = Stack::pinned(delayed);
    stack.up("v1").await;
    // The hold lasts for as long as the new replicas start.
    stack.tag("v2-plain").set("DELAY", 15);
    let old = stack.replicas("web").await.remove(0).id;
    let address = async || stack.address(&old).await;
    let before = address().await;
    let mut running = stack.start_rollout(&["web"]);
    running.comes_after("create", "ready").await;
    stack.docker(&["stop", "-t", "0", &old]).await;
    let _squatters = squatters(&format!("{}_front", stack.name), &before);
    stack.docker(&["start", &old]).await;
    assert_ne!(address().await, before);
    let curl = format!(
        "curl -s --max-time 5 -H 'Host: localhost' http://127.0.0.1:{}/",
        stack.port
    );
    let answer = format!("version=v1 hostname={}", &old[..12]);
    stack.until(&curl, &answer).await;
    running.comes_after("ready", "hold").await;
    let run = running.wait().await;
    run.code(0);
    stack.settled(2).await;
}

/// Containers that take addresses of a network until this one is among them.
fn squatters(network: &str, address: &str) -> Vec<Temporary> {
    let options = [
        "--network",
        network,
        "--entrypoint",
        "sleep",
        "traefik:v3.7",
        "120",
    ];
    let mut squatters: Vec<Temporary> = Vec::new();
    while !squatters.iter().any(|own| own.address() == address) {
        assert!(squatters.len() < 10, "none was given {address}");
        squatters.push(Temporary::container(&["run", "-d"], &options));
    }
    squatters
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sticky_client_keeps_its_cookie_and_its_replica_through_hold_and_release() {
    let sticky = "      traefik.http.services.web.loadbalancer.sticky.cookie: \"true\"\n      \
                  traefik.http.services.web.loadbalancer.server.port: \"80\"\n    networks:";
    let usual = USUAL.replace("    networks:", sticky);
    let mut stack = Stack::pinned_with(&format!("{usual}    scale: 2\n"));
    stack.up("v1").await;
    let curl = format!(
        "curl -s -i -H 'Host: localhost' http://127.0.0.1:{}/",
        stack.port
    );
    let cookie = |answer: &str| {
        let line = answer
            .lines()
            .find(|line| line.to_lowercase().starts_with("set-cookie: "));
        let pair = line.and_then(|line| line.split([' ', ';']).nth(1));
        pair.map(str::to_owned).unwrap_or_default()
    };
    let name_in = |answer: &str| answer.lines().last().unwrap_or_default().to_owned();
    let first = stack.shell(&curl).await;
    let mine = cookie(&first);
    let (name, _) = mine.split_once('=').unwrap();
    stack.tag("v2");
    let mut running = stack.start_rollout(&["web"]);
    running.comes_after("hold", "create").await;
    let kept = format!("{curl} -H 'Cookie: {mine}'");
    for _ in 0..6 {
        let answer = stack.shell(&kept).await;
        assert_eq!(
            name_in(&answer),
            name_in(&first),
            "the hold has moved a sticky client"
        );
    }
    running.comes_after("confirm", "drain").await;
    let moved = stack.shell(&kept).await;
    let mine = cookie(&moved);
    assert_eq!(mine.split_once('=').unwrap().0, name, "{moved}");
    running.wait().await.code(0);
    let kept = format!("{curl} -H 'Cookie: {mine}'");
    for _ in 0..6 {
        let answer = stack.shell(&kept).await;
        assert_eq!(
            name_in(&answer),
            name_in(&moved),
            "the release has moved a sticky client"
        );
    }
    stack.settled(2).await;
}
