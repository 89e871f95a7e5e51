//! `rollout resume` and `rollout abort`: finishes or rolls back an interrupted rollout.

use super::{Opened, signals::signals};
use crate::{
    cli::SettleArgs,
    context::Purpose,
    error::Result,
    event::{Event, Events},
    roll::roll,
};

pub async fn settle(settle: &SettleArgs, events: &Events) -> Result<()> {
    let interrupted = signals()?;
    let services = vec![settle.service.clone()];
    events.emit(Event::Opening { services });
    let opened = Opened::of(&settle.target, &[&settle.service], events).await?;
    let events = opened.events(events, &settle.service);
    let run = opened.run(&events);
    let settled = async {
        let mut landscape = run.landscape().await?;
        let (name, flags) = (&settle.service, &settle.settings);
        let prepared = run.prepare(name, flags, &[], Purpose::Settle, &mut landscape);
        roll(prepared.await?, &mut landscape, interrupted, None).await
    };
    let settled = settled.await.map(drop);
    settled.map_err(|error| error.within(events.scope()))
}
