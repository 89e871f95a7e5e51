//! State on the engine: the lock of a service, the rollouts and hooks that were started, and every revision that
//! has served.

pub mod claims;
pub mod folders;
pub mod hooks;
pub mod journal;
pub mod keep;
mod lease;
pub mod lock;
pub mod owner;
pub mod revisions;
pub mod store;

pub use self::lock::{Lock, lock, unlock};
