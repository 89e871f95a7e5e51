//! One service's rollout from beginning to end: read, check, lock, settle what is unfinished, roll, report.

mod back;
mod checks;
mod clashes;
mod contents;
mod difference;
mod examine;
mod front;
mod image;
mod joined;
mod locked;
mod locking;
mod record;
mod refuse;
mod stand;
mod survey;
mod unfinished;
mod warn;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

pub use self::examine::{Around, Examined};
pub use self::stand::Standing;
use self::{
    image::lock_image,
    locked::Locked,
    refuse::{Before, pass_over},
};
use crate::{
    check::Check,
    compose::{Compose, Project, Service},
    engine::{
        Engine,
        shared::{self, Joined},
    },
    error::{Error, Outcome, Result},
    event::Events,
    execute::live::{Live, Memory},
    model::{Desired, Goal, Observed, Policy, Replica, RolloutId, ServiceKey, label},
    namespace::traffic::Protocol,
    proxy::{Proxy, traefik::discover},
    settings::{Partial, Settings},
    state::{Lock, revisions::Revision},
    watch::{Front, Watch},
};

/// What every service of one command shares.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub engine: &'a Engine,
    pub compose: &'a Compose,
    pub project: &'a Project,
    pub events: &'a Events,
    /// The recorded revision that is gone back to, where that is the goal.
    pub back: Option<&'a Revision>,
}

/// One service, with all that was read before anything was touched.
pub struct Checked<'a> {
    service: &'a Service,
    flags: Partial,
    key: ServiceKey,
    settings: Settings,
    replicas: u32,
    dependencies: Vec<(String, u32)>,
    joined: Vec<Joined>,
    proxy: Box<dyn Proxy>,
    /// What the operator is told once it begins.
    notices: Vec<String>,
    /// See [`Live::called_ports`].
    called_ports: BTreeMap<u16, Protocol>,
    found: Vec<discover::Found>,
    olds: Vec<Replica>,
    /// What ails their routing.
    before: Before,
    epoch: u64,
    began: Instant,
    purpose: Purpose,
}

/// What is done with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is brought to what the Compose file says.
    Roll,
    /// What an earlier run has left unfinished is settled, and no more.
    Settle,
}

/// One service that is being rolled.
struct Subject<'a> {
    purpose: Purpose,
    service: &'a Service,
    key: ServiceKey,
    settings: Settings,
    replicas: u32,
    dependencies: Vec<(String, u32)>,
    /// See [`Live::called_ports`].
    called_ports: BTreeMap<u16, Protocol>,
    /// What lives in namespaces or volumes of its containers.
    joined: Vec<Joined>,
    helper_image: Option<String>,
    /// What ails the routing before anything is begun.
    before: Before,
    epoch: u64,
    /// What the operator was told when it began.
    told: Vec<String>,
}

impl Subject<'_> {
    /// Whether anything is to be run in old replicas before they are stopped.
    fn has_hooks(&self, olds: &[Replica]) -> bool {
        let labelled = olds.iter().map(|old| &old.labels);
        self.settings.pre_stop_hook.is_some()
            || !self.service.pre_stop.is_empty()
            || labelled
                .chain([&self.service.labels])
                .any(|labels| labels.contains_key(label::PRE_STOP_HOOK))
    }
}

/// The version that is wanted.
struct Version {
    image: String,
    digests: Vec<String>,
    hash: String,
    config: String,
}

