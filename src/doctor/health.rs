//! Docker's health check of a service: whether there is one, and whether its times suit a rollout.

use std::time::Duration;

use bollard::models::HealthConfig;
use serde_json::{Value, json};

use super::{Check, Facts, Finding, Fix, ServiceFacts};
use crate::{
    compose::{
        Healthcheck,
        edits::set,
        exposed::{self, tcp},
    },
    proxy::traefik::labels::routed,
};

/// With a longer interval, Docker notices too late that a replica is broken.
const SELDOM: Duration = Duration::from_secs(120);
/// With a longer interval, a rollout that waits for Docker's own check is slow.
const SLOW: Duration = Duration::from_secs(10);
/// With a shorter time, Docker gives up on a replica that starts slowly.
const HASTY: Duration = Duration::from_secs(5);
/// If a check's interval is longer than this, a rollout also runs its command itself, more often.
const EARLY: Duration = crate::ready::RARE;

/// A check as Docker runs it: the file overrides the image, which overrides Docker's defaults.
struct Times {
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    retries: u32,
}

/// What is wrong with a check, or that it is fine.
pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    let name = service.name();
    let Some(times) = times(service) else {
        // A service that others wait to complete needs no health check.
        return match facts.project.is_awaited(name) {
            true => Vec::new(),
            false => vec![missing(service)],
        };
    };
    let questions = [seldom, slow, hasty];
    let asked = questions.iter().filter_map(|ask| ask(service, &times));
    let findings: Vec<Finding> = asked.collect();
    match findings.is_empty() {
        true => vec![well(name, &times)],
        false => findings,
    }
}

fn well(name: &str, times: &Times) -> Finding {
    let early = match times.interval > EARLY {
        true => "; rollouts run it more often",
        false => "",
    };
    let text = format!(
        "the health check of {name} runs every {}{early}",
        shown(times.interval)
    );
    Finding::ok(Check::HealthCheck, name, text)
}

/// With a socket proxy, a rollout runs a rare check itself and reports the result to Traefik. Nothing does so if Compose
/// starts a replica, or if a pin file has to wait for Docker.
fn seldom(service: &ServiceFacts, times: &Times) -> Option<Finding> {
    let name = service.name();
    let interval = shown(times.interval);
    let often = |text: &str| {
        let keys = json!({"interval": "5s", "timeout": "5s"});
        let edit = set(&["services", name, "healthcheck"], keys);
        Fix::edit_of(name, text, vec![edit])
    };
    let pinned = service.way.as_ref().is_ok_and(|way| way.is_pinned);
    if times.interval > SELDOM {
        let late = shown(times.interval.saturating_mul(times.retries));
        let text = format!(
            "the health check of {name} runs every {interval}: Traefik waits that long for the first result of a replica that \
             Compose starts, and a broken one is noticed after {late}"
        );
        return Some(
            Finding::warn(Check::HealthCheck, name, text).fix(often("check it more often")),
        );
    }
    if !pinned || times.interval + times.timeout <= SLOW {
        return None;
    }
    let longest = shown(times.interval + times.timeout);
    let text = format!(
        "the health check of {name} runs every {interval}: with a pin file, each rollout waits for Docker's own check, \
         {longest} at most"
    );
    let fix = often("check it more often, or let Traefik read through the socket proxy");
    Some(Finding::warn(Check::HealthCheck, name, text).fix(fix))
}

/// Docker allows more time to start than a rollout does.
fn slow(service: &ServiceFacts, times: &Times) -> Option<Finding> {
    let (name, wait) = (service.name(), service.settings.timeout);
    if times.start_period < wait {
        return None;
    }
    let text = format!(
        "{name} may take {} to start (start_period), and a rollout waits {} (timeout)",
        shown(times.start_period),
        shown(wait)
    );
    let longer = shown(times.start_period + Duration::from_secs(30));
    let fix = Fix::setting("let rollouts wait longer", name, "timeout", &longer);
    Some(Finding::warn(Check::HealthCheck, name, text).fix(fix))
}

/// Docker gives up before most programs have started.
fn hasty(service: &ServiceFacts, times: &Times) -> Option<Finding> {
    let name = service.name();
    let checked = times.interval.saturating_mul(times.retries);
    let patience = times.start_period.saturating_add(checked);
    if patience >= HASTY {
        return None;
    }
    let text = format!(
        "Docker calls {name} unhealthy {} after its start, and a rollout then gives up",
        shown(patience)
    );
    let edit = set(
        &["services", name, "healthcheck"],
        json!({"start_period": "30s"}),
    );
    let fix = Fix::edit_of(name, "give it time to start", vec![edit]);
    Some(Finding::warn(Check::HealthCheck, name, text).fix(fix))
}

