//! The arguments of the commands that roll services.

use clap::Args;

use super::TargetArgs;
use crate::{
    model::Promote,
    settings::{self, Partial},
};

#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    /// Services of the Compose file; what others depend on comes first
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Roll every service that has changed; databases only where they are named
    #[arg(long, help_heading = settings::STACK)]
    pub all: bool,
    /// With --all: stop and remove the containers of services that the Compose file no longer has
    #[arg(long, help_heading = settings::STACK)]
    pub remove_orphans: bool,
    #[command(flatten)]
    pub settings: Partial,
    /// Print what would be done, and change nothing: rollout plan
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// Services of the Compose file [default: as --all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Plan every service that --all would roll, and the named ones
    #[arg(long, help_heading = settings::STACK)]
    pub all: bool,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// Services of the Compose file, restarted in this order; the first failure ends the run
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct PromoteArgs {
    /// To the end: all traffic at once, without the steps that are left
    #[arg(long)]
    pub full: bool,
    #[command(flatten)]
    pub settle: SettleArgs,
}

impl PromoteArgs {
    pub fn how(&self) -> Promote {
        match self.full {
            true => Promote::Full,
            false => Promote::Next,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct PauseArgs {
    /// Service of the Compose file
    #[arg(value_name = "SERVICE")]
    pub service: String,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// The arguments of `resume` and `abort`, and those of `promote`.
#[derive(Args, Clone, Debug)]
pub struct SettleArgs {
    /// Service of the Compose file
    #[arg(value_name = "SERVICE")]
    pub service: String,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
}
