//! One look at the services of an agent: what it does about each.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    agent::{Shared, auto, images, login, window::Window},
    app::opened::Opened,
    cli::TargetArgs,
    compose::{Hashes, Service},
    context::RunContext,
    doctor::part_as_written,
    error::{Error, Result},
    event::Events,
    here,
    model::{Replica, ServiceKey},
    proxy::landscape::Landscape,
    roll::Standing,
    settings::Partial,
    stack::{choose::OWN_PART, graph::Order},
    state::{
        journal::Intent,
        revisions::Revisions,
        store::{self, File},
    },
};

/// The most questions to registries at a time.
const AT_ONCE: usize = 4;

/// What the agent does about each service.
pub type Steps = BTreeMap<String, Step>;

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It is up to date.
    Nothing,
    /// Finish or roll back what an ended run left.
    Settle,
    /// Its image has this digest now.
    Roll(String),
    Leave(String),
    /// Its image has moved, and is not tried again.
    GivenUp(String),
    /// Leave it until a person has acted.
    Person(String),
    /// It could not be found out.
    Unknown(String),
}

impl Step {
    /// What is said about it.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Nothing | Self::Settle => None,
            Self::Roll(digest) => Some(format!("the image has moved to {digest}")),
            Self::Leave(why) | Self::GivenUp(why) => Some(format!("left alone: {why}")),
            Self::Person(why) => Some(format!("waits for a person: {why}")),
            Self::Unknown(why) => Some(why.clone()),
        }
    }
}

/// Looks at the services with `auto`, or only at these.
pub async fn look(
    target: &TargetArgs,
    shared: &Shared,
    only: Option<&BTreeSet<String>>,
) -> Result<(Opened, Steps)> {
    let silent = Events::default();
    let opened = Opened::of(target, &[], &silent).await?;
    let autos = auto::read(&opened.project)?;
    shared.state().autos = autos.keys().cloned().collect();
    let own = here::own_service(&opened.engine).await;
    let names: Vec<&str> = autos.keys().map(String::as_str).collect();
    let order = Order::of(&opened.project, &names)?;
    let asked = |name: &str| only.is_none_or(|only| only.contains(name));
    // What a service needs is looked at with it.
    let needed: BTreeSet<&str> = order
        .services
        .iter()
        .filter(|own| asked(own.name))
        .flat_map(|own| own.needs.iter().copied())
        .collect();
    let hashes = Hashes::begin(&opened.compose, &opened.project, &names);
    let run = RunContext {
        hashes: Some(&hashes),
        ..opened.run(&silent)
    };
    let mut view = View {
        landscape: run.landscape().await?,
        run,
        shared,
        logins: login::config(),
    };
    let mut known = BTreeMap::new();
    for (name, window) in &autos {
        if !asked(name) && !needed.contains(name.as_str()) {
            continue;
        }
        let service = opened.project.service(name)?;
        let key = opened.project.key(name);
        let own = match view.own_part(service, &key, own.as_ref()) {
            Some(why) => Ok(Known::Step(Step::Leave(why.to_owned()))),
            None => view.known(service, &key).await,
        };
        known.insert(name.clone(), (service, window.as_ref(), own));
    }
    let digests = view.ask(references(&known)).await;
    let mut steps = Steps::new();
    for (name, (service, window, known)) in known {
        let step = match known {
            Ok(Known::Step(step)) => Ok(step),
            Ok(Known::Image(image)) => view.step(service, &image, (window, &digests)).await,
            Err(error) => Err(error),
        };
        let step = step.unwrap_or_else(|error| Step::Unknown(error.message));
        steps.insert(name, step);
    }
    hold_back(&mut steps, &order);
    steps.retain(|name, _| asked(name));
    Ok((opened, steps))
}

