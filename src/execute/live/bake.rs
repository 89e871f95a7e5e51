//! Watches the new replicas after the cutover, while the old ones still run.

use std::{future::pending, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Live, Sets, gates::others_changed};
use crate::{
    analysis::Verdict,
    context::ServiceContext,
    docker::{engine::Engine, watch::Watch},
    drain::watchers::{Old, Watchers},
    error::Result,
    model::{Baked, Desired, Facts, Goal, Replica, Run, Shift},
    prometheus::{Measurements, ask},
    proxy::Observation,
    settings::{Analysis, NoData},
};

/// The pause between two requests to the proxy.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// When a new replica fails.
const LIVE: &str = "after the cutover";
const PAUSED: &str = "with a part of the traffic";
const PREVIEWED: &str = "in the preview";
/// No person leaves a rollout paused for longer.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Live<'_> {
    /// Ends after the bake time, or when a new replica or the analysis fails.
    pub(super) async fn bake(
        &mut self,
        desired: &Desired,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        // A bake that was not asked for is about health alone.
        let is_asked_for = !self.context.settings.bake.is_zero();
        let judged = is_asked_for.then_some(Old::AreHidden);
        let watched = self
            .watch_for((self.bake, LIVE, judged), desired, sets)
            .await?;
        facts.baked = match watched {
            None => facts.baked.take(),
            Some(Watched::Passed) => Some(Baked::Passed),
            Some(Watched::NoData(why)) => Some(self.without_data("the bake", &why)),
            Some(Watched::Failed(why)) => Some(Baked::Failed(why)),
        };
        Ok(())
    }

    /// The same for the time after a batch.
    pub(super) async fn watch_batch(
        &mut self,
        batch: u16,
        desired: &Desired,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let (span, settings) = (self.watch_of(batch, desired), &self.context.settings);
        let is_last = desired.policy.is_last_batch(batch);
        let asked_for = settings.bake.max(settings.watch(is_last));
        let judged = (!asked_for.is_zero()).then_some(Old::Answer);
        let when = if is_last { LIVE } else { PAUSED };
        let watched = self.watch_for((span, when, judged), desired, sets);
        let ended = match watched.await? {
            None => return Ok(()),
            Some(Watched::Passed) => Baked::Passed,
            Some(Watched::NoData(why)) => self.without_data(&format!("batch {batch}"), &why),
            Some(Watched::Failed(why)) => Baked::Failed(why),
        };
        match ended {
            Baked::Passed => drop(facts.watched.insert(batch)),
            failed => facts.baked = Some(failed),
        }
        Ok(())
    }

    /// The same for the pause after a shift; without a `span` only a person ends it.
    pub(super) async fn pause(
        &mut self,
        (shift, span): (u16, Option<Duration>),
        desired: &Desired,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let shifted = desired.policy.shift(shift);
        let when = match shifted.is_some_and(Shift::is_preview) {
            true => PREVIEWED,
            false => PAUSED,
        };
        // Requests of a preview say nothing of the traffic.
        let judged = (when == PAUSED).then_some(Old::Answer);
        let span = (span.unwrap_or(YEAR), when, judged);
        let waits = shifted.is_some_and(|own| own.analysis) && !self.no_data_fails();
        match self.watch_for(span, desired, sets).await? {
            Some(Watched::NoData(why)) if waits => {
                let notice = format!("the canary stays at this step: {why}");
                self.events.notice(notice);
                facts.is_held = true;
            }
            Some(Watched::NoData(why)) => match self.without_data("the step", &why) {
                Baked::Passed => facts.passed = shift,
                failed => facts.baked = Some(failed),
            },
            Some(Watched::Passed) => facts.passed = shift,
            Some(Watched::Failed(why)) => facts.baked = Some(Baked::Failed(why)),
            None => {}
        }
        Ok(())
    }

    pub(super) fn watch_of(&self, batch: u16, desired: &Desired) -> Duration {
        let settings = &self.context.settings;
        let is_last = desired.policy.is_last_batch(batch);
        settings.watch(is_last).max(self.bake)
    }

    /// How the watch ended; `None` if it was left to look at a change. The analysis counts where it is `judged`.
    async fn watch_for(
        &mut self,
        (span, when, judged): (Duration, &str, Option<Old>),
        desired: &Desired,
        sets: &Sets<'_>,
    ) -> Result<Option<Watched>> {
        let until = *self
            .memory
            .bake_until
            .get_or_insert_with(|| Instant::now() + span);
        let (engine, watch) = (self.run.engine, self.watch);
        let latest = until + self.context.settings.confirm_timeout;
        let replicas: Vec<Replica> = sets.new.iter().map(|new| (*new).clone()).collect();
        let proxy = &mut *self.proxy;
        let asked = asked(
            async || proxy.observed(&replicas).await,
            &sets.new,
            (until, latest),
        );
        let measurements = self.memory.measurements.take();
        let mut judging = Judging::new(self.context, judged, measurements);
        let watchers = &mut self.memory.watchers;
        let ended = tokio::select! {
            why = judging.failure(engine, watchers) => Watched::Failed(format!("the new version fails the analysis: {why}")),
            why = first_failure(engine, watch, &sets.new) => Watched::Failed(format!("{} {when}", why?)),
            asked = asked => match asked {
                Asked::NotDown => Watched::Passed,
                Asked::Down(why) => Watched::Failed(why),
                Asked::Nothing => {
                    self.events.notice(format!(
                        "{}'s API did not answer at the end of the bake: whether its health check finds a new replica DOWN \
                         is unknown",
                        self.proxy.name()
                    ));
                    Watched::Passed
                }
            },
            // The planner checks whether a rollback is still possible.
            changed = others_changed(engine, watch, &self.context.key, sets, desired.confirm_hold) => {
                self.memory.measurements = Some(judging.measurements);
                return changed.map(|()| None);
            }
        };
        self.memory.bake_until = None;
        let ended = match (ended, judging.lack()) {
            // A run that finishes an earlier one has not watched the old version.
            (Watched::Passed, Some(why)) if desired.goal == Goal::Roll => Watched::NoData(why),
            (ended, _) => ended,
        };
        if let Watched::Failed(_) = ended {
            self.memory.failed_at = Some(Instant::now());
        }
        Ok(Some(ended))
    }

    fn no_data_fails(&self) -> bool {
        self.context.settings.analysis.no_data == NoData::Fail
    }

    /// The result of a watch that has passed without enough requests for the analysis.
    fn without_data(&self, what: &str, why: &str) -> Baked {
        if self.no_data_fails() {
            return Baked::Failed(format!("the analysis has no data: {why}"));
        }
        let notice = format!("{what} passes, not analysed in full: {why}");
        self.events.notice(notice);
        Baked::Passed
    }
}

