//! The services of one command on several hosts, wave by wave. Before the first change on any host, all of them are checked
//! and all locks are held.

use std::time::Duration;

use futures_util::{
    future::{join_all, try_join_all},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{
    super::{
        emit_failure,
        notify::notify,
        opened::{Opened, refuse_standard_input},
    },
    complete,
    finish::has_failed,
    names, set, variables,
    work::{Checked, Work},
};
use crate::{
    cli::UpArgs,
    docker::watch::Watch,
    error::{Error, Outcome, Result, one_line},
    event::{Event, Events, OnHost, ServiceResult, ServiceRow},
    execute::{self, live::bake::first_failure},
    fleet::{self, Host},
    model::Replica,
    proxy::landscape::Listed,
    roll::{Ended, Prepared, release},
    settings::{OnFailure, Settings},
    stack::{
        outcome::{failure, rows},
        schedule::Ends,
    },
    variables::{Given, Variables},
};

/// The pause after a read of the engine that has failed.
const READ_AGAIN: Duration = Duration::from_secs(1);

pub async fn roll_or_plan(
    up: &UpArgs,
    hosts: &[Host],
    interrupted: watch::Receiver<bool>,
    events: &Events,
) -> Result<Outcome> {
    let began = Instant::now();
    refuse_standard_input(&up.target)?;
    let mut hosts = hosts.to_vec();
    hosts.sort_by_key(|host| host.wave);
    let waves = fleet::waves(&hosts);
    fleet::refuse_bake(&up.settings, waves.len())?;
    let sites = hosts.iter().map(|host| async move {
        let opened = Site::open(up, host, events).await;
        opened.map_err(|error| of_host(error, &host.place.to_string()))
    });
    let sites = all(sites).await?;
    let (sites, listed): (Vec<Site>, Vec<_>) = sites.into_iter().unzip();
    let addresses: Vec<String> = sites.iter().map(|own| own.address.clone()).collect();
    fleet::refuse_twice(&addresses)?;
    let read = sites.iter().map(|site| {
        let given = (site.finds_orphans, interrupted.clone());
        Work::of(up, &site.opened, given, &site.events)
    });
    let (mut works, mut asked) = (Vec::new(), Vec::new());
    for ((work, order, left), listed) in all(read).await?.into_iter().zip(listed) {
        works.push(work);
        asked.push((order, left, listed));
    }
    if up.dry_run {
        let mut outcome = Outcome::Done;
        for (work, (order, left, listed)) in works.iter().zip(asked) {
            if work.plan(order, left, listed).await? == Outcome::Changes {
                outcome = Outcome::Changes;
            }
        }
        return Ok(outcome);
    }
    if let (Some(first), Some((order, ..))) = (works.first(), asked.first()) {
        // The Compose file is the same for all hosts.
        notify(first.opened, order.names(), &up.settings, events)?;
    }
    let checks = works.iter().zip(asked);
    let checks = checks.map(|(work, (order, left, listed))| work.check(order, left, listed));
    let checked = all(checks).await?;
    let fleet = Fleet {
        hosts: &hosts,
        addresses: &addresses,
        works: &works,
        waves,
        events,
        interrupted,
    };
    fleet.roll(checked, began).await
}

/// Runs all to their end. The error is that of the first host that has one.
async fn all<T>(each: impl Iterator<Item = impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
    join_all(each).await.into_iter().collect()
}

/// Names the host of an error before its services are known, unless the message does.
fn of_host(error: Error, place: &str) -> Error {
    if error.scope.is_some() || error.message.contains(place) {
        return error;
    }
    let message = format!("{place}: {}", error.message);
    Error { message, ..error }
}

/// One host, as it is opened.
struct Site {
    opened: Opened,
    address: String,
    events: Events,
    finds_orphans: bool,
}

impl Site {
    async fn open(up: &UpArgs, host: &Host, events: &Events) -> Result<(Self, Result<Listed>)> {
        let (target, variables) = (up.target.at(host), variables(up));
        let names = names(up);
        let opened = Opened::beside((&target, &variables), &names, events, &Listed::read);
        let (mut opened, listed) = opened.await?;
        let finds_orphans = complete(up, &mut opened).await?;
        let address = opened.engine.endpoint().to_string();
        let site = Self {
            events: events.of_host(&address, &host.place.to_string()),
            opened,
            address,
            finds_orphans,
        };
        Ok((site, listed))
    }
}

/// All hosts of the command, the first wave first.
struct Fleet<'f, 'a> {
    hosts: &'f [Host],
    addresses: &'f [String],
    works: &'f [Work<'a>],
    waves: Vec<Vec<usize>>,
    events: &'f Events,
    interrupted: watch::Receiver<bool>,
}

