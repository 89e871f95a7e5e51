//! What stands in front of a service, and how traffic to it is moved.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;

use super::{Purpose, Scene, Subject, untouched};
use crate::{
    compose::Service,
    engine::Image,
    error::{Error, Outcome, Result},
    model::{Replica, ServiceKey},
    proxy::{
        Proxy,
        none::NoProxy,
        traefik::{
            discover::{self, Reads, Request, TraefikContainer, Wanted, concerns, refuse_lost},
            names,
            pin::setup,
            relabel,
        },
    },
    settings::{ProxyKind, Settings, SwitchBy},
    socket_proxy::overlay::Overlay,
};

/// The pause before a drain, and the longer one where a middleware can hold a request.
pub(super) const SETTLE: Duration = Duration::from_millis(250);
const SETTLE_HELD: Duration = Duration::from_secs(5);

/// A service whose traffic is to be moved.
pub(super) struct Case<'a> {
    pub key: &'a ServiceKey,
    pub service: &'a Service,
    pub settings: &'a Settings,
    pub epoch: u64,
    pub found: &'a [discover::Found],
    pub olds: &'a [Replica],
    /// The image of the new version, where it is here.
    pub image: Option<&'a Image>,
    pub purpose: Purpose,
}

impl Scene<'_> {
    /// What moves the traffic, and what the operator is told of it.
    #[expect(
        clippy::too_many_lines,
        reason = "to be cut up: each way to move the traffic is to be found by a function of its own"
    )]
    pub(super) async fn proxy(&self, case: Case<'_>) -> Result<(Box<dyn Proxy>, Option<String>)> {
        let (service, settings) = (case.service, case.settings);
        let declared = self.declared_networks(service);
        let networks = self.networks(service, case.olds);
        let image = case.image.map(|image| &image.labels);
        let wanted = Wanted::new(case.key, &service.labels, image, declared);
        let labelled = names::wants_traefik(&service.labels)
            || case
                .olds
                .iter()
                .any(|old| names::wants_traefik(&old.labels));
        let none = |notice| Ok((Box::new(NoProxy) as Box<dyn Proxy>, notice));
        if settings.proxy == ProxyKind::None {
            return match left_relabelled(case.key, case.found).await {
                Some(by) => Err(unsettled(case.key, &by, "--proxy none")),
                None => none(None),
            };
        }
        // An unfinished rollout is settled even where no Traefik routes to the service any more.
        let asks_for_traefik =
            settings.proxy == ProxyKind::Traefik && case.purpose == Purpose::Roll;
        let unrouted = format!(
            "{} has no Traefik router: it is rolled on health alone",
            service.name
        );
        // "Cannot tell" is not "no": a service that is routed after all would lose requests.
        let unsure = |error: Error| {
            untouched(error.or_hint(format!(
                "label {} with traefik.enable=false, or say --proxy none",
                service.name
            )))
        };
        let all = discover::traefiks(self.engine, case.found, &networks).await;
        let all = all.map_err(|error| match labelled {
            true => untouched(error),
            false => unsure(error),
        })?;
        refuse_traefik_itself(&all, case.olds)?;
        // What is only settled has no version that could be lost.
        let lost = match case.purpose {
            Purpose::Roll => refuse_lost(&all, &wanted, case.olds),
            Purpose::Settle => Ok(()),
        };
        let all = all.into_iter();
        let all: Vec<TraefikContainer> = all
            .filter(|own| concerns(own, &wanted, case.olds))
            .collect();
        let request = Request {
            engine: self.engine,
            key: case.key,
            settings,
            epoch: case.epoch,
            found: case.found,
            networks: &networks,
            replicas: case.olds,
            wanted: &wanted,
        };
        if !labelled {
            // With exposedByDefault, Traefik routes to what has no label too; nobody but Traefik can say.
            let known = all.iter().any(|own| own.unread.is_none());
            return match traefik(&request, &all).await {
                Ok(way) if way.knows_the_service => lost.map(|()| (way.proxy, way.notice)),
                Err(error) if known => Err(unsure(error)),
                Ok(_) | Err(_) if asks_for_traefik => Err(unrouted_though_asked(&service.name)),
                Ok(_) | Err(_) => none(Some(unrouted)),
            };
        }
        lost?;
        match traefik(&request, &all).await {
            Ok(way) => Ok((way.proxy, way.notice)),
            Err(error) if settings.allow_split && error.outcome == Outcome::Refused => {
                none(Some(format!(
                    "{}; going on because of --allow-split: both versions will answer for a while, and requests can fail while the old containers stop",
                    error.message
                )))
            }
            Err(error) => Err(untouched(error)),
        }
    }

    pub(super) fn declared_networks(&self, service: &Service) -> BTreeSet<String> {
        let networks = service.networks.iter();
        let names = networks.filter_map(|key| self.project.raw["networks"][key]["name"].as_str());
        names.map(str::to_owned).collect()
    }

    /// The engine's names of the networks that the service is in, or will be in.
    pub(super) fn networks(&self, service: &Service, olds: &[Replica]) -> BTreeSet<String> {
        let before = olds.iter().flat_map(|old| old.networks.iter().cloned());
        before.chain(self.declared_networks(service)).collect()
    }

    pub(super) async fn settle(
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
}

