//! The arguments of the commands that roll services.

use clap::Args;

use super::{TargetArgs, tools::pair};
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
    /// Give a variable of the Compose file this value, and write it to .env once the rollout has succeeded
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// From an agent: the digest that the image of a service had when the agent decided to roll it
    #[arg(long, hide = true, value_name = "SERVICE=DIGEST", value_parser = pair)]
    pub decided: Vec<(String, String)>,
    #[command(flatten)]
    pub settings: Partial,
    /// Print what would be done, and change nothing: rollout plan
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

impl UpArgs {
    /// The digest that an agent has decided to roll.
    pub fn decided_of(&self, service: &str) -> Option<&str> {
        let own = self.decided.iter().find(|(name, _)| name == service);
        own.map(|(_, digest)| digest.as_str())
    }
}

#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// Services of the Compose file [default: as --all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Plan every service that --all would roll, and the named ones
    #[arg(long, help_heading = settings::STACK)]
    pub all: bool,
    /// Give a variable of the Compose file this value
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// A name as Compose interpolates it, and its value.
fn assignment(text: &str) -> Result<(String, String), String> {
    let is_name = |name: &str| {
        let mut all = name.chars();
        let begin = all.next();
        begin.is_some_and(|own| own.is_ascii_alphabetic() || own == '_')
            && all.all(|own| own.is_ascii_alphanumeric() || own == '_')
    };
    let pair = text.split_once('=').filter(|(name, _)| is_name(name));
    let (name, value) = pair.ok_or_else(|| {
        let name = text.split('=').next().unwrap_or_default();
        format!("{name:?} is not NAME=VALUE; write it as in --set VERSION=v1.11")
    })?;
    Ok((name.to_owned(), value.to_owned()))
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
