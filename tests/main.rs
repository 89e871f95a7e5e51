//! The end-to-end tests, one module a feature.
mod compose;
