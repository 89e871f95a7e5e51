//! Begins each service once all that it needs is done, at most `parallel` side by side; `--on-failure` says when it ends.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use super::graph::Order;
use crate::{
    error::Result,
    execute::together::{Group, State},
    settings::OnFailure,
};

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most services that are rolled side by side.
    pub parallel: u32,
    pub on_failure: OnFailure,
}

/// How each service that was begun ended, in the order in which they ended.
pub type Ends<'a, T> = Vec<(&'a str, Result<T>)>;

/// Runs `begin` for the services, by name; after a signal none is begun. A service that waits for the others of its group
/// counts as done for those that need it.
pub async fn run<'a, T, F: Future<Output = Result<T>>>(
    order: &Order<'a>,
    limits: Limits,
    (interrupted, group): (&watch::Receiver<bool>, Option<&Group>),
    mut begin: impl FnMut(&'a str) -> F,
) -> Ends<'a, T> {
    let mut changes = group.map(Group::changes);
    let mut begun = BTreeSet::new();
    let mut running = FuturesUnordered::new();
    let mut ends: Ends<'a, T> = Vec::new();
    loop {
        let ready = group.map(Group::ready).unwrap_or_default();
        let done = ends.iter().filter(|(_, result)| result.is_ok());
        let done: BTreeSet<&str> = done.map(|(name, _)| *name).collect();
        // A canary that is paused keeps back only those that need it.
        let stops =
            |(_, result): &(&str, Result<T>)| result.as_ref().is_err_and(|error| !error.is_pause());
        let goes_on = limits.on_failure == OnFailure::Continue || !ends.iter().any(stops);
        let goes_on = goes_on && !group.is_some_and(Group::has_failed);
        let done = done.into_iter().chain(ready.iter().map(String::as_str));
        let done: BTreeSet<&str> = done.collect();
        while goes_on
            && !*interrupted.borrow()
            && running.len() < limits.parallel as usize + ready.len()
            && let Some(at) = order.next(&begun, &done)
        {
            let name = order.services[at].name;
            begun.insert(name);
            let own = begin(name);
            running.push(async move { (name, own.await) });
        }
        tokio::select! {
            end = running.next() => match end {
                Some(end) => ends.push(end),
                None => return ends,
            },
            () = changed(&mut changes) => {}
        }
    }
}

