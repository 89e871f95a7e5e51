//! The map of modules.
pub mod compose;
pub mod docker_http;
pub mod error;
pub mod yaml;
