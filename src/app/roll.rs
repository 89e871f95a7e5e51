//! One service's rollout from beginning to end: read, check, lock, settle what is unfinished, roll, report.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{sync::watch, time::Instant};

use crate::{
    compose::{
        Compose, Project, Pull, Service,
        check::{Kind, check},
    },
    engine::Engine,
    error::{Error, Outcome, Result},
    event::{Event, Events},
    execute::{
        self, Summary, World,
        live::{Live, Memory},
    },
    model::{ContainerId, Desired, Facts, Goal, Observed, Replica, RolloutId, ServiceKey, label},
    plan,
    proxy::{
        Proxy,
        none::NoProxy,
        traefik::{discover, names},
    },
    settings::{Partial, ProxyKind, PullPolicy, Settings, Strategy},
    state::{self, Lock},
    watch::Watch,
};

/// The pause before a drain, and the longer one where a middleware can hold a request.
const SETTLE: Duration = Duration::from_millis(250);
const SETTLE_HELD: Duration = Duration::from_secs(5);

/// What every service of one command shares.
pub struct Scene<'a> {
    pub engine: &'a Engine,
    pub compose: &'a Compose,
    pub project: &'a Project,
    pub events: &'a Events,
}

/// One service, with all that was read before anything was touched.
pub struct Checked<'a> {
    service: &'a Service,
    key: ServiceKey,
    settings: Settings,
    replicas: u32,
    dependencies: Vec<(String, u32)>,
    proxy: Box<dyn Proxy>,
    /// What the operator is told once it begins.
    notice: Option<String>,
    found: Vec<discover::Found>,
    olds: Vec<Replica>,
    epoch: u64,
    began: Instant,
}

/// One service that is being rolled.
struct Subject<'a> {
    service: &'a Service,
    key: ServiceKey,
    settings: Settings,
    replicas: u32,
    dependencies: Vec<(String, u32)>,
    helper_image: Option<String>,
    epoch: u64,
}

