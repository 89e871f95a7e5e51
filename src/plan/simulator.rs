//! A small world for the planner's tests: a preview whose steps may fail, each of them held to the invariants.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Deref, DerefMut},
};

use super::{Next, Step, StopFirst, plan_to_confirm, preview::Preview, unfinished};
use crate::model::{
    Baked, Batches, Claim, ContainerId, Desired, Facts, Goal, Health, HookEnd, HookPhase, Limits,
    Milestone, Observed, Order, Pause, Phase, Policy, Reason, Replica, RolloutId, Run, Share,
    Shift, Target, Verdict,
};

/// More steps than any rollout needs: twice every kind of step, there and back.
const BOUND: usize = 160;

/// How the waits of a world end.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// What becomes of new replicas that run.
    pub ready: Ready,
    /// Whether the proxy says yes to the cutover where it is true.
    pub confirms: bool,
    /// Whether it says yes to the way back where it is true.
    pub confirms_back: bool,
    /// Whether the watch after the cutover finds all well.
    pub bakes_well: bool,
    /// Whether a cutover that is not confirmed takes routers of other services away.
    pub harms: bool,
    /// Whether an old replica that is started again goes on running.
    pub restarts: bool,
    /// The phase whose hooks fail.
    pub fails_hook: Option<HookPhase>,
    /// What another service of the joint cutover does not reach.
    pub fails_others: Option<Milestone>,
}

/// What becomes of a new replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Soon,
    Never,
    Crashes,
}

pub const WELL: Fate = Fate {
    ready: Ready::Soon,
    confirms: true,
    confirms_back: true,
    bakes_well: true,
    harms: false,
    restarts: true,
    fails_hook: None,
    fails_others: None,
};

#[derive(Clone, Debug)]
pub struct Simulator {
    pub preview: Preview,
    pub fate: Fate,
    pub steps: Vec<Step>,
    /// Where it stops old replicas before its end, what is noted of them: which ran, and since when.
    pub ran: BTreeMap<ContainerId, String>,
}

impl Deref for Simulator {
    type Target = Preview;

    fn deref(&self) -> &Preview {
        &self.preview
    }
}

impl DerefMut for Simulator {
    fn deref_mut(&mut self) -> &mut Preview {
        &mut self.preview
    }
}

pub fn rollout(name: &str) -> RolloutId {
    RolloutId(name.to_owned())
}

/// A replica of a rollout, or of Compose itself; one of a rollout still has its temporary name.
pub fn replica(id: &str, of: Option<&RolloutId>, run: Run, health: Health) -> Replica {
    Replica {
        id: ContainerId(id.to_owned()),
        name: id.to_owned(),
        final_name: of.map(|_| format!("web-{id}")),
        rollout: of.cloned(),
        run,
        health,
        ..Replica::default()
    }
}

/// A replica that Compose made, and that serves.
pub fn old(id: &str) -> Replica {
    replica(id, None, Run::Running, Health::Healthy)
}

/// Replicas that a proxy sends requests of the public to: they answer, and no claim hides or previews them.
pub fn live(observed: &Observed) -> BTreeSet<ContainerId> {
    let plan = observed.claim.as_ref().map(|claim| &claim.plan);
    let without = [Some(Share::Hidden), Some(Share::Preview)];
    let hidden =
        |replica: &Replica| plan.is_some_and(|plan| without.contains(&plan.share(replica)));
    // From the cutover on the socket proxy says of a new replica that it is healthy until Docker has an opinion.
    let state = |replica: &Replica| plan.is_some_and(|plan| plan.promotes(replica));
    let answers = |replica: &&Replica| {
        replica.run == Run::Running
            && match replica.health {
                Health::None | Health::Healthy => true,
                Health::Starting => state(replica),
                Health::Unhealthy => false,
            }
    };
    let all = observed.replicas.iter().filter(answers);
    all.filter(|replica| !hidden(replica))
        .map(|replica| replica.id.clone())
        .collect()
}

impl Simulator {
    /// A rollout that has just begun.
    pub fn new(olds: Vec<Replica>, replicas: u32, routed: bool, fate: Fate) -> Self {
        let desired = Desired {
            goal: Goal::Roll,
            rollout: rollout("r2"),
            replicas,
            policy: Policy::default(),
            restartable: BTreeSet::new(),
            routed,
            confirm_hold: false,
            old_at_start: olds.iter().map(|old| old.id.clone()).collect(),
            unrouted: BTreeSet::new(),
            served: olds.iter().any(Replica::serves),
            pre_stop: false,
            hook_phases: BTreeSet::new(),
        };
        let observed = Observed {
            replicas: olds,
            claim: None,
        };
        let names = (1..=9).map(|number| format!("web-new-{number}"));
        Self {
            preview: Preview {
                desired,
                observed,
                facts: Facts::default(),
                names: names.collect(),
            },
            fate,
            steps: Vec::new(),
            ran: BTreeMap::new(),
        }
    }

