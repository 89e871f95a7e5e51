//! Which options the labels of a container can have: Traefik leaves out a container with one that it does not have. Pure.

use std::collections::BTreeMap;

use super::names::is_traefik;
use crate::error::did_you_mean;

/// What may follow one word of a label (`pkg/config/dynamic` of Traefik v3.7, read by `traefik/paerser`). A word is compared
/// in any case.
enum Shape {
    /// Nothing has to be known of what follows.
    Any,
    /// Any name, and then this.
    Named(&'static Shape),
    /// One of these words, and then its own.
    Words(&'static [(&'static str, Shape)]),
    /// One of these words. What a newer Traefik adds is most often one of them.
    Options(&'static [&'static str]),
}

use Shape::{Any, Named, Options, Words};

/// The labels that Traefik decodes. It does not look at others, such as those of its first version.
const READ: [&[&str]; 5] = [
    &["traefik", "http"],
    &["traefik", "tcp"],
    &["traefik", "udp"],
    &["traefik", "docker"],
    &["traefik", "tls", "stores", "default"],
];

const ROOT: Shape = Words(&[
    ("http", HTTP),
    ("tcp", TCP),
    ("udp", UDP),
    (
        "docker",
        Words(&[("network", Any), ("lbswarm", Any), ("allownonrunning", Any)]),
    ),
    (
        "tls",
        Words(&[(
            "stores",
            Named(&Words(&[
                ("defaultcertificate", Any),
                ("defaultgeneratedcert", Any),
            ])),
        )]),
    ),
]);

const HTTP: Shape = Words(&[
    (
        "routers",
        Named(&Words(&[
            ("entrypoints", Any),
            ("middlewares", Any),
            ("service", Any),
            ("rule", Any),
            ("rulesyntax", Any),
            ("parentrefs", Any),
            ("priority", Any),
            (
                "tls",
                Words(&[
                    ("options", Any),
                    ("resolvedoptions", Any),
                    ("certresolver", Any),
                    ("domains", Options(&["main", "sans"])),
                ]),
            ),
            (
                "observability",
                Options(&[
                    "accesslogs",
                    "metrics",
                    "tracing",
                    "traceverbosity",
                    "metadata",
                ]),
            ),
            ("defaultrule", Any),
            ("deniedencodedpathcharacters", Any),
        ])),
    ),
    (
        "services",
        Named(&Words(&[
            ("loadbalancer", HTTP_BALANCER),
            ("middlewares", Any),
            ("highestrandomweight", Any),
            ("weighted", Any),
            ("mirroring", Any),
            ("failover", Any),
        ])),
    ),
    ("middlewares", Named(&MIDDLEWARE)),
    ("models", Any),
    ("serverstransports", Any),
]);

const HTTP_BALANCER: Shape = Words(&[
    (
        "sticky",
        Words(&[(
            "cookie",
            Options(&[
                "name", "secure", "httponly", "samesite", "maxage", "path", "domain", "expires",
            ]),
        )]),
    ),
    (
        "server",
        Options(&["url", "weight", "preservepath", "fenced", "scheme", "port"]),
    ),
    ("strategy", Any),
    (
        "healthcheck",
        Options(&[
            "scheme",
            "mode",
            "path",
            "method",
            "status",
            "port",
            "interval",
            "unhealthyinterval",
            "timeout",
            "hostname",
            "followredirects",
            "headers",
        ]),
    ),
    (
        "passivehealthcheck",
        Options(&["failurewindow", "maxfailedattempts"]),
    ),
    ("passhostheader", Any),
    ("responseforwarding", Options(&["flushinterval"])),
    ("serverstransport", Any),
    ("nginxupstreamhashby", Any),
]);

