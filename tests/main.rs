//! The end-to-end tests: one binary, a file a feature.

mod blue_green;
mod compose;
mod drain;
mod hooks;
#[path = "testbed/load.rs"]
mod load;
mod namespace;
mod socket_proxy;
mod support;
