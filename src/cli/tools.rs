//! The arguments of the commands around a rollout.

use clap::Args;

use super::{TargetArgs, UpArgs};
use crate::settings::Partial;

/// What to say of a container by hand.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
rollout relabel shop-web-2 traefik.enable=false   no request reaches it any more; what is in flight is answered
rollout relabel shop-web-2 --clear                it is back

The labels hold until they are cleared or the container is removed; Docker's own labels stay as they are. A rollout
of the same service wins where both say something of the same label.")]
pub struct RelabelArgs {
    /// The container, by name or id
    #[arg(value_name = "CONTAINER", required_unless_present = "list")]
    pub container: Option<String>,
    /// Labels that Traefik reads from now on, beside those set before or in the place of Docker's
    #[arg(value_name = "KEY=VALUE", value_parser = pair, required_unless_present_any = ["clear", "list"])]
    pub labels: Vec<(String, String)>,
    /// Take back all that was set by hand
    #[arg(long, conflicts_with = "labels")]
    pub clear: bool,
    /// Show every label of the project that is changed, by hand or by a rollout
    #[arg(long, conflicts_with_all = ["container", "labels", "clear"])]
    pub list: bool,
    /// With --list: those of every project on the engine
    #[arg(long, requires = "list")]
    pub all: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// What to look at.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit code 1 where a rollout would be refused or lose something, 0 where it would not; warnings alone are no failure.
Nothing is changed. With --output json, each finding is an object, and the edits of its fix can be made by a program.")]
pub struct DoctorArgs {
    /// Services of the Compose file [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub settings: Partial,
}

impl DoctorArgs {
    pub(super) fn after(self, outer: UpArgs) -> Self {
        Self {
            services: self.services,
            target: self.target.or(outer.target),
            settings: self.settings.or(outer.settings),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not key=value")),
    }
}
