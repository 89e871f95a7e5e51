//! Every setting of a rollout, written once: [`Settings`] is its name, help, type and default.
//!
//! A setting has the same name as a flag, as a key of `x-rollout` of the service, as a key of `x-rollout` at the top level of
//! the Compose file, and as a `ROLLOUT_…` variable. The first of these places that has a value wins. clap reads the values of
//! all places.

mod analysis;
mod notify;
mod places;
mod preview;
#[cfg(test)]
mod tests;
mod values;

use std::{collections::BTreeMap, time::Duration};

use clap::{ArgAction, Args, ValueEnum};
use serde_json::Value;

pub use self::analysis::{Analysis, Latency, NoData};
pub use self::notify::{Address, Kind, Notify, Place};
pub use self::places::{
    AFTER, ANALYSIS, AUTO, HOOKS, HOSTS, NOTIFY, PROMETHEUS, Partial, ROLLBACK_CONFIG, STEPS,
    TRAEFIK_AUTH, UPDATE_CONFIG,
};
pub use self::preview::{PreviewRule, TEXT};
pub use self::values::{bad_value, boolean, duration, span, texts};
use self::{
    places::parse,
    preview::{extra_rule, host_name},
    values::{count, ratio},
};
use crate::{
    check::Check,
    error::{Outcome, Result},
    model::{FailureAction, Limits, Order},
};

// Comments on the values below are no doc comments: clap would print them, and spread each option over several lines.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProxyKind {
    // Traefik where it routes to the service, none otherwise.
    #[default]
    Auto,
    Traefik,
    // Health alone decides.
    None,
}

/// How Traefik is made to send the traffic elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SwitchBy {
    // By the socket proxy where every Traefik in front reads through one, else by a pin file.
    #[default]
    Auto,
    // By labels that the socket proxy changes on their way to Traefik.
    Relabel,
    // By a file of Traefik's file provider, above the Docker provider's routers.
    Pin,
}

/// How the new version takes the place of the old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    // A whole new set beside the old one, one cutover.
    #[default]
    BlueGreen,
    // The replicas are replaced batch by batch: both versions answer meanwhile.
    Rolling,
    // A whole new set beside the old one gets growing shares of the traffic.
    Canary,
    // Stop the old set first: with a gap, for services that cannot run twice.
    Recreate,
}

impl Strategy {
    pub fn name(self) -> &'static str {
        match self {
            Self::BlueGreen => "blue-green",
            Self::Rolling => "rolling",
            Self::Canary => "canary",
            Self::Recreate => "recreate",
        }
    }
}

/// Whether a batch of a rolling update is created before as many old replicas are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UpdateOrder {
    StartFirst,
    StopFirst,
}

/// Which image a rollout takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    // As the service's `pull_policy` says.
    #[default]
    Policy,
    Always,
    // Pulled only where the engine has none.
    Missing,
    Never,
}

/// What to do with a rollout that an earlier run left unfinished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnUnfinished {
    // Finished where its cutover is written, else rolled back.
    #[default]
    Resume,
    // Rolled back, as long as its old replicas run.
    Abort,
    // Left as it is: the run is refused.
    Fail,
}

/// What a failed service means for the others of the same command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnFailure {
    // Begin no further service.
    #[default]
    Stop,
    // Go on with those that do not depend on it.
    Continue,
    // Begin no further service, and undo those that are rolled.
    Rollback,
}

/// The settings of a command as a whole; no setting of one service.
pub const STACK: &str = "Several services";
/// The settings of `--strategy rolling`.
const ROLLING: &str = "Rolling updates";
/// The settings of `--strategy canary`, beside its steps.
const CANARY: &str = "Canaries";
/// The settings of services of a Swarm.
const SWARM: &str = "Swarm";
const READINESS: &str = "Readiness";
const CUTOVER: &str = "Cutover, drain and stop";
pub const TRAEFIK: &str = "Traefik";
const CHECKS: &str = "Checks, lock and records";
const PROGRESS: &str = "Progress and notifications";

