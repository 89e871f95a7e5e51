//! The watchers of a rollout's replicas, and what they count by each turning point.
//!
//! Figures never hold a rollout up and never fail it: what is not known at once is left out.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, future::join_all};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{Watched, Watcher};
use crate::{
    analysis::{Compared, Verdict, judge},
    docker::{engine::Engine, watch::OutOfMemory},
    figures::{Moment, Sample, Samples, Spans},
    model::{ContainerId, Replica, Usage},
    settings::Analysis,
};

/// The pause between two looks at the figures.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest wait for what the engine reports of a replica.
const PATIENCE: Duration = Duration::from_millis(100);

/// The watchers that run, and what they have counted.
#[derive(Default)]
pub struct Watchers {
    running: BTreeMap<ContainerId, Watcher>,
    meters: BTreeMap<ContainerId, Meter>,
    /// Those of new replicas that are being started.
    starting: Vec<Starting>,
    samples: Samples,
    out_of_memory: OutOfMemory,
    has_cut_over: bool,
}

/// What the old replicas do while the new ones are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// They share the traffic with the new ones.
    Answer,
    AreHidden,
}

type Starting = (ContainerId, JoinHandle<First>);

/// A watcher that has started, with the first sample of its replica.
pub type Started = (ContainerId, First);

type First = (Watcher, Meter, Sample);

/// Follows what a container uses; the engine reports it about once a second.
pub struct Meter {
    following: JoinHandle<()>,
    seen: watch::Receiver<Vec<Usage>>,
}

impl Meter {
    fn start(engine: &Engine, id: &ContainerId) -> Self {
        let (note, seen) = watch::channel(Vec::new());
        let (engine, id) = (engine.clone(), id.clone());
        let following = tokio::spawn(async move {
            let mut all = engine.usages(&id);
            while let Some(usage) = all.next().await {
                // The first and the last.
                note.send_modify(|seen| {
                    seen.truncate(1);
                    seen.push(usage);
                });
            }
        });
        Self { following, seen }
    }

    fn first(&self) -> Option<Usage> {
        self.seen.borrow().first().copied()
    }