/// The kinds of middlewares; their options are compared where a slip of the keyboard is likely.
const MIDDLEWARE: Shape = Words(&[
    ("addprefix", Options(&["prefix"])),
    ("stripprefix", Options(&["prefixes", "forceslash"])),
    ("stripprefixregex", Options(&["regex"])),
    ("replacepath", Options(&["path"])),
    ("replacepathregex", Options(&["regex", "replacement"])),
    ("chain", Options(&["middlewares"])),
    ("ipwhitelist", Options(&["sourcerange", "ipstrategy"])),
    (
        "ipallowlist",
        Options(&["sourcerange", "ipstrategy", "rejectstatuscode"]),
    ),
    ("headers", Any),
    ("encodedcharacters", Any),
    ("errors", Any),
    (
        "ratelimit",
        Options(&["average", "period", "burst", "sourcecriterion", "redis"]),
    ),
    (
        "redirectregex",
        Options(&["regex", "replacement", "permanent", "statuscode"]),
    ),
    (
        "redirectscheme",
        Options(&["scheme", "port", "permanent", "forcepermanentredirect"]),
    ),
    (
        "basicauth",
        Options(&["users", "usersfile", "realm", "removeheader", "headerfield"]),
    ),
    (
        "digestauth",
        Options(&["users", "usersfile", "realm", "removeheader", "headerfield"]),
    ),
    ("forwardauth", Any),
    ("inflightreq", Options(&["amount", "sourcecriterion"])),
    ("buffering", Any),
    ("circuitbreaker", Any),
    (
        "compress",
        Options(&[
            "excludedcontenttypes",
            "includedcontenttypes",
            "minresponsebodybytes",
            "encodings",
            "defaultencoding",
        ]),
    ),
    ("passtlsclientcert", Options(&["pem", "info"])),
    ("retry", Any),
    ("contenttype", Options(&["autodetect"])),
    ("grpcweb", Options(&["alloworigins"])),
    ("plugin", Any),
    ("requestheadermodifier", Any),
    ("responseheadermodifier", Any),
    ("requestredirect", Any),
    ("urlrewrite", Any),
    ("authtlspasscertificatetoupstream", Any),
    ("snippet", Any),
    ("rewritetarget", Any),
    ("upstreamvhost", Any),
    ("approot", Any),
]);

const TCP: Shape = Words(&[
    (
        "routers",
        Named(&Words(&[
            ("entrypoints", Any),
            ("middlewares", Any),
            ("service", Any),
            ("rule", Any),
            ("rulesyntax", Any),
            ("priority", Any),
            (
                "tls",
                Words(&[
                    ("passthrough", Any),
                    ("options", Any),
                    ("certresolver", Any),
                    ("domains", Options(&["main", "sans"])),
                ]),
            ),
        ])),
    ),
    (
        "services",
        Named(&Words(&[
            (
                "loadbalancer",
                Words(&[
                    (
                        "server",
                        Words(&[("address", Any), ("port", Any), ("tls", Any)]),
                    ),
                    ("serverstransport", Any),
                    ("proxyprotocol", Options(&["version"])),
                    ("terminationdelay", Any),
                    (
                        "healthcheck",
                        Options(&[
                            "port",
                            "send",
                            "expect",
                            "interval",
                            "unhealthyinterval",
                            "timeout",
                        ]),
                    ),
                ]),
            ),
            ("weighted", Any),
        ])),
    ),
    (
        "middlewares",
        Named(&Words(&[
            ("inflightconn", Options(&["amount"])),
            ("ipwhitelist", Options(&["sourcerange"])),
            ("ipallowlist", Options(&["sourcerange"])),
        ])),
    ),
    ("models", Any),
    ("serverstransports", Any),
]);

const UDP: Shape = Words(&[
    (
        "routers",
        Named(&Words(&[("entrypoints", Any), ("service", Any)])),
    ),
    (
        "services",
        Named(&Words(&[
            (
                "loadbalancer",
                Words(&[("server", Words(&[("address", Any), ("port", Any)]))]),
            ),
            ("weighted", Any),
        ])),
    ),
]);

/// A label with a word that Traefik does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The label, up to that word.
    pub label: String,
    /// The word that was probably meant.
    pub meant: Option<&'static str>,
    /// Whether no Traefik up to v3.7 has it and a later one is unlikely to.
    pub is_certain: bool,
}

/// Every label that names what Traefik does not have; those that are certain first.
pub fn unknown(labels: &BTreeMap<String, String>) -> Vec<Unknown> {
    let mut found: Vec<Unknown> = labels.keys().filter_map(|key| of_label(key)).collect();
    found.sort_by_key(|own| !own.is_certain);
    found
}

