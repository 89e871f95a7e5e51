//! `rollout socket-proxy` on a real engine: what it refuses, what it keeps secret, what it survives, and Traefik behind it.

mod container;
mod hostile;
mod only;
mod overlay;
mod secrets;

use serde_json::{Value, json};

/// A call that hides containers of `test/web`.
fn hide(epoch: u64, on: &[Value]) -> Value {
    let rules = on
        .iter()
        .map(|on| json!({"on": on, "labels": {"traefik.enable": "false"}}));
    let rules: Vec<_> = rules.collect();
    let claim =
        json!({"key": "test/web", "rollout": "r", "epoch": epoch, "stage": "hold", "rules": rules});
    json!({"call": "set", "claim": claim})
}
