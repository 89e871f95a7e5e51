//! Where a pin file can be put, and what is said where it cannot.

use crate::shapes::roll_under_load;
use testbed::{Run, Stack};

/// Traefik's part of the Compose file, whose directory for its file provider is somewhere else.
fn traefik(more: &str) -> String {
    format!(
        r#"  traefik:
    command:
      - --providers.docker.exposedbydefault=false
      - --providers.docker.constraints=Label(`com.docker.compose.project`,`${{COMPOSE_PROJECT_NAME}}`)
      - --entrypoints.web.address=:80
      - --api.insecure=true
{more}"#
    )
}

/// The watched directory is reached through Traefik's container alone, and nothing stays behind in it.
async fn rolls_through_the_container(directory: &str, more: &str) {
    let flag = format!("      - --providers.file.directory={directory}\n");
    let mut stack = Stack::pinned("");
    stack.write(
        "front-more.yaml",
        &format!("services:\n{}", traefik(&format!("{flag}{more}"))),
    );
    stack.set("COMPOSE_FILE", "front.yaml:compose.yaml:front-more.yaml");
    stack.up("v1").await;
    stack.tag("v2");
    let run = roll_under_load(&stack, &["web"]).await;
    assert_eq!(stack.version().await.as_deref(), Some("v2"), "{}", run.text);
    let left = stack
        .compose(&["exec", "-T", "traefik", "ls", "-A", directory])
        .await;
    assert_eq!(left, "", "{}", run.text);
    stack.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_a_volume_is_written_to_through_traefiks_container() {
    let volume = "    volumes: ['dynamic:/dynamic']\nvolumes:\n  dynamic:\n";
    rolls_through_the_container("/dynamic", volume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_traefiks_own_container_is_written_to_beside_which_the_file_is_staged() {
    rolls_through_the_container("/tmp", "").await;
}

#[track_caller]
fn refused(run: &Run, error: &str, hints: &[&str]) {
    run.code(2);
    assert!(run.text.contains(error), "{}", run.text);
    for hint in hints {
        assert!(run.text.contains(hint), "{hint}\n{}", run.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_pinned_it_is_said_why_and_how_to_add_what_is_missing() {
    let mut stack = Stack::pinned("");
    stack.set("COMPOSE_FILE", "front.yaml:compose.yaml:front-more.yaml");
    let without = "is a Traefik that does not read through a socket proxy";
    let cases = [
        (
            "",
            without,
            &[
                "has no file provider",
                "add --providers.file.directory=/etc/traefik/dynamic to Traefik's command",
                "DOCKER_HOST: \"tcp://socket-proxy:2375\"",
            ][..],
        ),
        (
            "      - --providers.file.filename=/etc/traefik/dynamic/one.yml\n",
            without,
            &["reads /etc/traefik/dynamic/one.yml alone"],
        ),
        (
            "      - --providers.file.directory=/ro\n    volumes: ['dynamic:/ro:ro']\nvolumes:\n  dynamic:\n",
            without,
            &["is mounted read-only", "mount it without :ro"],
        ),
        (
            "      - --providers.file.directory=/etc/traefik/dynamic\n      - --providers.file.watch=false\n",
            without,
            &["does not watch", "--providers.file.watch=true"],
        ),
    ];
    for (more, error, hints) in cases {
        stack.write("front-more.yaml", &format!("services:\n{}", traefik(more)));
        stack.tag("v1").up("v1").await;
        stack.tag("v2");
        let before = stack.replicas("web").await;
        refused(&stack.rollout(&["web"]).await, error, hints);
        refused(
            &stack.rollout(&["--switch", "pin", "web"]).await,
            hints[0],
            &[],
        );
        assert_eq!(stack.replicas("web").await, before);
        stack.compose(&["rm", "-sf", "traefik"]).await;
    }
}

/// A service that a router of another project leads to by its name, which no pin would move.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_others_lead_to_by_name_is_not_pinned() {
    let mut stack = Stack::pinned("");
    let weighted = format!(
        "http: {{ services: {{ split: {{ weighted: {{ services: [{{ name: web-{}@docker }}] }} }} }} }}\n",
        stack.name
    );
    stack.write("dynamic/split.yml", &weighted);
    stack.up("v1").await;
    stack.tag("v2");
    let run = stack.rollout(&["--switch", "pin", "web"]).await;
    refused(
        &run,
        "split@file sends to the service of web by its name",
        &["socket proxy"],
    );
    assert_eq!(stack.version().await.as_deref(), Some("v1"));
}
