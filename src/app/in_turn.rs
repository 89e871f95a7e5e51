//! Several services one after the other, up to the first failure.

use std::collections::BTreeSet;

use tokio::{sync::watch, time::Instant};

use crate::{
    error::{Error, Result},
    event::{Event, Events},
    roll::Ended,
    stack::{
        graph::{Order, Planned},
        outcome::{after_others, rows},
        schedule::Ends,
    },
};

/// Runs `each` for the services, by their place in `names`, none after a signal; reports several of them together.
pub async fn in_turn<'a>(
    names: &[&'a str],
    events: &Events,
    interrupted: &watch::Receiver<bool>,
    mut each: impl AsyncFnMut(usize) -> Result<Ended>,
) -> Result<()> {
    let began = Instant::now();
    let is_several = names.len() > 1;
    if is_several {
        events.emit(Event::StackStarted {
            services: names.iter().map(|&own| own.to_owned()).collect(),
            parallel: 1,
        });
    }
    let mut ends: Ends<'a, Ended> = Vec::new();
    let mut failure = None;
    for (at, name) in names.iter().enumerate() {
        if *interrupted.borrow() {
            let message = format!("interrupted before {name}; it was not touched");
            failure = Some(Error::interrupted(message));
            break;
        }
        let ended = each(at).await.map_err(|error| match at {
            0 => error,
            _ => after_others(error, name).touched(),
        });
        failure = ended.as_ref().err().cloned();
        ends.push((name, ended));
        if failure.is_some() {
            break;
        }
    }
    if is_several {
        let planned = |name: &&'a str| Planned {
            name,
            needs: BTreeSet::new(),
        };
        let services = names.iter().map(planned).collect();
        events.emit(Event::StackFinished {
            services: rows(&Order { services }, &ends, &[]),
            total_ms: began.elapsed().as_millis() as u64,
        });
    }
    failure.map_or(Ok(()), Err)
}