impl Scene<'_> {
    /// Reads all that a rollout of the service needs, and refuses what cannot go well; changes nothing.
    ///
    /// `earlier` are services that the same command rolls before this one.
    pub async fn check(
        &self,
        name: &str,
        flags: &Partial,
        earlier: &[&str],
        purpose: Purpose,
    ) -> Result<Checked<'_>> {
        let checked = self.read(name, flags, earlier, purpose).await;
        checked.map_err(untouched)
    }

    #[expect(
        clippy::too_many_lines,
        reason = "three literals with the same fields: one context is to replace them"
    )]
    async fn read(
        &self,
        name: &str,
        flags: &Partial,
        earlier: &[&str],
        purpose: Purpose,
    ) -> Result<Checked<'_>> {
        let began = Instant::now();
        let service = self.project.service(name)?;
        let settings = settings(self.project, service, flags)?;
        let key = ServiceKey {
            project: self.project.name.clone(),
            service: name.to_owned(),
        };
        let olds = self.engine.replicas(&key).await?;
        let running = self.engine.running().await?;
        let found = discover::among(self.engine, &running, &key).await?;
        discover::refuse_own_parts(&found, &running, &olds).await?;
        let joined = self.joined(service, shared::by_network(&running, &olds), &olds);
        let replicas = settings.scale.unwrap_or(service.scale);
        if replicas == 0 && purpose == Purpose::Roll {
            return Err(
                Error::refused(format!("{name} has a scale of 0 in the Compose file")).hint(
                    format!("docker compose up -d {name} stops it; to start it: --scale 1"),
                ),
            );
        }
        let image = match self.back {
            Some(back) => self.engine.image(&back.image.id).await?,
            None => self.image_that_stays(service, &settings).await?,
        };
        let mut notices = Vec::new();
        let dependencies = match purpose {
            Purpose::Roll => {
                let volumes = image.as_ref().map_or(&[][..], |image| &image.volumes);
                self.refuse_two_sets(service, replicas, &settings, volumes, &joined, &mut notices)?;
                self.dependencies(service, earlier).await?
            }
            // Nothing is created.
            Purpose::Settle => Vec::new(),
        };
        let epoch = self.engine.clock_ms().await;
        let case = front::Case {
            key: &key,
            service,
            settings: &settings,
            epoch,
            found: &found,
            olds: &olds,
            image: image.as_ref(),
            purpose,
        };
        let front = self.proxy(case).await?;
        notices.extend(front.notices(&settings));
        let called_ports = front.called_ports();
        let mut proxy = front.proxy;
        let case = clashes::Case {
            key: &key,
            service,
            settings: &settings,
            image: image.as_ref(),
            olds: &olds,
            traefiks: &front.traefiks,
            earlier,
            purpose,
        };
        let before = match purpose {
            Purpose::Roll => {
                let refused = self.refuse_by_labels(case, replicas, &mut *proxy, &mut notices);
                refused.await?
            }
            Purpose::Settle => {
                notices.extend(self.refuse_clashes(case).await?);
                Before::default()
            }
        };
        Ok(Checked {
            service,
            flags: flags.clone(),
            key,
            settings,
            replicas,
            dependencies,
            joined,
            proxy,
            notices,
            called_ports,
            found,
            olds,
            before,
            epoch,
            began,
            purpose,
        })
    }

    /// Refuses what the names and labels of the new version would cause. Returns what ails the routing already.
    async fn refuse_by_labels(
        &self,
        case: clashes::Case<'_>,
        replicas: u32,
        proxy: &mut dyn Proxy,
        notices: &mut Vec<String>,
    ) -> Result<Before> {
        let (service, settings, olds, image) = (case.service, case.settings, case.olds, case.image);
        let clashes = self.refuse_clashes(case);
        let names = self.refuse_taken_names(service, replicas, olds);
        let trouble = self.tell_trouble(&service.name, proxy, olds);
        let (clashes, names, before) = tokio::join!(clashes, names, trouble);
        names?;
        notices.extend(clashes?);
        if proxy.routes() {
            let unknown = self.refuse_unknown_labels(service, olds);
            pass_over(settings, Check::Labels, unknown, notices)?;
        }
        if let Some(image) = image.filter(|_| proxy.routes()) {
            let ports = self.refuse_ports(service, settings, image);
            pass_over(settings, Check::Rollout, ports, notices)?;
        }
        Ok(before)
    }

    pub async fn roll(
        &self,
        checked: Checked<'_>,
        interrupted: watch::Receiver<bool>,
    ) -> Result<()> {
        let name = &checked.service.name;
        let helper_image = self.helper_image(&checked.found).await;
        let helper_image = helper_image.map_err(untouched)?;
        let lock_image = lock_image(&helper_image, &checked);
        let lock = self.lock(&checked, &lock_image, interrupted.clone());
        let lock = lock.await?;
        let rolled = self
            .with_lock(checked, helper_image, &lock, interrupted)
            .await;
        let released = lock.release().await;
        if let Err(error) = released {
            self.events
                .notice(format!("the lock is left behind: {}", error.message));
        }
        rolled.map_err(|error| with_next(error, name))
    }

    async fn with_lock(
        &self,
        checked: Checked<'_>,
        helper_image: Option<String>,
        lock: &Lock,
        interrupted: watch::Receiver<bool>,
    ) -> Result<()> {
        let checked = match lock.waited {
            // Whoever was waited for has changed what was read.
            true => {
                let (name, flags) = (&checked.service.name, &checked.flags);
                self.check(name, flags, &[], checked.purpose).await?
            }
            false => checked,
        };
        for notice in &checked.notices {
            self.events.notice(notice);
        }
        let subject = Subject {
            purpose: checked.purpose,
            service: checked.service,
            key: checked.key,
            settings: checked.settings,
            replicas: checked.replicas,
            dependencies: checked.dependencies,
            called_ports: checked.called_ports,
            joined: checked.joined,
            helper_image,
            before: checked.before,
            epoch: checked.epoch,
            told: checked.notices,
        };
        let mut proxy = checked.proxy;
        let front = Front::new(proxy.containers(), self.events.clone());
        let locked = Locked {
            scene: *self,
            watch: &Watch::with_front(self.engine, &subject.key, front),
            subject: &subject,
            proxy: &mut *proxy,
            lock,
            began: checked.began,
            interrupted,
        };
        locked.roll().await
    }

    fn live<'a>(
        &'a self,
        subject: &'a Subject<'_>,
        proxy: &'a mut dyn Proxy,
        lock: &'a Lock,
        watch: &'a Watch,
        settle: Duration,
    ) -> Live<'a> {
        Live {
            engine: self.engine,
            compose: self.compose,
            project: self.project,
            service: subject.service,
            key: subject.key.clone(),
            settings: &subject.settings,
            proxy,
            watch,
            helper_image: subject.helper_image.clone(),
            lock,
            events: self.events,
            labels: BTreeMap::new(),
            image: None,
            dependencies: subject.dependencies.clone(),
            called_ports: subject.called_ports.clone(),
            settle,
            bake: Duration::ZERO,
            complaints: BTreeSet::new(),
            memory: Memory::default(),
        }
    }
}