/// How a watch of the new replicas ended.
enum Watched {
    Passed,
    /// None failed; why their requests could not be analysed.
    NoData(String),
    Failed(String),
}

/// The analysis during one watch.
struct Judging<'a> {
    analysis: &'a Analysis,
    /// `None` for a watch that is not analysed.
    judged: Option<Old>,
    /// It goes on with a watch that was left.
    goes_on: bool,
    /// What the figures say by now.
    verdict: Verdict,
    measurements: Vec<Measurements>,
}

impl<'a> Judging<'a> {
    /// `measurements` are those of a watch that was left.
    fn new(
        context: &'a ServiceContext<'_>,
        judged: Option<Old>,
        measurements: Option<Vec<Measurements>>,
    ) -> Self {
        let analysis = &context.settings.analysis;
        let metrics = context.metrics.iter();
        let metrics = metrics.filter(|_| judged.is_some() && analysis.is_on);
        let fresh = || metrics.map(Measurements::new).collect();
        Self {
            analysis,
            judged,
            goes_on: measurements.is_some(),
            verdict: Verdict::at_first(analysis),
            measurements: measurements.unwrap_or_else(fresh),
        }
    }

    /// Completes with the reason when the new version fails.
    async fn failure(&mut self, engine: &Engine, watchers: &mut Watchers) -> String {
        let Some(old) = self.judged else {
            return pending().await;
        };
        if !self.goes_on {
            watchers.begin_watch(engine, old).await;
        }
        let verdict = &mut self.verdict;
        tokio::select! {
            why = watchers.first_failure(engine, (self.analysis, old), verdict) => why,
            why = ask::first_failure(&mut self.measurements) => why,
        }
    }

