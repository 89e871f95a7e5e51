//! The map of modules.
//!
//! The flow in prose: [`cli`] reads the command line, [`app`] finds the engine ([`endpoint`]), Compose and the proxy and reads what is
//! wanted ([`compose`], [`settings`]) and what is there ([`engine`]). [`execute`] then asks the pure planner ([`plan`])
//! for one step at a time and does it: the compose view creates the new set beside the old, [`ready`] waits for it,
//! [`proxy`] moves the traffic by the overlay of the [`socket_proxy`], [`drain`] waits for the last answers. Steps emit
//! [`event`]s; [`report`] draws them. [`state`] keeps the lock and the records on the engine. [`doctor`] judges a whole
//! project before anything is rolled, and [`init`] edits a Compose file so that all this can be.

pub mod app;
#[cfg(test)]
mod arbitrary;
pub mod ask;
pub mod cli;
pub mod compose;
pub mod docker_http;
pub mod doctor;
pub mod drain;
pub mod endpoint;
pub mod engine;
pub mod error;
pub mod event;
pub mod execute;
pub mod init;
pub mod model;
pub mod namespace;
pub mod plan;
pub mod private_socket;
pub mod proxy;
pub mod ready;
pub mod relabel;
pub mod report;
pub mod retry;
pub mod settings;
pub mod socket_proxy;
pub mod state;
pub mod watch;
pub mod yaml;
