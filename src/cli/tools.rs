//! The arguments of `relabel`, `doctor`, `prune`, `unlock`, `init`, `image` and `agent`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueHint};

use super::TargetArgs;
use crate::{
    proxy::traefik::config::advice,
    settings::{self, Partial},
};

#[derive(Args, Clone, Debug)]
pub struct RelabelArgs {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER", required_unless_present = "list")]
    pub container: Option<String>,
    /// Labels that Traefik reads from now on: each is added, or replaces the one of the same name
    #[arg(value_name = "KEY=VALUE", value_parser = pair, required_unless_present_any = ["clear", "list"])]
    pub labels: Vec<(String, String)>,
    /// Remove all labels that were set by hand
    #[arg(long, conflicts_with = "labels")]
    pub clear: bool,
    /// List every changed label of the project, set by hand or by a rollout
    #[arg(long, conflicts_with_all = ["container", "labels", "clear"])]
    pub list: bool,
    /// With --list: of every project on the engine
    #[arg(long, requires = "list")]
    pub all: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Services of the Compose file [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    #[command(flatten)]
    pub settings: Partial,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Projects [default: all that are gone, in whole or in part]
    #[arg(value_name = "PROJECT")]
    pub projects: Vec<String>,
    /// Remove what is listed
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct UnlockArgs {
    /// Service of the Compose file
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Remove the lock although its rollout may still run; that rollout then stops before its next change
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

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

#[derive(Args, Clone, Debug)]
pub struct ImageArgs {
    /// Name of the image [default: rollout:latest; with --cli rollout:cli]
    #[arg(long, value_name = "IMAGE")]
    pub tag: Option<String>,
    /// Build the image that has the Docker CLI and Compose, to roll from where nothing is installed
    #[arg(long)]
    pub cli: bool,
    /// With --cli: the image that they come from [default: docker:cli]
    #[arg(long, value_name = "IMAGE", requires = "cli")]
    pub base: Option<String>,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// Time between two checks of all images
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "5m")]
    pub interval: Duration,
    /// Address of /healthz, /metrics and the webhook
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// File with the token of the webhook POST /v1/rollout [default: no webhook]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// Check and roll once, and end with the exit code of that
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// A shorter time would be too much for registries.
fn interval(text: &str) -> Result<Duration, String> {
    match settings::duration(text)? {
        short if short < Duration::from_secs(10) => Err(format!("{text:?} is shorter than 10s")),
        interval => Ok(interval),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let how = "write ADDRESS:PORT, such as 127.0.0.1:8090";
    text.parse()
        .map_err(|_| format!("{text:?} is not an address with a port; {how}"))
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not key=value")),
    }
}
