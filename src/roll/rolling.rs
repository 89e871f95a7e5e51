//! The refusals of a rolling update, a canary and a preview before anything is touched, and the notices about their settings.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    context::{Purpose, RunContext, ServiceContext},
    docker::engine::Image,
    error::{Error, Result},
    plan::share_by_number,
    proxy::Router,
    settings::{ROLLBACK_CONFIG, Settings, Strategy, UPDATE_CONFIG},
    steps,
};

type Labels = BTreeMap<String, String>;

const AT_ONCE: &str = "switches all replicas at once";
const SHIFTED: &str = "shifted step by step";
const NO_WEIGHTS: &str =
    "gives replicas no weights; Traefik 3.0 or later behind the socket proxy does";
const NO_PREVIEW: &str = "cannot preview: it needs a socket proxy of this version";

/// Refuses a rolling update, a canary or a preview where the proxy cannot route to replicas of both versions. The image is
/// that of the new version, if it is there.
pub(super) fn refuse_mix(
    context: &ServiceContext<'_>,
    image: Option<&Image>,
    router: &dyn Router,
) -> Result<()> {
    if context.purpose == Purpose::Settle || context.runs_once {
        return Ok(());
    }
    let labels = context.labels(image);
    let mixes = [
        by_strategy(context, &labels, router),
        by_preview(context, &labels, image.is_some(), router),
    ];
    for mix in mixes.into_iter().flatten() {
        if let Some(why) = why_not(&mix, context, (&labels, image.is_some()), router) {
            let (name, what) = (&context.service.name, mix.what);
            return Err(
                Error::refused(format!("{name} cannot be {what}: {why}")).hint(mix.hint.as_str())
            );
        }
    }
    Ok(())
}

/// A way by which both versions get requests at the same time.
struct Mix {
    /// What becomes of the service.
    what: &'static str,
    /// What the proxy does instead.
    lacks: Option<&'static str>,
    /// What speaks against it in the settings and the labels of the new version.
    against: Option<String>,
    hint: String,
}

fn by_strategy(context: &ServiceContext<'_>, labels: &Labels, router: &dyn Router) -> Option<Mix> {
    let (name, can) = (&context.service.name, router.capabilities());
    let hint = format!("--strategy blue-green, or strategy: blue-green in x-rollout of {name}");
    match context.settings.strategy {
        Strategy::BlueGreen | Strategy::Recreate => None,
        Strategy::Rolling => Some(Mix {
            what: "rolled in batches",
            lacks: (!can.batches).then_some(AT_ONCE),
            against: None,
            hint,
        }),
        Strategy::Canary if router.labels().has_streams(labels) => Some(Mix {
            what: SHIFTED,
            lacks: (!can.batches).then_some(AT_ONCE),
            against: None,
            hint,
        }),
        Strategy::Canary => Some(Mix {
            what: SHIFTED,
            lacks: (!can.weights).then_some(NO_WEIGHTS),
            against: router.labels().against_weights(labels),
            hint,
        }),
    }
}

/// The notice about a canary whose proxy has no weights for it.
pub(super) fn by_number(context: &ServiceContext<'_>, router: &dyn Router) -> Option<String> {
    if context.purpose == Purpose::Settle || context.settings.strategy != Strategy::Canary {
        return None;
    }
    let olds = context.olds.iter().filter(|old| old.serves());
    let mut streams = olds
        .clone()
        .map(|old| router.labels().has_streams(&old.labels));
    let (has_streams, count) = (streams.any(|own| own), olds.count() as u32);
    let steps = context.steps.iter().map(|step| {
        let percent = step.percent;
        let share = share_by_number(percent, context.replicas, count);
        format!("{share} % for {percent} %")
    });
    let steps: Vec<String> = steps.collect();
    has_streams.then(|| {
        format!(
            "{} has no weights for TCP and UDP: the steps of {} go by the number of replicas, {}",
            router.name(),
            context.service.name,
            steps.join(", ")
        )
    })
}

/// Labels that are not all there may lack a router that is in the image.
fn by_preview(
    context: &ServiceContext<'_>,
    labels: &Labels,
    is_whole: bool,
    router: &dyn Router,
) -> Option<Mix> {
    let (rule, strategy) = (context.settings.preview()?, context.settings.strategy);
    let by_labels = || {
        let against = router.labels().against_preview(labels, &rule);
        against.filter(|_| is_whole)
    };
    let against = match strategy {
        Strategy::Rolling | Strategy::Recreate => {
            let name = strategy.name();
            Some(format!(
                "the strategy {name} has no whole new set beside the old one"
            ))
        }
        Strategy::BlueGreen | Strategy::Canary => by_labels(),
    };
    Some(Mix {
        what: "previewed",
        lacks: (!router.capabilities().preview).then_some(NO_PREVIEW),
        against,
        hint: "leave out --preview and --preview-host, and preview and preview-host in x-rollout"
            .to_owned(),
    })
}