/// The settings of one rollout of one service.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Settings {
    /// A new set beside the old one, one batch after another, growing shares of the traffic, or stop the old set first
    #[arg(long, value_enum, default_value_t)]
    pub strategy: Strategy,
    /// When to pull the image
    #[arg(long, value_enum, default_value_t)]
    pub pull: PullPolicy,
    /// Build the image first
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true)]
    pub build: bool,
    /// Number of replicas [default: as in the Compose file]
    #[arg(long, value_name = "N", value_parser = count)]
    pub scale: Option<u32>,
    /// Longest wait for a health check to pass
    #[arg(short, long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
    /// Longest wait for the old replicas to answer their last requests
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub drain_timeout: Duration,
    /// Keep the old replicas running this long after the cutover, for an instant rollback
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub bake: Duration,

    /// Number of services that are rolled side by side
    #[arg(long, value_name = "N", value_parser = count, default_value = "4", help_heading = STACK)]
    pub parallel: u32,
    /// Number of images that are pulled or built side by side [default: COMPOSE_PARALLEL_LIMIT, else 4]
    #[arg(long, value_name = "N", value_parser = count, help_heading = STACK)]
    pub pull_parallel: Option<u32>,
    /// After a failed service: begin no other, go on with those of its host that do not depend on it, or undo this run
    #[arg(long, value_enum, default_value_t, help_heading = STACK)]
    pub on_failure: OnFailure,
    /// Move the traffic of all services in the same moment, once all are ready, or none
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = STACK)]
    pub together: bool,
    /// With several hosts: watch what a wave has rolled for this long before the next one begins
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", help_heading = STACK)]
    pub wave_bake: Duration,

    /// Number of replicas that are replaced at once; 0 for all [default: as in deploy.update_config, else 1]
    #[arg(long, value_name = "N", help_heading = ROLLING)]
    pub parallelism: Option<u32>,
    /// Pause between two batches [default: as in deploy.update_config, else none]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = ROLLING)]
    pub delay: Option<Duration>,
    /// Create a batch before as many old replicas are stopped, or after [default: as in deploy.update_config, else start-first]
    #[arg(long, value_enum, help_heading = ROLLING)]
    pub order: Option<UpdateOrder>,
    /// Most replicas above the number in the file [default: start-first: as many as are replaced at once; stop-first: 0]
    #[arg(long, value_name = "N", help_heading = ROLLING)]
    pub max_surge: Option<u32>,
    /// Most live replicas below that number [default: start-first: 0; stop-first: as many as are replaced at once]
    #[arg(long, value_name = "N", help_heading = ROLLING)]
    pub max_unavailable: Option<u32>,
    /// Watch and judge the new replicas this long after each batch [default: as in deploy.update_config, else not at all]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = ROLLING)]
    pub monitor: Option<Duration>,
    /// After a failed batch: take all back, stop there, or go on with the next [default: as in deploy.update_config, else rollback]
    #[arg(long, value_enum, help_heading = ROLLING)]
    pub failure_action: Option<FailureAction>,
    /// Share of the new replicas that may fail before --failure-action counts [default: as in deploy.update_config, else 0]
    #[arg(long, value_name = "RATIO", value_parser = ratio, help_heading = ROLLING)]
    pub max_failure_ratio: Option<f64>,

    /// Wait at a preview or an open-ended pause, instead of ending with exit code 5
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = CANARY)]
    pub attach: bool,

    /// Longest wait for a service without a health check
    #[arg(short, long, value_name = "DURATION", value_parser = duration, default_value = "60s", help_heading = READINESS)]
    pub wait: Duration,
    /// Extra wait once the health checks pass
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", help_heading = READINESS)]
    pub wait_after_healthy: Duration,
    /// Time that a new replica must run without a restart
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "3s", help_heading = READINESS)]
    pub stable: Duration,
    /// Without a health check: ready once GET PATH answers 2xx or 3xx [default: once the port accepts]
    #[arg(long, value_name = "PATH", help_heading = READINESS)]
    pub ready_http: Option<String>,
    /// Start new replicas with empty anonymous volumes
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = READINESS)]
    pub renew_anon_volumes: bool,

    /// Before the cutover, send requests that match this rule too to the new version, such as 'Header(`X-Preview`, `1`)'
    #[arg(long, value_name = "RULE", value_parser = extra_rule, conflicts_with = "preview_host", help_heading = CUTOVER)]
    pub preview: Option<String>,
    /// Before the cutover, send requests to this host to the new version
    #[arg(long, value_name = "HOST", value_parser = host_name, help_heading = CUTOVER)]
    pub preview_host: Option<String>,
    /// Longest wait for Traefik to confirm the cutover
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s", help_heading = CUTOVER)]
    pub confirm_timeout: Duration,
    /// Pause between confirmation and drain [default: 250ms; 5s with retry, buffering, forwardAuth or a plugin]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = CUTOVER)]
    pub settle: Option<Duration>,
    /// A WebSocket or stream that is silent for this long counts as drained
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s", help_heading = CUTOVER)]
    pub drain_quiet: Duration,
    /// Conditions for the new version while it is watched, such as success-rate=99%,p99=500ms, or on, or off
    #[arg(long, value_name = "CONDITIONS", default_value = "on", help_heading = CUTOVER)]
    pub analysis: Analysis,
    /// Command to run in each old replica before it is stopped
    #[arg(long, value_name = "COMMAND", help_heading = CUTOVER)]
    pub pre_stop_hook: Option<String>,

    /// What moves the traffic
    #[arg(long, value_enum, default_value_t, help_heading = TRAEFIK)]
    pub proxy: ProxyKind,
    /// How to change the routes of Traefik: through the socket proxy (relabel), or by a file of its file provider (pin)
    #[arg(long, value_enum, default_value_t, help_heading = TRAEFIK)]
    pub switch: SwitchBy,
    /// Address of the Traefik API, such as http://127.0.0.1:8080; repeat for several [default: found by itself]
    #[arg(long, value_name = "URL", help_heading = TRAEFIK)]
    pub traefik_url: Vec<String>,
    /// File whose first line is user:password for the Traefik API (or set ROLLOUT_TRAEFIK_AUTH)
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK)]
    pub traefik_auth_file: Option<String>,
    /// CA certificate (PEM) that signs the Traefik API's certificate [default: the system's]
    #[arg(long, value_name = "FILE", help_heading = TRAEFIK)]
    pub traefik_ca: Option<String>,

    /// In a Swarm: number of tasks that have the traffic while the service is updated [default: as many as it has]
    #[arg(long, value_name = "N", value_parser = count, help_heading = SWARM)]
    pub twin_replicas: Option<u32>,
    /// In a Swarm: wait for the last answers of tasks on other nodes [default: the service's stop_grace_period]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = SWARM)]
    pub drain_wait: Option<Duration>,

    /// Roll even if nothing changed
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = CHECKS)]
    pub force: bool,
    /// Continue although this check refuses the rollout, such as labels or host-ports; repeat for several
    #[arg(long, value_name = "CHECK", value_parser = Check::ignorable(), hide_possible_values = true, help_heading = CHECKS)]
    pub ignore: Vec<Check>,
    /// Continue where no atomic cutover is possible: both versions answer for a while (as --ignore switch)
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = CHECKS)]
    pub allow_split: bool,
    /// What to do first with a rollout that was left unfinished
    #[arg(long, value_enum, default_value_t, help_heading = CHECKS)]
    pub on_unfinished: OnUnfinished,
    /// Longest wait for another rollout of the service
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", help_heading = CHECKS)]
    pub lock_wait: Duration,
    /// Number of earlier images to keep for undo
    #[arg(long, value_name = "N", value_parser = count, default_value = "5", help_heading = CHECKS)]
    pub keep: u32,

    /// Print what the new replicas log until they are ready
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = PROGRESS)]
    pub follow: bool,
    /// Notify this address of how the rollout of each service ends: a webhook or ntfy://; repeat for several
    #[arg(long, value_name = "URL", help_heading = PROGRESS)]
    pub notify: Vec<Notify>,

    // Those that are taken from `deploy` of the service, with the mapping that each stands in.
    #[arg(skip)]
    pub of_deploy: BTreeMap<String, &'static str>,
}

