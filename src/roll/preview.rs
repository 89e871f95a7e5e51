//! What a rollout of a service would do. It reads, and changes nothing.

use std::time::Duration;

use super::{
    begun::rollout_id,
    changes::{Described, Running, as_it_ran, changes},
    image::step_of_fetch,
    joined::When,
    one_shot::{self, Progress},
    prepare::Prepared,
    record::Memory,
    stand::left,
    unfinished::chosen,
};
use crate::{
    docker::engine::Image,
    error::{Error, Result},
    event::{Change, Plan, PlannedStep},
    execute,
    model::{Facts, Goal, HookPhase, Observed, Phase, Reason, Replica, image_change},
    plan::{self, Step, StopFirst, preview::Preview},
    settings::Settings,
    state::lock,
};

impl Prepared<'_> {
    /// What a rollout would do, with the notices and the refusals that it would have.
    pub async fn preview(mut self) -> Result<Plan> {
        self.planned().await.map_err(Error::untouched)
    }

    /// Whether a rollout would change nothing; what cannot be read would be changed.
    pub async fn is_up_to_date(&mut self) -> bool {
        let same = async {
            let local = self.image().await?;
            let Some(image) = self.known(local.as_ref())? else {
                return Ok(false);
            };
            if self.context.runs_once {
                return Ok(self.progress(&image).await? == Progress::Completed);
            }
            let (version, olds) = (self.version(&image).await?, self.context.olds.clone());
            self.already_runs(&version, &olds).await
        };
        let same: Result<bool> = same.await;
        same.unwrap_or(false)
    }

    async fn planned(&mut self) -> Result<Plan> {
        if self.context.runs_once {
            return self.planned_once().await;
        }
        let memory = self.left_memory().await?;
        let mut plan = Plan {
            proxy: Some(self.proxy.describe()),
            replicas: self.context.replicas,
            ..Plan::default()
        };
        let (olds, goes_on) = self.settle(&memory, &mut plan).await?;
        let local = self.image().await?;
        let known = self.known(local.as_ref())?;
        plan.fetches = known.is_none();
        let (hash, same) = match &known {
            Some(image) => {
                let version = self.version(image).await?;
                let same = match plan.unfinished {
                    // The routes are those of the unfinished rollout, so they are not compared.
                    Some(_) => goes_on || self.runs(&version, &olds).await?,
                    None => self.already_runs(&version, &olds).await?,
                };
                (version.hash, same)
            }
            None => (self.hash().await?, false),
        };
        let image = known.or(local);
        self.name_images(&mut plan, image.as_ref(), &olds);
        if !same || plan.unfinished.is_some() {
            for notice in &self.notices {
                self.run.events.notice(notice);
            }
            let step = step_of_fetch(&self.context);
            plan.steps.push(PlannedStep::new(step, Vec::new()));
        }
        if !same {
            plan.changes.extend(self.changes(&olds, &hash).await?);
            plan.steps.extend(self.roll(image, &olds).await?);
        }
        let of = |step: &str| {
            let named = plan.steps.iter().filter(|own| own.step == step);
            named.flat_map(|own| own.replicas.clone()).collect()
        };
        (plan.created, plan.removed) = (of("create"), of("remove"));
        Ok(plan)
    }

    /// The plan of a one-shot service, which Compose runs to completion.
    async fn planned_once(&self) -> Result<Plan> {
        let mut plan = Plan {
            replicas: self.context.service.scale,
            ..Plan::default()
        };
        let local = self.image().await?;
        let known = self.known(local.as_ref())?;
        let olds = &self.context.olds;
        self.name_images(&mut plan, known.as_ref().or(local.as_ref()), olds);
        plan.fetches = known.is_none();
        let progress = match &known {
            Some(image) => self.progress(image).await?,
            None => Progress::Open,
        };
        if progress != Progress::Completed {
            for notice in &self.notices {
                self.run.events.notice(notice);
            }
            let steps = [step_of_fetch(&self.context), one_shot::STEP];
            plan.steps = steps.map(|step| PlannedStep::new(step, Vec::new())).into();
            plan.changes
                .extend(self.changes(olds, &self.hash().await?).await?);
        }
        Ok(plan)
    }

    /// The records, read through the lock of a killed run. Without one, reading them would need a new container.
    async fn left_memory(&self) -> Result<Memory> {
        let (engine, key) = (self.run.engine, &self.context.key);
        let Some(holder) = lock::holder(engine, key).await? else {
            return Ok(Memory::default());
        };
        if holder.lives(engine).await {
            let on = self.scope().on();
            let wait = format!(
                "wait for its end: rollout status {}{on} --watch",
                key.service
            );
            return Err(holder.locked(key, &on, &wait));
        }
        Ok(self.remembered(holder.id()).await)
    }

    /// Plans the end of an unfinished rollout. Returns the replicas afterwards, and whether they are of the wanted version
    /// because that rollout goes on.
    async fn settle(&mut self, memory: &Memory, plan: &mut Plan) -> Result<(Vec<Replica>, bool)> {
        let replicas = self.context.olds.clone();
        let claim = self.proxy.claim(&replicas).await?;
        let observed = Observed { replicas, claim };
        let begun = memory.stop_first(&observed, self.context.epoch);
        // A rollout that has paused holds no lock.
        let begun = begun.or_else(|| StopFirst::between_batches(&observed));
        let routed = self.proxy.routes();
        let left_over = plan::unfinished(&observed, routed, begun.as_ref());
        let Some((rollout, goal, wanted)) = left_over else {
            return Ok((observed.replicas, false));
        };
        let mut goal = chosen(&self.context, &rollout, goal)?;
        let new: Vec<Replica> = observed.split(&rollout).0.into_iter().cloned().collect();
        let serve = new.iter().all(Replica::serves);
        let goes_on = goal == Goal::Roll && serve && self.wants(&new, wanted).await?;
        if goal == Goal::Roll && !goes_on {
            goal = Goal::Undo(Reason::Unfinished);
        }
        plan.unfinished = Some(left(&rollout, &goal));
        let forward = !matches!(goal, Goal::Undo(_));
        let mut desired = self.to_settle((rollout, goal, wanted), begun, &observed);
        desired.unrouted = memory.unrouted(&desired.rollout);
        if goes_on {
            let (_, others) = observed.split(&desired.rollout);
            let others: Vec<Replica> = others.into_iter().cloned().collect();
            let recorded = memory.shifts(&desired.rollout);
            desired.policy.shifts = match recorded.is_empty() {
                true => self.shifts(&others),
                false => recorded,
            };
        }
        let mut bake = Duration::ZERO;
        if forward && routed {
            let (new, others) = observed.split(&desired.rollout);
            bake = self.bake_again(wanted, &new, &others, true);
            if goes_on {
                bake = bake.max(self.context.settings.bake);
                self.set_limits(&mut desired.policy, bake);
            } else {
                desired.policy.bake = !bake.is_zero();
            }
        }
        let mut preview = Preview {
            desired,
            observed,
            facts: Facts {
                created: true,
                is_continued: true,
                ..Facts::default()
            },
            names: match goes_on {
                true => self.run.final_names(&self.context),
                false => Vec::new(),
            },
        };
        plan.steps = walk(&mut preview, &self.context.settings, bake)?;
        Ok((preview.observed.replicas, goes_on))
    }

    /// The image of the new version; `None` if it is pulled or built first.
    fn known(&self, local: Option<&Image>) -> Result<Option<Image>> {
        if self.context.image.is_none() && self.run.may_fetch(&self.context) {
            return Ok(None);
        }
        match local {
            Some(image) => Ok(Some(image.clone())),
            None => Err(self.no_image()),
        }
    }

    fn name_images(&self, plan: &mut Plan, image: Option<&Image>, olds: &[Replica]) {
        let first = olds.first().map(|old| old.image.clone());
        let id = image.map(|image| image.id.clone()).or(first);
        let id = id.unwrap_or_default();
        (plan.image, plan.replaces) = image_change(self.reference(), &id, olds);
        let differs = plan.replaces.as_ref() != Some(&plan.image);
        if plan.replaces.is_some() && differs {
            plan.changes.push(Change {
                from: plan.replaces.clone(),
                to: Some(plan.image.clone()),
                ..Change::of("image")
            });
        }
    }

    /// How the old replicas differ from the Compose file, their image aside.
    async fn changes(&self, olds: &[Replica], hash: &str) -> Result<Vec<Change>> {
        let mut all = match olds.iter().find(|old| old.hash != hash) {
            Some(old) => self.config_changes(old).await?,
            None => Vec::new(),
        };
        let service = self.context.service;
        if self.run.have_other_contents(service, olds).await? {
            all.push(Change::of("contents"));
        }
        if !olds.is_empty() && olds.len() != self.context.replicas as usize {
            all.push(Change {
                from: Some(olds.len().to_string()),
                to: Some(self.context.replicas.to_string()),
                ..Change::of("replicas")
            });
        }
        Ok(all)
    }

    async fn config_changes(&self, old: &Replica) -> Result<Vec<Change>> {
        let (run, service) = (&self.run, self.context.service);
        let Some(inspect) = run.engine.inspect(&old.id.0).await? else {
            return Ok(Vec::new());
        };
        let container = serde_json::to_value(inspect).unwrap_or_default();
        let image = run.engine.image(&old.image).await?.unwrap_or_default();
        let raw = service.raw(run.project);
        let running = Running {
            replica: old,
            container: &container,
            image: &image.config,
        };
        let described = Described {
            service,
            raw,
            networks: &self.context.declared_networks,
            names: run.final_names(&self.context),
        };
        let mut found = changes(&running, &described);
        if !found.iter().any(|own| own.part == "config") {
            let mut ran = run.project.clone();
            ran.raw["services"][&service.name] = as_it_ran(&running, raw, &found);
            let hash = run.compose.config_hash(&ran, &service.name).await;
            if hash.ok().as_ref() != Some(&old.hash) {
                found.push(Change::of("config"));
            }
        }
        Ok(found)
    }

    /// The steps of a rollout over these old replicas.
    async fn roll(&self, image: Option<Image>, olds: &[Replica]) -> Result<Vec<PlannedStep>> {
        self.report_differences(olds);
        self.report_joined(When::Before);
        let bake = self.bake(&image.unwrap_or_default(), true);
        self.warn().await;
        let context = &self.context;
        let rollout = rollout_id(&context.key, context.epoch);
        let desired = self.to_roll(rollout, olds, bake);
        let last = HookPhase::PostDeploy;
        let last = desired.hook_phases.get(&last).map(|own| own.name());
        let mut preview = Preview {
            desired,
            observed: Observed {
                replicas: olds.to_vec(),
                claim: None,
            },
            facts: Facts::default(),
            names: self.run.final_names(context),
        };
        let mut steps = walk(&mut preview, &context.settings, bake)?;
        // The planner has no step for it: it runs once the revision is recorded.
        steps.extend(last.map(|step| PlannedStep::new(step, Vec::new())));
        Ok(steps)
    }
}

