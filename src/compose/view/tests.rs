//! The view against a fake engine.