impl Settings {
    /// Merges the places of settings, the most important first.
    pub fn resolve(places: [Partial; 4]) -> Self {
        let merged = places.into_iter().reduce(Partial::or).unwrap_or_default();
        parse(&merged)
            .unwrap_or_else(|error| unreachable!("each value is checked where it is read: {error}"))
    }

    /// The same, with what a rolling update of this service takes from `deploy`.
    pub fn of_service(
        places: [Partial; 4],
        service: (&str, &Value),
        is_undo: bool,
    ) -> Result<Self> {
        let settings = Self::resolve(places.clone());
        if settings.strategy != Strategy::Rolling {
            return Ok(settings);
        }
        let given = places.into_iter().reduce(Partial::or).unwrap_or_default();
        let (merged, of_deploy) = given.or_deploy(service, is_undo)?;
        let none = Partial::default;
        Ok(Self {
            of_deploy,
            ..Self::resolve([merged, none(), none(), none()])
        })
    }

    /// Whether a refusal by this check is passed over.
    pub fn ignores(&self, check: Check) -> bool {
        self.ignore.contains(&check) || (self.allow_split && check == Check::Switch)
    }

    /// Turns a refusal by a check that the operator ignores into a notice.
    pub fn pass_over(
        &self,
        check: Check,
        result: Result<()>,
        notices: &mut Vec<String>,
    ) -> Result<()> {
        match result {
            Err(error) if error.outcome == Outcome::Refused && self.ignores(check) => {
                notices.push(in_spite_of(&error.message, check));
                Ok(())
            }
            other => other,
        }
    }

