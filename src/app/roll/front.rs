//! What stands in front of a service, and how traffic to it is moved.

use std::{collections::BTreeSet, time::Duration};

use super::{Scene, Subject};
use crate::{
    compose::Service,
    error::{Error, Outcome, Result},
    model::{Replica, ServiceKey},
    proxy::{
        Proxy,
        none::NoProxy,
        traefik::{
            discover::{self, Reads, TraefikContainer},
            names,
            pin::setup,
        },
    },
    settings::{ProxyKind, Settings, SwitchBy},
};

/// The pause before a drain, and the longer one where a middleware can hold a request.
pub(super) const SETTLE: Duration = Duration::from_millis(250);
const SETTLE_HELD: Duration = Duration::from_secs(5);

impl Scene<'_> {
    pub(super) async fn proxy(
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
        let request = setup::Request {
            engine: self.engine,
            key,
            settings,
            epoch,
            found,
            networks: &networks,
            replicas: olds,
            labels: &service.labels,
        };
        let all = discover::traefiks(self.engine, found, &networks).await;
        let traefik = match all {
            Ok(all) => {
                refuse_traefik_itself(&all, olds)?;
                traefik(&request, &all).await
            }
            Err(error) => Err(error),
        };
        if !labelled {
            // With exposedByDefault, Traefik routes to what has no label too; nobody but Traefik can say.
            if let Ok(way) = traefik
                && way.knows_the_service
            {
                return Ok((way.proxy, way.notice));
            }
            let name = &service.name;
            return none(Some(format!(
                "{name} has no Traefik router: it is rolled on health alone"
            )));
        }
        match traefik {
            Ok(way) => Ok((way.proxy, way.notice)),
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
    pub(super) fn networks(&self, service: &Service, olds: &[Replica]) -> BTreeSet<String> {
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

/// A way to move the traffic of a service.
struct Way {
    proxy: Box<dyn Proxy>,
    /// Whether any Traefik routes to the service already.
    knows_the_service: bool,
    /// What the operator is told once it begins.
    notice: Option<String>,
}

/// Every Traefik in front of the service, by the way that is wanted or possible.
async fn traefik(request: &setup::Request<'_>, all: &[TraefikContainer]) -> Result<Way> {
    let left = setup::is_left(request.engine, request.key, all).await?;
    match request.settings.switch {
        SwitchBy::Pin => pin(request, all).await,
        SwitchBy::Relabel if left => Err(Error::refused(format!(
            "an earlier rollout of {} has left a pin file",
            request.key.service
        ))
        .hint("settle that one first, without --switch relabel")),
        SwitchBy::Auto if left => pin(request, all).await,
        SwitchBy::Auto if all.iter().any(bypasses) => match pin(request, all).await {
            Ok(pinned) => Ok(pinned),
            // Only the operator can say that it does not matter.
            Err(_) if request.settings.allow_split => relabel(request).await,
            Err(why) => Err(with_reason(relabel(request).await.err(), why)),
        },
        SwitchBy::Auto | SwitchBy::Relabel => relabel(request).await,
    }
}

async fn relabel(request: &setup::Request<'_>) -> Result<Way> {
    let traefik = discover::traefik(
        request.engine,
        request.key,
        request.settings,
        request.epoch,
        request.found,
        request.networks,
        request.replicas,
    )
    .await?;
    Ok(Way {
        knows_the_service: traefik.knows_the_service(),
        proxy: Box::new(traefik),
        notice: None,
    })
}

async fn pin(request: &setup::Request<'_>, traefiks: &[TraefikContainer]) -> Result<Way> {
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
