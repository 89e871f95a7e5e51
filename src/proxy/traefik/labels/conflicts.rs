//! Which routers, services, middlewares, transports and TLS stores two containers define at once, and what Traefik makes
//! of that: it drops what differs for both, and sends to the servers of both where a service is the same. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    names::{Protocol, default_name, names},
    neighbour::Neighbour,
};
use crate::overlay::Labels;

/// Options of a service that each server may have for itself.
const OF_A_SERVER: &str = "loadbalancer.server.";
/// See [`is_list`].
const LISTS: [&str; 30] = [
    "entrypoints",
    "middlewares",
    "parentrefs",
    "chain.middlewares",
    "stripprefix.prefixes",
    "stripprefixregex.regex",
    "ipallowlist.sourcerange",
    "ipwhitelist.sourcerange",
    "headers.accesscontrolallowheaders",
    "headers.accesscontrolallowmethods",
    "headers.accesscontrolalloworiginlist",
    "headers.accesscontrolalloworiginlistregex",
    "headers.accesscontrolexposeheaders",
    "headers.allowedhosts",
    "headers.hostsproxyheaders",
    "errors.status",
    "retry.status",
    "ratelimit.redis.endpoints",
    "basicauth.users",
    "digestauth.users",
    "forwardauth.authrequestheaders",
    "forwardauth.authresponseheaders",
    "forwardauth.addauthcookiestoresponse",
    "compress.excludedcontenttypes",
    "compress.includedcontenttypes",
    "compress.encodings",
    "grpcweb.alloworigins",
    "rootcas",
    "ciphersuites",
    "spiffe.ids",
];
/// Words for what labels define.
pub const ROUTER: &str = "router";
pub const SERVICE: &str = "service";
pub const MIDDLEWARE: &str = "middleware";

/// One object that two containers define differently, which deletes it for both (Traefik's `pkg/provider/merge.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub object: Object,
    /// The option that differs: the first of them by alphabet.
    pub option: String,
}

/// What labels define under a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// `None` for what belongs to TLS.
    pub protocol: Option<Protocol>,
    /// Such as [`ROUTER`].
    pub kind: &'static str,
    pub name: String,
}

/// What comes of an object that two containers define.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// One service gets the servers of both.
    Shared,
    /// The object is dropped for both: the first option by alphabet that differs.
    Dropped(String),
}

/// An object that a container defines and another container too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash<'a> {
    pub object: Object,
    pub outcome: Outcome,
    pub neighbour: &'a Neighbour,
}

impl Clash<'_> {
    /// Whether one of these, which come from the version that runs, is no better for the same object.
    pub fn is_there_already(&self, before: &[Clash<'_>]) -> bool {
        let as_bad = |own: &Clash<'_>| match &self.outcome {
            Outcome::Shared => true,
            Outcome::Dropped(_) => own.outcome != Outcome::Shared,
        };
        before
            .iter()
            .any(|own| own.object == self.object && as_bad(own))
    }
}

/// What labels have in common with each neighbour. Of a new version, only what its service does not have already.
pub fn clashes<'a>(labels: &Labels, neighbours: &'a [Neighbour]) -> Vec<Clash<'a>> {
    let own = objects(labels);
    let of = |neighbour: &'a Neighbour| {
        let common = common(&own, &objects(&neighbour.labels));
        let clash = move |(object, outcome)| Clash {
            object,
            outcome,
            neighbour,
        };
        common.into_iter().map(clash)
    };
    let (mut all, new): (Vec<Clash<'_>>, Vec<_>) = neighbours
        .iter()
        .flat_map(of)
        .partition(|own| own.neighbour.runs);
    let is_said = |own: &Clash<'_>| {
        let mut runs = all.iter().filter(|other| other.object == own.object);
        runs.any(|other| other.neighbour.is_of_service(own.neighbour))
    };
    let fresh: Vec<Clash<'_>> = new.into_iter().filter(|own| !is_said(own)).collect();
    all.extend(fresh);
    all
}