    /// The same, by the strategy that stops first.
    pub fn stop_first(mut self) -> Self {
        self.note_ran();
        self.desired.policy.order = Order::StopFirst;
        self
    }

    /// The same, in batches.
    pub fn rolling(mut self, limits: Limits) -> Self {
        self.note_ran();
        let olds = self.ran.len() as u32;
        self.desired.policy.batches = Some(Batches::within(limits, self.desired.replicas, olds));
        self
    }

    /// The same, with these shares of the traffic before the cutover.
    pub fn canary(mut self, shifts: &[(u16, Option<Pause>)]) -> Self {
        let shifts = shifts.iter();
        self.desired.policy.shifts = shifts
            .map(|&(percent, pause)| Shift {
                percent,
                pause,
                analysis: false,
            })
            .collect();
        self
    }

    fn note_ran(&mut self) {
        let ran = self.observed.replicas.iter().filter(|own| own.may_run());
        self.ran = ran
            .map(|own| (own.id.clone(), own.started_at.clone()))
            .collect();
        self.desired.restartable = self.ran.keys().cloned().collect();
    }

    fn rolls(&self) -> bool {
        self.desired.policy.batches.is_some()
    }

    fn stops_first(&self) -> bool {
        self.desired.policy.order == Order::StopFirst
    }

    fn undoes(&self) -> bool {
        matches!(self.desired.goal, Goal::Undo(_))
    }

    fn is_new(&self, replica: &Replica) -> bool {
        replica.rollout.as_ref() == Some(&self.desired.rollout)
    }

    pub fn new_replicas(&self) -> Vec<&Replica> {
        let all = self.observed.replicas.iter();
        all.filter(|replica| self.is_new(replica)).collect()
    }

    pub fn old_replicas(&self) -> Vec<&Replica> {
        let all = self.observed.replicas.iter();
        all.filter(|replica| !self.is_new(replica)).collect()
    }

    /// Runs to the end, which must come.
    pub fn run(&mut self) -> Next {
        let mut turns = 0;
        for _ in 0..BOUND {
            match self.next() {
                Next::Step(step) => self.take(step),
                Next::Undo(_) | Next::Finish(_) => turns += 1,
                Next::GoOn => {}
                end => return end,
            }
            let most = 2 + self.facts.failed_batches.len();
            assert!(turns <= most, "it turns round and round: {:#?}", self.steps);
        }
        panic!(
            "no end after {BOUND} steps: {:#?}\n{:#?}",
            self.steps, self.observed
        );
    }

    /// Takes every step before the first of this kind, which it returns.
    #[track_caller]
    pub fn until(&mut self, is_last: impl Fn(&Step) -> bool) -> Step {
        loop {
            match self.next() {
                Next::Step(step) if is_last(&step) => return step,
                Next::Step(step) => self.take(step),
                end => panic!("{end:?} after {:?}", self.steps),
            }
        }
    }

    /// The same, and takes that step too.
    #[track_caller]
    pub fn through(&mut self, is_last: impl Fn(&Step) -> bool) {
        let last = self.until(is_last);
        self.take(last);
    }

    /// Takes a step with what the executor wants and knows.
    pub fn act(&mut self, step: &Step, desired: &Desired, facts: &mut Facts) {
        self.desired = desired.clone();
        self.facts = std::mem::take(facts);
        self.take(step.clone());
        *facts = self.facts.clone();
    }

