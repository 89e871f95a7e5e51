//! A small world for the planner's tests: steps change what is observed, and every step is held to the invariants.

use std::collections::{BTreeMap, BTreeSet};

use super::{Next, Step, StopFirst, claim, plan, route_plan, unfinished};
use crate::model::{
    Baked, Claim, ContainerId, Desired, Drained, Facts, Goal, Health, HookEnd, HookPhase, Observed,
    Order, Phase, Policy, Reason, Replica, RolloutId, Run, Share, Target, Verdict,
};

/// More steps than any rollout needs: twice every kind of step, there and back.
const BOUND: usize = 48;

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
};

#[derive(Clone, Debug)]
pub struct Simulator {
    pub desired: Desired,
    pub observed: Observed,
    pub facts: Facts,
    pub fate: Fate,
    pub steps: Vec<Step>,
    /// Where it stops first, what is noted of the old replicas: which ran, and since when.
    pub ran: BTreeMap<ContainerId, String>,
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
        wanted: None,
        revision: None,
        run,
        health,
        restarts: 0,
        started_at: String::new(),
        image: String::new(),
        reference: String::new(),
        hash: String::new(),
        digest: None,
        labels: BTreeMap::new(),
        networks: Vec::new(),
        addresses: Vec::new(),
        endpoints: BTreeMap::new(),
        names: BTreeMap::new(),
        ports: Vec::new(),
        lowest_port: None,
        published: BTreeSet::new(),
        borrows_network: false,
        check: None,
        complaint: None,
    }
}

/// A replica that Compose made, and that serves.
pub fn old(id: &str) -> Replica {
    replica(id, None, Run::Running, Health::Healthy)
}

