//! Settings of a rolling update that contradict each other: refused, but a notice where they are of `deploy` or a maximum.

use crate::{
    context::ServiceContext,
    error::{Error, Result},
    model::{Batches, FailureAction, Limits},
    settings::{Settings, UpdateOrder},
};

const RECREATE: &str = "or, with a gap, --strategy recreate";

/// Refuses settings of a rolling update that contradict each other. What `deploy` asks for is followed as far as one replica
/// stays live, as it is made for other tools too. Returns notices about what is not followed.
pub(super) fn judge(context: &ServiceContext<'_>) -> Result<Vec<String>> {
    let (settings, replicas) = (&context.settings, context.replicas);
    let Some(limits) = settings.limits(replicas) else {
        return Ok(Vec::new());
    };
    let ran = context.olds.iter().filter(|old| old.may_run()).count() as u32;
    let olds = if ran == 0 { replicas } else { ran };
    let given = Given {
        name: &context.service.name,
        settings,
        replicas,
        limits,
        batches: Batches::within(limits, replicas, olds),
    };
    given.refuse_most()?;
    let order = given.order()?;
    given.refuse_no_room()?;
    let smaller = match given.stops_all()? {
        None => given.capped(),
        some => some,
    };
    let mut notices: Vec<String> = order.into_iter().chain(smaller).collect();
    notices.extend(given.idle_delay()?);
    notices.extend(given.kept_in_part()?);
    Ok(notices)
}

/// The settings of a rolling update of one service, and what follows from them.
struct Given<'a> {
    name: &'a str,
    settings: &'a Settings,
    replicas: u32,
    limits: Limits,
    batches: Batches,
}

