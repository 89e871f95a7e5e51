//! Every interleaving of the steps and of what goes wrong between and in them: no request is lost by a step, and each path
//! ends with what it says.

use std::collections::HashSet;

use super::*;

/// The troubles on one path.
const TROUBLES: u32 = 3;
/// A longer path has no end.
const LONGEST: u32 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Version {
    Old,
    New,
    /// Its update has failed half-way.
    Mixed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    service: Version,
    observed: Observed,
    /// What Traefik has read last.
    routed: Side,
    /// The side that may still have requests to answer although Traefik has read the other one.
    busy: Option<Side>,
    facts: Facts,
    troubles: u32,
    /// What the service was when the run began.
    began: Version,
}

impl World {
    fn new(facts: Facts) -> Self {
        Self {
            service: Version::Old,
            observed: Observed {
                claim: None,
                twin: None,
            },
            routed: Side::Service,
            busy: None,
            facts,
            troubles: TROUBLES,
            began: Version::Old,
        }
    }

    /// What the socket proxy shows.
    fn shown(&self) -> Side {
        let is_claimed = matches!(self.observed.claim, Some(Stage::Cutover | Stage::Update));
        match is_claimed && self.observed.twin == Some(true) {
            true => Side::Twin,
            false => Side::Service,
        }
    }

    fn reads(&mut self) {
        let shown = self.shown();
        if self.routed != shown {
            self.busy = Some(self.routed);
            self.routed = shown;
        }
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Claim(stage) => {
                let is_back = stage == Stage::Release && self.facts.updated == Some(Ok(()));
                let moves = self.routed == Side::Twin;
                assert!(!is_back || !moves || self.facts.proven, "{self:?}");
            }
            Step::Confirm(side) => {
                self.reads();
                assert_eq!(self.routed, side, "{self:?}");
            }
            // A failure still goes back to the old version.
            Step::Bake => {
                assert_eq!(
                    (self.routed, self.service),
                    (Side::Twin, self.began),
                    "{self:?}"
                );
            }
            Step::Drain(side) => {
                if self.busy == Some(side) {
                    self.busy = None;
                }
            }
            Step::Update => {
                let is_idle = self.routed == Side::Twin && self.busy != Some(Side::Service);
                assert!(is_idle || self.facts.in_place, "{self:?}");
                self.service = Version::New;
            }
            Step::Remove => {
                let is_idle = self.routed == Side::Service && self.busy != Some(Side::Twin);
                assert!(is_idle, "{self:?}");
            }
            Step::Create | Step::Clear | Step::AwaitReady(_) => {}
        }
        succeed(step, &mut self.observed, &mut self.facts);
    }

    /// The run ends at once.
    fn dies(&mut self) {
        self.facts = Facts {
            in_place: !self.facts.routed,
            routed: self.facts.routed,
            bakes: self.facts.bakes,
            ..Facts::default()
        };
        self.began = self.service;
    }

    fn after(&self, trouble: &dyn Fn(&mut Self)) -> Self {
        let mut world = self.clone();
        world.troubles -= 1;
        trouble(&mut world);
        world
    }

    /// What can go wrong before or in a step.
    fn troubled(&self, step: Step) -> Vec<Self> {
        let mut all = self.without_twin(step);
        let mut add = |trouble: &dyn Fn(&mut Self)| all.push(self.after(trouble));
        // A run that is killed before a step, or after it and before it has taken it down.
        add(&Self::dies);
        if !matches!(step, Step::Confirm(side) if side != self.shown()) {
            add(&|world| {
                world.act(step);
                world.dies();
            });
        }
        // Traefik polls when it likes.
        add(&Self::reads);
        if self.observed.claim.is_some() {
            // The state of the socket proxy is lost between two runs.
            add(&|world| {
                world.dies();
                world.observed.claim = None;
            });
        }
        if step == Step::Update {
            // The tag has moved, or the file was another one when the twin was made.
            add(&|world| {
                world.act(step);
                world.facts.proven = false;
            });
            add(&|world| {
                world.act(step);
                world.service = Version::Mixed;
                world.facts.updated = Some(Err("paused".to_owned()));
            });
        }
        if step.turns_back(&self.observed, &self.facts) {
            add(&|world| world.facts.undo = Some(Undo::Failed("failed".to_owned())));
            add(&|world| world.facts.undo = Some(Undo::Interrupted));
        }
        if step == Step::Create {
            add(&|world| {
                world.act(step);
                world.facts.in_place = true;
            });
        }
        all
    }

    /// The tasks of the twin end, or run again.
    fn without_twin(&self, step: Step) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |trouble: &dyn Fn(&mut Self)| all.push(self.after(trouble));
        if self.observed.twin.is_some() {
            // Its requests end with it.
            let vanish = |world: &mut Self, twin| {
                world.observed.twin = twin;
                world.routed = world.shown();
                world.busy = world.busy.filter(|side| *side == Side::Service);
            };
            add(&|world| vanish(world, None));
            add(&|world| vanish(world, Some(false)));
        }
        if self.observed.twin == Some(false) {
            // Swarm starts its tasks again: between two runs, or while a step is done that was planned without them.
            add(&|world| {
                world.dies();
                world.observed.twin = Some(true);
            });
            add(&|world| {
                world.observed.twin = Some(true);
                if !matches!(step, Step::Confirm(side) if side != world.shown()) {
                    world.act(step);
                }
            });
        }
        all
    }

    /// Without further trouble it comes to an end.
    fn goes_on(mut self) {
        for _ in 0..LONGEST {
            match plan(&self.observed, &self.facts) {
                Next::Step(Step::Confirm(side)) if side != self.shown() => return,
                Next::Step(step) => self.act(step),
                Next::Undo(why) => self.facts.undo = Some(Undo::Failed(why)),
                _ => return,
            }
        }
        panic!("no end: {self:?}");
    }

    fn ends(&self, next: &Next) {
        let is_clean = self.observed.claim.is_none() && self.observed.twin.is_none();
        match next {
            Next::Done => assert!(is_clean && self.service == Version::New, "{self:?}"),
            Next::Failed(_) => {
                let is_as_before = self.service == self.began;
                let is_told = matches!(self.facts.updated, Some(Err(_)));
                assert!(is_clean && (is_as_before || is_told), "{self:?}");
            }
            Next::NeedsPerson(_) => assert_eq!(self.shown(), Side::Twin, "{self:?}"),
            Next::Step(_) | Next::Undo(_) => unreachable!("no end"),
        }
    }
}

