//! What stands in front of a service, and how traffic to it is moved.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::{refuse::pass_over, survey::Survey, untouched};
use crate::{
    check::Check,
    context::{Purpose, RunContext, ServiceContext},
    error::{Error, Outcome, Result},
    model::{Replica, ServiceKey},
    namespace::traffic::Protocol,
    overlay::Overlay,
    proxy::{
        Router,
        none::NoProxy,
        traefik::{
            by_name::Caller,
            discover::{
                self, Landscape, Reads, TraefikContainer, Wanted, concerns, refuse_lost,
                refuse_unwatched,
            },
            down::Down,
            names,
            pin::setup,
            relabel,
        },
    },
    settings::{ProxyKind, Settings, Strategy, SwitchBy},
};

/// What a pin is called in messages.
const PIN_FILE: &str = "a pin file";

/// What was found in front of a service.
pub(super) struct InFront {
    pub proxy: Box<dyn Router>,
    /// What the operator is told of it.
    pub notices: Vec<String>,
    /// The Traefiks that have to do with the service, however its traffic is moved.
    pub traefiks: Vec<TraefikContainer>,
    /// What reaches the service past the router of its labels.
    pub callers: Vec<Caller>,
    /// Servers of other services to which a reload of Traefik sends requests again.
    pub down: Vec<Down>,
}

impl InFront {
    fn of(way: SwitchMethod, callers: Vec<Caller>) -> Self {
        Self::new(way.proxy, way.notice, callers)
    }

    fn none(proxy: NoProxy, notice: Option<String>, callers: Vec<Caller>) -> Self {
        Self::new(Box::new(proxy), notice, callers)
    }

    /// What the operator is told once it begins.
    pub fn notices(&self, settings: &Settings) -> Vec<String> {
        // Stopped first, no version answers beside the other.
        let twice = settings.strategy != Strategy::Recreate;
        let callers = self.callers.iter().filter(|_| twice).map(Caller::told);
        let down = self
            .down
            .iter()
            .filter(|_| self.proxy.routes())
            .map(warning);
        let all = self.notices.iter().cloned().chain(callers);
        all.chain(down).collect()
    }

    /// The ports that Traefik sends to past the router of its labels, and what is spoken on each.
    pub fn called_ports(&self) -> BTreeMap<u16, Protocol> {
        self.callers.iter().filter_map(|own| own.port).collect()
    }

    fn new(proxy: Box<dyn Router>, notice: Option<String>, mut callers: Vec<Caller>) -> Self {
        callers.retain(|own| !own.follows_labels() || proxy.capabilities().hold_reroutes);
        Self {
            proxy,
            notices: notice.into_iter().collect(),
            traefiks: Vec::new(),
            callers,
            down: Vec::new(),
        }
    }
}

fn warning(down: &Down) -> String {
    match down.command() {
        Some(command) => format!("{}; take it out first: {command}", down.told()),
        None => down.told(),
    }
}

impl RunContext<'_> {
    /// What moves the traffic, and what the operator is told of it.
    pub(super) async fn front(
        &self,
        context: &ServiceContext<'_>,
        landscape: &mut Landscape,
    ) -> Result<InFront> {
        let olds = &context.olds;
        let wanted = Wanted::of(context);
        let mut versions = olds.iter().map(|old| &old.labels);
        let labelled =
            names::wants_traefik(&context.service.labels) || versions.any(names::wants_traefik);
        let near = discover::traefiks(landscape, &context.networks()).await;
        let landscape = &*landscape;
        if context.settings.proxy == ProxyKind::None {
            // Where they cannot be found, this is the way to go on without them.
            let near = near.unwrap_or_default();
            let none = InFront::none(no_proxy(context, landscape), None, Vec::new());
            return refuse_left(context, landscape, &near, none).await;
        }
        let near = near.map_err(|error| match labelled {
            true => untouched(error),
            false => unsure(error, &context.service.name),
        })?;
        refuse_traefik_itself(&near, olds)?;
        let all = near.iter().filter(|own| concerns(own, &wanted, olds));
        let all: Vec<TraefikContainer> = all.cloned().collect();
        // What is only settled has no version that could be lost.
        let lost = match context.purpose {
            Purpose::Roll => {
                refuse_lost(&near, &wanted, olds).and_then(|()| refuse_unwatched(&all))
            }
            Purpose::Settle => Ok(()),
        };
        let survey = self.survey(context, landscape, &near, &wanted);
        let mut front = match labelled {
            true => labelled_front(context, landscape, &all, lost, survey).await?,
            false => unlabelled_front(context, landscape, &all, lost, survey).await?,
        };
        front.traefiks = all;
        refuse_left(context, landscape, &near, front).await
    }
}

