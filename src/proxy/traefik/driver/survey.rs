//! Asks every Traefik near a service what else reaches it, without the router of its labels.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;

use crate::{
    check::Check,
    context::{Purpose, RunContext, ServiceContext},
    error::{Error, Result},
    overlay::Labels,
    proxy::{
        Hazard,
        landscape::Landscape,
        traefik::{
            api::{Api, Callee, Caller, Down, Heard, Prefix, middlewares_of_labels, named},
            config::{Reads, Reference, TraefikContainer, references, refuse_absent},
            discover::{Wanted, concerns, neighbours},
            labels::{MIDDLEWARE, Object, Protocol, SERVICE, names, objects_of},
        },
    },
};

/// What the Traefiks near a service say.
#[derive(Default)]
pub(super) struct Survey {
    /// What reaches the service without the router of its labels.
    pub callers: Vec<Caller>,
    /// Servers of other services that fail their health check.
    pub hazards: Vec<Hazard>,
    /// Why one of them cannot be asked.
    pub silent: Option<Error>,
    /// Labels of the new version alone that name a provider which is not on.
    pub absent: Option<Error>,
    /// Something that the new version no longer defines, and that a router of another service uses.
    pub dropped: Option<Error>,
    /// What would be refused if the old version did not have it too, or were not what comes back.
    pub notices: Vec<String>,
}

/// One answer: what is listed, and the providers that are on, where that matters.
struct Answer {
    heard: Heard,
    providers: Option<Vec<String>>,
    is_in_front: bool,
}

/// `near` share a network with the service.
pub(super) async fn survey(
    run: &RunContext<'_>,
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    near: &[TraefikContainer],
    wanted: &Wanted,
) -> Survey {
    if context.purpose != Purpose::Roll || near.is_empty() {
        return Survey::default();
    }
    let named = references(&wanted.labels);
    let answers = match answers(context, landscape, near, wanted, !named.is_empty()).await {
        Ok(answers) => answers,
        Err(error) => vec![Err(error)],
    };
    let mut survey = Survey::default();
    let mut all_down = Vec::new();
    let mut heard = Vec::new();
    let mut on = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => {
                on.extend(answer.providers.filter(|_| answer.is_in_front));
                let down = answer.heard.listing.down.iter();
                let down = down.filter(|own| answer.is_in_front && !own.is_of(&context.olds));
                all_down.extend(down.cloned());
                heard.push(answer.heard);
            }
            Err(error) => survey.silent = Some(error),
        }
    }
    survey.hazards = hazards(all_down, landscape, near);
    let (key, project, olds) = (&context.key, run.project, &context.olds);
    let callee = Callee::new(key, project, context.service, &wanted.labels, olds);
    let labels = project.services.values().map(|own| &own.labels);
    survey.callers = callee.callers(&heard, &middlewares_of_labels(labels));
    let dropped = dropped(context, landscape, near, (wanted, &heard)).await;
    match dropped {
        // What served before comes back, whatever has been built on the version that goes.
        Some(error) if run.back.is_some() => survey.notices.push(error.message),
        Some(error) if !wanted.certain => survey.notices.push(format!(
            "{}, unless its image has labels of it, which shows once the engine has the image",
            error.message
        )),
        dropped => survey.dropped = dropped,
    }
    // What one of them has on is not known where it does not answer.
    if survey.silent.is_none() {
        let before: Vec<Reference> = olds
            .iter()
            .flat_map(|old| references(&old.labels))
            .collect();
        survey.judge_providers(&key.service, named, &before, &on);
    }
    survey
}

async fn answers(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    near: &[TraefikContainer],
    wanted: &Wanted,
    providers: bool,
) -> Result<Vec<Result<Answer>>> {
    let settings = &context.settings;
    if !settings.traefik_url.is_empty() {
        // Whose API was named is not known: the names count that any of them looks up.
        let networks: BTreeSet<String> = near
            .iter()
            .filter_map(TraefikContainer::networks)
            .flatten()
            .collect();
        let asked = named(settings, near).await?.into_iter();
        let asked = asked.map(|api| ask(api, networks.clone(), true, providers));
        return Ok(join_all(asked).await);
    }
    let asked = near.iter().map(async |traefik| {
        let api = landscape.api(traefik, settings).await?;
        let is_in_front = concerns(traefik, wanted, &context.olds);
        ask(
            api,
            traefik.networks().unwrap_or_default(),
            is_in_front,
            providers,
        )
        .await
    });
    Ok(join_all(asked).await)
}

