//! Everything that can happen during a rollout, serialisable; steps emit these, sinks draw or record them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use futures_util::future::{BoxFuture, join_all, ready};
use serde::Serialize;

use crate::{
    figures::Spans,
    model::{Drained, Phase, RolloutId, ServiceKey, Share},
};

/// One of the two sets of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Old,
    New,
}

impl Side {
    /// The set whose share of the traffic the plan of this phase raises.
    pub fn of(phase: Phase) -> Self {
        match phase.keeps_old() {
            true => Self::Old,
            false => Self::New,
        }
    }
}

/// Which batch of a rolling update a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// From 1 on.
    pub batch: u16,
    /// How many there are.
    pub batches: u16,
}

/// What became of one service of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceResult {
    Rolled,
    /// It was up to date.
    Unchanged,
    /// A one-shot service that ran to completion.
    Completed,
    Failed,
    /// It was rolled, and undone because another service failed.
    RolledBack,
    NotBegun,
    /// It waits for a person between two steps.
    Paused,
    /// It is not part of the command.
    LeftAlone,
}

/// One line of the report of several services.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceRow {
    /// The engine's address, where the command rolls on several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub service: String,
    pub result: ServiceResult,
    /// The revision that is live; `None` where it is unknown.
    pub revision: Option<u64>,
    /// The image that is live, by name; `None` where it is unknown.
    pub image: Option<String>,
    pub reason: Option<String>,
}

impl ServiceRow {
    /// How people find it among the others.
    pub fn title(&self) -> String {
        title(self.host.as_deref(), &self.service)
    }
}

/// A service, with the host before it where there are several.
fn title(host: Option<&str>, service: &str) -> String {
    let host = host.map(host_name).unwrap_or_default();
    format!("{host} {service}").trim().to_owned()
}

/// An engine's address without the scheme, as people see it.
pub fn host_name(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

/// A host of a command that rolls on several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnHost {
    /// The engine's address.
    pub host: String,
    pub wave: u32,
    /// In the order in which they begin.
    pub services: Vec<String>,
}

impl OnHost {
    /// The titles of its services.
    pub fn titles(&self) -> impl Iterator<Item = String> {
        let services = self.services.iter();
        services.map(|service| title(Some(&self.host), service))
    }
}