    fn last(&self) -> Option<Usage> {
        self.seen.borrow().last().copied()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Watchers {
    pub fn new(out_of_memory: OutOfMemory) -> Self {
        Self {
            out_of_memory,
            ..Self::default()
        }
    }

    pub fn add(&mut self, started: impl IntoIterator<Item = Started>, is_new: bool) {
        for (id, (watcher, meter, first)) in started {
            self.samples.begin(id.clone(), is_new, first);
            self.meters.insert(id.clone(), meter);
            self.running.insert(id, watcher);
        }
    }

    /// Takes the watcher of a replica out, if it has one.
    pub async fn take(&mut self, id: &ContainerId) -> Option<Watcher> {
        let own = self.starting.extract_if(.., |own| own.0 == *id);
        let own: Vec<_> = own.collect();
        self.await_all(own).await;
        self.running.remove(id)
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    pub fn has(&self, id: &ContainerId) -> bool {
        self.running.contains_key(id) || self.starting.iter().any(|own| own.0 == *id)
    }

    /// Starts the watcher of a new replica that is ready: the cutover does not wait for it.
    pub fn begin(&mut self, engine: &Engine, replica: &Replica, watched: Watched) {
        let (engine, id) = (engine.clone(), replica.id.clone());
        let replica = replica.clone();
        let starting = tokio::spawn(async move {
            let mut watcher = Watcher::start_calmly(&engine, &replica, &watched).await;
            let meter = Meter::start(&engine, &replica.id);
            let first = first_sample(&replica, &mut watcher).await;
            (watcher, meter, first)
        });
        self.starting.push((id, starting));
    }

    /// The figures by the end.
    pub async fn figures(&mut self, engine: &Engine) -> Spans {
        self.mark(engine, Moment::End).await;
        self.samples.spans()
    }

    /// Notes the beginning of a bake or a pause.
    pub async fn begin_watch(&mut self, engine: &Engine, old: Old) {
        self.samples.begin_watch();
        self.sample(engine, Moment::Watch, old).await;
    }

    /// Completes with the reason when the figures fail the analysis. `verdict` is that of the last look.
    pub async fn first_failure(
        &mut self,
        engine: &Engine,
        (analysis, old): (&Analysis, Old),
        verdict: &mut Verdict,
    ) -> String {
        loop {
            sleep(LOOK_EVERY).await;
            self.sample(engine, Moment::Bake, old).await;
            let between = |old_from, new_from| Compared {
                old: self.samples.between(false, old_from, Moment::Bake),
                new: self.samples.between(true, new_from, Moment::Bake),
            };
            let all = between(Moment::Start, Moment::Cutover);
            let recent = between(Moment::Watch, Moment::Watch);
            *verdict = judge(analysis, &all, &recent);
            if let Verdict::Fail(why) = verdict {
                return why.clone();
            }
        }
    }

    async fn await_all(&mut self, starting: Vec<Starting>) {
        for (id, starting) in starting {
            let started = starting.await.ok().map(|own| (id, own));
            self.add(started, true);
        }
    }

    /// Ends the watchers of replicas that go.
    pub async fn end(&mut self, ids: &[ContainerId]) {
        for id in ids {
            drop(self.take(id).await);
        }
    }

    /// Notes the last counts of a replica.
    pub fn ended(&mut self, id: &ContainerId, watcher: &Watcher, moment: Moment) {
        let sample = Sample {
            wire: watcher.last_counted(),
            ..Sample::default()
        };
        self.note(id, moment, sample);
    }

    fn note(&mut self, id: &ContainerId, moment: Moment, mut sample: Sample) {
        if let Some(meter) = self.meters.get(id) {
            sample.usage = meter.last();
            self.samples.uses_first(id, meter.first());
        }
        sample.is_oom_killed |= self.out_of_memory.has(id);
        self.samples.note(id, moment, sample);
    }

    /// Notes what the replicas have answered and used by now.
    pub async fn mark(&mut self, engine: &Engine, moment: Moment) {
        self.sample(engine, moment, Old::Answer).await;
    }

    /// Marks the cutover, once in a run: its first change of shares.
    pub async fn cut_over(&mut self, engine: &Engine) {
        if !std::mem::replace(&mut self.has_cut_over, true) {
            self.mark(engine, Moment::Cutover).await;
        }
    }

    async fn sample(&mut self, engine: &Engine, moment: Moment, old: Old) {
        let ended = self.starting.extract_if(.., |own| own.1.is_finished());
        let ended: Vec<_> = ended.collect();
        self.await_all(ended).await;
        let samples = &self.samples;
        let counts = |id: &ContainerId| old == Old::Answer || samples.is_new(id);
        let running = self.running.iter_mut().filter(|own| counts(own.0));
        let sampling = running.map(|(id, watcher)| async move {
            let sample = match moment {
                // Restarts and a lack of memory are found by events, and a look comes every half second.
                Moment::Watch | Moment::Bake => counts_alone(watcher).await,
                _ => sample(engine, id, watcher).await,
            };
            (id.clone(), sample)
        });
        for (id, sample) in join_all(sampling).await {
            self.note(&id, moment, sample);
        }
    }
}

/// The first sample of a replica whose state is known.
async fn first_sample(replica: &Replica, watcher: &mut Watcher) -> Sample {
    Sample {
        restarts: u64::try_from(replica.restarts).unwrap_or(0),
        is_oom_killed: replica.oom_killed,
        ..counts_alone(watcher).await
    }
}

async fn sample(engine: &Engine, id: &ContainerId, watcher: &mut Watcher) -> Sample {
    let replica = timeout(PATIENCE, engine.replica(id)).await;
    match replica.ok().and_then(Result::ok).flatten() {
        Some(replica) => first_sample(&replica, watcher).await,
        None => counts_alone(watcher).await,
    }
}

async fn counts_alone(watcher: &mut Watcher) -> Sample {
    Sample {
        wire: watcher.counted().await,
        at: Some(Instant::now()),
        ..Sample::default()
    }
}

/// Starts the watchers of replicas, and takes the first sample of each.
pub async fn start_all(engine: &Engine, watched: Vec<(Replica, Watched)>) -> Vec<Started> {
    let starting = watched.into_iter().map(|(replica, watched)| async move {
        let meter = Meter::start(engine, &replica.id);
        let mut watcher = Watcher::start(engine, &replica, &watched).await;
        let first = first_sample(&replica, &mut watcher).await;
        (replica.id, (watcher, meter, first))
    });
    join_all(starting).await
}
