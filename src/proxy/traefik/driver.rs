//! What Traefik is to a service: how its traffic is moved, and what is refused for what Traefik makes of its labels.

mod clashes;
mod survey;

use async_trait::async_trait;
use futures_util::future::join_all;

use self::{
    clashes::refuse_clashes,
    survey::{Survey, survey},
};
use super::{
    api::Caller,
    config::{Reads, TraefikContainer},
    discover::{
        self, Wanted, concerns, neighbours, new_versions, refuse_lost, refuse_unwatched,
        traefik_itself,
    },
    labels::{Neighbour, matched_by, served_by, unknown_labels, wants_traefik},
    pin, relabel,
};
use crate::{
    check::Check,
    context::{Purpose, RunContext, ServiceContext},
    error::{Error, Outcome, Result},
    model::{Replica, ServiceKey},
    overlay::Overlay,
    proxy::{
        Router,
        driver::{Detection, Driver},
        landscape::Landscape,
        socket_proxies::{SocketProxy, showing},
    },
    settings::{PreviewRule, ProxyKind, Settings, Strategy, SwitchBy},
};

/// What a pin is called in messages.
const PIN_FILE: &str = "a pin file";

/// Traefik, however it reads Docker.
pub struct TraefikDriver;

#[async_trait(?Send)]
impl Driver for TraefikDriver {
    async fn detect(
        &self,
        run: &RunContext<'_>,
        context: &ServiceContext<'_>,
        landscape: &mut Landscape,
    ) -> Result<Detection> {
        let olds = &context.olds;
        let wanted = Wanted::of(context);
        let mut versions = olds.iter().map(|old| &old.labels);
        let labelled = wants_traefik(&context.service.labels) || versions.any(wants_traefik);
        let near = discover::traefiks(landscape, &context.networks()).await;
        let landscape = &*landscape;
        let near = near.map_err(|error| match labelled {
            true => error.untouched(),
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
        let survey = survey(run, context, landscape, &near, &wanted);
        let (method, mut survey) = tokio::join!(method(context, landscape, &all), survey);
        let is_left = !labelled && left_relabelled(context, landscape).await.is_some();
        let front = match labelled {
            true => labelled_front(&context.settings, &all, lost, method, &mut survey),
            false => unlabelled_front(context, &all, lost, method, is_left, &mut survey),
        };
        let mut detection = detection(context, landscape, front?, survey)?;
        if !detection.router.routes() {
            refuse_left(context, landscape, &near).await?;
        }
        detection.objections = objections(run, context, landscape, &all, &*detection.router).await;
        Ok(detection)
    }

    async fn refuse_own_parts(&self, landscape: &Landscape, replicas: &[Replica]) -> Result<()> {
        discover::refuse_own_parts(landscape, replicas).await
    }

    async fn refuse_left(
        &self,
        context: &ServiceContext<'_>,
        landscape: &mut Landscape,
    ) -> Result<()> {
        let near = discover::traefiks(landscape, &context.networks()).await;
        // Where they cannot be found, this is the way to go on without them.
        refuse_left(context, landscape, &near.unwrap_or_default()).await
    }
}

/// What stands against the names and labels of the new version; only notices where nothing new is rolled.
async fn objections(
    run: &RunContext<'_>,
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    all: &[TraefikContainer],
    router: &dyn Router,
) -> Result<Vec<String>> {
    let mut neighbours = match all {
        [] => Vec::new(),
        all => neighbours(landscape, &context.key, all).await,
    };
    neighbours.extend(new_versions(&context.key, &context.beside.new, all));
    let host = refuse_served_host(context, &neighbours);
    let mut notices = refuse_clashes(run, context, all, neighbours)?;
    if context.purpose == Purpose::Settle || !router.routes() {
        return Ok(notices);
    }
    notices.extend(host?);
    let settings = &context.settings;
    let unknown = unknown_labels(context);
    settings.pass_over(Check::Labels, unknown, &mut notices)?;
    if let Some(image) = &context.image {
        let ports = router.labels().refuse_version(context, image);
        settings.pass_over(Check::Rollout, ports, &mut notices)?;
    }
    Ok(notices)
}

/// Refuses a host of a preview that a router of another service names, or that several previews would have. Returns the
/// notice of a router that matches it with others.
fn refuse_served_host(
    context: &ServiceContext<'_>,
    neighbours: &[Neighbour],
) -> Result<Option<String>> {
    let Some(PreviewRule::Host(host)) = context.settings.preview() else {
        return Ok(None);
    };
    let name = &context.service.name;
    let x_rollout = context.service.x_rollout.as_ref();
    let has_its_own = x_rollout.is_some_and(|own| own.get("preview-host").is_some());
    if context.of_several && !has_its_own {
        let message = format!("several services would be previewed at the host {host}");
        return Err(Error::refused(message).hint(format!(
            "write preview-host in x-rollout of each service, or roll {name} alone"
        )));
    }
    let serves = |own: &&Neighbour| served_by(&own.labels, &host).is_some();
    if let Some(other) = neighbours.iter().find(serves) {
        let message = format!(
            "{} serves the host {host} already: its requests would go to the preview of {name}",
            other.name
        );
        let hint = "take a host for --preview-host that has no visitors yet";
        return Err(Error::refused(message).hint(hint));
    }
    let matching = |own: &Neighbour| {
        let (router, other) = (matched_by(&own.labels, &host)?, &own.name);
        Some(format!(
            "the router {router} of {other} matches the host {host} too: requests go to the router with the higher priority"
        ))
    };
    Ok(neighbours.iter().find_map(matching))
}

/// Refuses to go on without a proxy while an earlier rollout still moves the traffic by Traefik.
async fn refuse_left(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    near: &[TraefikContainer],
) -> Result<()> {
    let by = match left_relabelled(context, landscape).await {
        Some(by) => Some(by),
        None => pin::is_left(&landscape.engine, &context.key, near)
            .await?
            .then(|| PIN_FILE.to_owned()),
    };
    match by {
        Some(by) => Err(unsettled(
            &context.key,
            &by,
            without_proxy(&context.settings),
        )),
        None => Ok(()),
    }
}

/// How the traffic of a service is moved, and what the operator has to know of it. Without a method, the service is rolled on health alone.
type Front = (Option<SwitchMethod>, Vec<String>);

/// What is in front, with what reaches the service without the router of its labels.
fn detection(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    (method, mut notices): Front,
    survey: Survey,
) -> Result<Detection> {
    let detection = match method {
        Some(method) => {
            refuse_past_labels(&context.settings, &survey.callers)?;
            notices.splice(..0, method.notice);
            Detection {
                hazards: survey.hazards,
                ..Detection::new(method.router)
            }
        }
        None => Detection::without_proxy(context, landscape),
    };
    let reroutes = detection.router.capabilities().hold_reroutes;
    let callers = survey.callers.iter();
    let callers = callers.filter(|own| !own.follows_labels() || reroutes);
    Ok(Detection {
        notices,
        bypasses: callers.map(Caller::bypass).collect(),
        ..detection
    })
}

/// The front of a service whose labels ask for Traefik.
fn labelled_front(
    settings: &Settings,
    all: &[TraefikContainer],
    lost: Result<()>,
    method: Result<SwitchMethod>,
    survey: &mut Survey,
) -> Result<Front> {
    // Stopped first, no version is in the way of the other: what is behind no Traefik needs none.
    let recreate = settings.strategy == Strategy::Recreate && settings.proxy == ProxyKind::Auto;
    let needs_none = recreate && all.is_empty();
    if !needs_none {
        lost.clone()?;
    }
    let mut notices = std::mem::take(&mut survey.notices);
    for error in [survey.absent.take(), survey.dropped.take()]
        .into_iter()
        .flatten()
    {
        settings.pass_over(Check::Labels, Err(error), &mut notices)?;
    }
    match lost.and(method) {
        Ok(method) => Ok((Some(method), notices)),
        Err(error) => {
            notices.insert(0, why_without(settings, error, needs_none)?);
            Ok((None, notices))
        }
    }
}

/// Why a rollout goes on although Traefik cannot move the traffic; the error where it does not.
fn why_without(settings: &Settings, error: Error, needs_none: bool) -> Result<String> {
    let message = &error.message;
    match ignored(settings, &error) {
        _ if error.outcome != Outcome::Refused => Err(error.untouched()),
        _ if needs_none => Ok(format!(
            "{message}; going on, because --strategy recreate switches no routes: only the health of the new replicas is checked"
        )),
        Some(check) => Ok(format!(
            "{message}; going on because of --ignore {check}: both versions will answer for a while, and requests can fail while the old containers stop"
        )),
        None => Err(error.untouched()),
    }
}

/// The check by which the operator lets a rollout go on without a proxy that switches.
fn ignored(settings: &Settings, error: &Error) -> Option<Check> {
    let mut checks = [Some(Check::Switch), error.check].into_iter().flatten();
    checks.find(|check| settings.ignores(*check))
}

/// The front of a service without labels. With `exposedByDefault` Traefik routes to it too, and another provider may; only
/// Traefik can say.
fn unlabelled_front(
    context: &ServiceContext<'_>,
    all: &[TraefikContainer],
    lost: Result<()>,
    method: Result<SwitchMethod>,
    is_left: bool,
    survey: &mut Survey,
) -> Result<Front> {
    let (name, settings) = (&context.key.service, &context.settings);
    let is_known = all.iter().any(|own| own.unread.is_none());
    match method {
        Ok(method) if method.knows_the_service || is_left => {
            lost?;
            return Ok((Some(method), Vec::new()));
        }
        Err(error) if is_known || is_left => return Err(unsure(error, name)),
        Ok(_) | Err(_) => {}
    }
    // An unfinished rollout is settled even where no Traefik routes to the service any more.
    if context.purpose == Purpose::Settle {
        return Ok((None, Vec::new()));
    }
    refuse_past_labels(settings, &survey.callers)?;
    if settings.proxy == ProxyKind::Traefik && !context.of_several {
        return Err(unrouted_though_asked(name));
    }
    let notice = match survey.silent.take() {
        _ if survey.callers.iter().any(Caller::routes) => None,
        silent => Some(on_health_alone(name, silent.as_ref())),
    };
    Ok((None, Vec::from_iter(notice)))
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

/// Refuses to promise for traffic that reaches the service without the router of its labels.
fn refuse_past_labels(settings: &Settings, callers: &[Caller]) -> Result<()> {
    let asked = settings.proxy == ProxyKind::Traefik;
    match callers.iter().find(|own| asked && own.routes()) {
        Some(caller) => Err(Error::refused(caller.text()).hint(format!(
            "{}; or roll it without --proxy traefik: the old replicas are then stopped once their connections are idle",
            caller.advice()
        ))),
        None => Ok(()),
    }
}

/// "Cannot tell" is not "no": a service that is routed after all would lose requests.
fn unsure(error: Error, service: &str) -> Error {
    let hint = format!("label {service} with traefik.enable=false, or say --proxy none");
    error.or_hint(hint).untouched()
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
    router: Box<dyn Router>,
    /// Whether any Traefik routes to the service already.
    knows_the_service: bool,
    /// What the operator has to know once it begins.
    notice: Option<String>,
}

/// The method that is wanted or possible, for every Traefik in front of the service.
async fn method(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    all: &[TraefikContainer],
) -> Result<SwitchMethod> {
    let key = &context.key;
    let left = pin::is_left(&landscape.engine, key, all).await?;
    let relabelled = || left_relabelled(context, landscape);
    match context.settings.switch {
        SwitchBy::Pin => match relabelled().await {
            Some(by) => Err(unsettled(key, &by, "--switch pin")),
            None => by_pin(context, landscape, all).await,
        },
        SwitchBy::Relabel if left => Err(Error::refused(format!(
            "an earlier rollout of {} has left a pin file",
            key.service
        ))
        .hint("settle that one first, without --switch relabel")),
        SwitchBy::Auto if left => by_pin(context, landscape, all).await,
        SwitchBy::Auto if all.iter().any(bypasses) && relabelled().await.is_none() => {
            match by_pin(context, landscape, all).await {
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
    let found = showing(&landscape.socket_proxies);
    let overlays = found.map(async |found| (found, landscape.overlay(found).await));
    let of_the_service = |(found, overlay): (&SocketProxy, Result<Overlay>)| {
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
    let relabel = relabel::relabel(context, landscape, traefiks).await?;
    Ok(SwitchMethod {
        knows_the_service: relabel.instances.routed_before(),
        router: Box::new(relabel),
        notice: None,
    })
}

async fn by_pin(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    traefiks: &[TraefikContainer],
) -> Result<SwitchMethod> {
    let pin = pin::pin(context, landscape, traefiks).await?;
    let new = pin.new_routers(&context.olds);
    let notice = (!new.is_empty()).then(|| {
        let names = new.join(", ");
        format!("router {names} exists only in the new version: until the cutover, what only it serves may reach both versions")
    });
    Ok(SwitchMethod {
        knows_the_service: pin.instances.routed_before(),
        router: Box::new(pin),
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
        Some(traefik) => Err(traefik_itself(&traefik.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_version_that_traefik_would_lose_is_refused_with_allow_split_too() {
        let settings = Settings {
            ignore: [Check::Switch].into(),
            ..Settings::resolve(Default::default())
        };
        let lost = Error::refused("Traefik would leave the new version of web out");
        let method = || Err(Error::refused("Traefik reads the socket itself"));
        let front = |lost| labelled_front(&settings, &[], lost, method(), &mut Survey::default());
        assert_eq!(front(Err(lost.clone())).err(), Some(lost));
        let (method, notices) = front(Ok(())).unwrap();
        assert!(method.is_none() && notices[0].contains("--ignore switch"));
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