/// One thing that happened. In JSON the kind is under `event`, in snake case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The command begins and reads the Compose files and the engine. Always the first event of a rollout.
    Opening {
        /// The services that the command names.
        services: Vec<String>,
    },
    /// A rollout begins; nothing is touched yet.
    Started {
        /// The revision that it makes.
        revision: u64,
        /// How many replicas it makes.
        replicas: u32,
        /// How traffic is moved: a few words.
        proxy: String,
        /// The new image, as the Compose file names it.
        image: String,
        /// The image that ran before; `None` where nothing did.
        replaces: Option<String>,
        /// The revision that an undo restores.
        undo_to: Option<u64>,
        /// The revision whose content a restart rolls again.
        restart_of: Option<u64>,
    },
    /// Information for the operator; the command continues.
    Notice {
        /// One line.
        text: String,
    },
    /// What a rollout of the service would do; nothing is touched.
    Plan(Plan),
    /// Several services begin; nothing is touched yet.
    StackStarted {
        /// In the order in which they begin.
        services: Vec<String>,
        /// How many of them are rolled side by side; with several hosts, on each.
        parallel: u32,
        /// The hosts, where there are several.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        hosts: Vec<OnHost>,
    },
    /// The last event of several services, apart from a failure.
    StackFinished {
        services: Vec<ServiceRow>,
        total_ms: u64,
    },
    /// A one-shot service has run to completion.
    Completed {
        /// The image that it ran.
        image: String,
        ms: u64,
    },
    /// The service is up to date.
    NothingToDo {
        replicas: u32,
        image: String,
    },
    /// An earlier run left the rollout of this scope unfinished; it is finished or rolled back first.
    Unfinished {
        /// True: it is finished. False: it is rolled back.
        forward: bool,
    },
    /// A command that names an unfinished rollout has finished it or rolled it back.
    Settled {
        /// True: it is finished. False: it is rolled back.
        forward: bool,
        /// The revision that is live now; `None` where none is, or it is not recorded.
        revision: Option<u64>,
        /// Its image, as the Compose file named it.
        image: Option<String>,
    },
    StepStarted {
        step: &'static str,
        /// The names of the replicas that it acts on; empty for all.
        replicas: Vec<String>,
        /// The longest that a wait takes; `None` for a step that is no wait.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit_ms: Option<u64>,
        /// Of a rolling update.
        #[serde(flatten)]
        batch: Option<Batch>,
    },
    StepFinished {
        step: &'static str,
        ms: u64,
    },
    /// A step failed; a rollback or another try follows.
    StepFailed {
        step: &'static str,
        reason: String,
    },
    /// A line that `docker compose` printed.
    Compose {
        line: String,
    },
    /// A line that a hook of `x-rollout.hooks` printed.
    Hook {
        /// Its phase, as in the Compose file.
        hook: &'static str,
        line: String,
    },
    /// A line that a new replica has logged before it was ready, where that is asked for.
    Log {
        replica: String,
        line: String,
    },
    /// A new replica is ready for traffic.
    Ready {
        replica: String,
        /// The gates that it passed.
        by: String,
    },
    /// Every proxy agrees that this side alone is live.
    Confirmed {
        side: Side,
        /// Since the routing was changed.
        ms: u64,
    },
    /// Every proxy has this split of the traffic.
    Traffic {
        /// What the new replicas get, in per cent; the old ones get the rest.
        percent: u32,
    },
    /// An old replica still answers.
    Draining {
        replica: String,
        unanswered: u32,
        /// Open WebSockets and streams that moved data lately.
        streaming: u32,
    },
    /// An old replica's traffic is over.
    Drained {
        replica: String,
        how: Drained,
    },
    /// The rollout is being undone.
    Undoing {
        reason: String,
    },
    /// How the old and the new replicas have answered, and what they have used.
    Figures(Box<Spans>),
    /// The rollout is done. Always the last event of a service that was rolled.
    Finished {
        /// The revision that is live now.
        revision: u64,
        /// How many replicas it has.
        replicas: u32,
        /// Its image, as the Compose file names it.
        image: String,
        /// The image that ran before; `None` where nothing did.
        replaces: Option<String>,
        /// From the change of the routing to the last proxy's agreement; `None` where no proxy routes to the service.
        cutover_ms: Option<u64>,
        /// From the beginning until the last proxy agreed; `None` where no proxy routes to the service.
        live_ms: Option<u64>,
        /// From the stop of the old replicas until the new ones served, where they were stopped first.
        #[serde(skip_serializing_if = "Option::is_none")]
        gap_ms: Option<u64>,
        total_ms: u64,
        /// Milliseconds by step.
        phases: BTreeMap<&'static str, u64>,
    },
    /// The variables of a rollout that has succeeded are in the environment file.
    VariablesWritten {
        /// By its absolute path.
        file: String,
        /// Their names.
        variables: Vec<String>,
    },
    /// What Traefik reads of a container's labels was changed by hand.
    Relabelled {
        container: String,
        /// All labels that are set by hand now; none where they were cleared.
        labels: BTreeMap<String, String>,
        /// What Traefik reports for the container now; `None` if it was not asked.
        route: Option<Share>,
        /// From the change until then.
        ms: u64,
    },
    /// A rollout waits for a person between two steps, and the run ends. The last event of a service that is paused.
    Paused {
        /// One line.
        message: String,
        code: u8,
        /// What to type next.
        hint: Option<String>,
    },
    /// The command failed, or one of several services. The last event of a command that failed.
    Failed {
        /// One line.
        message: String,
        code: u8,
        hint: Option<String>,
        /// The last lines of the container or the hook that failed.
        logs: Vec<String>,
        /// From the stop of the old replicas until they served again, where they were stopped first. `None` also where
        /// nothing serves.
        #[serde(skip_serializing_if = "Option::is_none")]
        gap_ms: Option<u64>,
        /// Whether the rollout is left between two steps, and a later run goes on with it.
        #[serde(skip)]
        is_open: bool,
    },
}

/// What a rollout of a service would do. Without steps there is nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// The image, as the Compose file names it.
    pub image: String,
    /// The image that runs; `None` where nothing does.
    pub replaces: Option<String>,
    /// Whether the image would be pulled or built first.
    pub fetches: bool,
    /// How traffic would be moved; `None` where it was not looked for.
    pub proxy: Option<String>,
    /// How many replicas there would be.
    pub replicas: u32,
    /// The names of the replicas that would be made.
    pub created: Vec<String>,
    /// The names of the replicas that would be removed.
    pub removed: Vec<String>,
    /// An unfinished rollout, and what would be done with it first.
    pub unfinished: Option<String>,
    pub changes: Vec<Change>,
    pub steps: Vec<PlannedStep>,
}

