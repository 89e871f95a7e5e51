//! What an operator or the machine may do to the stack in each phase of a rollout under load, and a second run.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;

use super::{settled_by, table};
use crate::faulty::{
    meddle::{ACTIONS, Action, Done, load, meddle},
    probe::Probe,
    strike::{QUICK, message},
};
use testbed::Stack;

/// Rollouts at a time.
const AT_ONCE: usize = 2;

const PHASES: [&str; 8] = [
    "hold", "create", "ready", "cutover", "confirm", "drain", "stop", "remove",
];

async fn settled_stack() -> Stack {
    let mut stack = Stack::relabelled("");
    stack.up("v1").await;
    for version in ["v2", "v1"] {
        stack.tag(version).rollout(&QUICK).await.code(0);
    }
    stack
}

/// The outage when Compose alone replaces the service.
async fn gap_of_compose() -> Duration {
    let mut stack = settled_stack().await;
    let (load, probe) = (load(&stack), Probe::start(&stack));
    stack.tag("v2");
    stack.up("v2").await;
    // For longer than Traefik may hold back what it has read.
    load.goes_on_for(300).await;
    load.stop().await;
    probe.stop().await
}

struct Work {
    points: Vec<(Action, &'static str)>,
    gap: Duration,
    next: AtomicUsize,
    done: Mutex<Vec<(usize, Done)>>,
}

impl Work {
    fn note(&self, number: usize, own: Done) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push((number, own));
    }
}

async fn worker(work: &Work) {
    let mut stack = settled_stack().await;
    let mut versions = [("v1", "v2"), ("v2", "v1")].into_iter().cycle();
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        let Some(point) = work.points.get(number) else {
            return;
        };
        let done = meddle(&mut stack, versions.next().unwrap(), *point, work.gap).await;
        let broken = !done.complaints.is_empty();
        println!(
            "{}/{} {} at {}: {:?} {:?} {}, outage {:.1?} {}\n{}",
            number + 1,
            work.points.len(),
            point.0.words(),
            point.1,
            done.first.code,
            done.docker,
            done.report,
            done.outage,
            done.complaints.join("; "),
            if broken { &done.first.text } else { "" },
        );
        work.note(number, done);
        if broken {
            drop(stack);
            stack = settled_stack().await;
            versions = [("v1", "v2"), ("v2", "v1")].into_iter().cycle();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_operator_does_in_whichever_phase_a_version_serves_and_the_next_run_settles_it()
{
    let points = ACTIONS
        .into_iter()
        .flat_map(|action| PHASES.map(|phase| (action, phase)));
    let work = Work {
        points: points.collect(),
        gap: gap_of_compose().await,
        next: AtomicUsize::new(0),
        done: Mutex::default(),
    };
    join_all((0..AT_ONCE).map(|_| worker(&work))).await;
    let mut done = work.done.lock().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    tell(&done, work.gap);
    assert_eq!(done.len(), work.points.len());
}

fn tell(done: &[(usize, Done)], gap: Duration) {
    let mut summary = table(&[
        "done to it",
        "in",
        "code",
        "requests",
        "failed",
        "outage",
        "mixed",
        "next run",
        "left over",
        "said",
    ]);
    for (_, own) in done {
        let report = &own.report;
        let docker = own.docker.as_ref().map(|said| format!(" (docker: {said})"));
        let next = settled_by(&own.second);
        summary.add_row([
            own.action.words().to_owned(),
            own.phase.to_owned(),
            own.first.code.unwrap_or(-1).to_string(),
            report.requests.to_string(),
            report.failed.to_string(),
            format!("{:.1?}", own.outage),
            report.mixed.to_string(),
            next.to_owned(),
            own.complaints.join("; "),
            message(&own.first) + &docker.unwrap_or_default(),
        ]);
    }
    let bad = done.iter().filter(|(_, own)| !own.complaints.is_empty());
    let bad = bad.count();
    println!(
        "{summary}\nCompose alone leaves an outage of {gap:.1?} when it replaces the service; {bad} not settled"
    );
    assert_eq!(bad, 0, "\n{summary}");
}
