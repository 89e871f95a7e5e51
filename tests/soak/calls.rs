//! One call to the engine fails in a rollout under load, each in its turn, and a second run settles what is left.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;

use super::table;
use crate::faulty::{
    Call, Fault,
    strike::{QUICK, Struck, calls_of, strike},
};
use testbed::Stack;

/// Rollouts at a time: they mostly wait.
const AT_ONCE: usize = 3;

/// Rollouts in which a kill may find its call.
const TRIES: usize = 3;

const KILLS: [Fault; 2] = [Fault::KilledBefore, Fault::KilledAfter];
const FAILS: [Fault; 2] = [Fault::Refused, Fault::Hangs];

/// A stack in which rollouts have become what they always are: none adopts, and each lets go of an older image.
async fn settled_stack(replicas: usize) -> Stack {
    let mut stack = Stack::relabelled(&format!("    scale: {replicas}\n"));
    stack.up("v1").await;
    for version in ["v2", "v1"] {
        stack.tag(version).rollout(&QUICK).await.code(0);
    }
    stack
}

/// To look at some of the calls alone: a part of their shapes.
const ONLY: &str = "ROLLOUT_SOAK_ONLY";

/// Every call of a rollout that nothing troubles.
async fn calls(replicas: usize) -> Vec<Call> {
    let mut stack = settled_stack(replicas).await;
    let mut calls = calls_of(&mut stack, "v2", &QUICK).await;
    let only = std::env::var(ONLY).unwrap_or_default();
    calls.retain(|call| call.shape.contains(&only));
    let changing = calls.iter().filter(|call| call.changes()).count();
    println!("{} calls, {changing} of them changing", calls.len());
    calls
}

struct Point {
    call: Call,
    fault: Fault,
}

/// What several workers share.
struct Work {
    points: Vec<Point>,
    next: AtomicUsize,
    done: Mutex<Vec<(usize, Struck)>>,
}

impl Work {
    fn note(&self, number: usize, struck: Struck) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push((number, struck));
    }
}

async fn worker(work: &Work, replicas: usize) {
    let mut stack = settled_stack(replicas).await;
    let mut versions = ["v2", "v1"].iter().cycle();
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        let Some(Point { call, fault }) = work.points.get(number) else {
            return;
        };
        let mut tries = TRIES;
        let struck = loop {
            let version = versions.next().unwrap();
            let struck = strike(&mut stack, (version, replicas), &QUICK, (call, *fault)).await;
            tries -= 1;
            // How often a run asks varies: what has not come may come in another run.
            let again = !struck.reached && fault.kills() && struck.complaints.is_empty();
            if !again || tries == 0 {
                break struck;
            }
        };
        println!(
            "{}/{} {call}: {} → {:?}, {}, {:.0?}, {} failed, {} mixed {} {}",
            number + 1,
            work.points.len(),
            fault.words(),
            struck.first.code,
            struck.settled(),
            struck.first_took,
            struck.report.failed,
            struck.report.mixed,
            struck.message(),
            struck.complaints.join("; "),
        );
        let broken = !struck.complaints.is_empty();
        work.note(number, struck);
        if broken {
            // What one point has left behind is no fault of the next.
            drop(stack);
            stack = settled_stack(replicas).await;
            versions = ["v2", "v1"].iter().cycle();
        }
    }
}

/// Every call with each of the faults; the table, and an end in failure where anything was lost or left.
async fn each(replicas: usize, calls: Vec<Call>, faults: &[Fault]) {
    let with = |call: Call| {
        faults.iter().map(move |fault| Point {
            call: call.clone(),
            fault: *fault,
        })
    };
    let work = Work {
        points: calls.into_iter().flat_map(with).collect(),
        next: AtomicUsize::new(0),
        done: Mutex::default(),
    };
    join_all((0..AT_ONCE).map(|_| worker(&work, replicas))).await;
    let mut done = work.done.lock().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    tell(&work.points, &done);
}

fn tell(points: &[Point], done: &[(usize, Struck)]) {
    let mut summary = table(&[
        "call",
        "fault",
        "code",
        "took",
        "settled",
        "requests",
        "failed",
        "mixed",
        "left over",
        "said",
    ]);
    let (mut lost, mut bad, mut missed) = (0, 0, 0);
    for (number, struck) in done {
        let Point { call, fault } = &points[*number];
        let report = &struck.report;
        lost += report.failed;
        bad += usize::from(!struck.complaints.is_empty());
        missed += usize::from(!struck.reached);
        let fault = match struck.reached {
            true => fault.words().to_owned(),
            false => "did not come".to_owned(),
        };
        let code = struck.first.code;
        summary.add_row([
            call.to_string(),
            fault,
            code.map_or_else(|| "killed".to_owned(), |code| code.to_string()),
            format!("{:.1?}", struck.first_took),
            struck.settled().to_owned(),
            report.requests.to_string(),
            report.failed.to_string(),
            report.mixed.to_string(),
            struck.complaints.join("; "),
            struck.message(),
        ]);
    }
    let all = points.len();
    println!(
        "{summary}\n{all} points, {missed} did not come, {lost} requests lost, {bad} not settled"
    );
    assert!(all > 0, "no call was found to fail");
    assert_eq!((lost, bad, done.len()), (0, 0, all), "\n{summary}");
    assert!(missed * 5 <= all, "too few of the calls come every time");
    let unkilled = done.iter().filter(|(_, struck)| !struck.reached);
    let unkilled = unkilled.map(|(number, _)| &points[*number]);
    let unkilled = unkilled.filter(|point| point.fault.kills());
    let unkilled: Vec<String> = unkilled.map(|point| point.call.to_string()).collect();
    assert_eq!(unkilled, [""; 0], "never killed at these\n{summary}");
}

fn changing(calls: Vec<Call>) -> Vec<Call> {
    calls.into_iter().filter(Call::changes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_killed_at_any_changing_call_is_settled_by_the_next_run() {
    let calls = changing(calls(1).await);
    each(1, calls, &KILLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_three_killed_at_any_changing_call_is_settled_by_the_next_run() {
    let calls = changing(calls(3).await);
    each(3, calls, &KILLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_changing_call_may_fail_or_hang_and_a_version_serves_all_the_time() {
    let calls = changing(calls(1).await);
    each(1, calls, &FAILS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_kind_of_question_may_fail_or_hang_and_a_version_serves_all_the_time() {
    let mut seen = std::collections::BTreeSet::new();
    let mut calls = calls(1).await;
    calls.retain(|call| !call.changes() && seen.insert(call.shape.clone()));
    each(1, calls, &FAILS).await;
}