impl Given<'_> {
    fn is_of_deploy(&self, setting: &str) -> bool {
        self.settings.of_deploy.contains_key(setting)
    }

    /// A setting, and where it stands if that is in `deploy`.
    fn named(&self, setting: &str, value: &str) -> String {
        let name = self.name;
        match self.settings.of_deploy.get(setting) {
            Some(mapping) => {
                let key = setting.replace('-', "_");
                format!("{key}{value} in deploy.{mapping} of {name}")
            }
            None => format!("{setting}{value} of {name}"),
        }
    }

    fn parallelism(&self) -> u32 {
        self.settings.parallelism.unwrap_or(1)
    }

    /// Refuses maxima that the number of replicas contradicts.
    fn refuse_most(&self) -> Result<()> {
        let (name, replicas) = (self.name, self.replicas);
        let most = [
            ("max-surge", self.settings.max_surge),
            ("max-unavailable", self.settings.max_unavailable),
        ];
        for (key, value) in most {
            if let Some(value) = value.filter(|value| *value > replicas) {
                let message = format!("{key} {value} of {name} is more than its replicas");
                return Err(Error::refused(message).hint(format!("--{key} {replicas} at most")));
            }
        }
        if self.limits.unavailable < replicas {
            return Ok(());
        }
        let message = format!("{name} would be stopped as a whole: max-unavailable is {replicas}");
        Err(Error::refused(message).hint(format!(
            "--order start-first and --max-unavailable 0; {RECREATE}"
        )))
    }

    /// Refuses an order that a maximum of 0 contradicts.
    fn order(&self) -> Result<Option<String>> {
        let settings = self.settings;
        let (order, other, most, why) = match settings.order {
            Some(UpdateOrder::StopFirst) if settings.max_unavailable == Some(0) => (
                "stop-first",
                "start-first",
                "max-unavailable",
                "no replica may be stopped before a new one is ready",
            ),
            Some(UpdateOrder::StartFirst) if settings.max_surge == Some(0) => (
                "start-first",
                "stop-first",
                "max-surge",
                "no replica may be created before an old one is stopped",
            ),
            Some(_) | None => return Ok(None),
        };
        let order = self.named("order", &format!(" {order}"));
        match self.is_of_deploy("order") {
            true => Ok(Some(format!(
                "{order} has no effect, because {most} is 0: {other}"
            ))),
            false => {
                let message = format!("{order} contradicts {most} 0: {why}");
                Err(Error::refused(message).hint(format!("--order {other}, or --{most} 1")))
            }
        }
    }

    fn refuse_no_room(&self) -> Result<()> {
        if self.limits.surge > 0 || self.limits.unavailable > 0 {
            return Ok(());
        }
        let message = format!(
            "max-surge and max-unavailable of {} are both 0: no replica can be replaced",
            self.name
        );
        Err(Error::refused(message).hint("--max-surge 1"))
    }

    /// Refuses to stop all replicas first.
    fn stops_all(&self) -> Result<Option<String>> {
        let (name, settings, replicas) = (self.name, self.settings, self.replicas);
        let stops_first = settings.order == Some(UpdateOrder::StopFirst);
        let has_surge = replicas > 1 && self.limits.surge > 0;
        let is_all = self.limits.parallelism >= replicas && settings.max_unavailable.is_none();
        if !stops_first || !is_all || has_surge {
            return Ok(None);
        }
        let whole = format!("{name} would be stopped as a whole: order stop-first");
        let order = self.named("order", " stop-first");
        if replicas == 1 {
            return match self.is_of_deploy("order") {
                true => Ok(Some(format!(
                    "{order} would stop its only replica: start-first"
                ))),
                false => Err(Error::refused(format!("{whole} stops its only replica"))
                    .hint(format!("--order start-first; {RECREATE}"))),
            };
        }
        let at_once = format!(" {}", self.parallelism());
        let size = self.batches.size;
        if self.is_of_deploy("parallelism") {
            let parallelism = self.named("parallelism", &at_once);
            let notice = format!("{parallelism} would stop all {replicas} replicas");
            return Ok(Some(format!("{notice}: batches of {size}")));
        }
        let all = format!("all {replicas} replicas with parallelism{at_once}");
        match self.is_of_deploy("order") {
            true => Ok(Some(format!("{order} would stop {all}: batches of {size}"))),
            false => Err(Error::refused(format!("{whole} stops {all}")).hint(format!(
                "--parallelism {} at most; {RECREATE}",
                replicas - 1
            ))),
        }
    }

    /// The notice about batches that the maxima make smaller.
    fn capped(&self) -> Option<String> {
        let Limits {
            parallelism,
            surge,
            unavailable,
            ..
        } = self.limits;
        (self.batches.size < parallelism).then(|| {
            format!(
                "{} is more than max-surge {surge} and max-unavailable {unavailable} allow: batches of {}",
                self.named("parallelism", &format!(" {}", self.parallelism())),
                self.batches.size
            )
        })
    }

    /// Refuses a pause that no batch follows, if both are given. It may be meant for services with more replicas.
    fn idle_delay(&self) -> Result<Option<String>> {
        let (name, settings, replicas) = (self.name, self.settings, self.replicas);
        let has_delay = settings.delay.is_some_and(|delay| !delay.is_zero());
        let is_idle = replicas > 1 && self.batches.last() == 1;
        if !has_delay || !is_idle || self.is_of_deploy("delay") {
            return Ok(None);
        }
        if settings.parallelism != Some(0) || self.is_of_deploy("parallelism") {
            return Ok(Some(format!(
                "delay of {name} has no effect: its {replicas} replicas are replaced in one batch"
            )));
        }
        let message = format!(
            "delay of {name} contradicts parallelism 0: its replicas are replaced in one batch"
        );
        Err(Error::refused(message).hint(format!(
            "--delay 0s, or --parallelism {} at most; --monitor watches the new replicas after the last batch too",
            replicas - 1
        )))
    }

    /// Refuses to keep a part of the batches where old replicas are stopped before the new ones: after a failed batch these
    /// would not serve.
    fn kept_in_part(&self) -> Result<Vec<String>> {
        if !self.limits.stops_ahead() {
            return Ok(Vec::new());
        }
        let action = self.settings.failure_action.unwrap_or_default();
        let ratio = self.settings.max_failure_ratio.unwrap_or_default();
        let keeps = [
            ("failure-action", action != FailureAction::Rollback),
            ("max-failure-ratio", ratio > 0.0),
        ];
        let given = keeps.iter().filter(|(_, keeps)| *keeps);
        let notice = |&(key, _): &(&str, bool)| match self.is_of_deploy(key) {
            true => Ok(format!(
                "{} has no effect, because old replicas are stopped before the new ones: a failed batch rolls the whole \
                 update back",
                self.named(key, "")
            )),
            false => {
                let message = format!(
                    "{key} of {} needs that no old replica is stopped before the new ones: after a failed batch it would not \
                     serve",
                    self.name
                );
                Err(Error::refused(message).hint(format!(
                    "--order start-first --max-surge {}, or leave out {key}",
                    self.limits.parallelism
                )))
            }
        };
        given.map(notice).collect()
    }
}

#[cfg(test)]
mod tests;
