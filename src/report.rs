//! Sinks: what becomes of events.

pub mod human;
pub mod json;

/// How events are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Progress on a terminal, plain lines elsewhere.
    #[default]
    Human,
    /// One JSON object a line on standard output.
    Json,
}
