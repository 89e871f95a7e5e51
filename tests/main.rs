//! The end-to-end tests: one binary, a file a feature.

mod blue_green;
mod compose;
mod crash;
mod failure;
#[path = "testbed/load.rs"]
mod load;
mod namespace;
mod operator;
mod socket_proxy;
mod support;