fn through_traefik() -> Facts {
    Facts {
        routed: true,
        ..Facts::default()
    }
}

/// How many ends there are.
fn walk(world: World, seen: &mut HashSet<World>, length: u32) -> u32 {
    if !seen.insert(world.clone()) {
        return 0;
    }
    assert!(length < LONGEST, "no end: {world:?}");
    world.clone().goes_on();
    let next = plan(&world.observed, &world.facts);
    let step = match next {
        Next::Step(step) => step,
        Next::Undo(why) => {
            let mut world = world;
            world.facts.undo = Some(Undo::Failed(why));
            return walk(world, seen, length + 1);
        }
        end => {
            world.ends(&end);
            return 1;
        }
    };
    let mut ends = 0;
    if world.troubles > 0 {
        for troubled in world.troubled(step) {
            ends += walk(troubled, seen, length + 1);
        }
    }
    // The real one waits and then gives up; that is the trouble of a step that fails.
    let may_succeed = !matches!(step, Step::Confirm(side) if side != world.shown());
    if may_succeed {
        let mut after = world;
        after.act(step);
        ends += walk(after, seen, length + 1);
    }
    ends
}

#[test]
fn whatever_goes_wrong_no_step_loses_a_request_and_each_path_ends_with_what_it_says() {
    for bakes in [false, true] {
        let facts = Facts {
            bakes,
            ..through_traefik()
        };
        let ends = walk(World::new(facts), &mut HashSet::new(), 0);
        assert!(ends > 20, "{ends}");
    }
}