/// Each server once; with the container that it is, where a socket proxy can change its labels.
fn hazards(down: Vec<Down>, landscape: &Landscape, near: &[TraefikContainer]) -> Vec<Hazard> {
    let relabels = |own: &TraefikContainer| matches!(own.reads, Reads::SocketProxy(..));
    let running = match near.iter().all(relabels) {
        true => &landscape.running[..],
        false => &[],
    };
    let down: BTreeSet<Down> = down.into_iter().collect();
    down.into_iter()
        .map(|own| own.found_in(running).hazard())
        .collect()
}

impl Survey {
    /// What the old version has too loses nothing; `on` holds the providers of each Traefik in front.
    fn judge_providers(
        &mut self,
        service: &str,
        named: Vec<Reference>,
        before: &[Reference],
        on: &[Vec<String>],
    ) {
        let (known, fresh): (Vec<Reference>, Vec<Reference>) =
            named.into_iter().partition(|own| before.contains(own));
        self.absent = refuse_absent(service, &fresh, on).err();
        let known = refuse_absent(service, &known, on).err();
        let known = known.map(|error| format!("{}; that is so already", error.message));
        self.notices.extend(known);
    }
}

/// The refusal of a new version without a middleware or a service that other routers use.
async fn dropped(
    context: &ServiceContext<'_>,
    landscape: &Landscape,
    near: &[TraefikContainer],
    (wanted, heard): (&Wanted, &[Heard]),
) -> Option<Error> {
    let olds: Vec<&Labels> = context.olds.iter().map(|own| &own.labels).collect();
    let missing = missing(&olds, &wanted.labels);
    if missing.is_empty() {
        return None;
    }
    let others = neighbours(landscape, &context.key, near).await;
    let is_kept = |object: &Object| {
        let mut all = others.iter().flat_map(|own| objects_of(&own.labels));
        all.any(|own| own.is(object))
    };
    let own = routers(&olds, near);
    let pins = Protocol::ALL.map(|protocol| Prefix::of(&context.key).name(protocol, ""));
    let is_own = |user: &String| own.contains(user) || pins.iter().any(|pin| user.starts_with(pin));
    let mut missing = missing.into_iter().filter(|object| !is_kept(object));
    missing.find_map(|object| {
        let full = object.of_docker();
        let users = heard.iter().filter_map(|own| own.listing.users.get(&full));
        let user = users.flatten().find(|user| !is_own(user))?;
        Some(gone(&context.key.service, &object, user))
    })
}

fn gone(service: &str, object: &Object, user: &str) -> Error {
    let message = format!(
        "the new version of {service} no longer has the {object}, and router {user} uses it: Traefik would take that \
         router out"
    );
    let protocol = object.protocol.map_or("", Protocol::word);
    let hint = format!(
        "keep the labels traefik.{protocol}.{}s.{}.…, change that router first, or continue with --ignore labels",
        object.kind, object.name
    );
    Error::refused(message).hint(hint).of(Check::Labels)
}

/// The routers of these labels, as Traefik's API may call them: by the model of an entrypoint, its name comes first.
fn routers(olds: &[&Labels], near: &[TraefikContainer]) -> BTreeSet<String> {
    let entrypoints = near.iter().flat_map(|own| own.config.entrypoints.keys());
    let entrypoints: BTreeSet<&String> = entrypoints.collect();
    let all = olds.iter().flat_map(|labels| names(labels).routers);
    all.flat_map(|(_, router)| {
        let of_models = entrypoints.iter().flat_map(|entrypoint| {
            ["", "conflicted-"].map(|mark| format!("{entrypoint}-{mark}{router}@docker"))
        });
        let of_models: Vec<String> = of_models.collect();
        of_models.into_iter().chain([format!("{router}@docker")])
    })
    .collect()
}

