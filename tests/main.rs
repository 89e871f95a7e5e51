//! One binary; a file a feature.

mod namespace;