#[test]
fn without_a_proxy_swarm_updates_the_service_and_nothing_else_is_made() {
    let facts = Facts {
        in_place: true,
        ..Facts::default()
    };
    let ends = walk(World::new(facts), &mut HashSet::new(), 0);
    assert!(ends > 2, "{ends}");
}

const SETTLED: Observed = Observed {
    claim: None,
    twin: None,
};

fn names(observed: Observed, facts: Facts, tasks_stay: bool) -> Vec<&'static str> {
    let all = steps(observed, facts, tasks_stay);
    all.into_iter().map(Step::name).collect()
}

#[test]
fn a_rollout_without_trouble_takes_these_steps() {
    let expected = [
        "create", "ready", "cutover", "confirm", "drain", "commit", "update", "return", "confirm",
        "drain", "remove", "release",
    ];
    assert_eq!(names(SETTLED, through_traefik(), false), expected);
    let bakes = Facts {
        bakes: true,
        ..through_traefik()
    };
    let with_bake = [&expected[..4], &["bake"], &expected[4..]].concat();
    assert_eq!(names(SETTLED, bakes, false), with_bake);
    let expected = ["create", "remove", "update", "confirm"];
    assert_eq!(names(SETTLED, through_traefik(), true), expected);
    let left = Observed {
        claim: Some(Stage::Update),
        twin: Some(true),
    };
    let expected = [
        "confirm", "drain", "update", "return", "confirm", "drain", "remove", "release",
    ];
    assert_eq!(names(left, through_traefik(), false), expected);
}

#[test]
fn what_an_undo_takes_back_gives_the_traffic_to_the_service_and_removes_the_twin() {
    let facts = Facts {
        undo: Some(Undo::Asked),
        ..through_traefik()
    };
    let of = |claim| Observed {
        claim,
        twin: Some(true),
    };
    let expected = ["return", "confirm", "drain", "remove", "release"];
    let cut_over = of(Some(Stage::Cutover));
    assert_eq!(names(cut_over, facts.clone(), false), expected);
    assert_eq!(names(of(None), facts.clone(), false), expected[1..4]);
    for observed in [cut_over, of(None)] {
        let mut world = World::new(facts.clone());
        world.observed = observed;
        world.routed = world.shown();
        assert!(walk(world, &mut HashSet::new(), 0) > 2);
    }
}

#[test]
fn a_service_is_not_updated_for_a_claim_whose_twin_has_no_task_or_before_this_run_has_confirmed_the_twin()
 {
    let of = |twin| Observed {
        claim: Some(Stage::Update),
        twin,
    };
    for twin in [None, Some(false)] {
        let release = Next::Step(Step::Claim(Stage::Release));
        assert_eq!(plan(&of(twin), &through_traefik()), release);
    }
    let mut facts = through_traefik();
    for expected in [
        Step::Confirm(Side::Twin),
        Step::Drain(Side::Service),
        Step::Update,
    ] {
        assert_eq!(plan(&of(Some(true)), &facts), Next::Step(expected));
        learn(expected, &mut facts);
    }
}

#[test]
fn an_update_in_place_is_confirmed_where_traefik_routes() {
    let mut world = World::new(Facts {
        in_place: true,
        // By what took an earlier twin down.
        confirmed: Some(Side::Service),
        ..through_traefik()
    });
    world.act(Step::Update);
    let next = plan(&world.observed, &world.facts);
    assert_eq!(next, Next::Step(Step::Confirm(Side::Service)));
    world.act(Step::Confirm(Side::Service));
    assert_eq!(plan(&world.observed, &world.facts), Next::Done);
}

#[test]
fn a_stage_reads_as_it_is_written_and_any_other_word_is_none() {
    for stage in [Stage::Cutover, Stage::Update, Stage::Release] {
        assert_eq!(stage.to_string().parse(), Ok(stage));
    }
    assert_eq!("cutover".parse::<Stage>(), Err(()));
}
