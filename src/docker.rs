//! The Docker engine: where it is, its API, and its events.

pub(crate) mod endpoint;
pub(crate) mod engine;
pub(crate) mod http;
pub(crate) mod private_socket;
pub(crate) mod watch;
