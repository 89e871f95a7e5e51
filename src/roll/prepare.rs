//! Reads everything that a rollout of a service needs, and refuses what cannot succeed; changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{
    before::Before,
    limits,
    rolling::{by_number, refuse_mix},
};
use crate::{
    compose::{Project, Service},
    context::{Beside, Purpose, RunContext, ServiceContext},
    docker::engine::shared,
    error::{Error, Outcome, Result},
    event::Scope,
    hooks,
    model::Order,
    namespace::traffic::Protocol,
    overlay::Labels,
    prometheus,
    proxy::{
        Router,
        detect::{detect, refuse_own_parts},
        driver::Detection,
        landscape::Landscape,
    },
    settings::{Partial, Settings, Strategy},
    steps,
};

/// A service that passed the checks; nothing is touched yet.
pub struct Prepared<'a> {
    pub(super) run: RunContext<'a>,
    pub(super) context: ServiceContext<'a>,
    pub(super) flags: Partial,
    pub(super) proxy: Box<dyn Router>,
    /// Notices for the operator, emitted once the rollout begins.
    pub(super) notices: Vec<String>,
    /// The image by whose labels the version was judged.
    judged: Option<String>,
    /// Ports that the proxy reaches by other routes than the service's labels, and the protocol of each.
    pub(super) called_ports: BTreeMap<u16, Protocol>,
    /// What is wrong with the routing of the old replicas.
    pub(super) before: Before,
    pub(super) began: Instant,
}

impl<'a> Prepared<'a> {
    /// The scope of its events and errors.
    pub fn scope(&self) -> &'a Scope {
        self.run.events.scope()
    }

    pub fn runs_once(&self) -> bool {
        self.context.runs_once
    }

    /// The labels of the new version by the name of its service; none of one that does not keep running.
    pub fn new_labels(&self) -> Option<(String, Labels)> {
        let context = &self.context;
        let labels = context.labels(context.image.as_ref());
        (!context.runs_once).then(|| (context.key.service.clone(), labels))
    }

    /// Whether labels were missing when the version was judged: those of an image that the engine did not have.
    pub fn lacked_image(&self) -> bool {
        !self.runs_once() && self.judged != self.context.image_id()
    }

    /// Judges the version again, now that its image is on the engine; `new` are the labels of all that are rolled.
    pub async fn judge_again(
        &mut self,
        new: BTreeMap<String, Labels>,
        landscape: &mut Landscape,
    ) -> Result<()> {
        self.context.beside.new.extend(new);
        let judged = self.run.judge(&self.context, landscape).await;
        let (detection, notices) = judged.map_err(|error| uncovered(error, &self.flags))?;
        self.called_ports = detection.called_ports();
        (self.proxy, self.notices) = (detection.router, notices);
        self.judged = self.context.image_id();
        Ok(())
    }

    /// Refuses a service whose traffic cannot move in the same moment as that of others.
    pub fn refuse_alone(&self) -> Result<()> {
        let (name, proxy) = (&self.context.service.name, &self.proxy);
        let why = match self.context.settings.order() {
            _ if self.runs_once() => return Ok(()),
            Order::StopFirst => "its old replicas are stopped before the new ones start".to_owned(),
            Order::StartFirst if self.context.settings.strategy == Strategy::Rolling => {
                "its replicas are replaced one batch after another".to_owned()
            }
            Order::StartFirst if self.context.settings.strategy == Strategy::Canary => {
                "its traffic moves step by step".to_owned()
            }
            Order::StartFirst if self.context.settings.preview().is_some() => {
                "its new version is previewed first".to_owned()
            }
            Order::StartFirst if proxy.capabilities().joint_cutover => return Ok(()),
            Order::StartFirst => format!("{} moves one service at a time", proxy.describe()),
        };
        Err(Error::refused(format!(
            "{name} cannot cut over together with other services: {why}"
        ))
        .hint("leave out --together"))
    }
}

impl<'a> RunContext<'a> {
    /// The landscape of the engine, shared by all services of a run.
    pub async fn landscape(&self) -> Result<Landscape> {
        let landscape = Landscape::read(self.engine, &self.project.name).await;
        landscape.map_err(Error::untouched)
    }