/// Leaves alone what needs a service whose new image is not live, since that was given up or waits for a person.
fn hold_back(steps: &mut Steps, order: &Order<'_>) {
    for own in &order.services {
        let why = own
            .needs
            .iter()
            .find_map(|needed| match steps.get(*needed) {
                Some(Step::GivenUp(_)) => Some(format!("{needed}, whose new image is given up")),
                Some(Step::Person(_)) => Some(format!("{needed}, which waits for a person")),
                _ => None,
            });
        if let (Some(Step::Roll(digest)), Some(why)) = (steps.get(own.name), why) {
            let why = format!("the image has moved to {digest}, and waits for {why}");
            steps.insert(own.name.to_owned(), Step::Leave(why));
        }
    }
}

/// What is known of a service before its registry is asked.
enum Known {
    /// What is done about it, whatever its registry has.
    Step(Step),
    Image(Image),
}

/// The image of a service that may have moved.
struct Image {
    reference: String,
    /// The digests of each image that replicas run.
    running: Vec<Vec<String>>,
}

/// The images that may have moved; several services with one image are one question.
fn references<A, B>(known: &BTreeMap<String, (A, B, Result<Known>)>) -> BTreeSet<String> {
    let known = known.values();
    let images = known.filter_map(|(_, _, own)| match own {
        Ok(Known::Image(image)) => Some(image.reference.clone()),
        _ => None,
    });
    images.collect()
}

/// What registries have answered, by reference.
type Digests = BTreeMap<String, Result<String>>;

struct View<'a> {
    run: RunContext<'a>,
    landscape: Landscape,
    shared: &'a Shared,
    /// The Docker config file.
    logins: Value,
}

impl View<'_> {
    /// Why a service is never rolled by an agent.
    fn own_part(
        &self,
        service: &Service,
        key: &ServiceKey,
        own: Option<&ServiceKey>,
    ) -> Option<&'static str> {
        if own == Some(key) {
            return Some("it is the agent itself");
        }
        let is_part = part_as_written(service).is_some() || self.landscape.carries_traffic(key);
        is_part.then_some(OWN_PART)
    }

    async fn known(&mut self, service: &Service, key: &ServiceKey) -> Result<Known> {
        let (run, none) = (self.run, Partial::default());
        let wanted = run.wanted(service, &none).await?;
        let standing = run.standing(service, &none, &wanted, &mut self.landscape);
        let standing = standing.await?;
        let is_stuck = standing.unfinished.is_some() && self.needs_person(key).await?;
        if let Some(step) = before(&service.name, &standing, is_stuck) {
            return Ok(Known::Step(step));
        }
        let reference = service.image.clone().unwrap_or_default();
        let running = self.running(&standing.replicas).await?;
        Ok(match images::unasked(&reference, &running) {
            Some(why) => Known::Step(Step::Leave(why.to_owned())),
            None => Known::Image(Image { reference, running }),
        })
    }

    async fn step(
        &self,
        service: &Service,
        Image { reference, running }: &Image,
        (window, digests): (Option<&Window>, &Digests),
    ) -> Result<Step> {
        let digest = &digests[reference];
        self.shared.checked(&service.name, digest.is_ok());
        let digest = digest.clone()?;
        if images::runs(running, &digest) {
            return Ok(Step::Nothing);
        }
        let key = self.run.project.key(&service.name);
        if let Some(why) = self.given_up(&key, (reference, &digest)).await? {
            return Ok(Step::GivenUp(format!(
                "{digest} is not tried again before its tag moves ({why}); rollout --pull always {} tries it",
                service.name
            )));
        }
        Ok(match window.filter(|own| !own.is_open(Timestamp::now())) {
            Some(window) => Step::Leave(format!(
                "the image has moved to {digest}, and waits for {window}"
            )),
            None => Step::Roll(digest),
        })
    }

    /// The digests of each image that replicas run.
    async fn running(&self, replicas: &[Replica]) -> Result<Vec<Vec<String>>> {
        let running = replicas.iter().filter(|own| own.may_run());
        let ids: BTreeSet<&str> = running.map(|own| own.image.as_str()).collect();
        let mut digests = Vec::new();
        for id in ids {
            let image = self.run.engine.image(id).await?;
            digests.push(image.unwrap_or_default().digests);
        }
        Ok(digests)
    }

    /// Asks the registries of these images, several at a time.
    async fn ask(&self, references: BTreeSet<String>) -> Digests {
        let asked = references.into_iter().map(|reference| async move {
            let answer = self.digest(&reference).await;
            (reference, answer)
        });
        stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await
    }

    async fn digest(&self, reference: &str) -> Result<String> {
        let login = login::of(&self.logins, reference);
        let is_anonymous = login.is_none();
        let answered = self.run.engine.registry_digest(reference, login).await;
        answered.map_err(|error| {
            match is_anonymous && login::is_elsewhere(&self.logins, reference) {
                true => Error::failed(format!(
                    "{}; its credentials are in a credential helper, which is not asked",
                    error.message
                )),
                false => error,
            }
        })
    }

    async fn records(&self, key: &ServiceKey) -> Result<Vec<File>> {
        let image = self.run.image_in(&self.landscape).await?;
        store::look(self.run.engine, &image, key).await
    }

    /// Whether the last attempt ended with exit code 3, also by an earlier agent.
    async fn needs_person(&self, key: &ServiceKey) -> Result<bool> {
        let last = Intent::last(&self.records(key).await?);
        Ok(last.is_some_and(|last| last.needs_person()))
    }

    async fn given_up(
        &self,
        key: &ServiceKey,
        (reference, digest): (&str, &str),
    ) -> Result<Option<String>> {
        // The engine has it where an earlier check has pulled it.
        let image = self.run.engine.image(reference).await?.unwrap_or_default();
        let is_it = images::has(&image.digests, digest);
        let content = if is_it { &*image.content } else { "" };
        let files = self.records(key).await?;
        let revisions = Revisions::read(&files);
        let attempts = Intent::without_revision(&files, &revisions);
        Ok(images::given_up((digest, content), &revisions, &attempts))
    }
}

