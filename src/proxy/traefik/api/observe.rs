//! From what every Traefik lists to what is live and what is hidden. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Servers};
use crate::{
    model::{ContainerId, Replica, Share},
    overlay::Labels,
    proxy::{
        Observation,
        traefik::labels::{Names, Protocol, names, unknown, weight_of},
    },
};

/// Live, or a weight: a server that is up, with the same weight in every service of the replica, on every instance. Hidden:
/// in none of any. Preview: up in every service of its labels in `previewed`, and in none of any other. Else none of these.
pub fn observation(
    replicas: &[Replica],
    previewed: &BTreeMap<ContainerId, Labels>,
    answers: Vec<Servers>,
) -> Observation {
    let mut observation = Observation::default();
    for replica in replicas {
        let labels = previewed.get(&replica.id).unwrap_or(&replica.labels);
        let own = names(labels);
        let mut trouble = Vec::new();
        let (mut live, mut hidden, mut elsewhere) = (true, true, false);
        let mut shares = BTreeSet::new();
        for servers in &answers {
            for (service, places) in &servers.services {
                let up = server(replica, own.services.contains(service), places);
                hidden &= up.is_none();
                if own.services.contains(service) {
                    live &= up == Some(true);
                    shares.insert(share(replica, labels, servers, service));
                    if up == Some(false) {
                        let name = service.1.clone();
                        observation.down.insert(replica.id.clone(), name);
                    }
                } else {
                    elsewhere |= up.is_some();
                }
            }
            live &= own
                .services
                .iter()
                .all(|service| servers.services.contains_key(service));
            trouble.extend(concerning(&own, servers));
        }
        if hidden && !trouble.is_empty() {
            trouble.splice(..0, unknown_label(replica));
        }
        let ails = |router: &str| {
            let begin = format!("router {router} ");
            trouble.iter().any(|text| text.starts_with(&begin))
        };
        let routers = &own.routers;
        if !routers.is_empty() && routers.iter().all(|(_, router)| ails(router)) {
            observation.broken.insert(replica.id.clone());
        }
        let mut shares = shares.into_iter();
        let is_previewed = previewed.contains_key(&replica.id);
        let share = match (live, hidden, shares.next(), shares.next()) {
            (true, false, ..) if is_previewed => (!elsewhere).then_some(Share::Preview),
            (true, false, Some(share), None) => Some(share),
            (false, true, ..) => Some(Share::Hidden),
            _ => None,
        };
        note(&mut observation, &replica.id, share, trouble);
    }
    observation
}

/// What is said of routers and services of these names that do not serve.
fn concerning(own: &Names, servers: &Servers) -> impl Iterator<Item = String> {
    let is_own = |name: &String| {
        let mut all = own.routers.iter().chain(&own.services);
        all.any(|(_, known)| known == name)
    };
    let all = servers.trouble.iter();
    all.filter(move |(name, _)| is_own(name))
        .map(|(_, text)| text.clone())
}

/// Why Traefik leaves a replica out, where a label of its own says so.
fn unknown_label(replica: &Replica) -> Option<String> {
    let first = unknown(&replica.labels).into_iter().next();
    let certain = first.filter(|own| own.is_certain)?;
    Some(format!("it has no option {}", certain.label))
}

fn note(
    observation: &mut Observation,
    id: &ContainerId,
    share: Option<Share>,
    trouble: Vec<String>,
) {
    if let Some(share) = share {
        observation.routing.insert(id.clone(), share);
    }
    if !trouble.is_empty() {
        observation.trouble.insert(id.clone(), trouble);
    }
}

/// The share of a replica that is live in a service. A weight that its own labels set, or that is the default, is none.
fn share(
    replica: &Replica,
    labels: &Labels,
    servers: &Servers,
    service: &(Protocol, String),
) -> Share {
    let own = weight_of(labels, &service.1).unwrap_or(1);
    let weights = servers.weights.get(service).into_iter().flatten();
    let mut weights = weights.filter(|(place, _)| place.is_of(replica));
    match weights.find(|(_, weight)| **weight != own) {
        Some((_, weight)) => Share::Weight(*weight),
        None => Share::Live,
    }
}