/// All steps to the end, with this bake. A rollout that cannot reach its goal is an error.
fn walk(preview: &mut Preview, settings: &Settings, bake: Duration) -> Result<Vec<PlannedStep>> {
    // A plan shows what comes after each pause, too.
    preview.desired.policy.attach = true;
    let (steps, end) = preview.walk();
    if let Some(failure) = end {
        let (desired, observed) = (&preview.desired, &preview.observed);
        return Err(execute::failure(failure, desired, observed, Vec::new()));
    }
    let steps = steps.into_iter();
    let (policy, rule) = (&preview.desired.policy, settings.preview());
    let limit = |step: &Step| match step {
        Step::Pause { span, .. } => *span,
        Step::Bake => Some(bake),
        Step::Watch { batch } => Some(settings.watch(policy.is_last_batch(*batch)).max(bake)),
        _ => None,
    };
    let planned = steps.map(|(step, names)| PlannedStep {
        old: names.old.clone(),
        percent: match step {
            Step::Route(Phase::Shifted { step }) => policy.shift(step).map(|own| own.percent),
            _ => None,
        },
        preview: match step {
            Step::Route(phase) if policy.previews(phase) => rule.as_ref().map(ToString::to_string),
            _ => None,
        },
        limit_ms: limit(&step).map(|limit| limit.as_millis() as u64),
        ..PlannedStep::new(step.name(), [names.old, names.other].concat())
    });
    Ok(planned.collect())
}
