//! The end-to-end tests: one binary, a file a feature.

mod compose;
mod namespace;
mod socket_proxy;
