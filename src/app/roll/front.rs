//! What stands in front of a service, and how traffic to it is moved.

use std::{collections::BTreeSet, time::Duration};

use super::{Purpose, Scene, Subject};
use crate::{
    compose::Service,
    engine::Image,
    error::{Error, Outcome, Result},
    model::{Replica, ServiceKey},
    proxy::{
        Proxy,
        none::NoProxy,
        traefik::{
            discover::{self, Request, Wanted, refuse_lost},
            names,
        },
    },
    settings::{ProxyKind, Settings},
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
            return none(None);
        }
        let unrouted = format!(
            "{} has no Traefik router: it is rolled on health alone",
            service.name
        );
        let all = match discover::traefiks(self.engine, case.found, &networks).await {
            Ok(all) => all,
            Err(error) if labelled => return Err(untouched(error)),
            Err(_) => return none(Some(unrouted)),
        };
        // What is only settled has no version that could be lost.
        let lost = match case.purpose {
            Purpose::Roll => refuse_lost(&all, &wanted, case.olds),
            Purpose::Settle => Ok(()),
        };
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
            if let Ok(traefik) = discover::traefik(request, &all).await
                && traefik.knows_the_service()
            {
                return lost.map(|()| (Box::new(traefik) as Box<dyn Proxy>, None));
            }
            return none(Some(unrouted));
        }
        lost?;
        match discover::traefik(request, &all).await {
            Ok(traefik) => Ok((Box::new(traefik), None)),
            Err(error) if settings.allow_split && error.outcome == Outcome::Refused => none(Some(
                format!("{}; both versions will answer for a while", error.message),
            )),
            Err(error) => Err(untouched(error)),
        }
    }

    fn declared_networks(&self, service: &Service) -> BTreeSet<String> {
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

/// Nothing has been touched yet.
fn untouched(error: Error) -> Error {
    Error {
        outcome: Outcome::Refused,
        ..error
    }
}
