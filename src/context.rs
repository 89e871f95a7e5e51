//! The facts of a run and of one service in it, read before the first change and constant afterwards. Later findings are
//! in the phases of [`crate::roll`].

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    compose::{Compose, Hashes, Project, Service},
    docker::engine::{Engine, Image, shared::Joined},
    event::Events,
    hooks::Hooks,
    model::{Promote, Replica, ServiceKey, Shift, label},
    prometheus::Metric,
    settings::Settings,
    state::revisions::Revision,
    variables::Given,
};

#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    pub engine: &'a Engine,
    pub compose: &'a Compose,
    pub project: &'a Project,
    /// The config hashes of its services, where they were begun.
    pub hashes: Option<&'a Hashes>,
    pub events: &'a Events,
    /// The recorded revision that is rolled in place of the Compose file.
    pub back: Option<&'a Revision>,
    /// The revision that was chosen before the lock and must run still under it; anything else is left alone.
    pub replaces: Option<u64>,
    /// The digest of the image that an agent has decided to roll; any other is left alone under the lock.
    pub decided: Option<&'a str>,
    /// Whether the command rolls several services.
    pub of_several: bool,
    /// Whether these cut over in the same moment.
    pub together: bool,
    /// How far a paused canary is moved on.
    pub promotes: Option<Promote>,
    /// The variables of the command.
    pub set: Option<&'a Given>,
}

impl<'a> RunContext<'a> {
    /// Of a rollout to what the Compose file says.
    pub fn new(
        engine: &'a Engine,
        (compose, project): (&'a Compose, &'a Project),
        events: &'a Events,
    ) -> Self {
        Self {
            engine,
            compose,
            project,
            hashes: None,
            events,
            back: None,
            replaces: None,
            decided: None,
            of_several: false,
            together: false,
            promotes: None,
            set: None,
        }
    }

    /// Whether the revision that runs is rolled again.
    pub fn restarts(&self) -> bool {
        self.back
            .is_some_and(|back| self.replaces == Some(back.number))
    }

    /// The revision that an undo restores.
    pub fn undo_to(&self) -> Option<u64> {
        let back = self.back.filter(|_| !self.restarts());
        back.map(|back| back.number)
    }

    /// The revision that a restart rolls again.
    pub fn restart_of(&self) -> Option<u64> {
        let back = self.back.filter(|_| self.restarts());
        back.map(|back| back.number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Bring the service to the state of the Compose file.
    Roll,
    /// Only finish or roll back an unfinished rollout.
    Settle,
}

/// What the same command rolls beside one service.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// The services that are done before it begins.
    pub earlier: Vec<String>,
    /// The labels of the new versions that are known, by service.
    pub new: BTreeMap<String, BTreeMap<String, String>>,
}

/// One service of a run.
#[derive(Clone)]
pub struct ServiceContext<'a> {
    // From the command, the Compose file and the settings.
    pub service: &'a Service,
    pub key: ServiceKey,
    pub settings: Settings,
    pub hooks: Hooks,
    /// The shifts of a canary.
    pub steps: Vec<Shift>,
    /// The metrics of its analysis.
    pub metrics: Vec<Metric>,
    pub purpose: Purpose,
    pub of_several: bool,
    /// How many replicas are wanted.
    pub replicas: u32,
    pub beside: Beside,
    /// A one-shot service: it runs to completion, and others wait for that.
    pub runs_once: bool,
    /// The engine's names of the networks of the new version.
    pub declared_networks: BTreeSet<String>,

    // From the landscape, which all services of a run share.
    /// The engine's clock; grows with each rollout of the service.
    pub epoch: u64,
    /// Every dependency that has containers, and how many replicas.
    pub dependencies: Vec<(String, u32)>,

    // From the engine, for this service alone.
    pub olds: Vec<Replica>,
    /// The image of the new version; `None` until the engine certainly has it.
    pub image: Option<Image>,
    /// Containers that use namespaces or volumes of its containers.
    pub joined: Vec<Joined>,
}

impl ServiceContext<'_> {
    /// The engine's names of the networks that the service is in, or will be in.
    pub fn networks(&self) -> BTreeSet<String> {
        let before = self.olds.iter().flat_map(|old| old.networks.iter());
        before.chain(&self.declared_networks).cloned().collect()
    }

    /// The labels of the new version with this image, as far as they are known.
    pub fn labels(&self, image: Option<&Image>) -> BTreeMap<String, String> {
        let mut labels = image.map_or_else(BTreeMap::new, |image| image.labels.clone());
        labels.extend(self.service.labels.clone());
        let compose = [
            (label::COMPOSE_PROJECT, self.key.project.as_str()),
            (label::COMPOSE_SERVICE, self.key.service.as_str()),
            (label::COMPOSE_ONEOFF, "False"),
        ];
        labels.extend(compose.map(|(key, value)| (key.to_owned(), value.to_owned())));
        labels
    }

    /// The id of the new version's image.
    pub fn image_id(&self) -> Option<String> {
        self.image.as_ref().map(|image| image.id.clone())
    }

    /// Whether these old replicas have pre-stop hooks.
    pub fn has_pre_stop(&self, olds: &[Replica]) -> bool {
        let mut labels = olds.iter().map(|old| &old.labels);
        let is_labelled =
            |labels: &BTreeMap<String, String>| labels.contains_key(label::PRE_STOP_HOOK);
        self.settings.pre_stop_hook.is_some()
            || !self.service.pre_stop.is_empty()
            || is_labelled(&self.service.labels)
            || labels.any(is_labelled)
    }
}

#[cfg(test)]
impl<'a> ServiceContext<'a> {
    /// The service `web` of the project `shop`, before its first container.
    pub fn of(service: &'a Service) -> Self {
        Self {
            service,
            key: ServiceKey {
                project: "shop".to_owned(),
                service: "web".to_owned(),
            },
            settings: Settings::resolve(Default::default()),
            hooks: Hooks::new(),
            steps: Vec::new(),
            metrics: Vec::new(),
            purpose: Purpose::Roll,
            of_several: false,
            replicas: 1,
            beside: Beside::default(),
            runs_once: false,
            declared_networks: BTreeSet::new(),
            epoch: 1,
            dependencies: Vec::new(),
            olds: Vec::new(),
            image: None,
            joined: Vec::new(),
        }
    }
}