/// Whether a service has a server of this replica, and whether that is up.
fn server(replica: &Replica, is_own: bool, places: &BTreeMap<Place, bool>) -> Option<bool> {
    // A replica in another network namespace has no address of its own, so any server counts; a second set is refused there.
    if replica.borrows_network {
        let own = is_own && replica.serves() && !places.is_empty();
        return own.then(|| places.values().all(|up| *up));
    }
    let own = places.iter().filter(|(place, _)| place.is_of(replica));
    own.map(|(_, up)| *up).reduce(|all, up| all && up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Health, Run},
        plan::simulator,
    };

    /// A replica with a router and a service called `app`.
    fn replica(id: &str, address: &str) -> Replica {
        let labels = [
            ("traefik.http.routers.app.rule", "Host(`a`)"),
            ("traefik.http.services.app.loadbalancer.server.port", "80"),
        ];
        Replica {
            addresses: vec![address.parse().unwrap()],
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..simulator::old(id)
        }
    }

    fn lists(servers: &[(&str, bool)]) -> Servers {
        let places = servers.iter().map(|(address, up)| {
            let place = Place {
                address: address.parse().unwrap(),
                port: Some(80),
            };
            (place, *up)
        });
        let service = (Protocol::Http, "app".to_owned());
        Servers {
            services: [(service, places.collect())].into(),
            ..Servers::default()
        }
    }

    fn route(replica: &Replica, answers: Vec<Servers>) -> Option<Share> {
        let observation = observation(std::slice::from_ref(replica), &BTreeMap::new(), answers);
        observation.routing.get(&replica.id).copied()
    }

    #[test]
    fn live_is_what_every_instance_lists_as_up_and_hidden_what_none_lists() {
        let one = replica("a", "10.0.0.2");
        let (with, without) = (
            || lists(&[("10.0.0.2", true), ("10.0.0.3", true)]),
            || lists(&[("10.0.0.3", true)]),
        );
        assert_eq!(route(&one, vec![with(), with()]), Some(Share::Live));
        assert_eq!(route(&one, vec![without(), without()]), Some(Share::Hidden));
        assert_eq!(route(&one, vec![with(), without()]), None);
        assert_eq!(route(&one, vec![lists(&[("10.0.0.2", false)])]), None);
    }

    #[test]
    fn a_weight_is_a_share_if_all_instances_report_it_and_the_labels_do_not_set_it() {
        let mut one = replica("a", "10.0.0.2");
        let weighs = |weight: u32| {
            let mut servers = lists(&[("10.0.0.2", true)]);
            let (service, places) = servers.services.iter().next().unwrap();
            let weights = places.keys().map(|place| (*place, weight));
            servers.weights = [(service.clone(), weights.collect())].into();
            servers
        };
        assert_eq!(
            route(&one, vec![weighs(9), weighs(9)]),
            Some(Share::Weight(9))
        );
        assert_eq!(route(&one, vec![weighs(9), weighs(3)]), None);
        assert_eq!(route(&one, vec![weighs(1)]), Some(Share::Live));
        let label = "traefik.http.services.app.loadbalancer.server.weight";
        one.labels.insert(label.to_owned(), "9".to_owned());
        assert_eq!(route(&one, vec![weighs(9)]), Some(Share::Live));
    }

    #[test]
    fn a_preview_is_up_in_every_service_of_its_own_and_in_no_public_one() {
        let both = [replica("old", "10.0.0.2"), replica("new", "10.0.0.3")];
        let label = "traefik.http.services.app-preview.loadbalancer.server.port";
        let labels = Labels::from([(label.to_owned(), "80".to_owned())]);
        let previewed = [(both[1].id.clone(), labels)].into();
        let says = |public: &[(&str, bool)], preview: &[(&str, bool)]| {
            let mut servers = lists(public);
            let own = lists(preview).services.into_values().next().unwrap();
            let service = (Protocol::Http, "app-preview".to_owned());
            servers.services.insert(service, own);
            let seen = observation(&both, &previewed, vec![servers]).routing;
            both.each_ref().map(|own| seen.get(&own.id).copied())
        };
        let (old, new) = (("10.0.0.2", true), ("10.0.0.3", true));
        let (live, preview) = (Some(Share::Live), Some(Share::Preview));
        assert_eq!(says(&[old], &[new]), [live, preview]);
        assert_eq!(says(&[old, new], &[new]), [live, None]);
        assert_eq!(says(&[old], &[("10.0.0.3", false)]), [live, None]);
        assert_eq!(says(&[old], &[]), [live, Some(Share::Hidden)]);
    }

    #[test]
    fn down_is_a_replica_of_which_one_instance_says_so() {
        let both = [replica("a", "10.0.0.2"), replica("b", "10.0.0.3")];
        let up = || lists(&[("10.0.0.2", true), ("10.0.0.3", true)]);
        let half = lists(&[("10.0.0.2", true), ("10.0.0.3", false)]);
        assert_eq!(
            observation(&both, &BTreeMap::new(), vec![up(), up()]).down,
            [].into()
        );
        let expected = [(ContainerId("b".to_owned()), "app".to_owned())].into();
        assert_eq!(
            observation(&both, &BTreeMap::new(), vec![up(), half]).down,
            expected
        );
    }

    #[test]
    fn a_replica_in_a_borrowed_network_is_live_with_whatever_its_service_lists() {
        let mut one = replica("a", "10.0.0.2");
        one.addresses = Vec::new();
        assert_eq!(
            route(&one, vec![lists(&[("127.0.0.1", true)])]),
            Some(Share::Hidden)
        );
        one.borrows_network = true;
        assert_eq!(
            route(&one, vec![lists(&[("127.0.0.1", true)])]),
            Some(Share::Live)
        );
        assert_eq!(route(&one, vec![lists(&[])]), Some(Share::Hidden));
        one.run = Run::Exited;
        one.health = Health::None;
        assert_eq!(
            route(&one, vec![lists(&[("127.0.0.1", true)])]),
            Some(Share::Hidden)
        );
    }

    #[test]
    fn a_replica_is_broken_when_every_router_of_it_is() {
        let mut one = replica("a", "10.0.0.2");
        let labels = ["traefik.tcp.routers.a.rule", "traefik.tcp.routers.b.rule"];
        let labels = labels.map(|key| (key.to_owned(), "HostSNI(`*`)".to_owned()));
        one.labels = labels.into();
        let broken = |trouble: &[(&str, &str)]| {
            let trouble = trouble.iter();
            let trouble = trouble.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
            let servers = Servers {
                trouble: trouble.collect(),
                ..lists(&[])
            };
            let seen = observation(std::slice::from_ref(&one), &BTreeMap::new(), vec![servers]);
            seen.broken.contains(&one.id)
        };
        assert!(!broken(&[]));
        let a = ("a", "router a is disabled");
        assert!(!broken(&[a]), "the other router works");
        // What ails a service, or one router at several Traefiks, breaks no other router.
        let service = ("a", "service b is disabled");
        let again = ("a", "router a does not exist");
        assert!(
            !broken(&[a, service, again]),
            "the other router still works"
        );
        assert!(broken(&[a, ("b", "router b is disabled")]));
    }
}
