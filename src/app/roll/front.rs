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
        traefik::{discover, names},
    },
    settings::{ProxyKind, Settings},
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
