//! The services of one command: prepared together, then rolled side by side.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::{sync::watch, time::Instant};

use super::super::{emit_failure, opened::Opened};
use crate::{
    cli::UpArgs,
    compose::Hashes,
    context::{Beside, Purpose, RunContext},
    error::{Error, Result},
    event::{Event, Events},
    execute::{self, together::Group},
    proxy::landscape::{Landscape, Listed},
    roll::{Ended, Prepared, roll, warn_of_memory},
    settings::{Partial, Settings},
    stack::{
        choose::{Left, OWN_PART, left_alone, runs_only_once},
        graph::Order,
        orphans::{Orphan, orphans},
        outcome::after_others,
        schedule::{self, Ends, Limits},
    },
    state::{Lock, lock},
    variables::Given,
};

/// Images that are pulled or built side by side, unless a setting or Compose's own variable says otherwise.
const PULLS: u32 = 4;

/// What all services of a command share on one engine.
pub struct Work<'a> {
    pub up: &'a UpArgs,
    pub opened: &'a Opened,
    pub events: Events,
    pub hashes: Hashes,
    /// The events of each service, by its name.
    pub of_each: BTreeMap<&'a str, Events>,
    /// The settings of the command as a whole.
    pub settings: Settings,
    pub interrupted: watch::Receiver<bool>,
    /// Whether the report is that of several services.
    pub is_stack: bool,
    /// The services that cut over in the same moment, where that is asked for.
    pub group: Option<Group>,
    pub finds_orphans: bool,
    /// The variables of the command.
    pub set: Option<Given>,
    /// The locks that are taken before any service begins, by service.
    pub locks: Mutex<BTreeMap<String, Lock>>,
}

/// Services that have passed all checks.
pub struct Checked<'w, 'a> {
    pub order: Order<'a>,
    pub left: Vec<Left>,
    pub orphans: Vec<Orphan>,
    pub prepared: Vec<Prepared<'w>>,
    pub landscape: Landscape,
}

impl Checked<'_, '_> {
    pub fn runs_once(&self, service: &str) -> bool {
        let mut of_service = self.prepared.iter();
        of_service.any(|own| own.scope().service() == service && own.runs_once())
    }
}

impl<'a> Work<'a> {
    /// Prepares all services before the first is touched, then rolls them.
    pub async fn all(
        &self,
        order: Order<'a>,
        left: Vec<Left>,
        listed: Result<Listed>,
    ) -> Result<()> {
        let began = Instant::now();
        let mut checked = self.check(order, left, listed).await?;
        if self.is_stack {
            let services = checked.order.names().into_iter();
            self.events.emit(Event::StackStarted {
                services: services.map(str::to_owned).collect(),
                parallel: self.settings.parallel,
                hosts: Vec::new(),
            });
            self.fetch(&mut checked).await?;
        }
        self.share_variables(&checked.order);
        self.expect(&checked.order, &checked.prepared);
        let Checked {
            order,
            left,
            orphans,
            prepared,
            landscape,
        } = checked;
        let begins = |own: &Prepared<'_>| order.names().first() == Some(&own.scope().service());
        let first = prepared.into_iter().find(begins);
        let first = first.map(|prepared| (prepared, landscape));
        let mut ends = self.run(&order, first).await;
        if self.is_stack {
            return self.finish(&order, ends, &left, &orphans, began).await;
        }
        match (ends.pop(), order.names().first()) {
            (Some((_, ended)), _) => ended.map(drop),
            (None, Some(name)) => Err(Error::interrupted(format!(
                "interrupted; {name} was not touched"
            ))
            .hint(self.again())),
            (None, None) => Ok(()),
        }
    }

    /// Refuses what cannot be rolled; touches nothing.
    pub async fn check(
        &self,
        mut order: Order<'a>,
        mut left: Vec<Left>,
        listed: Result<Listed>,
    ) -> Result<Checked<'_, 'a>> {
        let prepared = self.prepare_all(&mut order, &mut left, listed).await;
        let (prepared, landscape) = prepared?;
        let orphans = match self.finds_orphans {
            // A locked service is being rolled by another command, which may read another file.
            true => orphans(&landscape.containers, &self.opened.project, |key| {
                landscape.carries_traffic(key) || lock::is_among(&landscape.containers, key)
            }),
            false => Vec::new(),
        };
        self.refuse_alone(&prepared)?;
        Ok(Checked {
            order,
            left,
            orphans,
            prepared,
            landscape,
        })
    }

