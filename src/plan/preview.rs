//! What a rollout would do: the planner walked through a pure model of the world, in which every step succeeds.

use super::{Failure, Next, Step, claim, next_batch, plan, route_plan, take_goal};
use crate::model::{
    Baked, ContainerId, Desired, Drained, Facts, Health, HookEnd, Observed, Phase, Replica, Run,
    Target, Verdict,
};

/// A service as the planner sees it, without an engine behind it.
#[derive(Clone, Debug)]
pub struct Preview {
    pub desired: Desired,
    pub observed: Observed,
    pub facts: Facts,
    /// The final names of the replicas that a creation makes.
    pub names: Vec<String>,
}

/// The names of the replicas that a step acts on, or that it hides.
#[derive(Debug, Default)]
pub struct Names {
    /// The old ones that a change of routes hides.
    pub old: Vec<String>,
    /// The others.
    pub other: Vec<String>,
}

impl Preview {
    /// The reported steps to the end with the names of the replicas that each acts on, and how it ends without success.
    pub fn walk(&mut self) -> (Vec<(Step, Names)>, Option<Failure>) {
        let mut steps = Vec::new();
        loop {
            match self.next() {
                Next::Step(step) => {
                    if step.is_reported(self.desired.routed) {
                        steps.push((step.clone(), self.acts_on(&step)));
                    }
                    self.apply(&step);
                }
                Next::Undo(_) | Next::Finish(_) | Next::GoOn => {}
                Next::Done | Next::Pause { .. } => return (steps, None),
                Next::Fail(failure) => return (steps, Some(failure)),
            }
        }
    }

    /// One question to the planner. A new goal is taken over, as the executor does it.
    pub fn next(&mut self) -> Next {
        let next = plan(&self.desired, &self.observed, &self.facts);
        take_goal(&next, &mut self.desired, &self.observed, &mut self.facts);
        next
    }

    /// For a change of routes, the replicas that it hides and that were not hidden before.
    fn acts_on(&self, step: &Step) -> Names {
        let other = match step {
            Step::Route(phase) => return self.hidden_by(*phase),
            Step::Create { replicas } => {
                let (new, _) = self.observed.split(&self.desired.rollout);
                let names = self.names.iter().take(*replicas as usize);
                names.skip(new.len()).cloned().collect()
            }
            Step::AwaitReady => {
                let all = self.observed.replicas.iter();
                let all = all.filter(|own| self.facts.awaits(own, &self.desired));
                all.map(|own| own.target_name().to_owned()).collect()
            }
            Step::Rename { names } => names.iter().map(|(_, name)| name.clone()).collect(),
            _ => step.replicas(&self.observed),
        };
        Names {
            other,
            ..Names::default()
        }
    }

    fn hidden_by(&self, phase: Phase) -> Names {
        let plan = route_plan(phase, &self.desired, &self.observed);
        let (new, old) = self.observed.split(&self.desired.rollout);
        let rollout = Target::Rollout(self.desired.rollout.clone());
        // They are hidden from their creation on.
        let to_come = self.names.iter().filter(|_| new.is_empty());
        let to_come = to_come.filter(|_| plan.is_hidden(&rollout));
        let claim = self.observed.claim.as_ref();
        let was_hidden = |own: &Replica| claim.is_some_and(|claim| claim.plan.hides(own));
        let hidden = |all: &[&Replica]| -> Vec<String> {
            let all = all.iter();
            let all = all.filter(|own| plan.hides(own) && !was_hidden(own));
            all.map(|own| own.target_name().to_owned()).collect()
        };
        let to_come: Vec<String> = to_come.cloned().collect();
        Names {
            old: hidden(&old),
            other: [hidden(&new), to_come].concat(),
        }
    }

