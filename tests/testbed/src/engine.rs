//! The engine by docker's command line, and containers and networks that go with the test that made them.

use std::{
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

/// Runs `docker`, which must succeed; its standard output without white space around it.
#[track_caller]
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    succeeded(&output.expect("docker is installed"), &arguments)
        .trim()
        .to_owned()
}

/// The standard output of a command that must have succeeded.
#[track_caller]
pub fn succeeded(output: &Output, command: &dyn std::fmt::Debug) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A container or a network that is removed when it is dropped.
pub struct Temporary {
    removal: &'static [&'static str],
    pub name: String,
}

impl Temporary {
    /// A container by `verb`, such as `run -d` or `create`.
    pub fn container(verb: &[&str], options: &[&str]) -> Self {
        let name = unique();
        docker(&[verb, &["--name", &name], options].concat());
        Self {
            removal: &["rm", "-f", "-v"],
            name,
        }
    }

    pub fn network() -> Self {
        let name = unique();
        docker(&["network", "create", &name]);
        Self {
            removal: &["network", "rm"],
            name,
        }
    }

    pub fn id(&self) -> String {
        docker(&["inspect", "-f", "{{.Id}}", &self.name])
    }

    /// The address in its network.
    pub fn address(&self) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "-f", format, &self.name])
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(self.removal)
            .arg(&self.name)
            .output();
    }
}

fn unique() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("rollout-test-{}-{number}", std::process::id())
}