/// The middlewares and services that old labels define and the new ones do not.
fn missing(olds: &[&Labels], new: &Labels) -> BTreeSet<Object> {
    let kept: Vec<Object> = objects_of(new).collect();
    let is_used = |own: &Object| [MIDDLEWARE, SERVICE].contains(&own.kind);
    let is_kept = |object: &Object| kept.iter().any(|own| own.is(object));
    let before = olds.iter().flat_map(|own| objects_of(own));
    before.filter(|own| is_used(own) && !is_kept(own)).collect()
}

async fn ask(
    api: Arc<Api>,
    networks: BTreeSet<String>,
    is_in_front: bool,
    providers: bool,
) -> Result<Answer> {
    let on = async || match providers && is_in_front {
        true => api.providers().await.map(Some),
        false => Ok(None),
    };
    let (listing, providers) = tokio::try_join!(api.listing(), on())?;
    Ok(Answer {
        heard: Heard {
            traefik: api.name.clone(),
            networks,
            listing,
        },
        providers,
        is_in_front,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_middleware_or_a_service_that_the_new_labels_lack_is_missing_however_its_name_is_written() {
        let labels = |names: &[&str]| -> Labels {
            let names = names.iter();
            let label = |name: &&str| format!("traefik.http.middlewares.{name}.compress");
            names.map(|own| (label(own), "true".to_owned())).collect()
        };
        let (old, new) = (labels(&["auth", "gz", "limit"]), labels(&["GZ", "more"]));
        let lacks = |old: &[&Labels], new: &Labels| -> Vec<String> {
            let missing = missing(old, new).into_iter();
            missing.map(|own| own.to_string()).collect()
        };
        assert_eq!(
            lacks(&[&old, &new], &new),
            ["middleware auth", "middleware limit"]
        );
        assert_eq!(lacks(&[&old], &old), [""; 0]);
        let port = ("traefik.tcp.services.db.loadbalancer.server.port", "5432");
        let named = crate::fixtures::labels_of_web(&[port]);
        let default = crate::fixtures::labels_of_web(&[("traefik.http.routers.web.rule", "a")]);
        assert_eq!(lacks(&[&named], &default), ["TCP service db"]);
        assert_eq!(lacks(&[&default], &named), ["service web-shop"]);
    }

    #[test]
    fn a_router_is_the_services_own_by_the_model_of_an_entrypoint_too() {
        let labels = crate::fixtures::labels(&[("traefik.http.routers.web.rule", "a")]);
        let line = "--entrypoints.web.address=:80 --entrypoints.secure.address=:443";
        let own = routers(&[&labels], &[TraefikContainer::of_arguments("edge", line)]);
        for name in [
            "web@docker",
            "secure-web@docker",
            "web-conflicted-web@docker",
        ] {
            assert!(own.contains(name), "{name}: {own:?}");
        }
        assert!(!own.contains("my-web@docker"));
    }

    #[test]
    fn a_provider_that_is_off_is_refused_only_where_the_old_version_does_not_name_it() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            let labels = pairs.map(|(router, value)| {
                (
                    format!("traefik.http.routers.{router}.service"),
                    (*value).to_owned(),
                )
            });
            references(&labels.collect())
        };
        let on = [vec!["Docker".to_owned()]];
        let judged = |new: &[(&str, &str)], old: &[(&str, &str)]| {
            let mut survey = Survey::default();
            survey.judge_providers("web", of(new), &of(old), &on);
            (survey.absent, survey.notices)
        };
        let (refused, notice) = judged(&[("a", "x@redis")], &[("a", "x@file")]);
        let refused = refused.unwrap();
        assert_eq!(refused.check, Some(crate::check::Check::Labels));
        let hint = refused.hint.unwrap();
        assert!(hint.ends_with("--ignore labels"), "{hint}");
        assert_eq!(notice, [""; 0]);
        let (refused, notice) = judged(&[("a", "x@redis")], &[("a", "x@redis")]);
        assert_eq!(refused, None);
        assert!(notice[0].ends_with("that is so already"), "{notice:?}");
    }
}