/// Refuses to go on without a proxy while an earlier rollout still moves the traffic by one.
async fn refuse_left(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    near: &[TraefikContainer],
    front: InFront,
) -> Result<InFront> {
    if front.proxy.routes() {
        return Ok(front);
    }
    let by = match left_relabelled(context, landscape).await {
        Some(by) => Some(by),
        None => setup::is_left(&landscape.engine, &context.key, near)
            .await?
            .then(|| PIN_FILE.to_owned()),
    };
    match by {
        Some(by) => Err(unsettled(
            &context.key,
            &by,
            without_proxy(&context.settings),
        )),
        None => Ok(front),
    }
}

fn no_proxy(context: &ServiceContext<'_>, landscape: &Landscape) -> NoProxy {
    NoProxy::new(&landscape.engine, &context.key)
}

/// The front of a service whose labels ask for Traefik.
async fn labelled_front(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    all: &[TraefikContainer],
    lost: Result<()>,
    survey: impl Future<Output = Survey>,
) -> Result<InFront> {
    let settings = &context.settings;
    // Stopped first, no version is in the way of the other: what is behind no Traefik needs none.
    let recreate = settings.strategy == Strategy::Recreate && settings.proxy == ProxyKind::Auto;
    let needs_none = recreate && all.is_empty();
    if !needs_none {
        lost.clone()?;
    }
    let (way, survey) = tokio::join!(traefik(context, landscape, all), survey);
    let mut notices = Vec::from_iter(survey.notice);
    let absent = survey.absent.map_or(Ok(()), Err);
    pass_over(settings, Check::Labels, absent, &mut notices)?;
    let way = lost.and(way);
    let refused = way.as_ref().err().map(|error| error.outcome) == Some(Outcome::Refused);
    let mut front = match way {
        Ok(way) => {
            refuse_past_labels(settings, &survey.callers)?;
            InFront {
                down: survey.down,
                ..InFront::of(way, survey.callers)
            }
        }
        Err(error) if refused && needs_none => {
            let notice = format!(
                "{}; --strategy recreate needs none, and nothing confirms the new replicas but their health",
                error.message
            );
            InFront::none(no_proxy(context, landscape), Some(notice), survey.callers)
        }
        Err(error) if refused && ignored(settings, &error).is_some() => {
            let check = ignored(settings, &error).unwrap_or(Check::Switch);
            let notice = format!(
                "{}; going on because of --ignore {check}: both versions will answer for a while, and requests can fail while the old containers stop",
                error.message
            );
            InFront::none(no_proxy(context, landscape), Some(notice), survey.callers)
        }
        Err(error) => return Err(untouched(error)),
    };
    front.notices.extend(notices);
    Ok(front)
}

/// The check by which the operator lets a rollout go on without a proxy that switches.
fn ignored(settings: &Settings, error: &Error) -> Option<Check> {
    let mut checks = [Some(Check::Switch), error.check].into_iter().flatten();
    checks.find(|check| settings.ignores(*check))
}

/// The front of a service without labels. With `exposedByDefault` Traefik routes to it too, and another provider may; only
/// Traefik can say.
async fn unlabelled_front(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    all: &[TraefikContainer],
    lost: Result<()>,
    survey: impl Future<Output = Survey>,
) -> Result<InFront> {
    let (name, settings) = (&context.key.service, &context.settings);
    let is_left = || async { left_relabelled(context, landscape).await.is_some() };
    let known = all.iter().any(|own| own.unread.is_none());
    let (way, survey) = tokio::join!(traefik(context, landscape, all), survey);
    let callers = survey.callers;
    match way {
        Ok(way) if way.knows_the_service || is_left().await => {
            lost?;
            refuse_past_labels(settings, &callers)?;
            return Ok(InFront {
                down: survey.down,
                ..InFront::of(way, callers)
            });
        }
        Err(error) if known || is_left().await => {
            return Err(unsure(error, name));
        }
        Ok(_) | Err(_) => {}
    }
    // An unfinished rollout is settled even where no Traefik routes to the service any more.
    if context.purpose == Purpose::Settle {
        return Ok(InFront::none(no_proxy(context, landscape), None, callers));
    }
    refuse_past_labels(settings, &callers)?;
    if settings.proxy == ProxyKind::Traefik {
        return Err(unrouted_though_asked(name));
    }
    let notice = match survey.silent {
        _ if callers.iter().any(Caller::routes) => None,
        silent => Some(on_health_alone(name, silent.as_ref())),
    };
    Ok(InFront::none(no_proxy(context, landscape), notice, callers))
}

