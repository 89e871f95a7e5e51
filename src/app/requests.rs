//! Requests to the run that rolls a service, from another terminal or machine.

use std::{collections::BTreeSet, future::pending, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    ask::{Asked, Request, ask},
    context::RunContext,
    docker::engine::Engine,
    error::{Error, Result},
    execute::raised,
    model::{Replica, ServiceKey},
    state::{
        journal::Intent,
        lock::{Holder, holder},
        owner,
        revisions::Revisions,
        store::{self, File},
    },
};

/// A wait for longer than this is announced.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(3);
/// How often it is checked whether that run is still alive: a killed one leaves its lock.
const PULSE: Duration = Duration::from_secs(5);

/// A run that rolls a service.
#[derive(Clone, Debug)]
pub struct AtWork {
    holder: Holder,
    last: Option<Intent>,
    /// The rollouts that had made a revision when the run was found.
    made: BTreeSet<String>,
}

/// What a run has left that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    NewRevision,
    Unfinished,
    /// What ran before.
    Before,
}

/// The run that holds the lock of a service; `None` where none is at work.
pub async fn at_work(run: &RunContext<'_>, key: &ServiceKey) -> Result<Option<AtWork>> {
    let Some(holder) = holder(run.engine, key).await? else {
        return Ok(None);
    };
    if !holder.lives(run.engine).await {
        return Ok(None);
    }
    let files = files(run, key).await?;
    Ok(Some(AtWork {
        holder,
        last: Intent::last(&files),
        made: made(&files),
    }))
}

/// The records of a service. Those that cannot be read are no obstacle to a request.
async fn files(run: &RunContext<'_>, key: &ServiceKey) -> Result<Vec<File>> {
    let image = run.any_image(key).await?;
    let files = store::look(run.engine, &image, key).await;
    Ok(files.unwrap_or_default())
}

fn made(files: &[File]) -> BTreeSet<String> {
    let revisions = Revisions::read(files).list.into_iter();
    revisions.map(|own| own.rollout).collect()
}

impl AtWork {
    /// User, process and start time.
    pub fn whose(&self) -> String {
        self.holder.whose()
    }

    /// Whether its traffic moves in one step, as far as it has said.
    pub fn has_one_step(&self) -> bool {
        let begun = self.last.as_ref();
        let begun = begun.filter(|last| !self.made.contains(&last.revision.rollout));
        begun.is_some_and(|last| last.failed.is_none() && !last.has_steps())
    }

    /// Whether the run hears a request; false once it has ended or died without hearing it.
    ///
    /// # Errors
    /// An interrupt, which withdraws the request.
    pub async fn hears(
        &self,
        run: &RunContext<'_>,
        key: &ServiceKey,
        request: Request,
        interrupted: &watch::Receiver<bool>,
    ) -> Result<bool> {
        let (engine, who) = (run.engine, owner::who());
        let image = run.any_image(key).await?;
        let ask = ask(engine, key, &image, &Asked { request, who }).await?;
        let mut signal = interrupted.clone();
        let announced = async {
            sleep(ANNOUNCE_AFTER).await;
            run.events.notice(format!(
                "{} hears this after the step that it is in; Ctrl-C withdraws it",
                self.whose()
            ));
            pending::<()>().await;
        };
        let is_interrupted = tokio::select! {
            biased;
            () = engine.wait_until_removed(ask.id()) => return Ok(true),
            () = self.ends(engine) => false,
            () = raised(&mut signal) => true,
            () = announced => false,
        };
        match ask.withdraw().await? {
            false => Ok(true),
            true if is_interrupted => Err(Error::interrupted(
                "interrupted; the request is withdrawn, and the rollout goes on",
            )),
            true => Ok(false),
        }
    }

    /// Completes once the run has ended, or is dead.
    async fn ends(&self, engine: &Engine) {
        let (id, holder) = (self.holder.id(), &self.holder);
        while timeout(PULSE, engine.wait_until_removed(id)).await.is_err() {
            if !holder.lives(engine).await {
                return;
            }
        }
    }

