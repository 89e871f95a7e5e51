//! The routers of other services, which a cutover must leave as they are: one that served before and does not any more,
//! although its containers run as before, has been taken away by it.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::ContainerSummary;
use futures_util::future::join_all;
use tokio::sync::OnceCell;

use super::{Api, ListedRouter};
use crate::{
    docker::engine::{Engine, summary::name},
    error::{Error, Result},
    model::{RolloutId, ServiceKey, label},
    overlay::Overlay,
    proxy::{
        socket_proxies::Control,
        traefik::labels::{Protocol, is_of, is_well, labels_of, names},
    },
};

/// A router as labels name it.
type RouterName = (Protocol, String);

/// Id → name.
type Containers = BTreeMap<String, String>;

/// Traefik → each router that it serves, and the containers that define it.
type Served = BTreeMap<String, BTreeMap<RouterName, Containers>>;

/// What the Traefiks in front of a service serve of other services.
pub struct Others {
    engine: Engine,
    key: ServiceKey,
    /// As it was before the first change of the routing.
    before: OnceCell<Served>,
}

impl Others {
    pub fn new(engine: &Engine, key: &ServiceKey) -> Self {
        Self {
            engine: engine.clone(),
            key: key.clone(),
            before: OnceCell::new(),
        }
    }

    /// Takes note of what is served right before the first change of the routing by this rollout. Returns what the
    /// operator has to know where that fails.
    pub async fn note(&self, apis: &[&Api], rollout: &RolloutId) -> Option<String> {
        let served = || self.served(apis, rollout);
        let noted = self.before.get_or_try_init(served).await;
        noted.err().map(|error| unknown(&error))
    }

    async fn served(&self, apis: &[&Api], rollout: &RolloutId) -> Result<Served> {
        let lists = join_all(apis.iter().map(|api| api.docker_routers()));
        let (running, lists) = tokio::join!(self.engine.running(), lists);
        let running = running?;
        let own = own(&self.key, &running, rollout);
        let mut served = BTreeMap::new();
        for (api, list) in apis.iter().zip(lists) {
            let list = list?;
            let kept = running.iter().filter(|one| api.may_keep(&labels_of(one)));
            let mut defined = defined(&self.key, kept, &Overlay::default());
            defined.retain(|router, _| !own.contains(router));
            defined.retain(|router, _| missing(router, &list).is_none());
            served.insert(api.name.clone(), defined);
        }
        Ok(served)
    }

    /// What has been taken away since: a line for each router.
    pub async fn lost(&self, apis: &[&Api], controls: &[Control]) -> Result<Vec<String>> {
        let Some(before) = self.before.get() else {
            return Ok(Vec::new());
        };
        let lists = join_all(apis.iter().map(|api| api.docker_routers())).await;
        let mut gone: Vec<(&RouterName, &Containers, String)> = Vec::new();
        for (api, list) in apis.iter().zip(lists) {
            let list = list?;
            let own = before.get(&api.name).into_iter().flatten();
            gone.extend(own.filter_map(|(router, containers)| {
                Some((router, containers, missing(router, &list)?))
            }));
        }
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let overlays = join_all(controls.iter().map(Control::overlay));
        let (running, overlays) = tokio::join!(self.engine.running(), overlays);
        let overlays: Result<Vec<Overlay>> = overlays.into_iter().collect();
        let running = running?;
        let visible: Vec<_> = match overlays?.as_slice() {
            [] => vec![defined(&self.key, &running, &Overlay::default())],
            all => all
                .iter()
                .map(|own| defined(&self.key, &running, own))
                .collect(),
        };
        Ok(taken_away(&gone, &visible))
    }
}

fn unknown(error: &Error) -> String {
    format!(
        "which routers of other services Traefik serves is not known ({}): this rollout does not notice if it takes one \
         away",
        error.message
    )
}

/// Of the routers that are gone, those that a container of before would still have.
fn taken_away(
    gone: &[(&RouterName, &Containers, String)],
    visible: &[BTreeMap<RouterName, Containers>],
) -> Vec<String> {
    let line = |(router, containers, why): &(&RouterName, &Containers, String)| {
        let still = |id: &String| {
            visible
                .iter()
                .all(|own| own.get(router).is_some_and(|now| now.contains_key(id)))
        };
        let (_, container) = containers.iter().find(|(id, _)| still(id))?;
        Some(format!("router {} of {container} {why}", router.1))
    };
    let lines: BTreeSet<String> = gone.iter().filter_map(line).collect();
    lines.into_iter().collect()
}

/// Why Traefik does not serve a router; `None` where it does.
fn missing((protocol, name): &RouterName, list: &[ListedRouter]) -> Option<String> {
    let is_it = |own: &&ListedRouter| own.protocol == *protocol && own.names.contains(name);
    let mut found = list.iter().filter(is_it).peekable();
    if found.peek().is_none() {
        return Some("is gone".to_owned());
    }
    let disabled = found.find_map(|own| own.disabled.as_ref())?;
    Some(format!("is disabled: {disabled}"))
}

/// The routers of the service as it was before a rollout, whatever else defines them. One that only the new version
/// shares with another service is the other's.
fn own(
    key: &ServiceKey,
    running: &[ContainerSummary],
    rollout: &RolloutId,
) -> BTreeSet<RouterName> {
    let labels = running.iter().filter(|own| is_well(own)).map(labels_of);
    let before = labels
        .filter(|labels| is_of(key, labels) && labels.get(label::ROLLOUT) != Some(&rollout.0));
    before.flat_map(|labels| names(&labels).routers).collect()
}

