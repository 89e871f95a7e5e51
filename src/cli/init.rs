//! The arguments of `init`.

use clap::Args;

use super::TargetArgs;
use crate::proxy::traefik::config::advice;

#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// Write the changes
    #[arg(long)]
    pub write: bool,
    /// Put the changes into compose.override.yaml, and leave the Compose file as it is
    #[arg(long = "override")]
    pub overrides: bool,
    /// The service that is Traefik [default: the one with an image of that name]
    #[arg(long, value_name = "SERVICE")]
    pub traefik: Option<String>,
    /// Image of the socket proxy
    #[arg(long, value_name = "IMAGE", default_value = advice::IMAGE)]
    pub image: String,
    #[command(flatten)]
    pub target: TargetArgs,
}
