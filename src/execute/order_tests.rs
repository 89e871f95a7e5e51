//! The order of calls: what the loop does to a scripted world, step by step, and what a failure or a signal changes.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Summary, World, run};
use crate::{
    ask::{Asked, IsHeard, Request},
    error::{Error, Outcome, Result},
    event::Events,
    model::{Desired, Facts, HookPhase, Limits, Observed, Order, Pause, Promote},
    plan::{
        Step,
        simulator::{Fate, Simulator, WELL, live, old},
    },
};

/// A simulated world that fails or is interrupted at one step.
struct Scripted {
    world: Simulator,
    calls: Vec<&'static str>,
    fails: Option<(&'static str, usize)>,
    /// How long that step runs before it fails.
    fails_after: Duration,
    interrupts: Option<(&'static str, watch::Sender<bool>)>,
    /// What another run asks for during a step, from its given time on.
    asks: Option<(&'static str, usize, Request)>,
}

#[async_trait(?Send)]
impl World for Scripted {
    async fn observe(&mut self) -> Result<Observed> {
        Ok(self.world.observed.clone())
    }

    async fn act(
        &mut self,
        step: &Step,
        desired: &Desired,
        _: &Observed,
        facts: &mut Facts,
    ) -> Result<()> {
        self.calls.push(step.name());
        if let Some((at, raise)) = &self.interrupts
            && *at == step.name()
        {
            raise.send_replace(true);
            tokio::task::yield_now().await;
        }
        if let Some((at, times)) = &mut self.fails
            && *at == step.name()
            && *times > 0
        {
            *times -= 1;
            tokio::time::sleep(self.fails_after).await;
            return Err(Error::failed("scripted"));
        }
        self.world.act(step, desired, facts);
        Ok(())
    }

    async fn asked(&mut self, is_heard: &IsHeard<'_>) -> Option<Asked> {
        let (during, times, request) = self.asks?;
        let begun = self.calls.iter().filter(|call| **call == during);
        let who = "ada".to_owned();
        let asked = Some(Asked { request, who });
        let asked = asked.filter(|asked| begun.count() >= times && is_heard(asked));
        self.asks.take_if(|_| asked.is_some());
        asked
    }
}

/// Rolls one replica. Returns the calls, the result, and whether the new replica serves.
async fn roll(
    fails: Option<(&'static str, usize)>,
    interrupted_at: Option<&'static str>,
) -> (Vec<&'static str>, Result<Summary>, bool) {
    roll_by(false, fails, interrupted_at).await
}

async fn roll_by(
    confirm_hold: bool,
    fails: Option<(&'static str, usize)>,
    interrupted_at: Option<&'static str>,
) -> (Vec<&'static str>, Result<Summary>, bool) {
    let mut world = Simulator::new(vec![old("old-1")], 1, true, WELL);
    world.desired.confirm_hold = confirm_hold;
    roll_in(world, fails, interrupted_at).await
}

async fn roll_in(
    world: Simulator,
    fails: Option<(&'static str, usize)>,
    interrupted_at: Option<&'static str>,
) -> (Vec<&'static str>, Result<Summary>, bool) {
    roll_slowly(world, (fails, Duration::ZERO), interrupted_at).await
}

async fn roll_slowly(
    world: Simulator,
    (fails, fails_after): (Option<(&'static str, usize)>, Duration),
    interrupted_at: Option<&'static str>,
) -> (Vec<&'static str>, Result<Summary>, bool) {
    let (raise, raised) = watch::channel(false);
    let desired = world.desired.clone();
    let mut scripted = Scripted {
        world,
        calls: Vec::new(),
        fails,
        fails_after,
        interrupts: interrupted_at.map(|at| (at, raise)),
        asks: None,
    };
    let events = Events::default();
    let end = run(&mut scripted, desired, Facts::default(), &events, raised).await;
    let live = live(&scripted.world.observed);
    assert_eq!(live.len(), 1, "{:?}", scripted.calls);
    let new_serves = live.iter().any(|id| id.0 == "new-1");
    (scripted.calls, end, new_serves)
}

const ALL: [&str; 10] = [
    "hold", "create", "ready", "cutover", "confirm", "drain", "stop", "remove", "rename", "release",
];

#[tokio::test(start_paused = true)]
async fn a_rollout_is_ten_calls_in_this_order() {
    let (calls, end, new_serves) = roll(None, None).await;
    assert_eq!(calls, ALL);
    assert!(end.is_ok() && new_serves);
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_cutover_goes_back_and_is_not_tried_again() {
    for (at, wanted) in [
        ("hold", &["hold"][..]),
        ("create", &["hold", "create", "release"]),
        (
            "cutover",
            &[
                "hold", "create", "ready", "cutover", "stop", "remove", "release",
            ],
        ),
    ] {
        let (calls, end, new_serves) = roll(Some((at, 1)), None).await;
        assert_eq!(calls, wanted, "{at}");
        let error = end.unwrap_err();
        assert_eq!(error.outcome, Outcome::Failed, "{at}");
        assert_eq!(error.message, "scripted; the old version serves", "{at}");
        assert!(!new_serves, "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_any_number_of_failures_that_are_far_apart() {
    for (apart, goes_on) in [(60, true), (1, false)] {
        let world = Simulator::new(vec![old("old-1")], 1, true, WELL);
        let world = world.canary(&[(10, Some(Pause::Timed(Duration::from_secs(90))))]);
        let fails = (Some(("pause", 9)), Duration::from_secs(apart));
        let (calls, end, new_serves) = roll_slowly(world, fails, None).await;
        assert_eq!((end.is_ok(), new_serves), (goes_on, goes_on), "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_stumbles_while_a_replica_is_waited_for_is_asked_again_but_not_for_ever() {
    let (calls, end, new_serves) = roll(Some(("ready", 3)), None).await;
    assert_eq!(calls.iter().filter(|call| **call == "ready").count(), 4);
    assert!(end.is_ok() && new_serves, "{end:?}");
    let (calls, end, new_serves) = roll(Some(("ready", usize::MAX)), None).await;
    let back = [
        "hold", "create", "ready", "ready", "ready", "ready", "stop", "remove", "release",
    ];
    assert_eq!(calls, back);
    let error = end.unwrap_err();
    assert_eq!(error.message, "scripted; the old version serves");
    assert!(!new_serves);
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_cutover_is_tried_again_until_it_works() {
    for at in &ALL[4..] {
        let (calls, end, new_serves) = roll(Some((at, 3)), None).await;
        let tries = calls.iter().filter(|call| call == &at).count();
        assert_eq!(tries, 4, "{at}");
        assert!(end.is_ok() && new_serves, "{at}: {end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_never_works_after_the_cutover_needs_a_person_and_the_new_version_serves() {
    for at in &ALL[4..] {
        let (calls, end, new_serves) = roll(Some((at, usize::MAX)), None).await;
        let tries = calls.iter().filter(|call| call == &at).count();
        assert_eq!((tries, *calls.last().unwrap()), (4, *at));
        let error = end.unwrap_err();
        assert_eq!(error.outcome, Outcome::NeedsPerson, "{at}");
        assert!(error.hint.is_some() && new_serves, "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_before_the_confirmed_cutover_goes_back() {
    for at in &ALL[..5] {
        let (calls, end, new_serves) = roll(None, Some(at)).await;
        let error = end.unwrap_err();
        assert_eq!(error.outcome, Outcome::Interrupted, "{at}: {calls:?}");
        assert_eq!(error.message, "interrupted; the old version serves", "{at}");
        assert!(!new_serves && !calls.contains(&"rename"), "{at}: {calls:?}");
        let routed = calls.contains(&"cutover");
        assert_eq!(calls.contains(&"cut_back"), routed, "{at}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_after_the_confirmed_cutover_changes_nothing() {
    for at in &ALL[5..] {
        let (calls, end, new_serves) = roll(None, Some(at)).await;
        assert_eq!(calls, ALL, "{at}");
        assert!(end.is_ok() && new_serves, "{at}");
    }
}

/// Rolls one replica with hooks in each phase.
async fn roll_hooked(
    fails_hook: Option<HookPhase>,
    interrupted_at: Option<&'static str>,
) -> (Vec<&'static str>, Result<Summary>, bool) {
    let fate = Fate { fails_hook, ..WELL };
    let mut world = Simulator::new(vec![old("old-1")], 1, true, fate);
    world.desired.hook_phases = [
        HookPhase::PreDeploy,
        HookPhase::PreCutover,
        HookPhase::PostCutover,
    ]
    .into();
    roll_in(world, None, interrupted_at).await
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_or_is_interrupted_goes_back_and_the_old_version_serves() {
    let (calls, end, new_serves) = roll_hooked(None, None).await;
    assert!(end.is_ok() && new_serves, "{calls:?}");
    for phase in [
        HookPhase::PreDeploy,
        HookPhase::PreCutover,
        HookPhase::PostCutover,
    ] {
        let is_hook = |call: &&&str| **call == phase.name();
        let (calls, end, new_serves) = roll_hooked(Some(phase), None).await;
        let error = end.unwrap_err();
        let message = "the hook ended with exit code 3; the old version serves";
        assert_eq!(
            (error.outcome, error.message.as_str()),
            (Outcome::Failed, message)
        );
        assert!(
            !new_serves && calls.iter().filter(is_hook).count() == 1,
            "{calls:?}"
        );
        let (calls, end, new_serves) = roll_hooked(None, Some(phase.name())).await;
        assert_eq!(end.unwrap_err().outcome, Outcome::Interrupted, "{calls:?}");
        assert!(
            !new_serves && calls.iter().filter(is_hook).count() == 1,
            "{calls:?}"
        );
    }
}

/// A hold by a pin adds one call before the first creation.
#[tokio::test(start_paused = true)]
async fn a_hold_that_moves_the_traffic_is_confirmed_and_undone_like_any_other() {
    let (calls, end, new_serves) = roll_by(true, None, None).await;
    assert_eq!(calls[..3], ["hold", "confirm", "create"]);
    assert_eq!(calls[2..], ALL[1..]);
    assert!(end.is_ok() && new_serves);
    let order = ["hold", "confirm", "create"];
    for (index, at) in order.into_iter().enumerate() {
        let (calls, end, new_serves) = roll_by(true, None, Some(at)).await;
        assert_eq!(end.unwrap_err().outcome, Outcome::Interrupted, "{at}");
        assert!(calls.starts_with(&order[..=index]), "{at}: {calls:?}");
        assert!(!new_serves && calls.last() == Some(&"release"), "{calls:?}");
    }
}

/// Rolls one replica, the old one stopped first.
async fn roll_stop_first(
    routed: bool,
    fails: Option<(&'static str, usize)>,
    interrupted_at: Option<&'static str>,
) -> (Vec<&'static str>, Result<Summary>, bool) {
    let world = Simulator::new(vec![old("old-1")], 1, routed, WELL).stop_first();
    roll_in(world, fails, interrupted_at).await
}

const STOP_FIRST: [&str; 9] = [
    "hold", "stop", "create", "ready", "cutover", "confirm", "remove", "rename", "release",
];

#[tokio::test(start_paused = true)]
async fn where_the_old_replica_is_stopped_first_the_gap_is_measured() {
    for routed in [true, false] {
        let (calls, end, new_serves) = roll_stop_first(routed, None, None).await;
        let all = STOP_FIRST.iter();
        let expected = all.filter(|own| routed || **own != "confirm");
        assert_eq!(calls, expected.copied().collect::<Vec<_>>());
        let summary = end.unwrap();
        assert!(summary.gap.is_some() && new_serves);
        // Without a proxy a claim is a record, and no step that is reported.
        for claims in ["hold", "cutover", "release"] {
            assert_eq!(summary.phases.contains_key(claims), routed, "{claims}");
        }
    }
    let (_, end, _) = roll(None, None).await;
    assert_eq!(end.unwrap().gap, None);
}

/// The new version may have served for a while in between.
#[tokio::test(start_paused = true)]
async fn a_gap_that_ends_with_the_old_version_is_measured_too() {
    for routed in [true, false] {
        let (_, end, new_serves) = roll_stop_first(routed, Some(("create", 1)), None).await;
        let error = end.unwrap_err();
        assert!(error.gap_ms.is_some() && !new_serves, "{error:?}");
        let fate = Fate {
            fails_hook: Some(HookPhase::PostCutover),
            ..WELL
        };
        let mut world = Simulator::new(vec![old("old-1")], 1, routed, fate).stop_first();
        world.desired.hook_phases = [HookPhase::PostCutover].into();
        let (calls, end, new_serves) = roll_in(world, None, None).await;
        let error = end.unwrap_err();
        assert!(error.gap_ms.is_some() && !new_serves, "{calls:?}");
    }
    let (_, end, _) = roll(Some(("create", 1)), None).await;
    assert_eq!(end.unwrap_err().gap_ms, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_stopped_first_is_started_again_after_a_failure_or_a_signal() {
    for at in &STOP_FIRST[1..6] {
        let confirms = *at == "confirm";
        for signal in [false, true] {
            let times = if *at == "create" { 1 } else { 4 };
            let (fails, signal_at) = match signal {
                true => (None, Some(*at)),
                false if confirms => continue,
                false => (Some((*at, times)), None),
            };
            let (calls, end, new_serves) = roll_stop_first(true, fails, signal_at).await;
            let error = end.unwrap_err();
            assert!(
                error.message.ends_with("the old version serves"),
                "{at}: {error:?}"
            );
            let outcome = [Outcome::Failed, Outcome::Interrupted][usize::from(signal)];
            assert_eq!(error.outcome, outcome, "{at}");
            let starts = signal || *at != "stop";
            assert_eq!(calls.contains(&"start"), starts, "{at}: {calls:?}");
            assert_eq!(error.gap_ms.is_some(), starts, "{at}: {error:?}");
            assert!(
                !new_serves && calls.last() == Some(&"release"),
                "{at}: {calls:?}"
            );
        }
    }
}

/// A requested stop completes even without a waiting client.
#[tokio::test(start_paused = true)]
async fn a_signal_during_the_stop_waits_for_its_end_and_one_during_the_removal_changes_nothing() {
    let (calls, _, _) = roll_stop_first(false, None, Some("stop")).await;
    assert_eq!(calls, ["hold", "stop", "start", "release"]);
    let (calls, end, new_serves) = roll_stop_first(false, None, Some("remove")).await;
    let wanted = STOP_FIRST.iter().filter(|own| **own != "confirm");
    assert_eq!(calls, wanted.copied().collect::<Vec<_>>());
    assert!(end.is_ok() && new_serves);
}

#[tokio::test(start_paused = true)]
async fn an_old_replica_that_cannot_be_started_again_is_for_a_person() {
    let world = Simulator::new(vec![old("old-1")], 1, true, WELL).stop_first();
    let (raise, raised) = watch::channel(false);
    let desired = world.desired.clone();
    let mut scripted = Scripted {
        world,
        calls: Vec::new(),
        fails: Some(("start", usize::MAX)),
        fails_after: Duration::ZERO,
        interrupts: Some(("create", raise)),
        asks: None,
    };
    let events = Events::default();
    let end = run(&mut scripted, desired, Facts::default(), &events, raised).await;
    let error = end.unwrap_err();
    assert_eq!(error.outcome, Outcome::NeedsPerson);
    assert!(
        error.message.ends_with("the old version is stopped"),
        "{error:?}"
    );
    assert!(
        scripted.world.restarted().is_some(),
        "the next run tries again"
    );
}

/// Rolls while another run asks for something. Returns the calls, the result, the old and the new replicas that serve, and
/// whether the request was heard.
async fn roll_asked(
    world: Simulator,
    asks: (&'static str, usize, Request),
) -> (Vec<&'static str>, Result<Summary>, [usize; 2], bool) {
    let desired = world.desired.clone();
    let mut scripted = Scripted {
        world,
        calls: Vec::new(),
        fails: None,
        fails_after: Duration::ZERO,
        interrupts: None,
        asks: Some(asks),
    };
    let (_raise, raised) = watch::channel(false);
    let events = Events::default();
    let end = run(&mut scripted, desired, Facts::default(), &events, raised).await;
    let live = live(&scripted.world.observed);
    let new = live.iter().filter(|id| id.0.starts_with("new-")).count();
    let heard = scripted.asks.is_none();
    (scripted.calls, end, [live.len() - new, new], heard)
}

/// Four replicas, one at a time.
fn rolling() -> Simulator {
    let olds = (1..=4).map(|number| old(&format!("old-{number}")));
    Simulator::new(olds.collect(), 4, true, WELL).rolling(Limits {
        parallelism: 1,
        surge: 1,
        unavailable: 0,
        order: Order::StartFirst,
    })
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_heard_after_the_step_in_which_it_comes() {
    for (at, times) in [("create", 1), ("stop", 1), ("create", 3), ("stop", 3)] {
        let (calls, end, live, heard) = roll_asked(rolling(), (at, times, Request::Undo)).await;
        let error = end.unwrap_err();
        assert!(heard, "{at} {times}: {calls:?}");
        assert_eq!(error.outcome, Outcome::Failed, "{calls:?}");
        assert_eq!(error.message, "undone by ada; the old version serves");
        assert_eq!(live, [4, 0], "{at} {times}: {calls:?}");
    }
    for at in &ALL[..6] {
        let world = Simulator::new(vec![old("old-1")], 1, true, WELL);
        let (calls, end, live, heard) = roll_asked(world, (at, 1, Request::Undo)).await;
        assert_eq!(end.unwrap_err().outcome, Outcome::Failed, "{at}: {calls:?}");
        assert!(heard && live == [1, 0], "{at}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_comes_with_the_last_stop_stays_open_and_the_rollout_ends() {
    for at in &ALL[6..] {
        let world = Simulator::new(vec![old("old-1")], 1, true, WELL);
        let (calls, end, live, heard) = roll_asked(world, (at, 1, Request::Undo)).await;
        assert_eq!(calls, ALL, "{at}");
        assert!(end.is_ok() && live == [0, 1] && !heard, "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_heard_after_the_first_batch_whenever_it_comes() {
    for (at, times, shown) in [("create", 1, 1), ("stop", 1, 1), ("stop", 2, 2)] {
        let (calls, end, live, heard) = roll_asked(rolling(), (at, times, Request::Hold)).await;
        assert!(heard, "{at} {times}: {calls:?}");
        assert_eq!(end.unwrap_err().outcome, Outcome::Paused, "{calls:?}");
        assert_eq!(live[1], shown, "{at} {times}: {calls:?}");
    }
    let world = Simulator::new(vec![old("old-1")], 1, true, WELL);
    let (calls, end, _, heard) = roll_asked(world, ("create", 1, Request::Hold)).await;
    assert!(end.is_ok() && !heard, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_comes_before_the_pause_ends_it() {
    for (how, shifts) in [(Promote::Next, 2), (Promote::Full, 1)] {
        let world = Simulator::new(vec![old("old-1")], 1, true, WELL);
        let world = world.canary(&[(10, Some(Pause::Open)), (50, None)]);
        let asks = ("shift", 1, Request::Promote(how));
        let (calls, end, live, heard) = roll_asked(world, asks).await;
        assert!(end.is_ok() && heard && live == [0, 1], "{calls:?}");
        let shifted = calls.iter().filter(|call| **call == "shift").count();
        assert_eq!((shifted, calls.contains(&"pause")), (shifts, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_tried_again_is_not_left_for_a_request() {
    let mut scripted = Scripted {
        world: Simulator::new(vec![old("old-1")], 1, true, WELL),
        calls: Vec::new(),
        fails: Some(("drain", 2)),
        fails_after: Duration::ZERO,
        interrupts: None,
        asks: Some(("drain", 1, Request::Undo)),
    };
    let (desired, events) = (scripted.world.desired.clone(), Events::default());
    let (_raise, raised) = watch::channel(false);
    let end = run(&mut scripted, desired, Facts::default(), &events, raised).await;
    assert_eq!(end.unwrap_err().outcome, Outcome::Failed);
    let drains = scripted.calls.iter().filter(|call| **call == "drain");
    // Three of the old replica; the last is of the new one on the way back.
    assert_eq!(drains.count(), 4, "{:?}", scripted.calls);
}
