//! Several services by one command: one after the other, or all at the same time.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tokio::{sync::watch, time::Instant};

use crate::{
    error::{Error, Result},
    event::{Event, Events, ServiceRow},
    roll::Ended,
    stack::{
        graph::{Order, Planned},
        outcome::{after_others, failure, rows},
        schedule::Ends,
    },
};

pub fn refuse_twice(names: &[&str]) -> Result<()> {
    let mut all = names.iter().enumerate();
    match all.find(|(at, name)| names[..*at].contains(name)) {
        None => Ok(()),
        Some((_, name)) => {
            let error = Error::refused(format!("{name} is named twice"));
            Err(error.hint("name each service once"))
        }
    }
}

/// Runs `each` for the services, by their place in `names`, none after a signal or a failure.
///
/// # Errors
/// The first failure.
pub async fn in_turn<'a>(
    names: &[&'a str],
    events: &Events,
    interrupted: &watch::Receiver<bool>,
    mut each: impl AsyncFnMut(usize) -> Result<Ended>,
) -> Result<()> {
    let began = begin(names, events, 1);
    let mut ends: Ends<'a, Ended> = Vec::new();
    let mut failure = None;
    for (at, name) in names.iter().enumerate() {
        if *interrupted.borrow() {
            let message = format!("interrupted; {name} was not touched");
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
    report(names, &ends, events, began);
    failure.map_or(Ok(()), Err)
}

/// Runs `each` for all services at the same time.
///
/// # Errors
/// That of the command as a whole, if any service fails.
pub async fn at_once<'a>(
    names: &[&'a str],
    events: &Events,
    each: impl AsyncFn(usize) -> Result<Ended>,
) -> Result<()> {
    let began = begin(names, events, names.len() as u32);
    let each = &each;
    let all = names.iter().enumerate();
    let all = all.map(async |(at, name)| (*name, each(at).await));
    let ends: Ends<'a, Ended> = join_all(all).await;
    let rows = report(names, &ends, events, began);
    let errors = ends.iter().filter_map(|(_, ended)| ended.as_ref().err());
    let errors: Vec<&Error> = errors.collect();
    failure(&rows, &errors).map_or(Ok(()), Err)
}

/// Announces several services. A single one is reported by its own events alone.
fn begin(names: &[&str], events: &Events, parallel: u32) -> Instant {
    if names.len() > 1 {
        events.emit(Event::StackStarted {
            services: names.iter().map(|&own| own.to_owned()).collect(),
            parallel,
            hosts: Vec::new(),
        });
    }
    Instant::now()
}

fn report<'a>(
    names: &[&'a str],
    ends: &Ends<'a, Ended>,
    events: &Events,
    began: Instant,
) -> Vec<ServiceRow> {
    let planned = |name: &&'a str| Planned {
        name,
        needs: BTreeSet::new(),
    };
    let services = names.iter().map(planned).collect();
    let rows = rows(&Order { services }, ends, &[]);
    if names.len() > 1 {
        events.emit(Event::StackFinished {
            services: rows.clone(),
            total_ms: began.elapsed().as_millis() as u64,
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::SystemTime,
    };

    use super::*;
    use crate::{
        error::Outcome,
        event::{Scope, ServiceResult, Sink},
    };

    /// The events that are about several services.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    fn row(own: &ServiceRow) -> String {
        let reason = own.reason.as_deref().unwrap_or_default();
        format!("{} {:?} {reason}", own.service, own.result)
    }

    impl Sink for Seen {
        fn event(&mut self, _: SystemTime, _: &Scope, event: &Event) {
            let line = match event {
                Event::StackStarted { services, .. } => services.join(" "),
                Event::StackFinished { services, .. } => {
                    let rows: Vec<String> = services.iter().map(row).collect();
                    rows.join("; ")
                }
                _ => return,
            };
            self.0.lock().unwrap().push(line);
        }
    }

    /// How a run of these services ends, of which `broken` is refused, with a signal after the first one or none.
    async fn run(names: &[&str], broken: &str, signal: bool) -> (Result<()>, Vec<String>) {
        let seen = Seen::default();
        let events = Events::new(vec![Box::new(seen.clone())]);
        let (raise, interrupted) = watch::channel(false);
        let ended = in_turn(names, &events, &interrupted, async |at| {
            raise.send_replace(signal);
            match names[at] == broken {
                true => Err(Error::refused("broken")),
                false => Ok(Ended {
                    result: ServiceResult::Rolled,
                    revision: Some(2),
                    before: Some(1),
                    image: "app:v2".to_owned(),
                }),
            }
        });
        let ended = ended.await;
        let lines = seen.0.lock().unwrap().clone();
        (ended, lines)
    }

    #[tokio::test]
    async fn the_first_failure_ends_the_run_and_the_report_has_every_service() {
        let (ended, lines) = run(&["api", "web", "job"], "web", false).await;
        let error = ended.unwrap_err();
        assert_eq!(error.message, "broken; web was not touched");
        assert_eq!(error.outcome, Outcome::Failed);
        assert_eq!(
            lines,
            [
                "api web job",
                "api Rolled ; web Failed broken; web was not touched; job NotBegun web failed before it began"
            ]
        );
        let (ended, _) = run(&["web", "api"], "web", false).await;
        assert_eq!(ended.unwrap_err().outcome, Outcome::Refused);
    }

    #[test]
    fn a_service_that_is_named_twice_is_refused() {
        refuse_twice(&["web", "api"]).unwrap();
        let error = refuse_twice(&["web", "api", "web"]).unwrap_err();
        assert_eq!(error.message, "web is named twice");
    }

    #[tokio::test]
    async fn none_is_begun_after_a_signal() {
        let (ended, lines) = run(&["api", "web"], "", true).await;
        let error = ended.unwrap_err();
        assert_eq!(error.outcome, Outcome::Interrupted);
        assert_eq!(
            lines[1],
            "api Rolled ; web NotBegun interrupted before it began"
        );
    }

    #[tokio::test]
    async fn one_service_has_no_report_of_several() {
        let (ended, lines) = run(&["web"], "", false).await;
        ended.unwrap();
        assert_eq!(lines, [""; 0]);
    }
}