impl Object {
    /// What a label is about; `None` for one that defines no such thing.
    pub fn of(label: &str) -> Option<Self> {
        let (protocol, kind, name, _) = parse(label)?;
        Some(Self {
            protocol,
            kind,
            name: name.to_owned(),
        })
    }

    /// As Traefik names it outside of labels.
    pub fn of_docker(&self) -> Self {
        Self {
            name: format!("{}@docker", self.name),
            ..self.clone()
        }
    }

    /// Whether both are one within a container, where names count in any case.
    pub fn is(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.kind == other.kind
            && self.name.eq_ignore_ascii_case(&other.name)
    }

    /// `web` becomes `web-2`, and `web-2` becomes `web-3`, unless something has that name.
    pub fn free_name(&self, taken: &BTreeSet<Self>) -> String {
        let numbered = self.name.rsplit_once('-');
        let numbered = numbered.and_then(|(word, number)| Some((word, number.parse().ok()?)));
        let (word, number) = numbered.unwrap_or((self.name.as_str(), 1_u32));
        let mut names = (number..u32::MAX).map(|number| format!("{word}-{}", number + 1));
        let free = |name: &String| {
            let named = Self {
                name: name.clone(),
                ..self.clone()
            };
            !taken.iter().any(|own| own.is(&named))
        };
        names.find(free).unwrap_or_default()
    }
}

impl fmt::Display for Clash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Shared => self.object.fmt(f),
            Outcome::Dropped(option) => write!(f, "{} ({option})", self.object),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Some(Protocol::Tcp) => f.write_str("TCP ")?,
            Some(Protocol::Udp) => f.write_str("UDP ")?,
            Some(Protocol::Http) | None => {}
        }
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.object, self.option)
    }
}

/// What two containers that Traefik keeps at the same time must not differ in.
pub fn between(one: &Labels, other: &Labels) -> Vec<Conflict> {
    let common = common(&objects(one), &objects(other)).into_iter();
    let dropped = common.filter_map(|(object, outcome)| match outcome {
        Outcome::Dropped(option) => Some(Conflict { object, option }),
        Outcome::Shared => None,
    });
    dropped.collect()
}

/// What both define, but for what is the same and has no servers.
fn common(one: &Objects, other: &Objects) -> Vec<(Object, Outcome)> {
    let both = one
        .iter()
        .filter_map(|(object, options)| Some((object, options, other.get(object)?)));
    both.filter_map(|(object, one, other)| {
        let all: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        let differs = |option: &&String| one.get(*option) != other.get(*option);
        let outcome = match all.into_iter().find(differs) {
            Some(option) => Outcome::Dropped(option.clone()),
            None if object.kind == SERVICE => Outcome::Shared,
            None => return None,
        };
        Some((object.clone(), outcome))
    })
    .collect()
}

/// All that a container's labels define.
pub fn objects_of(labels: &Labels) -> impl Iterator<Item = Object> + use<> {
    objects(labels).into_keys()
}

/// Each object and its options.
type Objects = BTreeMap<Object, BTreeMap<String, String>>;

fn objects(labels: &Labels) -> Objects {
    let mut objects = Objects::new();
    let known = names(labels);
    for (protocol, name) in &known.services {
        options_of(&mut objects, Some(*protocol), SERVICE, name);
    }
    for (protocol, name) in &known.routers {
        let own = known.services.iter().filter(|(of, _)| of == protocol);
        let own: Vec<&String> = own.map(|(_, service)| service).collect();
        let options = options_of(&mut objects, Some(*protocol), ROUTER, name);
        // A router that names no service gets the container's only one (`BuildRouterConfiguration`).
        if let [only] = own[..] {
            options.insert("service".to_owned(), only.clone());
        }
        // The default rule is made from the name of the container's service.
        if *protocol == Protocol::Http {
            options.insert("rule".to_owned(), default_name(labels));
        }
    }
    for (key, value) in labels {
        if let Some((protocol, kind, name, option)) = parse(key) {
            let options = options_of(&mut objects, protocol, kind, name);
            if kind != SERVICE || !option.starts_with(OF_A_SERVER) {
                let value = as_read(&option, value);
                options.insert(option, value);
            }
        }
    }
    objects
}

