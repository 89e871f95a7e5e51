//! What the engine remembers for us: who rolls a service, what was begun, and every revision that has served.

pub mod claims;
pub mod journal;
pub mod keep;
mod lease;
pub mod lock;
pub mod owner;
pub mod revisions;
pub mod store;

pub use self::lock::{Lock, lock, unlock};
