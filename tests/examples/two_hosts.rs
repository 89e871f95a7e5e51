//! The example of two hosts, on the testbed's first and second engine.

use std::{fs, time::Duration};

use super::folder::Example;
use crate::{remote::far, waves::here};

#[tokio::test(flavor = "multi_thread")]
async fn a_site_on_two_hosts_is_rolled_on_one_after_the_other() {
    let far = far();
    let mut example = Example::new("two-hosts", "WEB_IMAGE");
    let mut second = example.stack.beside(&far.socket);
    let compose = fs::read_to_string(second.path("compose.yaml")).unwrap();
    let socket = "/var/run/docker.sock:/var/run/docker.sock";
    assert!(compose.contains(socket));
    let there = format!("{}:/var/run/docker.sock", far.socket);
    second.write("compose.yaml", &compose.replace(socket, &there));
    second.unset("COMPOSE_FILE");
    second.host.clone_from(&example.stack.host);
    let path = format!("{}:{}", far.bin, std::env::var("PATH").unwrap());
    let first = here();
    for stack in [&mut example.stack, &mut second] {
        stack
            .set("PATH", &path)
            .set("FIRST_HOST", &first)
            .set("SECOND_HOST", &far.ssh)
            .set("WAVE_BAKE", "2s")
            .set("WEB_IMAGE", "rollout-demo:v1");
        stack.up("v1").await;
    }
    example.is_well_but_for(&[]).await;
    second.set("WEB_IMAGE", &example.second);
    let load = second.load();
    let run = example.rolls(&["web"]).await;
    let report = load.stop().await;
    assert!(report.nothing_lost(), "{report}\n{}", run.text);
    assert!(run.text.contains("watched for 2s"), "{}", run.text);
    second.answers("v2").await;
    let refused = example.stack.rollout(&["undo", "web"]).await;
    refused.code(2);
    for (stack, host) in [(&example.stack, &first), (&second, &far.ssh)] {
        let undo = ["undo", "--on", host, "web"];
        let undo = example.stack.start_rollout(&undo);
        undo.wait_for(Duration::from_secs(120)).await.code(0);
        stack.answers("v1").await;
    }
    example.taken_down().await;
}
