//! The end-to-end tests: one binary, a file a feature.

mod bad_input;
mod bake;
mod blue_green;
mod compose;
mod crash;
mod doctor;
mod drain;
mod examples;
mod failure;
mod faults;
mod faulty;
mod first_start;
mod history;
mod hooks;
mod init;
#[path = "testbed/load.rs"]
mod load;
mod matrix;
mod namespace;
mod odd_routing;
mod operator;
mod pin;
mod quickstart;
mod readiness;
mod relabel;
mod remote;
mod report;
mod settings;
mod several_traefiks;
mod shapes;
mod soak;
mod socket_proxy;
mod support;
mod traefik_api;