/// What has to be done about a service before its image counts.
fn before(name: &str, standing: &Standing, is_stuck: bool) -> Option<Step> {
    if let Some(holder) = standing.holder.as_ref().filter(|own| own.lives) {
        return Some(Step::Leave(format!(
            "it is being rolled by {}",
            holder.whose
        )));
    }
    // Between two steps a canary waits for a person in any case, a rolling update only where its run has let the lock go.
    let shifted = standing.shifted.as_ref();
    if shifted.is_some_and(|own| !(own.is_rolling && standing.is_abandoned())) {
        return Some(Step::Person(format!(
            "rollout promote {name}, or rollout abort {name}"
        )));
    }
    if let Some(unfinished) = &standing.unfinished {
        return Some(match is_stuck {
            true => Step::Person(format!("{unfinished}; rollout status {name} shows it")),
            false => Step::Settle,
        });
    }
    if let Some(why) = &standing.unknown {
        return Some(Step::Unknown(why.clone()));
    }
    if !standing.replicas.iter().any(Replica::may_run) {
        return Some(Step::Leave("no replica of it runs".to_owned()));
    }
    let drift = standing.drift_beside_image()?;
    Some(Step::Leave(format!(
        "{drift}; roll it by hand: rollout {name}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::simulator,
        roll::{Holder, Shifted},
    };

    fn standing() -> Standing {
        Standing {
            replicas: vec![simulator::old("a")],
            drift: vec!["image: running v1, the Compose file wants v2".to_owned()],
            ..Standing::default()
        }
    }

    fn unfinished() -> Standing {
        Standing {
            unfinished: Some("rollout r1 is unfinished".to_owned()),
            ..standing()
        }
    }

    #[test]
    fn an_image_counts_only_where_nothing_else_is_to_be_done() {
        assert_eq!(before("web", &standing(), false), None);
        assert_eq!(
            before("web", &standing(), true),
            None,
            "a person has settled it"
        );
        assert_eq!(before("web", &unfinished(), false), Some(Step::Settle));
        let text = |standing: &Standing, is_stuck| before("web", standing, is_stuck)?.text();
        let shifted = Shifted {
            step: 1,
            percent: 10,
            is_preview: false,
            is_rolling: false,
        };
        for (standing, is_stuck, said) in [
            (
                Standing {
                    shifted: Some(shifted),
                    ..unfinished()
                },
                false,
                "waits for a person: rollout promote web, or rollout abort web",
            ),
            (
                unfinished(),
                true,
                "waits for a person: rollout r1 is unfinished; rollout status web shows it",
            ),
            (
                Standing {
                    unknown: Some("Traefik does not answer".to_owned()),
                    ..standing()
                },
                false,
                "Traefik does not answer",
            ),
            (
                Standing {
                    replicas: Vec::new(),
                    ..standing()
                },
                false,
                "left alone: no replica of it runs",
            ),
            (
                Standing {
                    drift: vec!["config: it differs".to_owned()],
                    ..standing()
                },
                false,
                "left alone: config: it differs; roll it by hand: rollout web",
            ),
        ] {
            assert_eq!(text(&standing, is_stuck).as_deref(), Some(said));
        }
    }

    #[test]
    fn what_needs_a_service_that_was_given_up_or_waits_for_a_person_is_held_back_and_no_other() {
        let project = crate::compose::resolved(
            "name: p
services:
  api: {image: a}
  mail: {image: a}
  web: {image: a, depends_on: {api: {condition: service_started, required: true}}}
  shop: {image: a, depends_on: {web: {condition: service_started, required: true}}}
",
        )
        .unwrap();
        let order = Order::of(&project, &["api", "mail", "shop", "web"]).unwrap();
        let held = |api: Step| {
            let roll = || Step::Roll("sha256:1".to_owned());
            let others = ["mail", "shop"].map(|name| (name.to_owned(), roll()));
            let mut steps = Steps::from(others);
            steps.insert("api".to_owned(), api);
            steps.insert("web".to_owned(), Step::Nothing);
            hold_back(&mut steps, &order);
            assert_eq!((&steps["mail"], &steps["web"]), (&roll(), &Step::Nothing));
            steps["shop"].text().unwrap()
        };
        let why = held(Step::GivenUp("unhealthy".to_owned()));
        let said = "left alone: the image has moved to sha256:1, and waits for api, whose new image is given up";
        assert_eq!(why, said);
        assert!(held(Step::Person(String::new())).ends_with("api, which waits for a person"));
        for goes_on in [Step::Roll("sha256:2".to_owned()), Step::Nothing] {
            assert_eq!(held(goes_on), "the image has moved to sha256:1");
        }
    }

    #[test]
    fn a_service_that_another_run_rolls_is_left_to_it_and_one_that_a_dead_run_has_locked_is_settled()
     {
        let held = |lives| Standing {
            holder: Some(Holder {
                whose: "me@here".to_owned(),
                lives,
            }),
            ..unfinished()
        };
        let said = before("web", &held(true), false).unwrap().text();
        assert_eq!(said.unwrap(), "left alone: it is being rolled by me@here");
        assert_eq!(before("web", &held(false), false), Some(Step::Settle));
        let between = |is_rolling| Standing {
            shifted: Some(Shifted {
                step: 1,
                percent: 50,
                is_preview: false,
                is_rolling,
            }),
            ..held(false)
        };
        assert_eq!(before("web", &between(true), false), Some(Step::Settle));
        assert!(matches!(
            before("web", &between(false), false),
            Some(Step::Person(_))
        ));
        let paused = Standing {
            holder: None,
            ..between(true)
        };
        assert!(matches!(
            before("web", &paused, false),
            Some(Step::Person(_))
        ));
    }
}