/// `silent` is why Traefik cannot be asked.
fn on_health_alone(name: &str, silent: Option<&Error>) -> String {
    match silent {
        Some(why) => format!(
            "{name} is rolled on health alone: it has no Traefik label, and Traefik cannot be asked whether another provider \
             routes to it ({})",
            why.message
        ),
        None => format!("{name} has no Traefik router: it is rolled on health alone"),
    }
}

/// Refuses to promise for traffic that reaches the service past the router of its labels.
fn refuse_past_labels(settings: &Settings, callers: &[Caller]) -> Result<()> {
    let asked = settings.proxy == ProxyKind::Traefik;
    match callers.iter().find(|own| asked && own.routes()) {
        Some(caller) => Err(Error::refused(caller.told()).hint(format!(
            "{}; or roll it without --proxy traefik: the old replicas are then stopped once their connections are idle",
            caller.advice()
        ))),
        None => Ok(()),
    }
}

/// "Cannot tell" is not "no": a service that is routed after all would lose requests.
fn unsure(error: Error, service: &str) -> Error {
    untouched(error.or_hint(format!(
        "label {service} with traefik.enable=false, or say --proxy none"
    )))
}

fn unrouted_though_asked(service: &str) -> Error {
    let message = format!("{service} has no Traefik router, which --proxy traefik asks for");
    Error::refused(message).hint(format!(
        "give it one, such as the label traefik.http.routers.{service}.rule; without --proxy traefik it is rolled on \
         health alone"
    ))
}

/// A way to move the traffic of a service.
struct SwitchMethod {
    proxy: Box<dyn Router>,
    /// Whether any Traefik routes to the service already.
    knows_the_service: bool,
    /// What the operator is told once it begins.
    notice: Option<String>,
}

/// Every Traefik in front of the service, by the way that is wanted or possible.
async fn traefik(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    all: &[TraefikContainer],
) -> Result<SwitchMethod> {
    let key = &context.key;
    let left = setup::is_left(&landscape.engine, key, all).await?;
    let relabelled = || left_relabelled(context, landscape);
    match context.settings.switch {
        SwitchBy::Pin => match relabelled().await {
            Some(by) => Err(unsettled(key, &by, "--switch pin")),
            None => pin(context, landscape, all).await,
        },
        SwitchBy::Relabel if left => Err(Error::refused(format!(
            "an earlier rollout of {} has left a pin file",
            key.service
        ))
        .hint("settle that one first, without --switch relabel")),
        SwitchBy::Auto if left => pin(context, landscape, all).await,
        SwitchBy::Auto if all.iter().any(bypasses) && relabelled().await.is_none() => {
            match pin(context, landscape, all).await {
                Ok(pinned) => Ok(pinned),
                // Only the operator can say that it does not matter.
                Err(_) if context.settings.ignores(Check::Switch) => {
                    by_relabelling(context, landscape, all).await
                }
                Err(why) => {
                    let relabelling = by_relabelling(context, landscape, all).await;
                    Err(with_reason(relabelling.err(), why))
                }
            }
        }
        SwitchBy::Auto | SwitchBy::Relabel => by_relabelling(context, landscape, all).await,
    }
}

/// The socket proxy whose overlay still holds an unfinished rollout of a service: no other way may be gone before that
/// one is settled.
async fn left_relabelled(context: &ServiceContext<'_>, landscape: &Landscape) -> Option<String> {
    let found = discover::showing(&landscape.socket_proxies);
    let overlays = found.map(async |found| (found, landscape.overlay(found).await));
    let of_the_service = |(found, overlay): (&discover::Found, Result<Overlay>)| {
        // One that does not answer is another stack's, or is asked again when it is needed.
        let claim = overlay.ok()?.claims.remove(&context.key.to_string())?;
        relabel::is_unsettled(&claim).then(|| found.control.name.clone())
    };
    let overlays = join_all(overlays).await;
    overlays.into_iter().find_map(of_the_service)
}

/// The option by which a rollout does without a proxy.
fn without_proxy(settings: &Settings) -> &'static str {
    match (settings.proxy, settings.strategy) {
        (ProxyKind::None, _) => "--proxy none",
        (_, Strategy::Recreate) => "--strategy recreate",
        _ => "--allow-split and --ignore",
    }
}

fn unsettled(key: &ServiceKey, by: &str, option: &str) -> Error {
    let service = &key.service;
    Error::refused(format!(
        "an unfinished rollout of {service} still moves its traffic by {by}"
    ))
    .hint(format!(
        "settle that one first, without {option}: rollout resume {service}"
    ))
}