    /// Fetches the images, and checks what could not be checked without them.
    pub async fn fetch(&self, checked: &mut Checked<'_, 'a>) -> Result<()> {
        let Checked {
            order,
            left,
            prepared,
            landscape,
            ..
        } = checked;
        let more = self.fetch_ahead(prepared).await?;
        prepared.retain(|own| {
            more.iter()
                .all(|left| left.service != own.scope().service())
        });
        self.judge_again(prepared, landscape).await?;
        self.refuse_alone(prepared)?;
        let at_once = match self.group {
            Some(_) => prepared.len(),
            None => self.settings.parallel as usize,
        };
        warn_of_memory(prepared, at_once, &self.events).await;
        self.report_left(&more);
        more.iter().for_each(|own| order.leave_out(&own.service));
        left.extend(more);
        Ok(())
    }

    /// Rolls the services in their order; `first` is the one that begins, as it was prepared.
    pub async fn run<'w>(
        &'w self,
        order: &Order<'a>,
        mut first: Option<(Prepared<'w>, Landscape)>,
    ) -> Ends<'a, Ended> {
        let limits = Limits {
            parallel: self.settings.parallel,
            on_failure: self.settings.on_failure,
        };
        let begin = |name| self.one(name, first.take());
        let waits = (&self.interrupted, self.group.as_ref());
        schedule::run(order, limits, waits, begin).await
    }

    /// The locks that are taken and belong to no rollout yet.
    pub fn locks(&self) -> MutexGuard<'_, BTreeMap<String, Lock>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses services that cannot cut over in the same moment as others.
    pub fn refuse_alone(&self, prepared: &[Prepared<'_>]) -> Result<()> {
        let mut all = prepared.iter().filter(|_| self.group.is_some());
        all.try_for_each(|own| {
            let refused = own.refuse_alone();
            refused.map_err(|error| error.within(own.scope()).untouched())
        })
    }

    /// Names the services that wait for each other; a one-shot service runs in its place.
    pub fn expect(&self, order: &Order<'_>, prepared: &[Prepared<'_>]) {
        let Some(group) = &self.group else { return };
        let names = order.names();
        let all = prepared.iter().filter(|own| !own.runs_once());
        let all = all.map(|own| own.scope().service());
        group.expect(all.filter(|name| names.contains(name)));
    }

    /// Gives the scope of the first service to an error that comes before any service is prepared.
    fn before_all(&self, error: Error, order: &Order<'_>) -> Error {
        match order.names().first() {
            Some(first) => error.within(self.of_each[first].scope()),
            None => error,
        }
    }

    /// The command to run again, for hints.
    pub fn again(&self) -> String {
        let set = self.set.as_ref().map(Given::options).unwrap_or_default();
        let on = self.up.target.on.iter();
        let on: String = on.map(|own| format!(" --on {own}")).collect();
        match self.up.all {
            true => format!("rollout --all{set}{on}"),
            false => format!("rollout {}{set}{on}", self.up.services.join(" ")),
        }
    }

    fn context(&self, name: &str) -> RunContext<'_> {
        RunContext {
            hashes: Some(&self.hashes),
            of_several: self.is_stack,
            together: self.group.is_some(),
            set: self.set.as_ref(),
            decided: self.up.decided_of(name),
            ..self.opened.run(&self.of_each[name])
        }
    }

    /// Prepares the services. Those that `--all` leaves alone move from `order` to `left`, which is reported.
    pub async fn prepare_all(
        &self,
        order: &mut Order<'a>,
        left: &mut Vec<Left>,
        listed: Result<Listed>,
    ) -> Result<(Vec<Prepared<'_>>, Landscape)> {
        let Opened {
            engine, project, ..
        } = self.opened;
        let landscape = match listed {
            Ok(listed) => Landscape::of(engine, listed, &project.name).await,
            Err(error) => Err(error),
        };
        let mut landscape = landscape.map_err(|error| self.before_all(error.untouched(), order))?;
        let (mut prepared, mut names) = (Vec::new(), Vec::new());
        let mut new = BTreeMap::new();
        for name in order.names() {
            let earlier = order.done_before(name, &names, self.settings.parallel);
            let beside = Beside {
                earlier: earlier.into_iter().map(str::to_owned).collect(),
                new: new.clone(),
            };
            match self.prepare(name, beside, &mut landscape).await? {
                Ok(own) => {
                    new.extend(own.new_labels());
                    prepared.push(own);
                    names.push(name);
                }
                Err(own) => {
                    left.push(own);
                    order.leave_out(name);
                }
            }
        }
        self.report_left(left);
        Ok((prepared, landscape))
    }

    async fn prepare(
        &self,
        name: &str,
        beside: Beside,
        landscape: &mut Landscape,
    ) -> Result<Result<Prepared<'_>, Left>> {
        let (run, flags) = (self.context(name), &self.up.settings);
        if self.may_be_left(name) && landscape.carries_traffic(&self.opened.project.key(name)) {
            return Ok(Err(Left::of(name, OWN_PART)));
        }
        let prepared = run.prepare(name, flags, beside, Purpose::Roll, landscape);
        self.or_left(name, prepared.await)
    }

    /// What was read of a service, or why it is left alone.
    pub fn or_left<T>(&self, name: &str, read: Result<T>) -> Result<Result<T, Left>> {
        match read {
            Err(error) if self.may_be_left(name) && runs_only_once(&error) => {
                Ok(Err(Left::of(name, error.message)))
            }
            Err(error) => Err(error.within(self.of_each[name].scope())),
            Ok(read) => Ok(Ok(read)),
        }
    }

    /// Whether `--all` alone has chosen the service.
    fn may_be_left(&self, name: &str) -> bool {
        self.up.all && !self.up.services.iter().any(|own| own == name)
    }

    pub fn report_left(&self, left: &[Left]) {
        if let Some(line) = left_alone(left) {
            self.events.notice(line);
        }
    }

    /// Fetches the images before the first service is touched. Returns the services that are left alone because of their image.
    async fn fetch_ahead(&self, prepared: &mut [Prepared<'_>]) -> Result<Vec<Left>> {
        let asked = self.settings.pull_parallel;
        let limit = asked.or_else(|| self.opened.compose.parallel_limit());
        let limit = limit.unwrap_or(PULLS) as usize;
        let fetched = prepared.iter_mut().map(|own| async move {
            let name = own.scope().service();
            let fetching = own.fetch_ahead();
            let fetched =
                execute::unless_interrupted(&self.interrupted, execute::UNCHANGED, fetching).await;
            let fetched = self.or_left(name, fetched.map_err(|own| own.or_hint(self.again())));
            fetched.map(Result::err)
        });
        let fetched = stream::iter(fetched).buffer_unordered(limit);
        let left: Vec<Option<Left>> = fetched.try_collect().await?;
        Ok(left.into_iter().flatten().collect())
    }

    /// Judges the services again whose images the engine did not have, with all that is known of all now.
    async fn judge_again(
        &self,
        prepared: &mut [Prepared<'_>],
        landscape: &mut Landscape,
    ) -> Result<()> {
        if !prepared.iter().any(Prepared::lacked_image) {
            return Ok(());
        }
        landscape.refresh().await.map_err(Error::untouched)?;
        let new: BTreeMap<_, _> = prepared.iter().filter_map(Prepared::new_labels).collect();
        for own in prepared.iter_mut().filter(|own| own.lacked_image()) {
            let judged = own.judge_again(new.clone(), landscape).await;
            judged.map_err(|error| error.within(own.scope()).or_hint(self.again()))?;
        }
        Ok(())
    }

    /// Rolls one service; the first is prepared already.
    async fn one(&self, name: &str, first: Option<(Prepared<'_>, Landscape)>) -> Result<Ended> {
        let run = self.context(name);
        let is_first = first.is_some();
        let rolled = async {
            let (prepared, mut landscape) = match first {
                Some(first) => first,
                // The rollouts before it have changed the landscape.
                None => self.read_again(name).await?,
            };
            let lock = self.locks().remove(name);
            let (interrupted, held) = (self.interrupted.clone(), (self.group.as_ref(), lock));
            roll(prepared, &mut landscape, interrupted, held).await
        };
        let rolled = rolled.await;
        if let Some(group) = &self.group {
            group.leave(name, rolled.is_err());
        }
        let rolled = rolled.map_err(|error| {
            let error = error.within(run.events.scope());
            match is_first {
                true => error,
                false => after_others(error, name),
            }
        });
        if let (true, Err(error)) = (self.is_stack, &rolled) {
            emit_failure(run.events, error);
        }
        rolled
    }

    async fn read_again(&self, name: &str) -> Result<(Prepared<'_>, Landscape)> {
        let run = self.context(name);
        let services = vec![name.to_owned()];
        run.events.emit(Event::Opening { services });
        let mut landscape = run.landscape().await?;
        // Its image was fetched before the first service was touched.
        let flags = Partial::no_fetch().or(self.up.settings.clone());
        let prepared = run.prepare(
            name,
            &flags,
            Beside::default(),
            Purpose::Roll,
            &mut landscape,
        );
        Ok((prepared.await?, landscape))
    }
}