/// Replicas that a proxy sends requests to: they answer, and no claim hides them.
pub fn live(observed: &Observed) -> BTreeSet<ContainerId> {
    let plan = observed.claim.as_ref().map(|claim| &claim.plan);
    let hidden = |replica: &Replica| plan.is_some_and(|plan| plan.hides(replica));
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
            hooks: false,
            hook_phases: BTreeSet::new(),
        };
        let observed = Observed {
            replicas: olds,
            claim: None,
        };
        Self {
            desired,
            observed,
            facts: Facts::default(),
            fate,
            steps: Vec::new(),
            ran: BTreeMap::new(),
        }
    }

    /// The same, by the strategy that stops first.
    pub fn stop_first(mut self) -> Self {
        let ran = self.observed.replicas.iter().filter(|own| own.may_run());
        self.ran = ran
            .map(|own| (own.id.clone(), own.started_at.clone()))
            .collect();
        self.desired.policy.order = Order::StopFirst;
        self.desired.restartable = self.ran.keys().cloned().collect();
        self
    }

    fn stops_first(&self) -> bool {
        self.desired.policy.order == Order::StopFirst
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
                end => return end,
            }
            assert!(turns <= 2, "it turns round and round: {:#?}", self.steps);
        }
        panic!(
            "no end after {BOUND} steps: {:#?}\n{:#?}",
            self.steps, self.observed
        );
    }

    /// One question to the planner; turning back is done here, as the executor does it.
    pub fn next(&mut self) -> Next {
        let next = plan(&self.desired, &self.observed, &self.facts);
        if let Next::Undo(reason) = &next {
            self.desired.goal = Goal::Undo(reason.clone());
            self.facts.drained.clear();
        }
        if let Next::Finish(_) = &next {
            self.desired.goal = Goal::Finish;
        }
        next
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
        let same = |own: &&Replica| self.ran.get(&own.id) == Some(&own.started_at);
        let ran = self.observed.replicas.iter().filter(same);
        let begun = StopFirst {
            rollout: rollout("r2"),
            ran: ran.map(|own| own.id.clone()).collect(),
        };
        let begun = Some(begun).filter(|begun| !begun.ran.is_empty());
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
        let after_cutover = |phase: &HookPhase| *phase == HookPhase::PostCutover;
        let phases = self.desired.hook_phases.iter().copied();
        next.desired.hook_phases = phases.filter(after_cutover).collect();
        next.desired.policy.bake = self.desired.policy.bake && next.desired.goal == Goal::Finish;
        next.observed = self.observed.clone();
        next.facts.created = true;
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
        if *step == Step::Route(Phase::Committed)
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
        self.judge_hook(step);
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
            let joins = makes_room && self.desired.goal == Goal::Undo(Reason::Unfinished);
            assert!(
                joins || !matches!(self.desired.goal, Goal::Undo(_)),
                "{id} is old: {}",
                state()
            );
            if makes_room && self.phase() != Some(Phase::Committed) {
                continue;
            }
            let ready = |new: &&Replica| self.facts.verdicts.get(&new.id) == Some(&Verdict::Ready);
            assert!(
                self.phase() == Some(Phase::Committed) || self.new_replicas().iter().all(ready),
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
                assert!(!runs(self.new_replicas()), "a new one runs: {}", state());
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
            Step::Route(Phase::Committed)
                if rolls && self.old_replicas().iter().any(|old| old.serves()) =>
            {
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

    /// Whether new replicas serve, and no old one does.
    fn new_serves_alone(&self) -> bool {
        let serves = |set: Vec<&Replica>| set.iter().any(|own| own.serves());
        serves(self.new_replicas()) && !serves(self.old_replicas())
    }

    fn phase(&self) -> Option<Phase> {
        self.observed.claim.as_ref().map(|claim| claim.phase)
    }

    fn hides(&self, id: &ContainerId) -> bool {
        self.facts.confirmed == Some(Phase::Committed)
            && self.observed.claim.as_ref().is_some_and(|claim| {
                claim.rollout == self.desired.rollout
                    && claim.phase == Phase::Committed
                    && (claim.plan.is_hidden(&Target::Replica(id.clone()))
                        || !live(&self.observed).contains(id))
            })
    }

    /// What a step does to the world.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Route(phase) => self.claim(*phase),
            Step::Create { replicas } => self.create(*replicas),
            Step::AwaitReady => self.await_ready(),
            Step::Bake => {
                let failed = || Baked::Failed("web-new-1 restarted".to_owned());
                self.facts.baked = Some(if self.fate.bakes_well {
                    Baked::Passed
                } else {
                    failed()
                });
            }
            Step::Confirm(phase) => self.confirm(*phase),
            Step::Hook(phase) => {
                let failed = self.fate.fails_hook == Some(*phase);
                let end = match failed {
                    true => HookEnd::Failed("the hook ended with exit code 3".to_owned()),
                    false => HookEnd::Passed,
                };
                self.facts.hooks.insert(*phase, end);
            }
            Step::Drain { replicas } => {
                let drained = replicas.iter().map(|id| (id.clone(), Drained::Answered));
                self.facts.drained.extend(drained);
            }
            Step::Hooks { replicas } => self.facts.hooked.extend(replicas.iter().cloned()),
            Step::Stop { replicas } => self.change(replicas, |replica| replica.run = Run::Exited),
            Step::Start { replicas } => self.start(replicas),
            Step::Remove { replicas } => {
                self.observed
                    .replicas
                    .retain(|own| !replicas.contains(&own.id));
            }
            Step::Rename { names } => {
                for (id, name) in names {
                    self.change(std::slice::from_ref(id), |replica| {
                        name.clone_into(&mut replica.name)
                    });
                }
            }
            // Without a socket proxy that says so, the pin stays until Docker itself calls them healthy.
            Step::Release if self.desired.confirm_hold => {
                let starting = |own: &&mut Replica| own.health == Health::Starting;
                let all = self.observed.replicas.iter_mut();
                all.filter(starting)
                    .for_each(|own| own.health = Health::Healthy);
                self.observed.claim = None;
                self.facts.released = true;
            }
            Step::Release => {
                let starting = self
                    .new_replicas()
                    .iter()
                    .any(|new| new.health == Health::Starting);
                // What the socket proxy says of a health that Docker does not know yet outlives the rollout.
                match starting {
                    true => self.claim(Phase::Settled),
                    false => self.observed.claim = None,
                }
                self.facts.released = true;
            }
        }
    }

    fn start(&mut self, replicas: &[ContainerId]) {
        let run = match self.fate.restarts {
            true => Run::Running,
            false => Run::Exited,
        };
        self.change(replicas, |replica| {
            replica.run = run;
            replica.health = Health::Healthy;
            replica.started_at = "again".to_owned();
        });
        self.facts.started.extend(replicas.iter().cloned());
        (self.facts.confirmed, self.facts.confirm_expired) = (None, None);
    }

    fn change(&mut self, ids: &[ContainerId], change: impl Fn(&mut Replica)) {
        let all = self.observed.replicas.iter_mut();
        all.filter(|replica| ids.contains(&replica.id))
            .for_each(change);
    }

    fn claim(&mut self, phase: Phase) {
        if phase != Phase::Settled {
            (self.facts.confirmed, self.facts.confirm_expired) = (None, None);
        }
        let mut now = claim(phase, &self.desired, &self.observed);
        // What the record without a proxy has noted once stays in it.
        let before = self.observed.claim.take();
        let noted =
            before.filter(|own| !self.desired.routed && own.rollout == self.desired.rollout);
        now.plan.shares.extend(noted.into_iter().flat_map(|own| {
            let olds = own.plan.shares.into_iter();
            olds.filter(|(target, _)| matches!(target, Target::Replica(_)))
        }));
        self.observed.claim = Some(now);
    }

    fn create(&mut self, replicas: u32) {
        self.facts.created = true;
        for number in 1..=replicas {
            let id = format!("new-{number}");
            let mut made = replica(
                &id,
                Some(&self.desired.rollout),
                Run::Running,
                Health::Starting,
            );
            made.wanted = Some(replicas);
            self.observed.replicas.push(made);
        }
    }

    fn await_ready(&mut self) {
        let pending: Vec<ContainerId> = self
            .new_replicas()
            .iter()
            .map(|new| new.id.clone())
            .collect();
        for id in pending
            .into_iter()
            .filter(|id| !self.facts.verdicts.contains_key(id))
            .collect::<Vec<_>>()
        {
            let runs = self
                .new_replicas()
                .iter()
                .any(|new| new.id == id && new.serves());
            match self.fate.ready {
                Ready::Never if runs => self.facts.ready_expired = true,
                Ready::Soon if runs => {
                    self.change(std::slice::from_ref(&id), |new| {
                        new.health = Health::Healthy
                    });
                    self.facts.verdicts.insert(id, Verdict::Ready);
                }
                _ => {
                    self.change(std::slice::from_ref(&id), |new| new.run = Run::Exited);
                    self.facts
                        .verdicts
                        .insert(id, Verdict::Failed("exited".to_owned()));
                }
            }
        }
    }

    /// Yes only where it is true.
    fn confirm(&mut self, phase: Phase) {
        let live = live(&self.observed);
        let plan = route_plan(phase, &self.desired, &self.observed);
        let goes_back = phase.keeps_old();
        let agrees = |own: &Replica| match plan.share(own) {
            Some(Share::Hidden) => !live.contains(&own.id),
            Some(_) => live.contains(&own.id),
            None => {
                !own.serves() || self.desired.unrouted.contains(&own.id) || live.contains(&own.id)
            }
        };
        let willing = match goes_back {
            true => self.fate.confirms_back,
            false => self.fate.confirms,
        };
        if willing && self.observed.replicas.iter().all(agrees) {
            self.facts.confirmed = Some(phase);
        } else {
            self.facts.confirm_expired = Some(phase);
            self.facts.harms = !goes_back && self.fate.harms;
        }
    }
}
