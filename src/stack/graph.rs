//! The order of the services of a command, by `depends_on` and by `after` in `x-rollout`.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::{
    algo::tarjan_scc,
    graph::{DiGraph, NodeIndex},
    visit::Dfs,
};
use serde_json::Value;

use crate::{
    compose::{Project, Service},
    error::{Error, Result},
    settings::AFTER,
};

/// The chosen services in the order in which they begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order<'a> {
    pub services: Vec<Planned<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned<'a> {
    pub name: &'a str,
    /// The chosen services that are done before this one begins, direct and indirect ones.
    pub needs: BTreeSet<&'a str>,
}

impl<'a> Order<'a> {
    /// Orders these services; where the graph says nothing, they keep their order.
    pub fn of(project: &'a Project, chosen: &[&'a str]) -> Result<Self> {
        let graph = Graph::of(project)?;
        let all: BTreeSet<&str> = chosen.iter().copied().collect();
        let planned = |name: &&'a str| Planned {
            name,
            needs: graph.needs(name).intersection(&all).copied().collect(),
        };
        let mut open: Vec<Planned<'a>> = chosen.iter().map(planned).collect();
        let mut services: Vec<Planned<'a>> = Vec::new();
        let mut done = BTreeSet::new();
        while let Some(at) = open.iter().position(|own| own.needs.is_subset(&done)) {
            let next = open.remove(at);
            if done.insert(next.name) {
                services.push(next);
            }
        }
        Ok(Self { services })
    }

    /// The services in the order of this list, of which none waits for another.
    pub fn as_listed(services: &[&'a str]) -> Self {
        let planned = |name: &&'a str| Planned {
            name,
            needs: BTreeSet::new(),
        };
        Self {
            services: services.iter().map(planned).collect(),
        }
    }

    pub fn names(&self) -> Vec<&'a str> {
        self.services.iter().map(|own| own.name).collect()
    }

    /// The services of `earlier` that are surely done before this one begins, with `parallel` of them side by side.
    pub fn done_before(&self, name: &str, earlier: &[&'a str], parallel: u32) -> Vec<&'a str> {
        let own = self.services.iter().find(|own| own.name == name);
        let needs = |other: &&&str| own.is_some_and(|own| own.needs.contains(**other));
        let done = earlier.iter();
        done.filter(|other| parallel == 1 || needs(other))
            .copied()
            .collect()
    }

    /// Removes a service from the order; the others do not wait for it.
    pub fn leave_out(&mut self, name: &str) {
        self.services.retain(|own| own.name != name);
        for own in &mut self.services {
            own.needs.remove(name);
        }
    }

    /// The first service that may begin now, and its place.
    pub fn next(&self, begun: &BTreeSet<&str>, done: &BTreeSet<&str>) -> Option<usize> {
        let may = |own: &Planned<'_>| !begun.contains(own.name) && own.needs.is_subset(done);
        self.services.iter().position(may)
    }
}

/// Whether `after` names something that is no enabled service.
pub fn names_others(project: &Project) -> Result<bool> {
    for service in project.services.values() {
        let mut names = after(service)?.into_iter();
        if names.any(|name| !project.services.contains_key(name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every service of a project; an edge leads from a service to one that it needs.
struct Graph<'a> {
    graph: DiGraph<&'a str, ()>,
    nodes: BTreeMap<&'a str, NodeIndex>,
}

impl<'a> Graph<'a> {
    fn of(project: &'a Project) -> Result<Self> {
        let mut graph = DiGraph::new();
        let names = project.services.keys().map(String::as_str);
        let nodes: BTreeMap<&str, NodeIndex> =
            names.map(|name| (name, graph.add_node(name))).collect();
        for service in project.services.values() {
            let depends_on = service.depends_on.iter().map(|own| own.service.as_str());
            let after = after(service)?;
            refuse_unknown(project, service, &after)?;
            // Services with inactive profiles are not part of the project.
            let needed = depends_on.chain(after).filter_map(|name| nodes.get(name));
            for needed in needed {
                graph.update_edge(nodes[service.name.as_str()], *needed, ());
            }
        }
        let own = Self { graph, nodes };
        own.refuse_cycle()?;
        Ok(own)
    }

    fn refuse_cycle(&self) -> Result<()> {
        let is_cycle = |own: &Vec<NodeIndex>| {
            own.len() > 1 || own.iter().any(|&node| self.graph.contains_edge(node, node))
        };
        let Some(cycle) = tarjan_scc(&self.graph).into_iter().find(is_cycle) else {
            return Ok(());
        };
        let names: BTreeSet<&str> = cycle.iter().map(|&node| self.graph[node]).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let message = match names[..] {
            [one] => format!("{one} waits for itself"),
            _ => format!(
                "no order for {}: each of them waits for another",
                names.join(", ")
            ),
        };
        Err(Error::refused(message).hint(
            "remove a name from after in x-rollout, or from depends_on, of one of these services",
        ))
    }

    /// The direct and indirect dependencies of a service.
    fn needs(&self, name: &str) -> BTreeSet<&'a str> {
        let Some(start) = self.nodes.get(name) else {
            return BTreeSet::new();
        };
        let mut found = BTreeSet::new();
        let mut search = Dfs::new(&self.graph, *start);
        while let Some(node) = search.next(&self.graph) {
            found.insert(self.graph[node]);
        }
        found.remove(name);
        found
    }
}

/// `after` in a service's `x-rollout`: one name, or a list.
fn after(service: &Service) -> Result<Vec<&str>> {
    let written = service.x_rollout.as_ref().and_then(|own| own.get(AFTER));
    let names = match written {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(name)) => Some(vec![name.as_str()]),
        Some(Value::Array(names)) => names.iter().map(Value::as_str).collect(),
        Some(_) => None,
    };
    names.ok_or_else(|| {
        Error::refused(format!(
            "after in x-rollout of {} is not a list of services",
            service.name
        ))
        .hint("write: after: [api, worker]")
    })
}

fn refuse_unknown(project: &Project, service: &Service, after: &[&str]) -> Result<()> {
    let disabled = |name: &&&str| !project.disabled.contains(**name);
    for name in after.iter().filter(disabled) {
        project.service(name).map_err(|error| Error {
            message: format!("after in x-rollout of {}: {}", service.name, error.message),
            ..error
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::subsequence};
    use serde_json::json;

    use super::*;
    use crate::compose::{Condition, Dependency};

    /// A project of services with what each depends on, and what its `after` names.
    fn project(services: &[(&str, &[&str], &[&str])]) -> Project {
        let dependency = |name: &&str| Dependency {
            service: (*name).to_owned(),
            condition: Condition::Started,
            required: true,
            restart: false,
        };
        let service = |(name, depends_on, after): &(&str, &[&str], &[&str])| {
            let own = Service {
                name: (*name).to_owned(),
                depends_on: depends_on.iter().map(dependency).collect(),
                x_rollout: Some(json!({ AFTER: after })),
                ..Service::default()
            };
            ((*name).to_owned(), own)
        };
        Project {
            name: "shop".to_owned(),
            services: services.iter().map(service).collect(),
            ..Project::default()
        }
    }

    fn order(project: &Project, chosen: &[&str]) -> Vec<String> {
        let order = Order::of(project, chosen).unwrap();
        order.names().into_iter().map(str::to_owned).collect()
    }

    fn refusal(project: &Project) -> Error {
        let error = Order::of(project, &["web"]).unwrap_err();
        assert_eq!(error.outcome, crate::error::Outcome::Refused);
        assert!(!error.message.contains('\n') && error.hint.is_some());
        error
    }

    #[test]
    fn what_others_need_comes_first_and_the_rest_keeps_its_order() {
        let shop = project(&[
            ("api", &[], &[]),
            ("mail", &[], &[]),
            ("web", &["api"], &["mail"]),
        ]);
        assert_eq!(
            order(&shop, &["web", "mail", "api"]),
            ["mail", "api", "web"]
        );
        assert_eq!(order(&shop, &["mail", "api"]), ["mail", "api"]);
        assert_eq!(order(&shop, &["api", "mail"]), ["api", "mail"]);
        assert_eq!(order(&shop, &["web", "web"]), ["web"]);
    }

    #[test]
    fn a_diamond_has_one_beginning_and_one_end() {
        let shop = project(&[
            ("base", &[], &[]),
            ("left", &["base"], &[]),
            ("right", &["base"], &[]),
            ("top", &["left", "right"], &[]),
        ]);
        let all = ["top", "right", "left", "base"];
        assert_eq!(order(&shop, &all), ["base", "right", "left", "top"]);
        let order = Order::of(&shop, &all).unwrap();
        let needs: Vec<&str> = order.services[3].needs.iter().copied().collect();
        assert_eq!(needs, ["base", "left", "right"]);
    }

    #[test]
    fn a_service_between_two_chosen_ones_orders_them_too() {
        let shop = project(&[
            ("db", &["disk"], &[]),
            ("disk", &[], &[]),
            ("web", &["db"], &[]),
        ]);
        assert_eq!(order(&shop, &["web", "disk"]), ["disk", "web"]);
    }

    #[test]
    fn a_cycle_is_one_line_with_the_services_in_it() {
        let shop = project(&[
            ("api", &[], &["web"]),
            ("mail", &[], &[]),
            ("web", &["api"], &[]),
        ]);
        let message = "no order for api, web: each of them waits for another";
        assert_eq!(refusal(&shop).message, message);
        let itself = project(&[("web", &[], &["web"])]);
        assert_eq!(refusal(&itself).message, "web waits for itself");
    }

    #[test]
    fn a_name_that_is_no_service_is_refused_with_the_near_one_and_an_inactive_profile_is_not() {
        let mut shop = project(&[("api", &[], &[]), ("web", &[], &["apo"])]);
        let error = refusal(&shop);
        assert_eq!(
            error.message,
            "after in x-rollout of web: no service \"apo\" in project shop; did you mean \"api\"?"
        );
        assert!(names_others(&shop).unwrap());
        shop.disabled.insert("apo".to_owned());
        assert_eq!(order(&shop, &["web", "api"]), ["web", "api"]);
    }

    #[test]
    fn a_value_that_is_no_list_of_names_is_refused() {
        let mut shop = project(&[("web", &[], &[])]);
        let web = shop.services.get_mut("web").unwrap();
        web.x_rollout = Some(json!({ AFTER: [1] }));
        let message = "after in x-rollout of web is not a list of services";
        assert_eq!(refusal(&shop).message, message);
    }

    #[test]
    fn what_is_left_out_is_not_waited_for() {
        let shop = project(&[("db", &[], &[]), ("web", &["db"], &[])]);
        let mut order = Order::of(&shop, &["db", "web"]).unwrap();
        assert_eq!(order.next(&BTreeSet::new(), &BTreeSet::new()), Some(0));
        order.leave_out("db");
        assert_eq!(order.names(), ["web"]);
        assert_eq!(order.next(&BTreeSet::new(), &BTreeSet::new()), Some(0));
    }

    #[test]
    fn only_one_at_a_time_is_all_that_comes_earlier_done_before() {
        let shop = project(&[
            ("api", &[], &[]),
            ("mail", &[], &[]),
            ("web", &["api"], &[]),
        ]);
        let order = Order::of(&shop, &["api", "mail", "web"]).unwrap();
        let before = |parallel| order.done_before("web", &["api", "mail"], parallel);
        assert_eq!(before(4), ["api"]);
        assert_eq!(before(1), ["api", "mail"]);
    }

    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

    /// Edges from a later name to an earlier one, so that there is no cycle; every second one is an `after`.
    fn acyclic() -> impl Strategy<Value = Vec<(usize, usize)>> {
        let edge = (1..NAMES.len()).prop_flat_map(|from| (Just(from), 0..from));
        vec(edge, 0..16)
    }

    proptest! {
        #[test]
        fn every_order_obeys_every_edge(
            edges in acyclic(),
            chosen in subsequence(NAMES.to_vec(), 0..=NAMES.len()).prop_shuffle(),
        ) {
            let of = |from: usize, second: usize| -> Vec<&str> {
                let own = edges.iter().enumerate().filter(|(at, edge)| edge.0 == from && at % 2 == second);
                own.map(|(_, edge)| NAMES[edge.1]).collect()
            };
            let lists: Vec<_> = (0..NAMES.len()).map(|at| (of(at, 0), of(at, 1))).collect();
            let services: Vec<_> = NAMES.iter().zip(&lists).map(|(name, (depends, after))| (*name, &depends[..], &after[..])).collect();
            let project = project(&services);
            let order = order(&project, &chosen);
            let place = |name: &str| order.iter().position(|own| own == name);
            prop_assert_eq!(order.len(), chosen.len());
            for (from, to) in edges {
                if let (Some(from), Some(to)) = (place(NAMES[from]), place(NAMES[to])) {
                    prop_assert!(to < from, "{:?}", order);
                }
            }
        }
    }
}
