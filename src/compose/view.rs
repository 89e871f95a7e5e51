//! The compose view.