    /// Which requests the new version gets before the cutover, if any.
    pub fn preview(&self) -> Option<PreviewRule> {
        let extra = self.preview.clone().map(PreviewRule::Extra);
        extra.or_else(|| self.preview_host.clone().map(PreviewRule::Host))
    }

    /// Whether all old replicas are stopped before the new ones are created.
    pub fn order(&self) -> Order {
        match self.strategy {
            Strategy::BlueGreen | Strategy::Rolling | Strategy::Canary => Order::StartFirst,
            Strategy::Recreate => Order::StopFirst,
        }
    }

    /// The limits of a rolling update of so many replicas; `None` for another strategy.
    pub fn limits(&self, replicas: u32) -> Option<Limits> {
        let parallelism = match self.parallelism.unwrap_or(1) {
            0 => replicas,
            some => some.min(replicas),
        };
        let (order, unavailable) = match self.order {
            None | Some(UpdateOrder::StartFirst) => (Order::StartFirst, 0),
            // One stays live.
            Some(UpdateOrder::StopFirst) => (
                Order::StopFirst,
                parallelism.min(replicas.saturating_sub(1)),
            ),
        };
        let unavailable = self.max_unavailable.unwrap_or(unavailable);
        let surge = match order {
            Order::StopFirst if unavailable > 0 => 0,
            Order::StopFirst | Order::StartFirst => parallelism,
        };
        (self.strategy == Strategy::Rolling).then_some(Limits {
            parallelism,
            surge: self.max_surge.unwrap_or(surge),
            unavailable,
            order,
        })
    }

    /// The given settings of a rolling update, by name.
    pub fn of_rolling(&self) -> Vec<&'static str> {
        let all = [
            ("parallelism", self.parallelism.is_some()),
            ("delay", self.delay.is_some()),
            ("order", self.order.is_some()),
            ("max-surge", self.max_surge.is_some()),
            ("max-unavailable", self.max_unavailable.is_some()),
            ("monitor", self.monitor.is_some()),
            ("failure-action", self.failure_action.is_some()),
            ("max-failure-ratio", self.max_failure_ratio.is_some()),
        ];
        let given = all.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(name, _)| name).collect()
    }

    /// A given setting that only a service of a Swarm has.
    pub fn of_swarm(&self) -> Option<&'static str> {
        let all = [
            ("twin-replicas", self.twin_replicas.is_some()),
            ("drain-wait", self.drain_wait.is_some()),
        ];
        let mut given = all.into_iter().filter(|(_, is_given)| *is_given);
        given.next().map(|(name, _)| name)
    }

    /// How long the new replicas are watched after a batch.
    pub fn watch(&self, is_last: bool) -> Duration {
        let monitor = self.monitor.unwrap_or_default();
        match is_last {
            true => monitor,
            false => monitor.max(self.delay.unwrap_or_default()),
        }
    }

    /// Whether new replicas may start with empty anonymous volumes.
    pub fn renews_anon_volumes(&self) -> bool {
        self.renew_anon_volumes || self.ignores(Check::AnonymousVolumes)
    }
}

/// The notice for a rollout that continues although it would be refused.
pub fn in_spite_of(refusal: &str, check: Check) -> String {
    format!("{refusal}; going on because of --ignore {check}")
}
