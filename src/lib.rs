//! The map of modules.
//!
//! The flow in prose: [`cli`] reads the command line, and [`app`] finds the engine ([`docker`]), Compose ([`compose`])
//! and the project. [`roll`] is the story of one service: it reads what is wanted ([`context`], [`settings`],
//! [`hooks`], [`steps`], [`prometheus`]) and what is there ([`docker`], [`proxy`]), takes the lock, and has [`execute`]
//! ask the pure planner ([`plan`]) for one step at a time and do it: the compose view creates the new set beside the
//! old, [`ready`] waits for it, [`proxy`] moves the traffic by the [`overlay`] of the [`socket_proxy`], [`analysis`]
//! judges the [`figures`] of both versions, [`drain`] waits for the last answers. [`stack`] orders several services of
//! one command, [`fleet`] its hosts, and [`agent`] begins commands when images move. What `--set` gives ([`variables`]) is
//! in the environment file ([`dotenv`]) at the end. `rollout plan` walks the same planner through a model of the world.
//! [`swarm`] rolls a service of a Swarm, whose tasks Swarm itself replaces, by a planner of its own. Steps emit
//! [`event`]s; [`report`] draws them, and notifies addresses of the end. [`state`] keeps the lock and the records on the
//! engine. [`doctor`] judges a whole project before anything is rolled, and [`init`] edits a Compose file so that all
//! this can be.

pub(crate) mod agent;
pub(crate) mod analysis;
pub(crate) mod app;
#[cfg(test)]
mod arbitrary;
pub(crate) mod ask;
pub(crate) mod check;
pub(crate) mod cli;
pub(crate) mod client;
pub(crate) mod compose;
pub(crate) mod context;
pub(crate) mod docker;
pub(crate) mod doctor;
pub(crate) mod dotenv;
pub(crate) mod drain;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod execute;
#[cfg(test)]
mod fake_engine;
pub(crate) mod figures;
#[cfg(test)]
mod fixtures;
pub(crate) mod fleet;
pub(crate) mod here;
pub(crate) mod hooks;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod model;
pub(crate) mod namespace;
pub(crate) mod overlay;
pub(crate) mod plan;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod ready;
pub(crate) mod relabel;
pub(crate) mod report;
pub(crate) mod retry;
pub(crate) mod roll;
pub(crate) mod settings;
pub(crate) mod socket_proxy;
pub(crate) mod stack;
pub(crate) mod state;
pub(crate) mod steps;
pub(crate) mod swarm;
pub(crate) mod text_file;
pub(crate) mod variables;
pub(crate) mod yaml;

pub use app::run;