/// A service that keeps back the next wave after its own rollout.
struct LateFailure<'a> {
    /// The place of its host.
    at: usize,
    service: &'a str,
    error: Error,
    /// A replica has failed; else its replicas could not be read.
    is_sick: bool,
}

impl<'a> Fleet<'_, 'a> {
    async fn roll(&self, mut checked: Vec<Checked<'_, 'a>>, began: Instant) -> Result<Outcome> {
        let fetched = self.works.iter().zip(&mut checked);
        try_join_all(fetched.map(|(work, own)| work.fetch(own))).await?;
        for (work, own) in self.works.iter().zip(&checked) {
            work.share_variables(&own.order);
            work.expect(&own.order, &own.prepared);
        }
        let open = self.open(&mut checked).await;
        // A change of the file by others from here on is kept.
        let variables = self.works[0].set.as_ref().map(Given::all).transpose()?;
        let locked = self.lock(&checked).await;
        let ended = match locked {
            Ok(()) => {
                self.announce(&checked);
                Ok(self.run(&checked, &open).await)
            }
            Err(error) => Err(error),
        };
        self.release().await;
        let (ends, late) = ended?;
        self.finish(&checked, (ends, late), variables, began).await
    }

    /// The settings of the command, which are the same for all hosts.
    fn settings(&self) -> &Settings {
        &self.works[0].settings
    }

    fn announce(&self, checked: &[Checked<'_, 'a>]) {
        let mut services: Vec<String> = Vec::new();
        let mut hosts = Vec::new();
        for (at, own) in checked.iter().enumerate() {
            let names = own.order.names().into_iter().map(str::to_owned);
            let on_host = OnHost {
                host: self.addresses[at].clone(),
                wave: self.hosts[at].wave,
                services: names.collect(),
            };
            let new = on_host
                .services
                .iter()
                .filter(|own| !services.contains(own));
            let new: Vec<String> = new.cloned().collect();
            services.extend(new);
            hosts.push(on_host);
        }
        self.events.emit(Event::StackStarted {
            services,
            parallel: self.settings().parallel,
            hosts,
        });
    }

    /// Takes the locks of all services. Their order is the same for every command, so that no two commands wait for each other.
    async fn lock(&self, checked: &[Checked<'_, 'a>]) -> Result<()> {
        let mut each: Vec<(String, usize, &Prepared<'_>)> = Vec::new();
        for (at, own) in checked.iter().enumerate() {
            let prepared = own.prepared.iter();
            each.extend(prepared.map(|own| (own.scope().title(), at, own)));
        }
        each.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        for (_, at, prepared) in each {
            let lock = prepared.lock_ahead(&checked[at].landscape, &self.interrupted);
            let lock = lock.await.map_err(|error| error.within(prepared.scope()))?;
            let service = prepared.scope().service().to_owned();
            self.works[at].locks().insert(service, lock);
        }
        Ok(())
    }

    /// Releases the locks that no rollout has used.
    async fn release(&self) {
        for work in self.works {
            let locks = std::mem::take(&mut *work.locks());
            for lock in locks.into_values() {
                release(lock, &work.events).await;
            }
        }
    }

    /// Rolls wave after wave until one has not succeeded. Returns how the services of each host have ended.
    async fn run(
        &self,
        checked: &[Checked<'_, 'a>],
        open: &[bool],
    ) -> (Vec<Ends<'a, Ended>>, Option<LateFailure<'a>>) {
        let mut ends: Vec<Ends<'a, Ended>> = self.works.iter().map(|_| Vec::new()).collect();
        for (number, wave) in self.waves.iter().enumerate() {
            if number > 0
                && let Some(late) = self.bake((number, open), checked, &ends).await
            {
                return (ends, Some(late));
            }
            if *self.interrupted.borrow() {
                break;
            }
            let rolled = wave.iter().map(|&at| {
                let (work, own) = (&self.works[at], &checked[at]);
                // The checks may be old by now, so each service is prepared again.
                work.run(&own.order, None)
            });
            for (&at, own) in wave.iter().zip(join_all(rolled).await) {
                ends[at] = own;
            }
            let succeeds = |&at: &usize| fleet::has_succeeded(&checked[at].order, &ends[at]);
            if !wave.iter().all(succeeds) {
                break;
            }
        }
        (ends, None)
    }

    /// Whether each host has something to roll; it is read only where the time between two waves depends on it.
    async fn open(&self, checked: &mut [Checked<'_, 'a>]) -> Vec<bool> {
        let is_read = !self.settings().wave_bake.is_zero();
        let each = checked.iter_mut().map(|own| async move {
            for prepared in own.prepared.iter_mut().filter(|_| is_read) {
                if !prepared.is_up_to_date().await {
                    return true;
                }
            }
            false
        });
        join_all(each).await
    }

    /// Watches the services of the waves up to this one, if any of them was rolled or a later wave has something to roll.
    /// Those that a run before has rolled are unchanged now. Returns the first service that fails.
    async fn bake(
        &self,
        (wave, open): (usize, &[bool]),
        checked: &[Checked<'_, 'a>],
        ends: &[Ends<'a, Ended>],
    ) -> Option<LateFailure<'a>> {
        let span = self.settings().wave_bake;
        let of_result = |result| ends.iter().flatten().any(|(_, end)| has_ended(end, result));
        let mut later = self.waves[wave..].iter().flatten();
        let is_due = of_result(ServiceResult::Rolled) || later.any(|&at| open[at]);
        let until = Instant::now() + span;
        let watched = ends
            .iter()
            .zip(checked)
            .enumerate()
            .flat_map(|(at, (own, checked))| {
                let stays = own.iter().filter(|(service, end)| {
                    has_ended(end, ServiceResult::Rolled)
                        || has_ended(end, ServiceResult::Unchanged) && !checked.runs_once(service)
                });
                stays.map(move |(service, _)| (at, *service))
            });
        let watched = watched.map(|(at, service)| async move {
            let (error, is_sick) = first_error(&self.works[at], service, until).await?;
            Some(LateFailure {
                at,
                service,
                error,
                is_sick,
            })
        });
        let mut watched: FuturesUnordered<_> = watched.collect();
        if span.is_zero() || !is_due || watched.is_empty() {
            return None;
        }
        self.events.notice(format!(
            "wave {wave} of {} is done; its services are watched for {}",
            self.waves.len(),
            humantime::format_duration(span)
        ));
        let first = async {
            while let Some(late) = watched.next().await {
                if late.is_some() {
                    return late;
                }
            }
            None
        };
        let mut interrupted = self.interrupted.clone();
        tokio::select! {
            late = first => late,
            () = execute::raised(&mut interrupted) => None,
        }
    }

    async fn finish(
        &self,
        checked: &[Checked<'_, 'a>],
        (ends, late): (Vec<Ends<'a, Ended>>, Option<LateFailure<'a>>),
        variables: Option<Variables>,
        began: Instant,
    ) -> Result<Outcome> {
        let mut rows = self.rows(checked, &ends, late.as_ref());
        let mut failed = Vec::new();
        let is_sick = late.as_ref().is_some_and(|late| late.is_sick);
        if let Some(late) = late {
            emit_failure(&self.works[late.at].of_each[late.service], &late.error);
            failed.push(late.error);
        }
        let has_failed = is_sick || ends.iter().any(has_failed);
        if has_failed && self.settings().on_failure == OnFailure::Rollback {
            failed.extend(self.take_back(&ends, &mut rows).await);
        }
        let errors = ends.iter().flatten();
        let errors = errors.filter_map(|(_, end)| end.as_ref().err());
        let errors: Vec<&Error> = errors.chain(&failed).collect();
        let rows = rows.concat();
        let failure = failure(&rows, &errors);
        let orphans = self.works.iter().zip(checked);
        let orphans = orphans.map(|(work, own)| work.orphans(&own.orphans, failure.is_some()));
        let removed = all(orphans).await;
        self.events.emit(Event::StackFinished {
            services: rows,
            total_ms: began.elapsed().as_millis() as u64,
        });
        let ended = failure.map_or(Ok(()), Err);
        if let (Some(given), Some(variables)) = (&self.works[0].set, variables) {
            if ended.is_ok() {
                set::write(given, &variables, self.events).await;
            }
            set::report_open(given, &ended, self.events);
        }
        ended?;
        removed.map(|_| Outcome::Done)
    }

    /// The rows of each host.
    fn rows(
        &self,
        checked: &[Checked<'_, 'a>],
        ends: &[Ends<'a, Ended>],
        late: Option<&LateFailure<'a>>,
    ) -> Vec<Vec<ServiceRow>> {
        let each = checked.iter().zip(ends).zip(self.addresses);
        let each = each.map(|((own, ends), address)| {
            let mut rows = rows(&own.order, ends, &own.left);
            let of_host = |row: &mut ServiceRow| row.host = Some(address.clone());
            rows.iter_mut().for_each(of_host);
            rows
        });
        let mut rows: Vec<Vec<ServiceRow>> = each.collect();
        if let Some(late) = late
            && let mut rows = rows[late.at].iter_mut()
            && let Some(row) = rows.find(|row| row.service == late.service)
        {
            row.result = ServiceResult::Failed;
            row.reason = Some(one_line(&late.error.message));
        }
        let stopped = fleet::stopped(rows.iter().flatten()).cloned();
        let not_begun = rows
            .iter_mut()
            .zip(ends)
            .filter(|(_, ends)| ends.is_empty());
        for (rows, _) in not_begun {
            fleet::keep_back(rows, stopped.as_ref());
        }
        rows
    }

    /// Undoes what this run has rolled, the last wave first. Returns the errors of undos that failed.
    async fn take_back(
        &self,
        ends: &[Ends<'a, Ended>],
        rows: &mut [Vec<ServiceRow>],
    ) -> Vec<Error> {
        let mut failed = Vec::new();
        for wave in self.waves.iter().rev() {
            let own = rows.iter_mut().enumerate();
            let own = own.filter(|(at, _)| wave.contains(at));
            let undone = own.map(|(at, rows)| self.works[at].take_back(&ends[at], rows));
            failed.extend(join_all(undone).await.concat());
        }
        failed
    }
}

fn has_ended(end: &Result<Ended>, result: ServiceResult) -> bool {
    end.as_ref().is_ok_and(|own| own.result == result)
}

/// Completes once one of the replicas of a service fails, or with the end of the time. The error is whether a replica failed, or
/// the replicas cannot be read still.
async fn first_error(work: &Work<'_>, service: &str, until: Instant) -> Option<(Error, bool)> {
    let (engine, key) = (&work.opened.engine, work.opened.project.key(service));
    let watch = Watch::start(engine, &key);
    let watched = watched(
        until,
        async || engine.replicas(&key).await,
        async |replicas| {
            let replicas: Vec<&Replica> = replicas.iter().collect();
            first_failure(engine, &watch, &replicas).await
        },
    );
    let (error, is_sick) = match watched.await? {
        Ok(why) => (Error::failed(format!("{why} before the next wave")), true),
        Err(error) => {
            let message = format!("its replicas cannot be read: {}", error.message);
            (
                Error {
                    message,
                    ..error.touched()
                },
                false,
            )
        }
    };
    Some((error.within(work.of_each[service].scope()), is_sick))
}

/// Completes with the reason when a replica fails. A read that fails is repeated; the error is that of one that fails still at
/// the end of the time. The replicas are compared with what the first read has found.
async fn watched(
    until: Instant,
    read: impl AsyncFn() -> Result<Vec<Replica>>,
    failure: impl AsyncFn(&[Replica]) -> Result<String>,
) -> Option<Result<String>> {
    let (mut first, mut unread) = (None, None);
    let looks = async {
        loop {
            let looked = match read().await {
                Ok(now) => {
                    unread = None;
                    failure(first.get_or_insert(now)).await
                }
                Err(error) => Err(error),
            };
            match looked {
                Ok(why) => return why,
                Err(error) => unread = Some(error),
            }
            sleep(READ_AGAIN).await;
        }
    };
    let ended = timeout_at(until, looks).await;
    match (ended, unread) {
        (Ok(why), _) => Some(Ok(why)),
        (Err(_), unread) => unread.map(Err),
    }
}

#[cfg(test)]
#[path = "waves_tests.rs"]
mod tests;
