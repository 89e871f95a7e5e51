//! The map of modules.
pub mod docker_http;
pub mod engine;
pub mod error;
pub mod model;
pub mod plan;
