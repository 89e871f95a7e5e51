//! The arguments of `undo`, `history` and `status`.

use std::str::FromStr;

use clap::Args;

use super::TargetArgs;
use crate::settings::Partial;

#[derive(Args, Clone, Debug)]
pub struct UndoArgs {
    /// Services of the Compose file, undone from the last to the first; the first failure ends the run
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Revision to return to [default: the newest earlier one that differs from what runs]
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// Services [default: all that have records]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Show only the newest N entries
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Show one revision of one service in full
    #[arg(long, value_name = "N", conflicts_with_all = ["diff", "limit"])]
    pub revision: Option<u64>,
    /// Compare the configurations of two revisions of one service
    #[arg(long, value_name = "A..B", conflicts_with = "limit")]
    pub diff: Option<Pair>,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Services of the Compose file [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Show it again at each change, until everything is up to date
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
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