    /// Prepares a service; `beside` is what the same command rolls too.
    pub async fn prepare(
        &self,
        name: &str,
        flags: &Partial,
        beside: Beside,
        purpose: Purpose,
        landscape: &mut Landscape,
    ) -> Result<Prepared<'a>> {
        let prepared = async {
            let began = Instant::now();
            let mut context = self.context(name, flags, purpose, landscape).await?;
            context.beside = beside;
            let (mut detection, notices) = self.judge(&context, landscape).await?;
            let before = self
                .warn_of_broken_routing(&context, &mut *detection.router)
                .await;
            Ok(Prepared {
                run: *self,
                flags: flags.clone(),
                called_ports: detection.called_ports(),
                proxy: detection.router,
                judged: context.image_id(),
                before,
                context,
                notices,
                began,
            })
        };
        prepared.await.map_err(|error| uncovered(error, flags))
    }

    /// The facts of a service itself, without its proxy.
    pub(super) async fn context(
        &self,
        name: &str,
        flags: &Partial,
        purpose: Purpose,
        landscape: &Landscape,
    ) -> Result<ServiceContext<'a>> {
        let service = self.project.service(name)?;
        let is_undo = self.undo_to().is_some();
        let mut settings = settings_of(self.project, service, flags, is_undo)?;
        refuse_swarm(name, &settings)?;
        let x_rollout = service.x_rollout.as_ref();
        if purpose == Purpose::Roll {
            let strategy = (settings.strategy, flags.has("strategy"));
            steps::refuse_idle(name, x_rollout, strategy)?;
        }
        if self.back.is_some() {
            leave_out_steps(&mut settings, flags)?;
        }
        let hooks = hooks::read(name, x_rollout)?;
        let steps = match purpose {
            Purpose::Roll => steps::read(name, x_rollout)?,
            Purpose::Settle => Vec::new(),
        };
        let metrics = prometheus::read(name, x_rollout)?;
        let key = self.project.key(name);
        let olds = self
            .engine
            .replicas_among(&landscape.containers, &key)
            .await?;
        let image = self.image_of_version(service, &settings).await?;
        let joined = shared::by_network(&landscape.running, &olds);
        let runs_once = purpose == Purpose::Roll && self.project.runs_once(service);
        Ok(ServiceContext {
            // Compose runs a one-shot service as often as its file says.
            replicas: settings
                .scale
                .filter(|_| !runs_once)
                .unwrap_or(service.scale),
            beside: Beside::default(),
            runs_once,
            declared_networks: self.declared_networks(service),
            epoch: landscape.clock_ms,
            dependencies: self.dependencies(name, landscape),
            joined: self.joined(service, joined, &olds),
            service,
            key,
            settings,
            hooks,
            steps,
            metrics,
            purpose,
            of_several: self.of_several,
            olds,
            image,
        })
    }

    /// What is in front of a service, and notices; refused where a rollout of it cannot succeed, or would harm others.
    async fn judge(
        &self,
        context: &ServiceContext<'_>,
        landscape: &mut Landscape,
    ) -> Result<(Detection, Vec<String>)> {
        let mut notices = self.refuse_service(context, landscape).await?;
        let mut detection = match context.runs_once {
            true => Detection::without_proxy(context, landscape),
            false => detect(self, context, landscape).await?,
        };
        notices.extend(detection.all_notices(&context.settings));
        refuse_mix(context, context.image.as_ref(), &*detection.router)?;
        notices.extend(by_number(context, &*detection.router));
        let objections = std::mem::replace(&mut detection.objections, Ok(Vec::new()));
        notices.extend(objections?);
        Ok((detection, notices))
    }

    /// Refuses a service that no proxy could roll. Returns notices.
    pub(super) async fn refuse_service(
        &self,
        context: &ServiceContext<'_>,
        landscape: &Landscape,
    ) -> Result<Vec<String>> {
        refuse_own_parts(landscape, &context.olds).await?;
        let mut notices = Vec::new();
        if context.purpose == Purpose::Settle {
            return Ok(notices);
        }
        let name = &context.service.name;
        if context.replicas == 0 {
            let message = format!("{name} has a scale of 0 in the Compose file");
            return Err(Error::refused(message).hint(format!(
                "docker compose up -d {name} stops it; to start it: --scale 1"
            )));
        }
        if context.runs_once {
            self.refuse_missing(context)?;
            notices.extend(without_effect(context));
            return Ok(notices);
        }
        notices.extend(limits::judge(context)?);
        notices.extend(self.unused_by_strategy(context));
        self.refuse_two_sets(context, context.image.as_ref(), &mut notices)?;
        self.refuse_missing(context)?;
        self.refuse_taken_names(context, landscape)?;
        Ok(notices)
    }

    fn declared_networks(&self, service: &Service) -> BTreeSet<String> {
        let networks = service.networks.iter();
        let names = networks.filter_map(|key| self.project.raw["networks"][key]["name"].as_str());
        names.map(str::to_owned).collect()
    }

    /// Every service that this one needs and that has containers.
    fn dependencies(&self, service: &str, landscape: &Landscape) -> Vec<(String, u32)> {
        let names = self.project.dependencies(service).into_iter();
        let counted = names.map(|name| {
            let count = landscape.count(&self.project.key(&name));
            (name, count as u32)
        });
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

/// Turns an error into a refusal, which says if the checks that are ignored do not cover it.
fn uncovered(error: Error, flags: &Partial) -> Error {
    let error = error.untouched();
    let ignored = flags.words("ignore");
    if ignored.is_empty() || error.outcome != Outcome::Refused {
        return error;
    }
    let note = format!("--ignore {} does not cover this", ignored.join(", "));
    let hint = match &error.hint {
        Some(hint) => format!("{hint}\n      {note}"),
        None => note,
    };
    error.hint(hint)
}

/// The notice of settings that do nothing on a one-shot service.
fn without_effect(context: &ServiceContext<'_>) -> Option<String> {
    let scale = context.settings.scale.map(|_| "scale");
    let hooks = (!context.hooks.is_empty()).then_some("x-rollout.hooks");
    let given: Vec<&str> = [scale, hooks].into_iter().flatten().collect();
    (!given.is_empty()).then(|| {
        format!(
            "{} is a one-shot service, which Compose itself runs; without effect on it: {}",
            context.service.name,
            given.join(", ")
        )
    })
}

/// A recorded revision has had its canary and its preview.
fn leave_out_steps(settings: &mut Settings, flags: &Partial) -> Result<()> {
    if settings.strategy == Strategy::Canary {
        if flags.has("strategy") {
            let message = "an undo and a restart move all traffic at once, without a canary";
            return Err(Error::refused(message).hint("leave out --strategy canary"));
        }
        settings.strategy = Strategy::BlueGreen;
    }
    if flags.has_preview() {
        let message = "an undo and a restart move all traffic at once, without a preview";
        return Err(Error::refused(message).hint("leave out --preview and --preview-host"));
    }
    (settings.preview, settings.preview_host) = (None, None);
    Ok(())
}

fn refuse_swarm(name: &str, settings: &Settings) -> Result<()> {
    let Some(setting) = settings.of_swarm() else {
        return Ok(());
    };
    let message =
        format!("{setting} is a setting of rollouts in a Swarm, and {name} is in Compose");
    Err(Error::refused(message).hint(format!("leave out {setting}")))
}

/// Resolves settings: flags, then the service, the project, the environment, and `deploy` of the service.
pub fn settings_of(
    project: &Project,
    service: &Service,
    flags: &Partial,
    is_undo: bool,
) -> Result<Settings> {
    let own = Partial::from_service(&service.name, service.x_rollout.as_ref())?;
    let places = places(project, own, flags)?;
    let deploy = &service.raw(project)["deploy"];
    Settings::of_service(places, (&service.name, deploy), is_undo)
}

/// Resolves the settings that are none of a single service.
pub fn settings_of_all(project: &Project, flags: &Partial) -> Result<Settings> {
    Ok(Settings::resolve(places(
        project,
        Partial::default(),
        flags,
    )?))
}

fn places(project: &Project, own: Partial, flags: &Partial) -> Result<[Partial; 4]> {
    let top = Partial::from_project(project.raw.get("x-rollout"))?;
    let [own, top] = [own, top].map(|file| file.in_directory(&project.directory));
    let environment = Partial::from_own_environment()?;
    Ok([flags.clone(), own, top, environment])
}
