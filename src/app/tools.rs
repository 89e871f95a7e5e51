//! The commands around a rollout.

use super::{endpoint, print};
use crate::{
    cli::RelabelArgs,
    engine::Engine,
    error::Result,
    event::Events,
    relabel::{self, Change},
    report::{Output, overlay},
};

pub(super) async fn relabel(arguments: &RelabelArgs, events: &Events) -> Result<()> {
    let engine = Engine::connect(endpoint(&arguments.target).await?).await?;
    let Some(container) = &arguments.container else {
        let rows = relabel::list(&engine).await?;
        let text = match arguments.target.output.unwrap_or_default() {
            Output::Human => overlay::human(&rows),
            Output::Json => overlay::json(&rows),
        };
        print(text.as_bytes());
        return Ok(());
    };
    let change = match arguments.clear {
        true => Change::Clear,
        false => Change::Set(arguments.labels.iter().cloned().collect()),
    };
    relabel::relabel(&engine, events, container, &change).await
}