    /// Waits for the end of a run that was asked to roll back.
    pub async fn goes_back(
        &self,
        run: &RunContext<'_>,
        service: &str,
        interrupted: &watch::Receiver<bool>,
    ) -> Result<()> {
        let mut signal = interrupted.clone();
        tokio::select! {
            biased;
            () = self.ends(run.engine) => Ok(()),
            () = raised(&mut signal) => {
                let message = format!("interrupted; {} still rolls back", self.whose());
                Err(Error::interrupted(message).hint(format!("rollout status {service}")))
            }
        }
    }

    /// What the run has left, once it has ended.
    pub async fn left(
        &self,
        run: &RunContext<'_>,
        key: &ServiceKey,
        replicas: &[Replica],
    ) -> Result<Left> {
        Ok(left(&self.made, &files(run, key).await?, replicas))
    }
}

/// `before` are the rollouts that had made a revision before.
fn left(before: &BTreeSet<String>, files: &[File], replicas: &[Replica]) -> Left {
    let Some(last) = Intent::last(files) else {
        return Left::Unfinished;
    };
    let rollout = &last.revision.rollout;
    let is_new = |own: &Replica| own.rollout.as_ref().is_some_and(|own| own.0 == *rollout);
    let is_stopped = |own: &Replica| last.ran.contains_key(&own.id) && !own.may_run();
    match made(files).contains(rollout) {
        // The run has ended before it began a rollout.
        true if before.contains(rollout) => Left::Before,
        true => Left::NewRevision,
        false if last.needs_person() => Left::Unfinished,
        false if replicas.iter().any(|own| is_new(own) || is_stopped(own)) => Left::Unfinished,
        false => Left::Before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{ContainerId, Health, RolloutId, Run},
        plan::simulator::replica,
        state::revisions::Revision,
    };

    fn revision(number: u64, rollout: &str) -> Revision {
        Revision {
            number,
            rollout: rollout.to_owned(),
            at: number,
            ..Revision::default()
        }
    }

    /// The records of a first rollout that has made a revision, and of a second with this exit code, or without an end.
    fn records(second: Option<Option<u8>>) -> Vec<File> {
        let first = revision(1, "r1");
        let intent = |revision: Revision, code: Option<u8>| Intent {
            revision,
            failed: code.map(|_| "why".to_owned()),
            code,
            ran: [(ContainerId("a".to_owned()), String::new())].into(),
            ..Intent::default()
        };
        let begun = intent(first.clone(), None);
        let mut all = vec![
            File::of(&begun.path(), &begun),
            File::of(&first.new_path(0), &first),
        ];
        if let Some(code) = second {
            let second = intent(revision(2, "r2"), code);
            all.push(File::of(&second.path(), &second));
        }
        all
    }

    #[test]
    fn a_run_has_left_what_its_records_and_the_replicas_say() {
        let before: BTreeSet<String> = ["r1".to_owned()].into();
        let of = |id: &str, rollout: &str, run| {
            let rollout = RolloutId(rollout.to_owned());
            replica(id, Some(&rollout), run, Health::None)
        };
        let old = of("a", "r1", Run::Running);
        let (stopped, new) = (of("a", "r1", Run::Exited), of("b", "r2", Run::Running));
        let left = |files: &[File], replicas: &[&Replica]| {
            let replicas: Vec<Replica> = replicas.iter().map(|own| (*own).clone()).collect();
            left(&before, files, &replicas)
        };
        for failed in [Some(1), None] {
            let failed = records(Some(failed));
            assert_eq!(left(&failed, &[&old]), Left::Before);
            assert_eq!(left(&failed, &[&stopped]), Left::Unfinished);
            assert_eq!(left(&failed, &[&old, &new]), Left::Unfinished);
        }
        assert_eq!(left(&records(Some(Some(3))), &[&old]), Left::Unfinished);
        let mut done = records(Some(None));
        let second = revision(2, "r2");
        done.push(File::of(&second.new_path(0), &second));
        assert_eq!(left(&done, &[&new]), Left::NewRevision);
        // It was asked before it began a rollout, and never did.
        assert_eq!(left(&records(None), &[&old]), Left::Before);
        assert_eq!(left(&[], &[&old]), Left::Unfinished);
    }
}