fn unrouted_though_asked(service: &str) -> Error {
    let message = format!("{service} has no Traefik router, which --proxy traefik asks for");
    Error::refused(message).hint(format!(
        "give it one, such as the label traefik.http.routers.{service}.rule; without --proxy traefik it is rolled on \
         health alone"
    ))
}

/// A way to move the traffic of a service.
struct Way {
    proxy: Box<dyn Proxy>,
    /// Whether any Traefik routes to the service already.
    knows_the_service: bool,
    /// What the operator is told once it begins.
    notice: Option<String>,
}

/// Every Traefik in front of the service, by the way that is wanted or possible.
async fn traefik(request: &Request<'_>, all: &[TraefikContainer]) -> Result<Way> {
    let left = setup::is_left(request.engine, request.key, all).await?;
    let relabelled = || left_relabelled(request.key, request.found);
    match request.settings.switch {
        SwitchBy::Pin => match relabelled().await {
            Some(by) => Err(unsettled(request.key, &by, "--switch pin")),
            None => pin(request, all).await,
        },
        SwitchBy::Relabel if left => Err(Error::refused(format!(
            "an earlier rollout of {} has left a pin file",
            request.key.service
        ))
        .hint("settle that one first, without --switch relabel")),
        SwitchBy::Auto if left => pin(request, all).await,
        SwitchBy::Auto if all.iter().any(bypasses) && relabelled().await.is_none() => {
            match pin(request, all).await {
                Ok(pinned) => Ok(pinned),
                // Only the operator can say that it does not matter.
                Err(_) if request.settings.allow_split => by_relabelling(request, all).await,
                Err(why) => Err(with_reason(by_relabelling(request, all).await.err(), why)),
            }
        }
        SwitchBy::Auto | SwitchBy::Relabel => by_relabelling(request, all).await,
    }
}

/// The socket proxy whose overlay still holds an unfinished rollout of a service: no other way may be gone before that
/// one is settled.
async fn left_relabelled(key: &ServiceKey, found: &[discover::Found]) -> Option<String> {
    let found = discover::showing(found);
    let overlays = join_all(found.clone().map(|found| found.control.overlay())).await;
    let of_the_service = |(found, overlay): (&discover::Found, Result<Overlay>)| {
        // One that does not answer is another stack's, or is asked again when it is needed.
        let claim = overlay.ok()?.claims.remove(&key.to_string())?;
        relabel::is_unsettled(&claim).then(|| found.control.name.clone())
    };
    found.zip(overlays).find_map(of_the_service)
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

async fn by_relabelling(request: &Request<'_>, traefiks: &[TraefikContainer]) -> Result<Way> {
    let traefik = discover::traefik(request, traefiks).await?;
    Ok(Way {
        knows_the_service: traefik.knows_the_service(),
        proxy: Box::new(traefik),
        notice: None,
    })
}

async fn pin(request: &Request<'_>, traefiks: &[TraefikContainer]) -> Result<Way> {
    let pin = setup::pin(request, traefiks).await?;
    let new = pin.new_routers(request.replicas);
    let notice = (!new.is_empty()).then(|| {
        let names = new.join(", ");
        format!("what only router {names} of the new version serves may reach both versions until the cutover")
    });
    Ok(Way {
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
    let own = |traefik: &&TraefikContainer| replicas.iter().any(|own| own.id.0 == traefik.id);
    match traefiks.iter().find(own) {
        None => Ok(()),
        Some(traefik) => Err(Error::refused(format!(
            "{} is the Traefik that a rollout goes through",
            traefik.name
        ))
        .hint("docker compose up -d replaces it, with a short gap for everything behind it")),
    }
}
