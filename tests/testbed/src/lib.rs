//! The test kit: Compose projects on a real engine, runs of the shipped binary, load, and waits with a limit.
//!
//! A [`Stack`] is what most tests need: the demo application behind a Traefik and its socket proxy. It is a [`Project`]
//! with a front from the [`front`] pool. [`Load`] records what clients see meanwhile, [`Run`] what the CLI said.

pub mod api;
pub mod daemon;
pub mod engine;
pub mod front;
pub mod http;
pub mod load;
pub mod project;
pub mod replica;
pub mod run;
pub mod stack;
pub mod wait;

pub use engine::{Temporary, docker};
pub use load::{Load, LoadOptions, LoadReport};
pub use project::{Container, Project};
pub use replica::Replica;
pub use run::{Run, Running};
pub use stack::{ROLL, Stack, USUAL, by_pin};
pub use wait::{eventually, has_ended};

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

/// The root of the source tree.
pub fn root() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder
        .ancestors()
        .nth(2)
        .expect("tests/testbed is two levels down")
}

/// The binary under test: the static one that is shipped, as `make build` leaves it.
pub fn binary() -> PathBuf {
    let binary = std::env::var_os("ROLLOUT_TESTBED_BINARY");
    let binary = binary.map(PathBuf::from).filter(|path| path.is_file());
    binary.expect("ROLLOUT_TESTBED_BINARY names no file: run the tests by make")
}

/// The `PATH` without `tests/testbed/bin`: `docker compose` is the Docker CLI and the plugin, as users have it.
pub fn path_with_the_docker_cli() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others =
        std::env::split_paths(&path).filter(|folder| !folder.ends_with("tests/testbed/bin"));
    std::env::join_paths(others)
        .expect("parts of a path")
        .into()
}

/// The image under test, made from [`binary`].
pub fn image() -> String {
    std::env::var("ROLLOUT_TESTBED_IMAGE").unwrap_or_else(|_| "rollout:latest".into())
}

/// Where the testbed keeps what it has downloaded, and the state of what runs.
pub fn cache() -> PathBuf {
    let default = || "/var/cache/rollout-testbed".into();
    std::env::var_os("ROLLOUT_TESTBED_CACHE").map_or_else(default, PathBuf::from)
}

/// A `DOCKER_CONFIG` that selects one of the testbed's Compose versions: `trixie` (2.26) or `sid` (2.40).
pub fn compose_config(suite: &str) -> PathBuf {
    cache().join(format!("docker-config-{suite}"))
}

/// A TCP port of 127.0.0.1 that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
