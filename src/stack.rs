//! Several services by one command: which of them, in which order, how many side by side, and how each ended. Pure.

pub mod choose;
pub mod graph;
pub mod orphans;
pub mod outcome;
pub mod schedule;