/// One difference between what runs and the Compose file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// `image`, `environment`, `label`, `config`, `contents` or `replicas`.
    pub part: &'static str,
    /// The variable, the label, or the key of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub how: How,
    /// What runs. No value that may be a secret is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What the Compose file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Change {
    /// A part that has changed.
    pub fn of(part: &'static str) -> Self {
        Self {
            part,
            name: None,
            how: How::Changed,
            from: None,
            to: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    Added,
    Removed,
    Changed,
}

/// A step that a rollout would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    pub step: &'static str,
    /// The names of the replicas that it acts on, or that it hides; empty for all.
    pub replicas: Vec<String>,
    /// Of a change of routes: those that are old. They are the first of `replicas`, and a new one may have the same name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub old: Vec<String>,
    /// Of a shift: what the new version gets, in per cent of the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u16>,
    /// Of a shift that is a preview: which requests the new version gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// The longest that a pause, a bake or a watch takes; `None` for a pause that a person ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_ms: Option<u64>,
}

impl PlannedStep {
    pub fn new(step: &'static str, replicas: Vec<String>) -> Self {
        Self {
            step,
            replicas,
            old: Vec::new(),
            percent: None,
            preview: None,
            limit_ms: None,
        }
    }
}

/// What an event belongs to. A field is absent if it is unknown or does not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// The engine's address, as `DOCKER_HOST` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The id of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutId>,
    /// The host as `--on` takes it, where the command rolls on several: people see which one this is.
    #[serde(skip)]
    pub place: Option<String>,
}

impl Scope {
    /// The service as people find it among the others of the command; empty where the event is about the command.
    pub fn title(&self) -> String {
        let host = self.host.as_deref().filter(|_| self.is_of_hosts());
        title(host, self.service())
    }

    /// Whether the command rolls on several hosts.
    pub fn is_of_hosts(&self) -> bool {
        self.place.is_some()
    }

    /// The option of another command about this service that chooses its host, where there are several.
    pub fn on(&self) -> String {
        let place = self.place.as_ref();
        place.map_or_else(String::new, |place| format!(" --on {place}"))
    }

    /// The service's name; empty where the event is about no single service.
    pub fn service(&self) -> &str {
        self.service.as_deref().unwrap_or_default()
    }
}

/// Something that draws or records events.
pub trait Sink: Send {
    /// Takes one event, in order, with the time at which it happened.
    fn event(&mut self, at: SystemTime, scope: &Scope, event: &Event);

    /// Completes what it writes at the end of a command, and waits for what it does beside it. Returns what went wrong,
    /// one line each.
    fn end(&mut self) -> BoxFuture<'static, Vec<String>> {
        Box::pin(ready(Vec::new()))
    }
}

/// Hands events of one scope to every sink; clones share the sinks.
#[derive(Clone, Default)]
pub struct Events {
    sinks: Arc<Mutex<Vec<Box<dyn Sink>>>>,
    scope: Scope,
}

impl Events {
    /// Events that go to these sinks.
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self {
            sinks: Arc::new(Mutex::new(sinks)),
            scope: Scope::default(),
        }
    }

    /// Adds a sink, for the events from here on.
    pub fn add(&self, sink: Box<dyn Sink>) {
        self.lock().push(sink);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn Sink>>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the sinks. What went wrong in them is a notice.
    pub async fn end(&self) {
        let ends: Vec<_> = self.lock().iter_mut().map(|sink| sink.end()).collect();
        for text in join_all(ends).await.concat() {
            self.notice(text);
        }
    }

    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The same sinks, for another scope.
    pub fn scoped(&self, scope: Scope) -> Self {
        Self {
            sinks: Arc::clone(&self.sinks),
            scope,
        }
    }

    /// The same for one of several hosts.
    pub fn of_host(&self, host: &str, place: &str) -> Self {
        self.scoped(Scope {
            host: Some(host.to_owned()),
            place: Some(place.to_owned()),
            ..Scope::default()
        })
    }

    /// The same for one service of the engine at `host`.
    pub fn of_service(&self, host: &str, key: &ServiceKey) -> Self {
        self.scoped(Scope {
            host: Some(host.to_owned()),
            project: Some(key.project.clone()),
            service: Some(key.service.clone()),
            place: self.scope.place.clone(),
            ..Scope::default()
        })
    }

    /// The same for one rollout of the service.
    pub fn of_rollout(&self, rollout: &RolloutId) -> Self {
        self.scoped(Scope {
            rollout: Some(rollout.clone()),
            ..self.scope.clone()
        })
    }

    /// Hands one event to every sink.
    pub fn emit(&self, event: Event) {
        tracing::debug!(?event);
        let at = SystemTime::now();
        for sink in self.lock().iter_mut() {
            sink.event(at, &self.scope, &event);
        }
    }

    pub fn notice(&self, text: impl Into<String>) {
        self.emit(Event::Notice { text: text.into() });
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