/// The version that is wanted.
struct Version {
    image: String,
    hash: String,
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
    ) -> Result<Checked<'_>> {
        let began = Instant::now();
        let service = self.project.service(name)?;
        let file = Partial::from_service(name, service.x_rollout.as_ref())?;
        let environment = Partial::from_environment(variables())?;
        let settings = Settings::resolve([flags.clone(), file, environment]);
        let key = ServiceKey {
            project: self.project.name.clone(),
            service: name.to_owned(),
        };
        let olds = self.engine.replicas(&key).await?;
        let found = discover::socket_proxies(self.engine, &key).await?;
        discover::refuse_own_parts(&found, &olds).await?;
        let replicas = settings.scale.unwrap_or(service.scale).max(1);
        let volumes = self.image_volumes(service, &settings).await?;
        self.refuse_two_sets(service, replicas, &settings, &volumes)?;
        let dependencies = self.dependencies(service, earlier).await?;
        let epoch = self.engine.clock_ms().await;
        let (proxy, notice) = self
            .proxy(&key, service, &settings, epoch, &found, &olds)
            .await?;
        Ok(Checked {
            service,
            key,
            settings,
            replicas,
            dependencies,
            proxy,
            notice,
            found,
            olds,
            epoch,
            began,
        })
    }

    /// Rolls one service.
    pub async fn roll(
        &self,
        checked: Checked<'_>,
        interrupted: watch::Receiver<bool>,
    ) -> Result<()> {
        if let Some(notice) = checked.notice {
            self.events.notice(notice);
        }
        let subject = Subject {
            service: checked.service,
            key: checked.key,
            settings: checked.settings,
            replicas: checked.replicas,
            dependencies: checked.dependencies,
            helper_image: self.helper_image(&checked.found).await?,
            epoch: checked.epoch,
        };
        let mut proxy = checked.proxy;
        let lock_image = self.lock_image(&subject, &checked.olds).await?;
        let lock = state::lock(self.engine, &subject.key, &lock_image).await?;
        let rolled = self
            .locked(&subject, &mut *proxy, &lock, checked.began, interrupted)
            .await;
        let released = lock.release().await;
        if let Err(error) = released {
            self.events
                .notice(format!("the lock is left behind: {}", error.message));
        }
        rolled.map_err(|error| with_next(error, &subject.service.name))
    }

    async fn locked(
        &self,
        subject: &Subject<'_>,
        proxy: &mut dyn Proxy,
        lock: &Lock,
        began: Instant,
        interrupted: watch::Receiver<bool>,
    ) -> Result<()> {
        let watch = Watch::start(self.engine, &subject.key);
        let there = self.engine.replicas(&subject.key).await?;
        let ids: Vec<ContainerId> = there.into_iter().map(|replica| replica.id).collect();
        self.engine.sweep_helpers(&ids).await?;
        let olds = self
            .settle_unfinished(subject, proxy, lock, &watch, interrupted.clone())
            .await?;
        let mut phases = BTreeMap::new();
        let mut signal = interrupted.clone();
        tokio::select! {
            biased;
            () = execute::raised(&mut signal) => {
                return Err(Error::interrupted("interrupted; nothing was changed, what ran before serves"));
            }
            fetched = self.fetch_image(subject, &mut phases) => fetched?,
        }
        let version = self.version(subject).await?;
        if !subject.settings.force && self.is_current(subject, &version, &olds, proxy).await? {
            self.events.emit(Event::NothingToDo {
                service: subject.service.name.clone(),
                replicas: subject.replicas,
            });
            return Ok(());
        }
        self.tell_differences(subject, &olds);
        let rollout = rollout_id(&subject.key, subject.epoch);
        let revision = next_revision(&olds);
        self.events.emit(Event::Started {
            service: subject.service.name.clone(),
            rollout: rollout.clone(),
            revision,
            replicas: subject.replicas,
            proxy: proxy.describe(),
        });
        let labels = BTreeMap::from([
            (label::REVISION.to_owned(), revision.to_string()),
            (label::REPLICAS.to_owned(), subject.replicas.to_string()),
            (
                label::COMPOSE_VERSION.to_owned(),
                self.compose.version().to_owned(),
            ),
            (
                label::DIGEST.to_owned(),
                subject.service.inline_digest.clone(),
            ),
        ]);
        let settle = self.settle(subject, proxy, &olds).await;
        let summary = if subject.settings.strategy == Strategy::Recreate {
            self.recreate(subject, &watch).await?
        } else {
            let desired = desired(
                Goal::Roll,
                rollout.clone(),
                subject.replicas,
                proxy.routes(),
                &olds,
            );
            let mut live = self.live(subject, proxy, lock, &watch, labels, settle);
            execute::run(
                &mut live,
                desired,
                Facts::default(),
                self.events,
                interrupted,
            )
            .await?
        };
        phases.extend(summary.phases);
        self.events.emit(Event::Finished {
            service: subject.service.name.clone(),
            rollout,
            revision,
            replicas: subject.replicas,
            cutover_ms: summary.cutover.map(|cutover| cutover.as_millis() as u64),
            total_ms: began.elapsed().as_millis() as u64,
            phases,
        });
        Ok(())
    }

    fn live<'a>(
        &'a self,
        subject: &'a Subject<'_>,
        proxy: &'a mut dyn Proxy,
        lock: &'a Lock,
        watch: &'a Watch,
        labels: BTreeMap<String, String>,
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
            labels,
            dependencies: subject.dependencies.clone(),
            settle,
            memory: Memory::default(),
        }
    }

    /// Finishes or undoes what an earlier run has left, and answers with the replicas that are there then.
    async fn settle_unfinished(
        &self,
        subject: &Subject<'_>,
        proxy: &mut dyn Proxy,
        lock: &Lock,
        watch: &Watch,
        interrupted: watch::Receiver<bool>,
    ) -> Result<Vec<Replica>> {
        let routed = proxy.routes();
        let mut live = self.live(subject, proxy, lock, watch, BTreeMap::new(), SETTLE);
        let observed = live.observe().await?;
        let Some((rollout, goal, wanted)) = plan::unfinished(&observed, routed) else {
            return Ok(observed.replicas);
        };
        self.events.emit(Event::Unfinished {
            rollout: rollout.clone(),
            forward: goal == Goal::Finish,
        });
        let others: Vec<Replica> = observed
            .replicas
            .into_iter()
            .filter(|replica| replica.rollout.as_ref() != Some(&rollout))
            .collect();
        let desired = desired(goal, rollout, wanted, routed, &others);
        let facts = Facts {
            created: true,
            ..Facts::default()
        };
        match execute::run(&mut live, desired, facts, self.events, interrupted).await {
            Ok(_) => {}
            // The old version serves again: what was asked for can go on from there.
            Err(error) if error.outcome == Outcome::Failed => self.events.notice(error.message),
            Err(error) => return Err(error),
        }
        Ok(live.observe().await?.replicas)
    }

    fn refuse_two_sets(
        &self,
        service: &Service,
        replicas: u32,
        settings: &Settings,
        image_volumes: &[String],
    ) -> Result<()> {
        if settings.strategy == Strategy::Recreate {
            return Ok(());
        }
        let mut problems = check(self.project, service, replicas, image_volumes);
        problems.retain(|problem| {
            problem.kind != Kind::AnonymousVolumes || !settings.renew_anon_volumes
        });
        match problems.first() {
            None => Ok(()),
            Some(first) => {
                let others = problems[1..]
                    .iter()
                    .map(|problem| format!("\n      also: {}", problem.message));
                Err(Error::refused(&first.message).hint(format!(
                    "{}{}",
                    first.hint,
                    others.collect::<String>()
                )))
            }
        }
    }

    /// The volumes of an image that is here already and stays; those of another are checked once it is here.
    async fn image_volumes(&self, service: &Service, settings: &Settings) -> Result<Vec<String>> {
        let stays = match settings.pull {
            PullPolicy::Always => false,
            PullPolicy::Policy => !matches!(
                service.pull_policy.as_deref(),
                Some("always" | "build" | "daily" | "weekly")
            ),
            PullPolicy::Missing | PullPolicy::Never => true,
        };
        let built = service.has_build && settings.build;
        match &service.image {
            Some(reference) if stays && !built => {
                let image = self.engine.image(reference).await?;
                Ok(image.map(|image| image.volumes).unwrap_or_default())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Every service that this one needs, and how many replicas it has; one that does not exist yet is refused.
    async fn dependencies(
        &self,
        service: &Service,
        earlier: &[&str],
    ) -> Result<Vec<(String, u32)>> {
        let mut dependencies = Vec::new();
        for name in self.project.dependencies(&service.name) {
            let key = ServiceKey {
                project: self.project.name.clone(),
                service: name.clone(),
            };
            let replicas = self.engine.replicas(&key).await?;
            let required = service
                .depends_on
                .iter()
                .find(|own| own.service == name)
                .is_none_or(|own| own.required);
            let comes = earlier.contains(&name.as_str());
            let known = self.project.services.contains_key(&name);
            if replicas.is_empty() && required && known && !comes {
                return Err(Error::refused(format!(
                    "{} depends on {name}, which has no container yet",
                    service.name
                ))
                .hint(format!("docker compose up -d {name}")));
            }
            if !replicas.is_empty() {
                dependencies.push((name, replicas.len() as u32));
            }
        }
        Ok(dependencies)
    }

    /// An image that holds this program: a socket proxy's, the one called `rollout:latest`, else one made of this binary.
    async fn helper_image(&self, found: &[discover::Found]) -> Result<Option<String>> {
        if let Some(found) = found.first() {
            return Ok(Some(found.image.clone()));
        }
        let tag = env!("CARGO_PKG_VERSION");
        for reference in ["rollout:latest".to_owned(), format!("rollout-helper:{tag}")] {
            if let Some(image) = self.engine.image(&reference).await? {
                return Ok(Some(image.id));
            }
        }
        if let Err(error) = self.load_helper(tag).await {
            self.events.notice(format!(
                "no helper can run beside the replicas: {}",
                error.message
            ));
            return Ok(None);
        }
        Ok(self
            .engine
            .image(&format!("rollout-helper:{tag}"))
            .await?
            .map(|image| image.id))
    }

    /// Only a static binary runs in an image that holds nothing else; one that does not is no use as a helper.
    async fn load_helper(&self, tag: &str) -> Result<()> {
        let failed =
            |error: std::io::Error| Error::failed(format!("cannot read this program: {error}"));
        let program = std::fs::read(std::env::current_exe().map_err(failed)?).map_err(failed)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(program.len() as u64);
        header.set_mode(0o755);
        let mut archive = tar::Builder::new(Vec::new());
        archive
            .append_data(&mut header, "rollout", program.as_slice())
            .map_err(failed)?;
        self.engine
            .import_image(archive.into_inner().map_err(failed)?, "rollout-helper", tag)
            .await
    }

    async fn lock_image(&self, subject: &Subject<'_>, olds: &[Replica]) -> Result<String> {
        if let Some(image) = subject
            .helper_image
            .clone()
            .or_else(|| olds.first().map(|old| old.image.clone()))
        {
            return Ok(image);
        }
        // Never started, so any image will do.
        Ok(subject.service.image.clone().unwrap_or_default())
    }

    async fn proxy(
        &self,
        key: &ServiceKey,
        service: &Service,
        settings: &Settings,
        epoch: u64,
        found: &[discover::Found],
        olds: &[Replica],
    ) -> Result<(Box<dyn Proxy>, Option<String>)> {
        let networks = self.networks(service, olds);
        let labelled = names::wants_traefik(&service.labels)
            || olds.iter().any(|old| names::wants_traefik(&old.labels));
        let none = |notice| Ok((Box::new(NoProxy) as Box<dyn Proxy>, notice));
        if settings.proxy == ProxyKind::None {
            return none(None);
        }
        if !labelled {
            // With exposedByDefault, Traefik routes to what has no label too; nobody but Traefik can say.
            if let Ok(traefik) =
                discover::traefik(self.engine, key, settings, epoch, found, &networks, olds).await
                && traefik.knows_the_service()
            {
                return Ok((Box::new(traefik), None));
            }
            let name = &service.name;
            return none(Some(format!(
                "{name} has no Traefik router: it is rolled on health alone"
            )));
        }
        match discover::traefik(self.engine, key, settings, epoch, found, &networks, olds).await {
            Ok(traefik) => Ok((Box::new(traefik), None)),
            Err(error) if settings.allow_split && error.outcome == Outcome::Refused => none(Some(
                format!("{}; both versions will answer for a while", error.message),
            )),
            // Nothing has been touched yet.
            Err(error) => Err(Error {
                outcome: Outcome::Refused,
                ..error
            }),
        }
    }

    /// The engine's names of the networks that the service is in, or will be in.
    fn networks(&self, service: &Service, olds: &[Replica]) -> BTreeSet<String> {
        let declared = service
            .networks
            .iter()
            .filter_map(|key| self.project.raw["networks"][key]["name"].as_str());
        olds.iter()
            .flat_map(|old| old.networks.iter().map(String::as_str))
            .chain(declared)
            .map(str::to_owned)
            .collect()
    }

    async fn settle(
        &self,
        subject: &Subject<'_>,
        proxy: &mut dyn Proxy,
        olds: &[Replica],
    ) -> Duration {
        match subject.settings.settle {
            Some(settle) => settle,
            None if proxy.holds_requests(olds).await => SETTLE_HELD,
            None => SETTLE,
        }
    }

    async fn fetch_image(
        &self,
        subject: &Subject<'_>,
        phases: &mut BTreeMap<&'static str, u64>,
    ) -> Result<()> {
        let name = &subject.service.name;
        let build = subject.service.has_build && subject.settings.build;
        let step = if build { "build" } else { "pull" };
        let policy = match subject.settings.pull {
            // As `docker compose up` does: a name that the engine has an image for is not asked of a registry.
            PullPolicy::Policy if subject.service.pull_policy.is_none() => Pull::Missing,
            PullPolicy::Policy => Pull::Policy,
            PullPolicy::Always => Pull::Always,
            PullPolicy::Missing => Pull::Missing,
            PullPolicy::Never => Pull::Never,
        };
        let started = Instant::now();
        self.events.emit(Event::StepStarted {
            step,
            replicas: Vec::new(),
        });
        let on_line = |line| self.events.emit(Event::Compose { line });
        let fetched = match build {
            true => self.compose.build(name, on_line).await,
            false => self.compose.pull(name, policy, on_line).await,
        };
        if let Err(error) = fetched {
            self.events.emit(Event::StepFailed {
                step,
                reason: error.message.clone(),
            });
            return Err(error);
        }
        let ms = started.elapsed().as_millis() as u64;
        phases.insert(step, ms);
        self.events.emit(Event::StepFinished { step, ms });
        Ok(())
    }

    async fn version(&self, subject: &Subject<'_>) -> Result<Version> {
        let reference = subject.service.image.clone().unwrap_or_default();
        let Some(image) = self.engine.image(&reference).await? else {
            return Err(
                Error::failed(format!("there is no image {reference}")).hint(
                    if subject.service.has_build {
                        "add --build"
                    } else {
                        "add --pull missing, or docker pull it"
                    },
                ),
            );
        };
        self.refuse_two_sets(
            subject.service,
            subject.replicas,
            &subject.settings,
            &image.volumes,
        )?;
        Ok(Version {
            image: image.id,
            hash: self.compose.config_hash(&subject.service.name).await?,
        })
    }

    async fn is_current(
        &self,
        subject: &Subject<'_>,
        version: &Version,
        olds: &[Replica],
        proxy: &mut dyn Proxy,
    ) -> Result<bool> {
        let digest = &subject.service.inline_digest;
        let same = |old: &Replica| {
            let same_digest = old.digest.as_deref().unwrap_or_default() == digest;
            old.image == version.image && old.hash == version.hash && same_digest && old.serves()
        };
        if olds.len() != subject.replicas as usize || !olds.iter().all(same) {
            return Ok(false);
        }
        if !proxy.routes() {
            return Ok(true);
        }
        let refs: Vec<&Replica> = olds.iter().collect();
        let observation = proxy.observed(olds).await;
        Ok(observation
            .is_some_and(|observation| observation.agrees(crate::model::Side::Old, &[], &refs)))
    }

    fn tell_differences(&self, subject: &Subject<'_>, olds: &[Replica]) {
        let running = olds.iter().filter(|old| old.serves()).count() as u32;
        if running > 0 && running != subject.replicas {
            let source = if subject.settings.scale.is_some() {
                "--scale"
            } else {
                "the Compose file"
            };
            self.events.notice(format!(
                "{running} replicas run, {source} says {}",
                subject.replicas
            ));
        }
        let left: Vec<&str> = olds
            .iter()
            .filter(|old| !old.serves())
            .map(|old| old.name.as_str())
            .collect();
        if !left.is_empty() {
            self.events.notice(format!(
                "replacing {}, which did not run well",
                left.join(", ")
            ));
        }
    }

    /// Stops first, as Compose does: for services that cannot run twice. The gap is the strategy's own.
    async fn recreate(&self, subject: &Subject<'_>, watch: &Watch) -> Result<Summary> {
        let started = Instant::now();
        self.events.emit(Event::StepStarted {
            step: "recreate",
            replicas: Vec::new(),
        });
        let on_line = |line| self.events.emit(Event::Compose { line });
        self.compose
            .recreate(&subject.service.name, subject.replicas, on_line)
            .await
            .map_err(|error| Error {
                outcome: Outcome::NeedsPerson,
                ..error
            })?;
        let deadline = Instant::now() + subject.settings.timeout;
        loop {
            let changed = watch.next();
            let now = self.engine.replicas(&subject.key).await?;
            let healthy = |replica: &Replica| {
                replica.serves() && replica.health != crate::model::Health::Starting
            };
            if now.iter().all(healthy) && now.len() == subject.replicas as usize {
                break;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                let ill = now.iter().find(|replica| !healthy(replica));
                let name = ill.map_or_else(String::new, |replica| replica.name.clone());
                let logs = match ill {
                    Some(replica) => self.engine.last_lines(&replica.id, 15).await,
                    None => Vec::new(),
                };
                return Err(Error::needs_person(format!(
                    "{name} did not become healthy; the old version is gone"
                ))
                .logs(logs));
            }
        }
        let ms = started.elapsed().as_millis() as u64;
        self.events.emit(Event::StepFinished {
            step: "recreate",
            ms,
        });
        Ok(Summary {
            cutover: None,
            phases: BTreeMap::from([("recreate", ms)]),
        })
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
        routed,
        olds_at_start: olds.iter().map(|old| old.id.clone()).collect(),
        served: Observed {
            replicas: olds.to_vec(),
            claim: None,
        }
        .replicas
        .iter()
        .any(Replica::serves),
    }
}

/// The service is part of the id, since the overlay's rules match on it: two services may be rolled at the same moment.
fn rollout_id(key: &ServiceKey, epoch: u64) -> RolloutId {
    let digest = Sha256::digest(key.to_string());
    RolloutId(format!(
        "r{epoch:x}-{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2]
    ))
}

/// Compose's own replicas count as revision 1.
fn next_revision(olds: &[Replica]) -> u64 {
    let last = olds.iter().filter_map(|old| old.revision).max();
    last.unwrap_or(u64::from(!olds.is_empty())) + 1
}

/// The environment, less what is no text: settings are.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let text = (name.into_string().ok()?, value.into_string().ok()?);
        Some(text)
    })
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
