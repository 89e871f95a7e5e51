//! The map of modules.
pub mod docker_http;
pub mod error;
pub mod socket_proxy;