    /// What a step makes of the world.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Route(phase) => self.claim(*phase),
            Step::Create { replicas } => self.create(*replicas),
            Step::AwaitReady => self.await_ready(),
            Step::AwaitOthers(all) => self.facts.all_reached = Some(*all),
            Step::Bake => self.facts.baked = Some(Baked::Passed),
            Step::Watch { batch } => drop(self.facts.watched.insert(*batch)),
            Step::Pause { shift, .. } => self.facts.passed = *shift,
            Step::Confirm(phase) => self.facts.confirmed = Some(*phase),
            Step::Drain { replicas } => {
                let drained = replicas.iter().map(|id| (id.clone(), Drained::Answered));
                self.facts.drained.extend(drained);
            }
            Step::Hook(phase) => {
                self.facts.hooks.insert(*phase, HookEnd::Passed);
            }
            Step::PreStop { replicas } => self.facts.pre_stopped.extend(replicas.iter().cloned()),
            Step::Stop { replicas } => self.change(replicas, |replica| replica.run = Run::Exited),
            Step::Start { replicas } => {
                self.change(replicas, |replica| {
                    replica.run = Run::Running;
                    replica.health = Health::Healthy;
                });
                self.facts.started.extend(replicas.iter().cloned());
                (self.facts.confirmed, self.facts.confirm_expired) = (None, None);
            }
            Step::Remove { replicas } => {
                self.observed
                    .replicas
                    .retain(|own| !replicas.contains(&own.id));
            }
            Step::Rename { names } => {
                for (id, name) in names {
                    self.change(std::slice::from_ref(id), |replica| {
                        name.clone_into(&mut replica.name);
                    });
                }
            }
            Step::Release => {
                self.observed.claim = None;
                self.facts.released = true;
            }
        }
    }

    pub(super) fn change(&mut self, ids: &[ContainerId], change: impl Fn(&mut Replica)) {
        let all = self.observed.replicas.iter_mut();
        all.filter(|replica| ids.contains(&replica.id))
            .for_each(change);
    }

    pub(super) fn claim(&mut self, phase: Phase) {
        if phase != Phase::Settled {
            (self.facts.confirmed, self.facts.confirm_expired) = (None, None);
        }
        let mut now = claim(phase, &self.desired, &self.observed);
        // Without a proxy, a claim keeps the replicas that its earlier writes listed.
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
        let (new, _) = self.observed.split(&self.desired.rollout);
        let numbers = (1..=replicas).zip(&self.names).skip(new.len());
        let batch = next_batch(&self.desired, &self.observed);
        let made = numbers.map(|(number, name)| Replica {
            id: ContainerId(format!("new-{number}")),
            name: format!("new-{number}"),
            final_name: Some(name.clone()),
            rollout: Some(self.desired.rollout.clone()),
            wanted: Some(self.desired.replicas),
            batch,
            run: Run::Running,
            health: Health::Starting,
            ..Replica::default()
        });
        let made: Vec<Replica> = made.collect();
        self.observed.replicas.extend(made);
    }

    /// A replica of an earlier run that does not run any more does not become ready.
    fn await_ready(&mut self) {
        for own in &mut self.observed.replicas {
            if !self.facts.awaits(own, &self.desired) {
                continue;
            }
            let verdict = match own.serves() {
                true => {
                    own.health = Health::Healthy;
                    Verdict::Ready
                }
                false => {
                    own.run = Run::Exited;
                    Verdict::Failed("exited".to_owned())
                }
            };
            self.facts.verdicts.insert(own.id.clone(), verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Goal, Limits, Order, Reason, RolloutId},
        plan::batch_of,
        plan::simulator::{Simulator, WELL, old, replica},
    };

    fn of(olds: &[&str], replicas: u32, routed: bool) -> Preview {
        let olds = olds.iter().map(|name| old(name)).collect();
        let mut preview = Simulator::new(olds, replicas, routed, WELL).preview;
        let names = (1..=replicas).map(|number| format!("shop-web-{number}"));
        preview.names = names.collect();
        preview
    }

    /// A line for each step; all of them lead to the goal.
    #[track_caller]
    fn walked(preview: &mut Preview) -> Vec<String> {
        let (steps, end) = preview.walk();
        assert_eq!(end, None, "{steps:?}");
        let line = |(step, names): &(Step, Names)| {
            let old = names.old.iter().map(|own| format!("old:{own}"));
            let words = std::iter::once(step.name().to_owned()).chain(old);
            let words = words.chain(names.other.iter().cloned());
            words.collect::<Vec<_>>().join(" ")
        };
        steps.iter().map(line).collect()
    }

    #[test]
    fn a_rollout_hides_the_new_replicas_and_then_the_old_ones_and_ends_with_the_final_names() {
        let mut preview = of(&["a", "b"], 1, true);
        let steps = [
            "hold shop-web-1",
            "create shop-web-1",
            "ready shop-web-1",
            "cutover old:a old:b",
            "confirm",
            "drain a b",
            "stop a b",
            "remove a b",
            "rename shop-web-1",
            "release",
        ];
        assert_eq!(walked(&mut preview), steps);
        let left = preview.observed.replicas.iter();
        assert!(left.map(|own| own.name.as_str()).eq(["shop-web-1"]));
        assert_eq!(preview.observed.claim, None);
    }

    #[test]
    fn a_rolling_update_names_the_replicas_of_each_batch() {
        let limits = Limits {
            parallelism: 1,
            surge: 1,
            unavailable: 0,
            order: Order::StartFirst,
        };
        let world = Simulator::new(vec![old("a"), old("b")], 2, true, WELL);
        let mut preview = world.rolling(limits).preview;
        preview.names = vec!["shop-web-1".to_owned(), "shop-web-2".to_owned()];
        let steps = [
            "hold shop-web-1 shop-web-2",
            "create shop-web-1",
            "ready shop-web-1",
            "shift old:a",
            "confirm",
            "drain a",
            "stop a",
            "create shop-web-2",
            "ready shop-web-2",
            "cutover old:b",
            "confirm",
            "drain b",
            "stop b",
            "remove a b",
            "rename shop-web-1 shop-web-2",
            "release",
        ];
        assert_eq!(walked(&mut preview), steps);
    }

    #[test]
    fn where_old_replicas_of_a_batch_stop_first_the_hold_hides_them_beside_the_new_ones() {
        let limits = Limits {
            parallelism: 1,
            surge: 0,
            unavailable: 1,
            order: Order::StopFirst,
        };
        let olds = ["shop-web-1", "shop-web-2"].map(old).into();
        let mut preview = Simulator::new(olds, 2, true, WELL).rolling(limits).preview;
        preview.names = vec!["shop-web-1".to_owned(), "shop-web-2".to_owned()];
        let steps = walked(&mut preview);
        assert_eq!(steps[0], "hold old:shop-web-1 shop-web-1 shop-web-2");
    }

    #[test]
    fn each_step_of_a_rolling_update_is_about_a_batch() {
        let (first, last) = ("ready 1 shift 1 confirm 1", "ready 2 cutover 2 confirm 2");
        let beside = format!("create 1 {first} drain 1 stop 1 create 2 {last} drain 2 stop 2");
        let before = format!("drain 1 stop 1 create 1 {first} drain 2 stop 2 create 2 {last}");
        for (order, surge, expected) in [
            (Order::StartFirst, 1, beside),
            (Order::StopFirst, 0, before),
        ] {
            let limits = Limits {
                parallelism: 1,
                surge,
                unavailable: 1 - surge,
                order,
            };
            let world = Simulator::new(["a", "b"].map(old).into(), 2, true, WELL);
            let mut preview = world.rolling(limits).preview;
            preview.names = ["web-1", "web-2"].map(str::to_owned).into();
            let mut about = Vec::new();
            while let Next::Step(step) = preview.next() {
                let batch = batch_of(&step, &preview.desired, &preview.observed);
                about.extend(batch.map(|(batch, _)| format!("{} {batch}", step.name())));
                preview.apply(&step);
            }
            assert_eq!(about.join(" "), expected, "{order:?}");
        }
    }

    #[test]
    fn a_rolling_update_that_has_paused_goes_on_with_the_batches_that_are_left() {
        let limits = Limits {
            parallelism: 1,
            surge: 1,
            unavailable: 0,
            order: Order::StartFirst,
        };
        let olds = ["a", "b", "c"].map(old).into();
        let mut world = Simulator::new(olds, 3, true, WELL).rolling(limits);
        world.through(|step| *step == Step::Route(Phase::Shifted { step: 1 }));
        world.through(|step| *step == Step::AwaitReady);
        let mut preview = world.restarted().unwrap().preview;
        preview.names = ["web-1", "web-2", "web-3"].map(str::to_owned).into();
        let steps = walked(&mut preview);
        let rest = [
            "confirm",
            "ready web-new-1 web-new-2",
            "shift old:b",
            "confirm",
            "drain b",
            "stop b",
            "create web-3",
            "ready web-3",
            "cutover old:c",
            "confirm",
            "drain c",
            "stop c",
            "remove a b c",
            "rename web-new-1 web-new-2 web-3",
            "release",
        ];
        assert_eq!(steps, rest);
    }

    #[test]
    fn without_a_proxy_no_change_of_routes_is_a_step() {
        let steps = [
            "create shop-web-1 shop-web-2",
            "ready shop-web-1 shop-web-2",
            "drain a",
            "stop a",
            "remove a",
            "rename shop-web-1 shop-web-2",
        ];
        assert_eq!(walked(&mut of(&["a"], 2, false)), steps);
    }

    #[test]
    fn a_first_start_removes_nothing_and_stop_first_stops_before_it_creates() {
        let steps = walked(&mut of(&[], 1, true));
        assert!(!steps.iter().any(|step| step.starts_with("remove")));
        let mut preview = of(&["a"], 1, true);
        preview.desired.policy.order = Order::StopFirst;
        preview.desired.restartable = [ContainerId("a".to_owned())].into();
        let steps = walked(&mut preview);
        let at = |step: &str| steps.iter().position(|own| own == step);
        assert!(at("stop a") < at("create shop-web-1"), "{steps:?}");
        assert!(at("confirm") < at("remove a"), "{steps:?}");
    }

    #[test]
    fn a_rollout_that_was_left_before_its_cutover_is_rolled_back() {
        let mut preview = of(&["a"], 1, true);
        preview.desired.goal = Goal::Undo(Reason::Unfinished);
        let rollout: RolloutId = preview.desired.rollout.clone();
        let left = replica("b", Some(&rollout), Run::Running, Health::Healthy);
        preview.observed.replicas.push(left);
        preview.claim(Phase::Prepared);
        assert_eq!(walked(&mut preview), ["stop b", "remove b", "release"]);
    }
}
