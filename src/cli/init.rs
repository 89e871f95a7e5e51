//! The arguments of `init`.

use clap::Args;

use super::TargetArgs;
use crate::proxy::traefik::config::advice;

#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// Edit the file in place
    #[arg(long)]
    pub write: bool,
    /// The service that is Traefik [default: the one with an image of that name]
    #[arg(long, value_name = "SERVICE")]
    pub traefik: Option<String>,
    /// Image of the socket proxy
    #[arg(long, value_name = "IMAGE", default_value = advice::IMAGE)]
    pub image: String,
    #[command(flatten)]
    pub target: TargetArgs,
}