    /// Why the new version is not judged in full. Where all metrics have had a success, they stand in for requests that
    /// cannot be read.
    fn lack(self) -> Option<String> {
        self.judged?;
        let mut lacking = self.measurements.iter().map(Measurements::lack);
        match self.verdict {
            Verdict::NoData(why) if self.measurements.is_empty() => Some(why),
            _ => lacking.find_map(|own| own),
        }
    }
}

/// Completes with the reason when one of the replicas fails or restarts.
pub async fn first_failure(
    engine: &Engine,
    watch: &Watch,
    replicas: &[&Replica],
) -> Result<String> {
    loop {
        let changed = watch.next();
        for new in replicas {
            let name = new.target_name();
            let why = match engine.replica(&new.id).await? {
                None => "was removed by another command".to_owned(),
                Some(now) if now.started_at != new.started_at => "restarted".to_owned(),
                Some(now) if now.serves() => continue,
                Some(now) if now.run == Run::Running => now.with_complaint("became unhealthy"),
                Some(_) => "stopped".to_owned(),
            };
            return Ok(format!("new replica {name} {why}"));
        }
        changed.await;
    }
}

/// The proxy's verdict on the new replicas by the end of the bake.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    NotDown,
    /// Its own health check reports one as down: why.
    Down(String),
    /// It did not answer after the end of the bake.
    Nothing,
}

/// Ends as soon as the proxy reports a replica down, else with its first answer after `until`, or at `latest` without an
/// answer. "Up" proves nothing before `until`: Traefik reports every server up until it has checked it.
async fn asked(
    mut ask: impl AsyncFnMut() -> Option<Observation>,
    new: &[&Replica],
    (until, latest): (Instant, Instant),
) -> Asked {
    loop {
        let at = Instant::now();
        let answer = match timeout_at(latest, ask()).await {
            Ok(answer) => answer,
            Err(_) => return Asked::Nothing,
        };
        let down = answer.as_ref().and_then(|answer| answer.down_among(new));
        match (down, answer) {
            (Some(down), _) => return Asked::Down(down),
            (None, Some(_)) if at >= until => return Asked::NotDown,
            (None, None) if at >= latest => return Asked::Nothing,
            (None, _) => {}
        }
        let next = at + ASK_EVERY;
        let end = if at < until { until } else { latest };
        sleep_until(next.min(end)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::simulator::old;

    const WATCH: Duration = Duration::from_millis(10_300);
    const CONFIRM: Duration = Duration::from_secs(30);

    /// The result and duration of a bake with a proxy that answers like this.
    async fn watched(mut says: impl FnMut(Duration) -> Option<Observation>) -> (Asked, Duration) {
        let new = old("new");
        let began = Instant::now();
        let until = began + WATCH;
        let limits = (until, until + CONFIRM);
        let asked = asked(async || says(began.elapsed()), &[&new], limits).await;
        (asked, began.elapsed())
    }

    fn up() -> Option<Observation> {
        Some(Observation::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_ends_in_time_where_the_proxy_answers_and_at_once_where_one_is_down() {
        assert_eq!(watched(|_| up()).await, (Asked::NotDown, WATCH));
        let second = Duration::from_secs(1);
        let down = |after: Duration| {
            let mut now = Observation::default();
            if after >= second {
                now.down.insert(old("new").id, "web".to_owned());
            }
            Some(now)
        };
        let (asked, after) = watched(down).await;
        assert!(matches!(asked, Asked::Down(_)), "{asked:?}");
        assert_eq!(after, second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_cannot_be_asked_keeps_the_watch_going_up_to_a_bound() {
        let three = Duration::from_secs(3);
        let (asked, after) = watched(|after| up().filter(|_| after >= WATCH + three)).await;
        assert_eq!((asked, after), (Asked::NotDown, WATCH + three));
        let silent = watched(|_| None).await;
        assert_eq!(silent, (Asked::Nothing, WATCH + CONFIRM));
    }
}