fn why_not(
    mix: &Mix,
    context: &ServiceContext<'_>,
    (labels, is_whole): (&Labels, bool),
    router: &dyn Router,
) -> Option<String> {
    if !router.routes() {
        return Some("no proxy routes to it".to_owned());
    }
    if let Some(lacks) = mix.lacks {
        return Some(format!("{} {lacks}", router.describe()));
    }
    let mut olds = context.olds.iter().filter(|old| old.may_run());
    let differs = olds.find_map(|old| first_difference(labels, &old.labels, is_whole));
    let differs = differs.map(|label| {
        format!("its label {label} differs between the versions, and Traefik drops a router with two definitions")
    });
    differs.or_else(|| mix.against.clone())
}

/// A label of Traefik that the old version lacks, or has with another value; or, where the labels of the new version are all
/// there, that the new one lacks.
fn first_difference(new: &Labels, old: &Labels, is_whole: bool) -> Option<String> {
    let own = |labels: &Labels| -> Labels {
        let all = labels.iter();
        let all = all.map(|(key, value)| (key.to_lowercase(), value.clone()));
        all.filter(|(key, _)| key.starts_with("traefik.")).collect()
    };
    let (new, old) = (own(new), own(old));
    let left = old.keys().filter(|_| is_whole);
    let mut keys = new.keys().chain(left);
    keys.find(|&key| new.get(key) != old.get(key)).cloned()
}

impl RunContext<'_> {
    /// Notices about settings that the strategy does not use.
    pub(super) fn unused_by_strategy(&self, context: &ServiceContext<'_>) -> Vec<String> {
        let (service, settings) = (context.service, &context.settings);
        let deploy = &service.raw(self.project)["deploy"];
        let mut unused = match settings.strategy {
            Strategy::Rolling if self.undo_to().is_some() => Vec::new(),
            Strategy::Rolling => until_undo(&service.name, deploy).into_iter().collect(),
            Strategy::BlueGreen | Strategy::Recreate | Strategy::Canary => {
                without_effect(&service.name, settings, deploy)
            }
        };
        let has_steps = steps::given(service.x_rollout.as_ref()).is_some();
        let pauses = settings.attach && settings.preview().is_none();
        let of_canary = [("steps", has_steps), ("attach", pauses)];
        // An undo and a restart roll a revision that has had its canary.
        let is_canary = settings.strategy == Strategy::Canary || self.back.is_some();
        let given = of_canary
            .iter()
            .filter(|(_, is_given)| *is_given && !is_canary);
        unused.extend(given.map(|(what, _)| {
            let (name, strategy) = (&service.name, settings.strategy.name());
            format!("{what} of {name} has no effect with the strategy {strategy}; --strategy canary uses it")
        }));
        unused
    }
}

fn is_given(deploy: &Value, mapping: &str) -> bool {
    let own = deploy[mapping].as_object();
    own.is_some_and(|own| !own.is_empty())
}

/// The notice about a mapping in `deploy` that the rollback of a failed rolling update does not use.
fn until_undo(name: &str, deploy: &Value) -> Option<String> {
    is_given(deploy, ROLLBACK_CONFIG).then(|| {
        format!(
            "deploy.{ROLLBACK_CONFIG} of {name} is used by rollout undo after this update; if the update fails or is aborted, it \
             goes back in its own batches and order, without a delay"
        )
    })
}