    /// What the next run begins with, where this one has left something to settle.
    pub fn restarted(&self) -> Option<Self> {
        let claim = self.observed.claim.as_ref().filter(|_| self.rolls());
        let hidden = |own: &Replica| claim.is_some_and(|claim| claim.plan.hides(own));
        let same = |own: &&Replica| {
            let started = self.ran.get(&own.id);
            started == Some(&own.started_at) || (started.is_some() && hidden(own))
        };
        let ran = self.observed.replicas.iter().filter(same);
        let begun = StopFirst {
            rollout: rollout("r2"),
            ran: ran.map(|own| own.id.clone()).collect(),
            batches: self.desired.policy.batches,
        };
        let begun = Some(begun).filter(|begun| !begun.ran.is_empty() || begun.batches.is_some());
        let (rollout, goal, replicas) =
            unfinished(&self.observed, self.desired.routed, begun.as_ref())?;
        let others: Vec<Replica> = self
            .observed
            .replicas
            .iter()
            .filter(|own| own.rollout.as_ref() != Some(&rollout))
            .cloned()
            .collect();
        let mut next = Self::new(others, replicas, self.desired.routed, self.fate);
        next.desired.goal = goal;
        next.desired.rollout = rollout;
        next.ran.clone_from(&self.ran);
        if let Some(begun) = begun {
            begun.resume(&mut next.desired, &self.observed.replicas);
        }
        next.desired.confirm_hold = self.desired.confirm_hold;
        let is_left = |phase: &HookPhase| match phase {
            HookPhase::PreCutover => next.desired.goal == Goal::Roll,
            _ => *phase == HookPhase::PostCutover,
        };
        let phases = self.desired.hook_phases.iter().copied();
        next.desired.hook_phases = phases.filter(is_left).collect();
        // The end of a hook is recorded.
        let mut ends = self.facts.hooks.clone();
        ends.retain(|phase, _| *phase == HookPhase::PreCutover);
        next.facts.hooks = ends;
        let goes_back = matches!(next.desired.goal, Goal::Undo(_));
        next.desired.policy.bake = self.desired.policy.bake && !goes_back;
        if next.desired.goal == Goal::Roll {
            let policy = self.desired.policy.clone();
            let batches = next.desired.policy.batches;
            next.desired.policy = Policy { batches, ..policy };
        }
        next.observed = self.observed.clone();
        (next.facts.created, next.facts.is_continued) = (true, true);
        let mut claims = self.observed.claim.iter();
        let replaced = claims.any(Claim::has_replaced_any);
        next.desired.served |= !self.desired.routed && replaced;
        Some(next)
    }

    /// A step that must keep every invariant.
    pub fn take(&mut self, step: Step) {
        let before = self.clone();
        self.steps.push(step.clone());
        self.apply(&step);
        before.judge(&step, self);
    }

    #[expect(clippy::too_many_lines, reason = "a list: one assertion an invariant")]
    fn judge(&self, step: &Step, after: &Self) {
        let state = || format!("{step:?} after {:?}\nin {:#?}", self.steps, self);
        let (lived, lives) = (live(&self.observed), live(&after.observed));
        let floor = self.floor().min(lived.len());
        assert!(
            !self.desired.routed || self.stops_first() || lives.len() >= floor,
            "{} of {floor} live: {}",
            lives.len(),
            state()
        );
        let moves = [Phase::Shifted { step: 1 }, Phase::Committed].map(Step::Route);
        if moves.contains(step)
            && !self.rolls()
            && self.desired.goal == Goal::Roll
            && self.phase() == Some(Phase::Prepared)
        {
            let ready = |new: &&Replica| self.facts.verdicts.get(&new.id) == Some(&Verdict::Ready);
            let new = self.new_replicas();
            assert!(
                new.len() >= self.desired.replicas as usize && new.iter().all(ready),
                "not all are ready: {}",
                state()
            );
        }
        let goes_back = *step == Step::Route(Phase::RolledBack) && self.desired.routed;
        if goes_back && self.phase() == Some(Phase::Committed) {
            let over_dead = !self.desired.served && !self.desired.old_at_start.is_empty();
            assert!(
                !over_dead || self.facts.harms || !self.new_serves_alone(),
                "all that serves is hidden: {}",
                state()
            );
        }
        self.judge_room(step);
        self.judge_batch(step, after);
        self.judge_hook(step);
        self.judge_others(step);
        let (Step::Stop { replicas } | Step::Remove { replicas }) = step else {
            return;
        };
        let makes_room = self.stops_first() && matches!(step, Step::Stop { .. });
        for id in replicas {
            let found = self.observed.replicas.iter().find(|own| own.id == *id);
            let replica = found.unwrap_or_else(|| panic!("{id} does not exist: {}", state()));
            assert!(
                makes_room || !(self.desired.routed && lived.contains(id)),
                "{id} is live: {}",
                state()
            );
            let strays = self
                .observed
                .claim
                .as_ref()
                .is_some_and(|claim| claim.stale);
            let serving = self.new_replicas().iter().any(|new| new.serves());
            assert!(
                self.is_new(replica) || !(strays && serving),
                "the new ones have moved: {}",
                state()
            );
            if self.is_new(replica) {
                assert!(
                    matches!(self.desired.goal, Goal::Undo(_)),
                    "{id} is new: {}",
                    state()
                );
                continue;
            }
            // A stop that an earlier run has asked for is waited for.
            let unfinished = self.desired.goal == Goal::Undo(Reason::Unfinished);
            let joins = (makes_room && unfinished) || (self.rolls() && self.facts.is_continued);
            assert!(
                joins || !matches!(self.desired.goal, Goal::Undo(_)),
                "{id} is old: {}",
                state()
            );
            if makes_room && self.phase() != Some(Phase::Committed) {
                continue;
            }
            let ready = |new: &&Replica| self.facts.verdicts.get(&new.id) == Some(&Verdict::Ready);
            // A rolling update keeps what it has stopped.
            let kept = self.rolls() && matches!(step, Step::Stop { .. });
            assert!(
                kept || self.phase() == Some(Phase::Committed)
                    || self.new_replicas().iter().all(ready),
                "{id} is the way back from what is not ready: {}",
                state()
            );
            assert!(
                !replica.may_run() || self.facts.drained.contains_key(id),
                "{id} is not drained: {}",
                state()
            );
            assert!(
                !self.desired.routed || self.hides(id),
                "{id} is not confirmed hidden: {}",
                state()
            );
        }
        if !self.desired.routed && !makes_room && matches!(step, Step::Stop { .. }) {
            let answering = after
                .observed
                .replicas
                .iter()
                .filter(|own| own.serves())
                .count();
            let served = self
                .observed
                .replicas
                .iter()
                .filter(|own| own.serves())
                .count();
            assert!(
                answering >= self.floor().min(served),
                "too few run: {}",
                state()
            );
        }
    }