fn of_label(key: &str) -> Option<Unknown> {
    let words: Vec<&str> = key.split('.').collect();
    let is_read = |own: &&[&str]| {
        let start = words.get(..own.len());
        start.is_some_and(|start| {
            start
                .iter()
                .zip(*own)
                .all(|(a, b)| a.eq_ignore_ascii_case(b))
        })
    };
    if !is_traefik(key) || !READ.iter().any(is_read) {
        return None;
    }
    let mut shape = &ROOT;
    for (at, written) in words.iter().enumerate().skip(1) {
        // An item of a list, such as `domains[0]`.
        let word = written.split('[').next().unwrap_or_default();
        let word = word.to_ascii_lowercase();
        let (next, known, is_certain): (_, Vec<&'static str>, _) = match shape {
            Any => return None,
            Named(next) => (
                Some(*next).filter(|_| !written.is_empty()),
                Vec::new(),
                true,
            ),
            Words(words) => {
                let own = words.iter().find(|(known, _)| *known == word);
                let known = words.iter().map(|(known, _)| *known).collect();
                (own.map(|(_, next)| next), known, true)
            }
            Options(words) => {
                let own = words.contains(&word.as_str());
                (own.then_some(&Any), words.to_vec(), false)
            }
        };
        match next {
            Some(next) => shape = next,
            None => {
                return Some(Unknown {
                    label: words[..=at].join("."),
                    meant: did_you_mean(&word, known),
                    is_certain,
                });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    fn found(key: &str) -> Option<(String, Option<&'static str>, bool)> {
        let labels = BTreeMap::from([(key.to_owned(), "1".to_owned())]);
        let found = unknown(&labels).into_iter().next()?;
        Some((found.label, found.meant, found.is_certain))
    }

    #[test]
    fn a_word_that_traefik_does_not_have_is_named_in_every_protocol() {
        for (key, label, meant) in [
            (
                "traefik.http.routers.web.prio",
                "traefik.http.routers.web.prio",
                None,
            ),
            (
                "traefik.http.routers.web.rules",
                "traefik.http.routers.web.rules",
                Some("rule"),
            ),
            (
                "traefik.http.router.web.rule",
                "traefik.http.router",
                Some("routers"),
            ),
            (
                "traefik.HTTP.services.web.LoadBalancer.servers.port",
                "traefik.HTTP.services.web.LoadBalancer.servers",
                Some("server"),
            ),
            (
                "traefik.http.middlewares.a.strippreffix.prefixes",
                "traefik.http.middlewares.a.strippreffix",
                Some("stripprefix"),
            ),
            (
                "traefik.tcp.routers.db.priorities",
                "traefik.tcp.routers.db.priorities",
                Some("priority"),
            ),
            (
                "traefik.tcp.services.db.loadbalancer.server.weight",
                "traefik.tcp.services.db.loadbalancer.server.weight",
                None,
            ),
            (
                "traefik.udp.routers.dns.rule",
                "traefik.udp.routers.dns.rule",
                None,
            ),
            (
                "traefik.docker.networks",
                "traefik.docker.networks",
                Some("network"),
            ),
            (
                "traefik.tls.stores.default.cert",
                "traefik.tls.stores.default.cert",
                None,
            ),
            ("traefik.http.routers..rule", "traefik.http.routers.", None),
        ] {
            assert_eq!(found(key), Some((label.to_owned(), meant, true)), "{key}");
        }
        let (label, meant, is_certain) =
            found("traefik.http.middlewares.a.ratelimit.avarage").unwrap();
        assert_eq!(label, "traefik.http.middlewares.a.ratelimit.avarage");
        assert_eq!((meant, is_certain), (Some("average"), false));
    }

    #[test]
    fn every_option_of_the_documentation_is_known() {
        for key in [
            "traefik.enable",
            "traefik.docker.network",
            "traefik.docker.allowNonRunning",
            "traefik.http.routers.web.rule",
            "traefik.http.routers.web.entryPoints",
            "traefik.http.routers.web.ruleSyntax",
            "traefik.http.routers.web.tls",
            "traefik.http.routers.web.tls.certresolver",
            "traefik.http.routers.web.tls.domains[0].main",
            "traefik.http.routers.web.observability.accesslogs",
            "traefik.http.services.web.loadbalancer.server.port",
            "traefik.http.services.web.loadBalancer.sticky.cookie.httpOnly",
            "traefik.http.services.web.loadbalancer.healthcheck.headers.X-Foo",
            "traefik.http.services.web.loadbalancer.responseforwarding.flushinterval",
            "traefik.http.middlewares.a.plugin.any.thing.at.all",
            "traefik.http.middlewares.a.headers.customrequestheaders.X-Script-Name",
            "traefik.http.middlewares.a.inflightreq.sourcecriterion.ipstrategy.depth",
            "traefik.tcp.routers.db.tls.passthrough",
            "traefik.tcp.services.db.loadbalancer.proxyProtocol.version",
            "traefik.udp.services.dns.loadbalancer.server.port",
            "traefik.tls.stores.default.defaultgeneratedcert.resolver",
            // Traefik looks at none of these.
            "traefik.frontend.rule",
            "traefik.tls.options.modern.minversion",
            "Traefik.http.routers.web.prio",
            "com.example.http.routers.web.prio",
        ] {
            assert_eq!(found(key), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn of_any_label_the_unknown_part_is_its_beginning(
            key in mutated_text("traefik.http.services.web.loadbalancer.healthcheck.headers.X-Foo"),
        ) {
            if let Some((label, meant, _)) = found(&key) {
                let last = label.rsplit('.').next();
                prop_assert!(key.starts_with(&label) && (meant.is_none() || last != meant), "{} {:?}", label, meant);
            }
        }
    }
}