/// Notices about settings of a rolling update under another strategy.
fn without_effect(name: &str, settings: &Settings, deploy: &Value) -> Vec<String> {
    let given = settings.of_rolling();
    let given = (!given.is_empty()).then(|| given.join(", "));
    let mappings = [UPDATE_CONFIG, ROLLBACK_CONFIG].into_iter();
    let mappings = mappings.filter(|own| is_given(deploy, own));
    let mappings = mappings.map(|own| format!("deploy.{own}"));
    let strategy = settings.strategy.name();
    let all = mappings.chain(given);
    all.map(|what| {
        format!("{what} of {name} has no effect with the strategy {strategy}; --strategy rolling uses it")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{
        compose::Service,
        model::Replica,
        plan::simulator::old,
        proxy::testing::{Scripted, Weighted},
        settings::Partial,
    };

    fn labels(all: &[(&str, &str)]) -> Labels {
        let all = all.iter();
        all.map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn a_canary_needs_a_proxy_with_weights_and_the_same_labels_in_both_versions() {
        let service = Service {
            name: "web".to_owned(),
            ..Service::default()
        };
        let mut context = ServiceContext::of(&service);
        let none = Partial::default;
        let canary = Partial::of("strategy", "canary");
        context.settings = Settings::resolve([canary, none(), none(), none()]);
        let scripted = Scripted {
            answers: [None].into(),
            held_back: Duration::ZERO,
            slowest: Duration::ZERO,
        };
        let error = refuse_mix(&context, None, &scripted).unwrap_err();
        assert_eq!(
            error.message,
            format!("web cannot be shifted step by step: scripted {NO_WEIGHTS}")
        );
        let weighted = Weighted::default();
        assert_eq!(refuse_mix(&context, None, &weighted), Ok(()));
        context.olds = vec![Replica {
            labels: labels(&[("traefik.enable", "true")]),
            ..old("one")
        }];
        // The label may be of the image.
        assert_eq!(refuse_mix(&context, None, &weighted), Ok(()));
        let image = Image::default();
        let error = refuse_mix(&context, Some(&image), &weighted).unwrap_err();
        let said = "its label traefik.enable differs";
        assert!(error.message.contains(said), "{error}");
        context.purpose = Purpose::Settle;
        assert_eq!(refuse_mix(&context, Some(&image), &weighted), Ok(()));
    }

    #[test]
    fn a_preview_needs_a_whole_new_set_with_the_same_labels_and_a_proxy_that_can_show_it() {
        let service = Service {
            name: "web".to_owned(),
            ..Service::default()
        };
        let image = Image::default();
        let scripted = Scripted {
            answers: [None].into(),
            held_back: Duration::ZERO,
            slowest: Duration::ZERO,
        };
        let refused = |strategy, router: &dyn Router, before: &[(&str, &str)]| {
            let mut context = ServiceContext::of(&service);
            let given =
                Partial::of("preview", "Header(`X`, `1`)").or(Partial::of("strategy", strategy));
            let none = Partial::default;
            context.settings = Settings::resolve([given, none(), none(), none()]);
            context.olds = vec![Replica {
                labels: labels(before),
                ..old("one")
            }];
            let refused = refuse_mix(&context, Some(&image), router);
            refused
                .err()
                .map_or_else(String::new, |error| error.message)
        };
        let weighted = Weighted::default();
        assert_eq!(refused("blue-green", &weighted, &[]), "");
        assert_eq!(refused("canary", &weighted, &[]), "");
        assert_eq!(
            refused("blue-green", &scripted, &[]),
            format!("web cannot be previewed: scripted {NO_PREVIEW}")
        );
        assert_eq!(
            refused("recreate", &weighted, &[]),
            "web cannot be previewed: the strategy recreate has no whole new set beside the old one"
        );
        let said = refused("blue-green", &weighted, &[("traefik.enable", "true")]);
        assert!(said.contains("its label traefik.enable differs"), "{said}");
    }

    #[test]
    fn what_of_update_config_is_not_used_is_named_with_the_way_to_use_it() {
        let given = |all: &[(&str, &str)]| {
            let all = all.iter().map(|&(name, value)| Partial::of(name, value));
            let own = all.reduce(Partial::or).unwrap_or_default();
            let none = Partial::default;
            Settings::resolve([own, none(), none(), none()])
        };
        let usual = json!({
            "update_config": { "failure_action": "rollback", "parallelism": 2 },
            "rollback_config": { "parallelism": 0 },
        });
        let tail = "of web has no effect with the strategy blue-green; --strategy rolling uses it";
        let notices = without_effect("web", &given(&[("delay", "1s")]), &usual);
        let named = ["deploy.update_config", "deploy.rollback_config", "delay"]
            .map(|what| format!("{what} {tail}"));
        assert_eq!(notices, named);
        assert!(without_effect("web", &given(&[]), &Value::Null).is_empty());
        let notice = until_undo("web", &usual).unwrap();
        assert!(notice.contains("is used by rollout undo"), "{notice}");
        assert_eq!(until_undo("web", &Value::Null), None);
    }

    #[test]
    fn a_label_of_traefik_that_changes_is_named_and_any_other_is_not() {
        let old = labels(&[("traefik.enable", "true"), ("version", "1")]);
        let other = labels(&[("Traefik.Enable", "true"), ("version", "2")]);
        assert_eq!(first_difference(&other, &old, true), None);
        let rule = "traefik.http.routers.web.rule";
        let more = labels(&[("traefik.enable", "true"), (rule, "Host(`a`)")]);
        assert_eq!(first_difference(&more, &old, false).as_deref(), Some(rule));
        assert_eq!(first_difference(&old, &more, true).as_deref(), Some(rule));
        assert_eq!(first_difference(&old, &more, false), None);
    }
}
