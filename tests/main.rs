//! The end-to-end tests: one binary, a file a feature.

mod bad_input;
mod bake;
mod blue_green;
mod compose;
mod crash;
mod drain;
mod failure;
mod first_start;
mod hooks;
#[path = "testbed/load.rs"]
mod load;
mod namespace;
mod operator;
mod pin;
mod quickstart;
mod readiness;
mod report;
mod settings;
mod shapes;
mod soak;
mod socket_proxy;
mod support;