/// A value in one spelling of those that Traefik reads alike (`element_fill.go` of `traefik/paerser`): the items of a list are
/// trimmed, and a switch is in any case.
fn as_read(option: &str, value: &str) -> String {
    let in_any_case = value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
    if is_list(option) {
        let items: Vec<&str> = value.split(',').map(str::trim).collect();
        items.join(",")
    } else if in_any_case && !is_free(option) {
        value.to_ascii_lowercase()
    } else {
        value.to_owned()
    }
}

/// Whether the value is a list of texts (`pkg/config/dynamic` of Traefik v3.7).
fn is_list(option: &str) -> bool {
    let domain = option.strip_prefix("tls.domains[");
    LISTS.contains(&option)
        || option.ends_with(".ipstrategy.excludedips")
        || domain.is_some_and(|rest| rest.ends_with("].sans"))
}

/// Whether the value is any text: one header of a mapping, or an option of a plugin.
fn is_free(option: &str) -> bool {
    let own = option.strip_prefix("headers.").unwrap_or(option);
    own.starts_with("plugin.") || own.contains("headers.")
}

/// Within one container, Traefik takes a name in another case for the same (`containsNode` of `traefik/paerser`).
fn options_of<'a>(
    objects: &'a mut Objects,
    protocol: Option<Protocol>,
    kind: &'static str,
    name: &str,
) -> &'a mut BTreeMap<String, String> {
    let object = Object {
        protocol,
        kind,
        name: name.to_owned(),
    };
    let known = objects.keys().find(|own| own.is(&object)).cloned();
    objects.entry(known.unwrap_or(object)).or_default()
}