async fn by_relabelling(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    traefiks: &[TraefikContainer],
) -> Result<SwitchMethod> {
    let traefik = discover::traefik(context, landscape, traefiks).await?;
    Ok(SwitchMethod {
        knows_the_service: traefik.knows_the_service(),
        proxy: Box::new(traefik),
        notice: None,
    })
}

async fn pin(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    traefiks: &[TraefikContainer],
) -> Result<SwitchMethod> {
    let pin = setup::pin(context, landscape, traefiks).await?;
    let new = pin.new_routers(&context.olds);
    let notice = (!new.is_empty()).then(|| {
        let names = new.join(", ");
        format!("what only router {names} of the new version serves may reach both versions until the cutover")
    });
    Ok(SwitchMethod {
        knows_the_service: pin.knows_the_service(),
        proxy: Box::new(pin),
        notice,
    })
}

/// Whether a Traefik reads Docker, and not through a socket proxy.
fn bypasses(traefik: &TraefikContainer) -> bool {
    matches!(traefik.reads, Reads::Socket(_) | Reads::Other(_))
}

/// Neither way is possible: how to add the socket proxy, and why there is no pin either.
fn with_reason(by_socket_proxy: Option<Error>, by_pin: Error) -> Error {
    let Some(error) = by_socket_proxy else {
        return by_pin;
    };
    let way = error.hint.clone().unwrap_or_default();
    let why = by_pin.message;
    let add = by_pin.hint.unwrap_or_default();
    error.hint(format!(
        "{way}\n      or let a pin file move the traffic, which is not possible yet: {why}; {add}"
    ))
}

/// Refuses to roll what carries the traffic of the rollout itself.
fn refuse_traefik_itself(traefiks: &[TraefikContainer], replicas: &[Replica]) -> Result<()> {
    let own = |traefik: &&TraefikContainer| replicas.iter().any(|own| traefik.is_part(&own.id.0));
    match traefiks.iter().find(own) {
        None => Ok(()),
        Some(traefik) => Err(Error::refused(format!(
            "{} is the Traefik that a rollout goes through",
            traefik.name
        ))
        .hint("docker compose up -d replaces it, with a short gap for everything behind it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compose::Service, endpoint::Endpoint, engine::Engine};

    #[tokio::test]
    async fn a_new_version_that_traefik_would_lose_is_refused_with_allow_split_too() {
        let engine = Engine::unconnected(Endpoint::Unix("/nowhere".into()));
        let landscape = Landscape::of(&engine, Vec::new(), "shop").await.unwrap();
        let service = Service::default();
        let context = ServiceContext {
            settings: Settings {
                ignore: [Check::Switch].into(),
                ..Settings::resolve(Default::default())
            },
            ..ServiceContext::of(&service)
        };
        let lost = Error::refused("Traefik would leave the new version of web out");
        let survey = async { Survey::default() };
        let front = labelled_front(&context, &landscape, &[], Err(lost.clone()), survey).await;
        assert_eq!(front.err(), Some(lost));
    }

    #[test]
    fn what_is_left_by_a_pin_names_the_option_that_does_without_a_proxy() {
        let key = ServiceKey {
            project: "shop".to_owned(),
            service: "web".to_owned(),
        };
        let of = |proxy, strategy| {
            let settings = Settings {
                proxy,
                strategy,
                ..Settings::resolve(Default::default())
            };
            unsettled(&key, PIN_FILE, without_proxy(&settings))
        };
        let error = of(ProxyKind::None, Strategy::Recreate);
        assert_eq!(
            error.message,
            "an unfinished rollout of web still moves its traffic by a pin file"
        );
        assert_eq!(
            error.hint.unwrap(),
            "settle that one first, without --proxy none: rollout resume web"
        );
        let hint = of(ProxyKind::Auto, Strategy::Recreate).hint.unwrap();
        assert!(hint.contains("without --strategy recreate:"), "{hint}");
        let hint = of(ProxyKind::Auto, Strategy::BlueGreen).hint.unwrap();
        assert!(
            hint.contains("without --allow-split and --ignore:"),
            "{hint}"
        );
    }

    #[test]
    fn the_notice_of_health_alone_is_one_sentence() {
        let silent = Error::refused("the API is off");
        assert_eq!(
            on_health_alone("web", Some(&silent)),
            "web is rolled on health alone: it has no Traefik label, and Traefik cannot be asked whether another provider \
             routes to it (the API is off)"
        );
    }
}