    /// A joint cutover waits until all are ready, and the end of the old replicas until all are live, or cannot go back.
    fn judge_others(&self, step: &Step) {
        let state = || format!("{step:?} after {:?}\nin {:#?}", self.steps, self);
        if !self.desired.policy.together || self.desired.goal != Goal::Roll {
            return;
        }
        let reached = |all| self.facts.all_reached >= Some(all);
        let cuts_over = *step == Step::Route(Phase::Committed);
        if cuts_over && self.phase() == Some(Phase::Prepared) {
            assert!(reached(Milestone::Ready), "not all are ready: {}", state());
        }
        if matches!(step, Step::Stop { .. }) && self.phase() == Some(Phase::Committed) {
            let is_over = reached(Milestone::Live) || self.facts.others_failed.is_some();
            assert!(is_over, "not all are live: {}", state());
        }
    }

    /// What cannot exist twice: where the old replicas are stopped first, a new one is created once none of them runs, and
    /// they are started again once no new one does.
    fn judge_room(&self, step: &Step) {
        let state = || format!("{step:?} after {:?}\nin {:#?}", self.steps, self);
        let runs = |set: Vec<&Replica>| set.iter().any(|own| own.may_run());
        match step {
            Step::Create { .. } if self.stops_first() => {
                assert!(!runs(self.old_replicas()), "an old one runs: {}", state());
            }
            Step::Start { replicas } => {
                let beside = self.rolls();
                assert!(
                    beside || !runs(self.new_replicas()),
                    "a new one runs: {}",
                    state()
                );
                let undoes = matches!(self.desired.goal, Goal::Undo(_));
                let ran = replicas.iter().all(|id| self.ran.contains_key(id));
                assert!(undoes && ran, "not to be started: {}", state());
            }
            _ => {}
        }
    }