/// Completes at the next change of the group; never, where there is none.
async fn changed(changes: &mut Option<watch::Receiver<State>>) {
    match changes {
        Some(changes) => drop(changes.changed().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{compose, error::Error, model::Milestone};

    const PROJECT: &str = "name: p
services:
  api: {image: a, depends_on: {base: {condition: service_started, required: true}}}
  base: {image: a}
  mail: {image: a}
  web: {image: a, depends_on: {api: {condition: service_started, required: true}}}
";
    const ALL: [&str; 4] = ["base", "api", "mail", "web"];

    /// A run in which every service takes a second, but `mail` three; `broken` fails, `signal` comes after so long.
    struct Script {
        parallel: u32,
        on_failure: OnFailure,
        broken: &'static str,
        /// Whether that service pauses.
        pauses: bool,
        signal: Option<Duration>,
    }

    const SCRIPT: Script = Script {
        parallel: 4,
        on_failure: OnFailure::Stop,
        broken: "",
        pauses: false,
        signal: None,
    };

    impl Script {
        /// The second in which each service began; the names of those that failed; the most that ran at once.
        async fn played(self) -> (Vec<(&'static str, u64)>, Vec<String>, usize) {
            let project = compose::resolved(PROJECT).unwrap();
            let order = Order::of(&project, &ALL).unwrap();
            let (raise, raised) = watch::channel(false);
            if let Some(after) = self.signal {
                tokio::spawn(async move {
                    sleep(after).await;
                    raise.send_replace(true);
                    std::future::pending::<()>().await;
                });
            }
            let start = Instant::now();
            let (begun, running) = (RefCell::new(Vec::new()), RefCell::new((0, 0)));
            let begin = async |name: &str| {
                let name = ALL.into_iter().find(|own| *own == name).unwrap();
                begun.borrow_mut().push((name, start.elapsed().as_secs()));
                running.borrow_mut().0 += 1;
                let now = running.borrow().0;
                let most = running.borrow().1.max(now);
                running.borrow_mut().1 = most;
                let takes = if name == "mail" { 3 } else { 1 };
                sleep(Duration::from_secs(takes)).await;
                running.borrow_mut().0 -= 1;
                match name == self.broken {
                    true if self.pauses => Err(Error::paused("paused")),
                    true => Err(Error::failed("broken")),
                    false => Ok(()),
                }
            };
            let limits = Limits {
                parallel: self.parallel,
                on_failure: self.on_failure,
            };
            let ends = run(&order, limits, (&raised, None), begin).await;
            let failed = ends.into_iter().filter(|(_, result)| result.is_err());
            let failed = failed.map(|(name, _)| name.to_owned()).collect();
            let most = running.borrow().1;
            (begun.into_inner(), failed, most)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn independent_services_run_side_by_side_and_the_others_in_their_order() {
        let (begun, failed, most) = SCRIPT.played().await;
        assert_eq!(begun, [("base", 0), ("mail", 0), ("api", 1), ("web", 2)]);
        assert_eq!((failed.len(), most), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_run_at_once_than_asked() {
        let one = Script {
            parallel: 1,
            ..SCRIPT
        };
        let (begun, _, most) = one.played().await;
        assert_eq!(begun, [("base", 0), ("api", 1), ("mail", 2), ("web", 5)]);
        assert_eq!(most, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_canary_that_is_paused_keeps_back_only_those_that_need_it() {
        let paused = Script {
            parallel: 1,
            broken: "api",
            pauses: true,
            ..SCRIPT
        };
        let (begun, ..) = paused.played().await;
        assert_eq!(begun, [("base", 0), ("api", 1), ("mail", 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_what_runs_may_finish_and_none_is_begun() {
        for on_failure in [OnFailure::Stop, OnFailure::Rollback] {
            let broken = Script {
                broken: "base",
                on_failure,
                ..SCRIPT
            };
            let (begun, failed, _) = broken.played().await;
            assert_eq!(begun, [("base", 0), ("mail", 0)]);
            assert_eq!(failed, ["base"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn to_continue_is_to_begin_all_that_does_not_depend_on_the_failed_one() {
        let broken = |broken| Script {
            broken,
            parallel: 1,
            on_failure: OnFailure::Continue,
            ..SCRIPT
        };
        let (begun, failed, _) = broken("api").played().await;
        assert_eq!(begun, [("base", 0), ("api", 1), ("mail", 2)]);
        assert_eq!(failed, ["api"]);
        let (begun, failed, _) = broken("mail").played().await;
        assert_eq!(begun.len(), 4);
        assert_eq!(failed, ["mail"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_waits_for_its_group_holds_up_none() {
        let project = compose::resolved(PROJECT).unwrap();
        let order = Order::of(&project, &ALL).unwrap();
        let group = Group::default();
        group.expect(ALL.into_iter());
        let begun = RefCell::new(Vec::new());
        let begin = async |name| {
            begun.borrow_mut().push(name);
            group.member(name).reach(Milestone::Ready).await;
            Ok(())
        };
        let limits = Limits {
            parallel: 1,
            on_failure: OnFailure::Stop,
        };
        let raised = watch::channel(false).1;
        let ends = run(&order, limits, (&raised, Some(&group)), begin).await;
        assert_eq!((ends.len(), begun.into_inner()), (4, ALL.to_vec()));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_signal_none_is_begun() {
        let signalled = Script {
            signal: Some(Duration::from_millis(500)),
            on_failure: OnFailure::Continue,
            ..SCRIPT
        };
        let (begun, failed, _) = signalled.played().await;
        assert_eq!(begun, [("base", 0), ("mail", 0)]);
        assert_eq!(failed.len(), 0);
    }
}
