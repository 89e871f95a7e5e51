//! The end-to-end tests: one binary, a file a feature.

mod socket_proxy;