    /// Hooks run once in a run, in their phase, and a failed one stops what follows it.
    fn judge_hook(&self, step: &Step) {
        let state = || format!("{step:?} after {:?}\nin {:#?}", self.steps, self);
        let failed = |phase| matches!(self.facts.hooks.get(&phase), Some(HookEnd::Failed(_)));
        let rolls = self.desired.goal == Goal::Roll;
        let has_not_moved = self
            .phase()
            .is_some_and(|own| own == Phase::Prepared || self.desired.policy.previews(own));
        match step {
            Step::Hook(phase) => {
                assert!(!self.facts.hooks.contains_key(phase), "twice: {}", state());
                let undoes = matches!(self.desired.goal, Goal::Undo(_));
                assert!(!undoes, "on the way back: {}", state());
                let committed = self.phase() == Some(Phase::Committed);
                let after = *phase == HookPhase::PostCutover;
                assert_eq!(committed, after, "{}", state());
                let confirmed = self.facts.confirmed == Some(Phase::Committed);
                assert!(confirmed || !after || !self.desired.routed, "{}", state());
            }
            Step::Create { .. } => assert!(!failed(HookPhase::PreDeploy), "{}", state()),
            Step::Route(phase @ (Phase::Committed | Phase::Shifted { .. }))
                if rolls
                    && has_not_moved
                    && !self.desired.policy.previews(*phase)
                    && self.old_replicas().iter().any(|old| old.serves()) =>
            {
                let wanted = self.desired.hook_phases.contains(&HookPhase::PreCutover);
                let ended = self.facts.hooks.contains_key(&HookPhase::PreCutover);
                assert!(ended || !wanted, "{}", state());
                assert!(!failed(HookPhase::PreCutover), "{}", state());
            }
            _ => {}
        }
    }

    /// How many must be live: while it goes forward as many as are wanted, on the way back the old ones that are left.
    fn floor(&self) -> usize {
        // Without a proxy nothing waits for the first check to pass.
        let answers = |old: &&&Replica| {
            old.serves() && (!self.desired.routed || old.health != Health::Starting)
        };
        let serving = self.old_replicas().iter().filter(answers).count();
        if let Some(batches) = &self.desired.policy.batches {
            return self.rolling_floor(batches);
        }
        match &self.desired.goal {
            Goal::Undo(_) if serving > 0 => serving,
            // An old one that stumbles may recover, and a new one that is not ready is no replacement.
            Goal::Undo(_) if self.old_replicas().iter().any(|old| old.may_run()) => 0,
            // A first start that is undone leaves what was there before: nothing.
            Goal::Undo(_) if !self.desired.served => 0,
            // A new set that has lost members is all there is once no old one serves.
            _ => self.desired.replicas as usize,
        }
    }

    fn rolling_floor(&self, batches: &Batches) -> usize {
        let restarts = |old: &Replica| {
            self.desired.may_start_again(old)
                && !old.may_run()
                && !self.facts.started.contains(&old.id)
        };
        let olds = self.old_replicas().into_iter();
        let back = olds.filter(|old| old.serves() || restarts(old)).count();
        let before = batches.olds.min(batches.replicas) as usize;
        let before = match self.undoes() {
            true => before.min(back),
            false => before,
        };
        before.saturating_sub(batches.ahead as usize)
    }

    /// How many run at once while the claim hides and shows them, and that a batch is whole before it is shown.
    fn judge_batch(&self, step: &Step, after: &Self) {
        let state = || format!("{step:?} after {:?}\nin {:#?}", self.steps, self);
        let Some(batches) = &self.desired.policy.batches else {
            return;
        };
        let own = |own: &&Replica| self.is_new(own) || self.ran.contains_key(&own.id);
        let running = after.observed.replicas.iter().filter(own);
        // On the way back, one that failed is left where it is until an old one serves in its place.
        let counts = |own: &&Replica| own.may_run() && (own.serves() || !self.undoes());
        let running = running.filter(counts).count();
        let most = batches
            .replicas
            .max(batches.olds + batches.size - batches.ahead);
        let is_held = matches!(
            self.phase(),
            Some(Phase::Prepared | Phase::Shifted { .. } | Phase::Committed)
        );
        if is_held && matches!(step, Step::Create { .. } | Step::Start { .. }) {
            assert!(
                running <= most as usize,
                "{running} of {most} run: {}",
                state()
            );
        }
        let shows = match step {
            Step::Route(Phase::Shifted { step }) => batches.shown(*step),
            Step::Route(Phase::Committed) => batches.replicas,
            _ => return,
        };
        let moves = *step != Step::Route(self.phase().unwrap_or(Phase::Prepared));
        if self.desired.goal == Goal::Roll && moves {
            let ready = |new: &&Replica| self.facts.verdicts.get(&new.id) == Some(&Verdict::Ready);
            let new = self.new_replicas();
            let whole = new.len() == shows as usize && new.iter().all(ready);
            assert!(whole, "the batch is not ready: {}", state());
        }
    }

    /// Whether new replicas serve, and no old one does.
    fn new_serves_alone(&self) -> bool {
        let serves = |set: Vec<&Replica>| set.iter().any(|own| own.serves());
        serves(self.new_replicas()) && !serves(self.old_replicas())
    }

