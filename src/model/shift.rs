//! The shifts before a cutover: the part of the traffic that the new replicas get, and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One change of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shift {
    /// What the new set gets in total, in per cent of the traffic: 1 to 99; 0 is a preview, which moves none of it.
    pub percent: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Whether the pause goes on, for a person to decide, where the analysis has no data by its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub analysis: bool,
}

impl Shift {
    /// Whether the new replicas get requests of a preview alone.
    pub fn is_preview(self) -> bool {
        self.percent == 0
    }
}

/// The time before the next shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pause {
    Timed(Duration),
    /// Until a person promotes or aborts the rollout.
    Open,
}

/// How far a person moves a canary on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promote {
    /// To its next shift.
    Next,
    /// To its cutover.
    Full,
}