fn desired(
    goal: Goal,
    rollout: RolloutId,
    replicas: u32,
    routed: bool,
    olds: &[Replica],
) -> Desired {
    Desired {
        goal,
        rollout,
        replicas,
        policy: Policy::default(),
        restartable: BTreeSet::new(),
        routed,
        confirm_hold: false,
        olds_at_start: olds.iter().map(|old| old.id.clone()).collect(),
        unrouted: BTreeSet::new(),
        served: Observed {
            replicas: olds.to_vec(),
            claim: None,
        }
        .replicas
        .iter()
        .any(Replica::serves),
        hooks: false,
    }
}

/// Flags before the service's own, then the project's, then the environment's.
fn settings(project: &Project, service: &Service, flags: &Partial) -> Result<Settings> {
    let own = Partial::from_service(&service.name, service.x_rollout.as_ref())?;
    let top = Partial::from_project(project.raw.get("x-rollout"))?;
    let [own, top] = [own, top].map(|file| file.in_directory(&project.directory));
    let environment = Partial::from_environment(variables())?;
    Ok(Settings::resolve([flags.clone(), own, top, environment]))
}

/// The environment, less what is no text: settings are.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let text = (name.into_string().ok()?, value.into_string().ok()?);
        Some(text)
    })
}

/// What fails before anything is touched is a refusal, and an engine that has stumbled may answer again.
fn untouched(error: Error) -> Error {
    if !matches!(error.outcome, Outcome::Failed | Outcome::NeedsPerson) {
        return error;
    }
    let refused = Error {
        outcome: Outcome::Refused,
        ..error
    };
    refused.or_hint(
        "nothing was touched; docker info says how the engine is, then run the same command again",
    )
}

fn with_next(error: Error, service: &str) -> Error {
    if error.hint.is_some() {
        return error;
    }
    match error.outcome {
        Outcome::Failed => error.hint(format!("mend the cause, then run: rollout {service}")),
        Outcome::NeedsPerson => error.hint(format!(
            "docker compose ps {service}; then run again: rollout {service}"
        )),
        Outcome::Done | Outcome::Refused | Outcome::Locked | Outcome::Interrupted => error,
    }
}