    fn phase(&self) -> Option<Phase> {
        self.observed.claim.as_ref().map(|claim| claim.phase)
    }

    fn hides(&self, id: &ContainerId) -> bool {
        let phase = match self.rolls() {
            true => self.phase(),
            false => Some(Phase::Committed),
        };
        phase.is_some()
            && self.facts.confirmed == phase
            && self.observed.claim.as_ref().is_some_and(|claim| {
                claim.rollout == self.desired.rollout
                    && Some(claim.phase) == phase
                    && (claim.plan.is_hidden(&Target::Replica(id.clone()))
                        || !live(&self.observed).contains(id))
            })
    }

    /// What a step does to the world.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::AwaitReady if self.fate.ready != Ready::Soon && !self.undoes() => {
                self.fail_to_be_ready();
            }
            Step::Watch { .. } if !self.fate.bakes_well => {
                self.facts.baked = Some(Baked::Failed("web-new-1 restarted".to_owned()));
            }
            Step::Pause { .. } if !self.fate.bakes_well => {
                self.facts.baked = Some(Baked::Failed("web-new-1 restarted".to_owned()));
            }
            Step::Bake if !self.fate.bakes_well => {
                self.facts.baked = Some(Baked::Failed("web-new-1 restarted".to_owned()));
            }
            Step::Hook(phase) if self.fate.fails_hook == Some(*phase) => {
                let end = HookEnd::Failed("the hook ended with exit code 3".to_owned());
                self.facts.hooks.insert(*phase, end);
            }
            Step::AwaitOthers(all) if self.fate.fails_others == Some(*all) => {
                self.facts.others_failed = Some("api goes back".to_owned());
            }
            Step::Confirm(phase) if !self.confirms(*phase) => {
                self.facts.confirm_expired = Some(*phase);
                self.facts.harms = !phase.keeps_old() && self.fate.harms;
            }
            Step::Start { replicas } => self.start(replicas, step),
            Step::Release => self.release(step),
            _ => self.preview.apply(step),
        }
    }

    fn start(&mut self, replicas: &[ContainerId], step: &Step) {
        self.preview.apply(step);
        let restarts = self.fate.restarts;
        self.change(replicas, |replica| {
            if !restarts {
                replica.run = Run::Exited;
            }
            replica.started_at = "again".to_owned();
        });
    }

    fn release(&mut self, step: &Step) {
        // Without a socket proxy that says so, the pin stays until Docker itself calls them healthy.
        if self.desired.confirm_hold {
            let starting = |own: &&mut Replica| own.health == Health::Starting;
            let all = self.observed.replicas.iter_mut();
            all.filter(starting)
                .for_each(|own| own.health = Health::Healthy);
        }
        let mut new = self.new_replicas().into_iter();
        let starting = new.any(|new| new.health == Health::Starting);
        // What the socket proxy says of a health that Docker does not know yet outlives the rollout.
        match starting {
            true => {
                self.claim(Phase::Settled);
                self.facts.released = true;
            }
            false => self.preview.apply(step),
        }
    }

    fn fail_to_be_ready(&mut self) {
        let new: Vec<Replica> = self.new_replicas().into_iter().cloned().collect();
        for own in new {
            if self.facts.verdicts.contains_key(&own.id) {
                continue;
            }
            if self.fate.ready == Ready::Never && own.serves() {
                self.facts.ready_expired = true;
                continue;
            }
            self.change(std::slice::from_ref(&own.id), |new| new.run = Run::Exited);
            let failed = Verdict::Failed("exited".to_owned());
            self.facts.verdicts.insert(own.id, failed);
        }
    }

    /// Yes only where it is true.
    fn confirms(&self, phase: Phase) -> bool {
        let live = live(&self.observed);
        let plan = plan_to_confirm(phase, &self.desired, &self.observed);
        let agrees = |own: &Replica| match plan.share(own) {
            Some(Share::Hidden | Share::Preview) => !live.contains(&own.id),
            // A new replica that failed is taken out next.
            Some(Share::Live) => live.contains(&own.id) || (self.undoes() && !own.serves()),
            None | Some(Share::Weight(_)) => {
                !own.serves() || self.desired.unrouted.contains(&own.id) || live.contains(&own.id)
            }
        };
        let willing = match phase.keeps_old() || (self.undoes() && self.rolls()) {
            true => self.fate.confirms_back,
            false => self.fate.confirms,
        };
        willing && self.observed.replicas.iter().all(agrees)
    }
}
