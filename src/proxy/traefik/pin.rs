//! Pin.

pub mod balancer;
pub mod content;
pub mod definition;
pub mod naming;
pub mod priority;
pub mod record;
pub mod server;
pub mod tree;
