//! The arguments of `undo`, `history` and `status`.

use std::str::FromStr;

use clap::Args;

use super::{TargetArgs, UpArgs};
use crate::settings::Partial;

/// Where to go back to.
#[derive(Args, Clone, Debug)]
pub struct UndoArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The revision to go back to [default: the newest one before that differs from what runs]
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub settings: Partial,
}

/// What to tell of the past.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Show all of one revision
    #[arg(long, value_name = "N", conflicts_with = "diff")]
    pub revision: Option<u64>,
    /// Compare the configurations of two revisions
    #[arg(long, value_name = "A..B")]
    pub diff: Option<Pair>,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// What to tell of the present.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Tell it again whenever something happens, until the service is settled
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub settings: Partial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair(pub u64, pub u64);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = text
            .split_once("..")
            .and_then(|(a, b)| Some(Self(a.parse().ok()?, b.parse().ok()?)));
        pair.ok_or_else(|| format!("{text:?} does not name two revisions; write 1..2"))
    }
}

impl UndoArgs {
    pub(super) fn after(self, outer: UpArgs) -> Self {
        Self {
            target: self.target.or(outer.target),
            settings: self.settings.or(outer.settings),
            ..self
        }
    }
}

impl HistoryArgs {
    pub(super) fn after(self, outer: UpArgs) -> Self {
        Self {
            target: self.target.or(outer.target),
            ..self
        }
    }
}

impl StatusArgs {
    pub(super) fn after(self, outer: UpArgs) -> Self {
        Self {
            target: self.target.or(outer.target),
            settings: self.settings.or(outer.settings),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_revisions_are_written_with_two_dots() {
        assert_eq!("1..12".parse(), Ok(Pair(1, 12)));
        for bad in ["1", "1-2", "..", "a..b", "1..2..3"] {
            assert!(bad.parse::<Pair>().is_err(), "{bad}");
        }
    }
}
