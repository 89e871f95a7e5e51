//! The arguments of `init`.

use clap::Args;

use super::{TargetArgs, UpArgs};
use crate::proxy::traefik::advice;

/// Which file to put the socket proxy into.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
rollout init           shows what it would change, and changes nothing
rollout init --write   edits the Compose file: comments, order and everything else in it stay as they are

With --override, both do the same with a new file, compose.override.yaml, which Compose merges into the Compose file.")]
pub struct InitArgs {
    /// Write the changes
    #[arg(long)]
    pub write: bool,
    /// Put the changes into compose.override.yaml, and leave the Compose file as it is
    #[arg(long = "override")]
    pub overrides: bool,
    /// The service that is Traefik [default: the one whose image is called so]
    #[arg(long, value_name = "SERVICE")]
    pub traefik: Option<String>,
    /// The socket proxy's image
    #[arg(long, value_name = "IMAGE", default_value = advice::IMAGE)]
    pub image: String,
    #[command(flatten)]
    pub target: TargetArgs,
}

impl InitArgs {
    pub(super) fn after(self, outer: UpArgs) -> Self {
        Self {
            target: self.target.or(outer.target),
            ..self
        }
    }
}