fn shown(span: Duration) -> String {
    humantime::format_duration(span)
        .to_string()
        .replace(' ', "")
}

/// `None` if there is no check or it is off.
fn times(service: &ServiceFacts) -> Option<Times> {
    let none = Healthcheck::default();
    let own = service.service.healthcheck.as_ref().unwrap_or(&none);
    let image = service.image.check.clone().unwrap_or_default();
    let runs = |test: &[String]| test.first().is_some_and(|first| first != "NONE");
    let tested =
        runs(&own.test) || (own.test.is_empty() && runs(image.test.as_deref().unwrap_or_default()));
    (tested && !own.disabled).then(|| merged(own, &image))
}

/// The file's values, then the image's, then Docker's defaults (moby, `daemon/health.go`).
fn merged(own: &Healthcheck, image: &HealthConfig) -> Times {
    let nanos = |value: Option<i64>| {
        let nanos = u64::try_from(value?).ok().filter(|nanos| *nanos > 0);
        nanos.map(Duration::from_nanos)
    };
    let span = |own: Option<Duration>, image, default| {
        let own = own.filter(|own| !own.is_zero());
        own.or(nanos(image)).unwrap_or(Duration::from_secs(default))
    };
    let retries = image.retries.and_then(|count| u32::try_from(count).ok());
    Times {
        interval: span(own.interval, image.interval, 30),
        timeout: span(own.timeout, image.timeout, 30),
        start_period: span(own.start_period, image.start_period, 0),
        retries: own
            .retries
            .or(retries)
            .filter(|count| *count > 0)
            .unwrap_or(3),
    }
}

fn missing(service: &ServiceFacts) -> Finding {
    let name = service.name();
    let settings = &service.settings;
    if let Some(path) = settings.ready_http.as_ref().filter(|_| service.is_routed()) {
        let text = format!("{name} has no health check; a rollout asks for {path} itself");
        return Finding::ok(Check::HealthCheck, name, text);
    }
    let text = match service.is_routed() {
        true => format!(
            "{name} has no health check: a new version counts as ready once its port answers"
        ),
        false => format!(
            "{name} has no health check: a new version counts as ready once it has run for a while"
        ),
    };
    Finding::warn(Check::HealthCheck, name, text).fix(block(service))
}

/// A health check with a program that its containers have; without one, the rollout can send the request itself.
fn block(service: &ServiceFacts) -> Fix {
    let name = service.name();
    let Some(port) = port(service) else {
        return Fix::text(format!("give {name} a healthcheck with a test of its own"));
    };
    let url = format!("http://127.0.0.1:{port}/");
    let program = match &service.programs {
        None => Some("wget"),
        Some(programs) => ["wget", "curl"].into_iter().find(|own| {
            let end = format!("/{own}");
            programs.iter().any(|path| path.ends_with(&end))
        }),
    };
    match program {
        Some("curl") => with_test(name, json!(["CMD", "curl", "-fsS", "-o", "/dev/null", url])),
        Some(_) => with_test(name, json!(["CMD", "wget", "-q", "-O", "/dev/null", url])),
        None if service.is_routed() => Fix::setting(
            format!(
                "its image has neither wget nor curl: give {name} a healthcheck with a program of its own, or let rollouts ask for a page"
            ),
            name,
            "ready-http",
            "/",
        ),
        None => Fix::text(format!(
            "give {name} a healthcheck with a program of its own"
        )),
    }
}

fn with_test(name: &str, test: Value) -> Fix {
    let block = json!({"test": test, "interval": "5s", "timeout": "3s", "start_period": "30s"});
    let edit = set(&["services", name], json!({"healthcheck": block}));
    Fix::edit_of(
        name,
        format!("check {name} by a page that it answers with 200"),
        vec![edit],
    )
}

pub fn exposed(service: &ServiceFacts) -> Vec<u16> {
    tcp(&exposed::exposed(&service.service, &service.image.ports))
}

/// The HTTP port: the one that Traefik uses, else the lowest exposed one.
fn port(service: &ServiceFacts) -> Option<u16> {
    let http = routed(&service.labels, &exposed(service))
        .into_iter()
        .find(|(_, spoken)| *spoken == crate::namespace::traffic::Protocol::Http1);
    http.map(|(port, _)| port).filter(|_| service.is_routed())
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
