//! The end-to-end tests: one binary, a file a feature.

mod compose;
mod socket_proxy;
