//! Takes the lock of a service, and reads again what another run may have changed meanwhile.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;

use super::{Held, prepare::Prepared};
use crate::{
    docker::watch::{Front, Watch},
    error::{Error, Result},
    event::Events,
    execute::{
        self,
        live::{Live, Memory},
    },
    model::{Observed, Replica},
    proxy::landscape::Landscape,
    state::{self, Lock},
};

/// A service whose lock this process holds.
pub(super) struct Locked<'a> {
    pub prepared: Prepared<'a>,
    pub held: Held<'a>,
    pub watch: Watch,
}

impl<'a> Prepared<'a> {
    /// Takes the lock before the rollout begins, for [`super::roll`] to be given.
    pub async fn lock_ahead(
        &self,
        landscape: &Landscape,
        interrupted: &watch::Receiver<bool>,
    ) -> Result<Lock> {
        let helper_image = self.helper_image(landscape).await?;
        self.lock(&helper_image, interrupted).await
    }

    /// The lock is a never-started container: `helper_image` or any other image that the engine has.
    pub(super) async fn lock(
        &self,
        helper_image: &Option<String>,
        interrupted: &watch::Receiver<bool>,
    ) -> Result<Lock> {
        let context = &self.context;
        let old = || context.olds.first().map(|old| old.image.clone());
        let named = || context.service.image.clone();
        let image = helper_image.clone().or_else(old).or_else(named);
        let (image, wait) = (image.unwrap_or_default(), context.settings.lock_wait);
        let (engine, events) = (self.run.engine, self.run.events);
        let taken = state::lock(engine, &context.key, &image, wait, events);
        if wait.is_zero() {
            return taken.await;
        }
        let message = format!(
            "interrupted while waiting for {}; it was not touched",
            context.service.name
        );
        let mut interrupted = interrupted.clone();
        tokio::select! {
            biased;
            lock = taken => lock,
            () = execute::raised(&mut interrupted) => Err(Error::interrupted(message)),
        }
    }

    /// The locked service. After a wait for another run, everything is read again.
    pub(super) async fn locked(
        self,
        held: Held<'a>,
        landscape: &mut Landscape,
    ) -> Result<Locked<'a>> {
        let prepared = match held.lock.waited {
            true => {
                landscape.refresh().await.map_err(Error::untouched)?;
                let (name, purpose) = (&self.context.service.name, self.context.purpose);
                let (run, beside) = (self.run, self.context.beside.clone());
                run.prepare(name, &self.flags, beside, purpose, landscape)
                    .await?
            }
            false => self,
        };
        let (run, context) = (&prepared.run, &prepared.context);
        for notice in &prepared.notices {
            run.events.notice(notice);
        }
        let front = Front::new(prepared.proxy.containers(), run.events.clone());
        Ok(Locked {
            watch: Watch::with_front(run.engine, &context.key, front),
            prepared,
            held,
        })
    }
}

impl Locked<'_> {
    /// Reads the replicas and the commit record.
    pub(super) async fn observe(&mut self) -> Result<Observed> {
        let Prepared {
            run,
            context,
            proxy,
            ..
        } = &mut self.prepared;
        let replicas = run.engine.replicas(&context.key).await?;
        let claim = proxy.claim(&replicas).await?;
        Ok(Observed { replicas, claim })
    }

    /// The world for the executor with the fields that every rollout sets; `olds` are the replicas that are drained.
    pub(super) async fn live<'s>(&'s mut self, events: &'s Events, olds: &[Replica]) -> Live<'s> {
        let Prepared {
            run,
            context,
            proxy,
            called_ports,
            ..
        } = &mut self.prepared;
        let settle = match context.settings.settle {
            Some(settle) => settle,
            None => proxy.switch_delay(olds).await,
        };
        Live {
            run: *run,
            context,
            proxy: &mut **proxy,
            watch: &self.watch,
            helper_image: self.held.helper_image.clone(),
            lock: self.held.lock,
            events,
            labels: Default::default(),
            image: None,
            called_ports,
            settle,
            bake: Duration::ZERO,
            complaints: BTreeSet::new(),
            about: None,
            member: None,
            memory: Memory::new(&self.watch),
        }
    }
}
