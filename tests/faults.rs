//! A fixed handful of what `make soak` does at every point.