/// The routers that containers of other services define and that Traefik may read, and the containers of each.
fn defined<'a>(
    key: &ServiceKey,
    running: impl IntoIterator<Item = &'a ContainerSummary>,
    overlay: &Overlay,
) -> BTreeMap<RouterName, Containers> {
    let mut defined: BTreeMap<RouterName, Containers> = BTreeMap::new();
    for summary in running.into_iter().filter(|own| is_well(own)) {
        let labels = labels_of(summary);
        let id = summary.id.clone().unwrap_or_default();
        if is_of(key, &labels) || overlay.hides(&id, &labels) {
            continue;
        }
        for router in names(&labels).routers {
            let containers = defined.entry(router).or_default();
            containers.insert(id.clone(), name(summary));
        }
    }
    defined
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::ContainerSummaryStateEnum;

    use super::*;
    use crate::overlay::{Claim, Labels};

    fn container(service: &str, status: &str) -> ContainerSummary {
        let labels = [
            (label::COMPOSE_PROJECT, "shop"),
            (label::COMPOSE_SERVICE, service),
            ("traefik.tcp.routers.db.rule", "HostSNI(`*`)"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        ContainerSummary {
            id: Some(service.to_owned()),
            names: Some(vec![format!("/shop-{service}-1")]),
            state: Some(ContainerSummaryStateEnum::RUNNING),
            status: Some(status.to_owned()),
            labels: Some(HashMap::from(labels)),
            ..ContainerSummary::default()
        }
    }

    fn key() -> ServiceKey {
        ServiceKey {
            project: "shop".to_owned(),
            service: "web".to_owned(),
        }
    }

    fn of(running: &[ContainerSummary], overlay: &Overlay) -> BTreeMap<RouterName, Containers> {
        defined(&key(), running, overlay)
    }

    fn listed(name: &str, disabled: Option<&str>) -> ListedRouter {
        ListedRouter {
            protocol: Protocol::Tcp,
            names: vec![name.to_owned()],
            disabled: disabled.map(str::to_owned),
        }
    }

    /// What is said of the router of a container that looked well before, and looks like this now.
    fn lines(now: &[ContainerSummary], overlay: &Overlay, list: &[ListedRouter]) -> Vec<String> {
        let before = of(
            &[container("db", "Up 2 days (healthy)")],
            &Overlay::default(),
        );
        let mut gone = Vec::new();
        for (router, containers) in &before {
            gone.extend(missing(router, list).map(|why| (router, containers, why)));
        }
        taken_away(&gone, &[of(now, overlay)])
    }

    #[test]
    fn a_router_that_is_gone_or_disabled_while_its_container_is_well_was_taken_away() {
        let well = [container("db", "Up 2 days")];
        let nothing = Overlay::default();
        assert_eq!(lines(&well, &nothing, &[listed("db", None)]), [""; 0]);
        assert_eq!(
            lines(&well, &nothing, &[listed("other", None)]),
            ["router db of shop-db-1 is gone"]
        );
        assert_eq!(
            lines(&well, &nothing, &[listed("db", Some("no such service"))]),
            ["router db of shop-db-1 is disabled: no such service"]
        );
    }

    #[test]
    fn a_router_whose_container_has_ended_is_ill_or_is_hidden_went_by_itself() {
        let nothing = Overlay::default();
        assert_eq!(lines(&[], &nothing, &[]), [""; 0]);
        let ill = container("db", "Up 2 days (unhealthy)");
        assert_eq!(lines(&[ill], &nothing, &[]), [""; 0]);
        let another = ContainerSummary {
            id: Some("later".to_owned()),
            ..container("db", "Up 1 second")
        };
        assert_eq!(lines(&[another], &nothing, &[]), [""; 0]);
        let mut hidden = Overlay::default();
        let off = Labels::from([("traefik.enable".to_owned(), "false".to_owned())]);
        hidden.set(Claim::by_hand("db", off)).unwrap();
        assert_eq!(
            lines(&[container("db", "Up 2 days")], &hidden, &[]),
            [""; 0]
        );
    }

    #[test]
    fn that_nothing_could_be_noted_is_said() {
        let said = unknown(&Error::failed("the Traefik API does not answer"));
        assert!(said.contains("(the Traefik API does not answer)"), "{said}");
    }

    #[test]
    fn the_service_keeps_the_routers_of_its_old_version_alone() {
        let rollout = RolloutId("r2".to_owned());
        let before = container("web", "Up 2 days");
        let mut new = container("web", "Up 1 second");
        let labels = new.labels.get_or_insert_default();
        labels.insert(label::ROLLOUT.to_owned(), rollout.0.clone());
        let router = (Protocol::Tcp, "db".to_owned());
        // What the old version shares with another service may go by its own doing.
        assert_eq!(
            own(&key(), &[before, new.clone()], &rollout),
            [router].into()
        );
        assert!(own(&key(), &[new.clone()], &rollout).is_empty());
        // What only the new one shares is still the other's, and is noticed when it goes.
        let now = [new, container("db", "Up 2 days")];
        let said = ["router db of shop-db-1 is gone"];
        assert_eq!(lines(&now, &Overlay::default(), &[]), said);
    }
}
