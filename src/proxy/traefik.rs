//! Traefik: from the labels of a service to its traffic.
//!
//! Each module answers one question and imports only those above it in this list:
//! - [`config`]: how is this Traefik configured?
//! - [`labels`]: what does Traefik make of labels?
//! - [`api`]: what does its API say, and how is that reached?
//! - [`discover`]: which Traefiks and socket proxies are in front of a service?
//! - [`preview`]: which requests reach a previewed version, and as what does Traefik see it?
//! - [`relabel`] and [`pin`]: the two ways to move traffic, through the socket proxy or by a file of the file provider.
//! - [`driver`]: which way is taken, and what is refused?

pub mod api;
pub mod config;
pub mod discover;
mod driver;
pub mod labels;
mod pin;
mod preview;
pub mod relabel;
pub mod swarm;

pub use self::{driver::TraefikDriver, pin::watched_directory};