fn parse(key: &str) -> Option<(Option<Protocol>, &'static str, &str, String)> {
    let mut parts = key.splitn(5, '.');
    let first = parts.next().filter(|first| *first == "traefik");
    let section = first.and(parts.next())?.to_ascii_lowercase();
    let kind = parts.next()?.to_ascii_lowercase();
    let (name, option) = (parts.next()?, parts.next()?);
    let protocol = Protocol::ALL
        .into_iter()
        .find(|known| known.word() == section);
    let kind = match (kind.as_str(), protocol) {
        ("routers", Some(_)) => ROUTER,
        ("services", Some(_)) => SERVICE,
        ("middlewares", Some(_)) => MIDDLEWARE,
        ("serverstransports", Some(_)) => "serversTransport",
        // All that Traefik reads of TLS from labels.
        ("stores", None) if section == "tls" && name.eq_ignore_ascii_case("default") => "TLS store",
        _ => return None,
    };
    Some((protocol, kind, name, option.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{arbitrary::mutated_text, fixtures::labels_of_web as labels};

    const RULE: (&str, &str) = ("traefik.http.routers.web.rule", "Host(`a`)");
    const SERVER: &str = "traefik.http.services.web.loadbalancer.server.";

    fn conflicts(one: &[(&str, &str)], other: &[(&str, &str)]) -> Vec<String> {
        let conflicts = between(&labels(one), &labels(other));
        conflicts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_router_a_balancer_or_a_middleware_that_differs_is_dropped() {
        assert_eq!(
            conflicts(&[RULE], &[("traefik.http.routers.web.rule", "Host(`b`)")]),
            ["router web (rule)"]
        );
        assert_eq!(
            conflicts(&[RULE], &[RULE, ("traefik.HTTP.Routers.web.Priority", "9")]),
            ["router web (priority)"]
        );
        let sticky = "traefik.http.services.web-shop.loadbalancer.sticky.cookie";
        assert_eq!(
            conflicts(&[RULE], &[RULE, (sticky, "true")]),
            ["service web-shop (loadbalancer.sticky.cookie)"]
        );
        let body = "traefik.http.middlewares.p.stripprefix.prefixes";
        assert_eq!(
            conflicts(&[RULE, (body, "/a")], &[RULE, (body, "/b")]),
            ["middleware p (stripprefix.prefixes)"]
        );
    }

    #[test]
    fn tcp_and_udp_routers_transports_and_tls_stores_are_compared_in_any_case_of_their_keys() {
        for (one, other, found) in [
            (
                "traefik.tcp.routers.db.rule",
                "traefik.TCP.Routers.db.Rule",
                "TCP router db (rule)",
            ),
            (
                "traefik.udp.routers.dns.entrypoints",
                "traefik.udp.ROUTERS.dns.entryPoints",
                "UDP router dns (entrypoints)",
            ),
            (
                "traefik.http.serversTransports.t.serverName",
                "traefik.http.serverstransports.t.servername",
                "serversTransport t (servername)",
            ),
            (
                "traefik.tls.stores.default.defaultGeneratedCert.resolver",
                "traefik.TLS.stores.default.defaultgeneratedcert.resolver",
                "TLS store default (defaultgeneratedcert.resolver)",
            ),
            (
                "traefik.http.middlewares.gz.compress",
                "traefik.HTTP.Middlewares.gz.Compress",
                "middleware gz (compress)",
            ),
        ] {
            assert_eq!(conflicts(&[(one, "a")], &[(other, "b")]), [found]);
            assert_eq!(conflicts(&[(one, "a")], &[(other, "a")]), [""; 0], "{one}");
        }
    }

    #[test]
    fn a_name_in_two_cases_is_one_object_within_a_container_and_two_between_containers() {
        let folded = [
            ("traefik.http.routers.Web.rule", "Host(`a`)"),
            ("traefik.http.routers.web.priority", "9"),
        ];
        let apart = [("traefik.http.routers.Web.rule", "Host(`a`)")];
        assert_eq!(conflicts(&folded, &apart), ["router Web (priority)"]);
        let upper = ("traefik.http.routers.WEB.rule", "Host(`b`)");
        assert_eq!(conflicts(&[RULE], &[upper]), [""; 0]);
    }

    #[test]
    fn what_traefik_does_not_read_from_labels_is_no_difference() {
        for key in [
            "traefik.tls.options.strict.minVersion",
            "traefik.tls.stores.other.defaultGeneratedCert.resolver",
            "traefik.tls.certificates.a.certFile",
        ] {
            assert_eq!(conflicts(&[(key, "a")], &[(key, "b")]), [""; 0], "{key}");
        }
    }

    #[test]
    fn spaces_in_a_list_and_the_case_of_a_switch_are_no_difference() {
        for (key, one, other, differs) in [
            ("routers.w.entrypoints", "a,b", "a, b", false),
            ("routers.w.tls.domains[0].sans", "a,b", " a , b", false),
            (
                "middlewares.w.ipAllowList.sourceRange",
                "10.0.0.0/8, 192.168.0.0/16",
                "10.0.0.0/8,192.168.0.0/16",
                false,
            ),
            (
                "middlewares.w.ipallowlist.ipstrategy.excludedips",
                "a,b",
                "a, b",
                false,
            ),
            ("routers.w.entrypoints", "a,b", "b,a", true),
            ("routers.w.rule", "Host(`a`,`b`)", "Host(`a`, `b`)", true),
            ("routers.w.tls", "true", "True", false),
            ("middlewares.w.headers.sslRedirect", "TRUE", "true", false),
            ("middlewares.w.compress", "true", "false", true),
            ("middlewares.w.plugin.p.text", "true", "True", true),
            (
                "middlewares.w.headers.customRequestHeaders.X-A",
                "true",
                "True",
                true,
            ),
        ] {
            let key = format!("traefik.http.{key}");
            let found = conflicts(&[(&key, one)], &[(&key, other)]);
            assert_eq!(!found.is_empty(), differs, "{key} {found:?}");
        }
    }

    fn neighbour(project: &str, pairs: &[(&str, &str)]) -> Neighbour {
        let mut labels = labels(pairs);
        labels.insert("com.docker.compose.project".to_owned(), project.to_owned());
        Neighbour {
            name: format!("{project}-web-1"),
            runs: true,
            labels,
        }
    }

    const PORT: (&str, &str) = ("traefik.http.services.web.loadbalancer.server.port", "80");

    #[test]
    fn a_service_of_the_same_name_in_two_projects_is_shared() {
        let other = [neighbour("blog", &[RULE, PORT])];
        let found = clashes(&labels(&[RULE, PORT]), &other);
        let outcomes: Vec<_> = found
            .iter()
            .map(|own| (own.object.to_string(), &own.outcome))
            .collect();
        assert_eq!(outcomes, [("service web".to_owned(), &Outcome::Shared)]);
    }

    #[test]
    fn a_router_without_a_rule_differs_by_the_default_rule_of_another_project() {
        let router = ("traefik.http.routers.web.service", "web");
        let other = [neighbour("blog", &[router, PORT])];
        let found = clashes(&labels(&[router, PORT]), &other);
        assert_eq!(found[0].outcome, Outcome::Dropped("rule".to_owned()));
    }

    #[test]
    fn what_is_there_already_is_no_worse_but_a_shared_service_that_is_dropped_is() {
        let other = [neighbour("blog", &[RULE, PORT])];
        let sticky = (
            "traefik.http.services.web.loadbalancer.sticky.cookie",
            "true",
        );
        let shared = clashes(&labels(&[RULE, PORT]), &other);
        let dropped = clashes(&labels(&[RULE, PORT, sticky]), &other);
        assert!(shared[0].is_there_already(&shared) && shared[0].is_there_already(&dropped));
        assert!(dropped[0].is_there_already(&dropped) && !dropped[0].is_there_already(&shared));
    }

    #[test]
    fn a_new_version_adds_what_clashes_with_it_alone() {
        let gz = ("traefik.http.middlewares.gz.compress", "true");
        let zip = ("traefik.http.middlewares.zip.compress", "true");
        let mine = ["gz", "zip"].map(|name| format!("traefik.http.middlewares.{name}.buffering"));
        let mine = labels(&[(&mine[0], "true"), (&mine[1], "true")]);
        let runs = neighbour("blog", &[gz]);
        let new = Neighbour {
            name: "new".to_owned(),
            runs: false,
            ..neighbour("blog", &[gz, zip])
        };
        let both = [new, runs];
        let found = clashes(&mine, &both);
        let found: Vec<(String, &str)> = found
            .iter()
            .map(|own| (own.object.to_string(), own.neighbour.name.as_str()))
            .collect();
        let expected = [("middleware gz", "blog-web-1"), ("middleware zip", "new")];
        assert_eq!(
            found,
            expected.map(|(object, name)| (object.to_owned(), name))
        );
    }

    #[test]
    fn a_service_that_gets_a_name_of_its_own_changes_its_router_too() {
        assert_eq!(
            conflicts(&[RULE], &[RULE, (&format!("{SERVER}port"), "80")]),
            ["router web (service)"]
        );
    }

    #[test]
    fn servers_further_routers_and_labels_of_others_may_differ() {
        let port = format!("{SERVER}port");
        let one = [RULE, (&port, "80"), ("other", "1")];
        let other = [
            RULE,
            (&port, "81"),
            ("traefik.http.routers.more.rule", "Host(`c`)"),
            ("traefik.http.routers.more.service", "web"),
            ("traefik.enable", "true"),
        ];
        assert_eq!(conflicts(&one, &other), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_labels_agree_with_themselves_and_differ_both_ways_alike(
            key in mutated_text("traefik.http.routers.web.tls.domains[0].sans"),
            one in mutated_text("a, b"), other in mutated_text("a,b"),
        ) {
            let [one, other] = [one, other].map(|value| labels(&[RULE, (&key, &value)]));
            prop_assert_eq!(between(&one, &one), []);
            prop_assert_eq!(between(&one, &other), between(&other, &one));
        }
    }
}
