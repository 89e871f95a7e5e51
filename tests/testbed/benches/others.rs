//! Containers that have nothing to do with any rollout; they go when this is dropped.

use std::process::Command;

const LABEL: &str = "rollout.crowd";

pub struct Others;

impl Others {
    /// Makes so many more by `docker VERB`, with its options.
    pub fn make(&self, verb: &str, count: usize) {
        shell(&format!(
            "seq {count} | xargs -r -P 4 -I _ docker {verb} --label {LABEL}=1 rollout-demo:v1"
        ));
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        shell(&format!(
            "docker ps -aq --filter label={LABEL} | xargs -r docker rm -f"
        ));
    }
}

fn shell(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
}
