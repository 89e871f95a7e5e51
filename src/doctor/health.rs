//! Docker's health check of a service: whether there is one, and whether its times suit a rollout.

use std::time::Duration;

use bollard::models::HealthConfig;
use serde_json::{Value, json};

use super::{Check, Edit, Facts, Finding, Fix, ServiceFacts, fix::set};
use crate::{
    compose::{Condition, Healthcheck},
    proxy::traefik::ports::{Exposed, routed},
};

/// Longer, and Docker notices too late that a replica is broken, whoever rolls it.
const SELDOM: Duration = Duration::from_secs(120);
/// Longer, and a rollout that has to wait for Docker's own check is slow.
const SLOW: Duration = Duration::from_secs(10);
/// Shorter, and a replica that takes its time to start is given up.
const HASTY: Duration = Duration::from_secs(5);

/// A check as Docker will run it: the file's, over the image's, over Docker's own times.
struct Times {
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    retries: u32,
}

/// What is wrong with it; that it is fine otherwise.
pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    let name = service.name();
    let Some(times) = times(service) else {
        return match is_job(facts, name) {
            true => Vec::new(),
            false => vec![missing(service)],
        };
    };
    let interval = told(times.interval);
    let mut findings = Vec::new();
    let pinned = service.way.as_ref().is_ok_and(|way| way.is_pinned);
    let often = |text: &str| {
        let keys = json!({"interval": "5s", "timeout": "5s"});
        Fix::edit_of(
            name,
            text,
            vec![set(&["services", name, "healthcheck"], keys)],
        )
    };
    if times.interval > SELDOM {
        let late = told(times.interval * times.retries);
        let text = format!(
            "the health check of {name} runs every {interval}: Traefik waits that long for its first word on a replica that \
             Compose starts, and a broken one is noticed after {late}"
        );
        findings
            .push(Finding::warn(Check::HealthCheck, name, text).fix(often("check it more often")));
    } else if pinned && times.interval + times.timeout > SLOW {
        let longest = told(times.interval + times.timeout);
        let text = format!(
            "the health check of {name} runs every {interval}: with a pin file, each rollout waits for Docker's own check, \
             {longest} at most"
        );
        findings.push(Finding::warn(Check::HealthCheck, name, text).fix(often(
            "check it more often, or let Traefik read through the socket proxy",
        )));
    }
    if times.start_period >= service.settings.timeout {
        let wait = told(service.settings.timeout);
        let text = format!(
            "{name} may take {} to start (start_period), and a rollout waits {wait} (timeout)",
            told(times.start_period)
        );
        let longer = told(times.start_period + Duration::from_secs(30));
        let fix = Fix::setting("let rollouts wait longer", name, "timeout", json!(longer));
        findings.push(Finding::warn(Check::HealthCheck, name, text).fix(fix));
    }
    let patience = times.start_period + times.interval * times.retries;
    if patience < HASTY {
        let text = format!(
            "Docker calls {name} unhealthy {} after its start, and a rollout then gives up",
            told(patience)
        );
        let edit = set(
            &["services", name, "healthcheck"],
            json!({"start_period": "30s"}),
        );
        let fix = Fix::edit_of(name, "give it time to start", vec![edit]);
        findings.push(Finding::warn(Check::HealthCheck, name, text).fix(fix));
    }
    if findings.is_empty() {
        let early = match times.interval > Duration::from_secs(2) {
            true => "; rollouts run it more often",
            false => "",
        };
        let text = format!("the health check of {name} runs every {interval}{early}");
        findings.push(Finding::ok(Check::HealthCheck, name, text));
    }
    findings
}

/// What others wait for the end of has no health.
fn is_job(facts: &Facts, name: &str) -> bool {
    let mut waiting = facts
        .project
        .services
        .values()
        .flat_map(|own| &own.depends_on);
    waiting.any(|own| own.service == name && own.condition == Condition::CompletedSuccessfully)
}

fn told(span: Duration) -> String {
    humantime::format_duration(span)
        .to_string()
        .replace(' ', "")
}

/// `None` where there is no check, or it is switched off.
fn times(service: &ServiceFacts) -> Option<Times> {
    let none = Healthcheck::default();
    let own = service.service.healthcheck.as_ref().unwrap_or(&none);
    let image = service.image_check.clone().unwrap_or_default();
    let runs = |test: &[String]| test.first().is_some_and(|first| first != "NONE");
    let tested =
        runs(&own.test) || (own.test.is_empty() && runs(image.test.as_deref().unwrap_or_default()));
    (tested && !own.disabled).then(|| merged(own, &image))
}

/// Docker's defaults: moby's `daemon/health.go`.
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

/// A block with a program that its containers have; where they have none, the rollout itself can ask.
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
            json!("/"),
        ),
        None => Fix::text(format!(
            "give {name} a healthcheck with a program of its own"
        )),
    }
}

fn with_test(name: &str, test: Value) -> Fix {
    let block = json!({"test": test, "interval": "5s", "timeout": "3s", "start_period": "30s"});
    let edit: Edit = set(&["services", name], json!({"healthcheck": block}));
    Fix::edit_of(
        name,
        format!("check {name} by a page that it answers with 200"),
        vec![edit],
    )
}

/// The port that speaks HTTP: Traefik's, else the lowest that it exposes.
fn port(service: &ServiceFacts) -> Option<u16> {
    let texts = service.image_ports.iter().chain(&service.service.expose);
    let exposed: Vec<Exposed> = texts.flat_map(|text| Exposed::read(text)).collect();
    let tcp: Vec<u16> = exposed
        .iter()
        .filter(|own| !own.udp)
        .map(|own| own.port)
        .collect();
    let http = routed(&service.labels, &tcp)
        .into_iter()
        .find(|(_, spoken)| *spoken == crate::namespace::traffic::Protocol::Http1);
    match service.is_routed() {
        true => http.map(|(port, _)| port),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Level, Way, testing};

    const TEST: &str =
        "healthcheck: {test: [CMD, true], interval: INTERVAL, timeout: 1s, start_period: 10s}\n";

    fn found(yaml: &str, pinned: bool) -> (Level, String) {
        let (facts, mut service) = testing::of(yaml);
        service.way = Ok(Way {
            routes: true,
            is_pinned: pinned,
            ..Way::default()
        });
        let found = check(&facts, &service).remove(0);
        (found.level, found.text)
    }

    #[test]
    fn an_interval_is_only_too_long_where_nothing_helps() {
        for (interval, pinned, level) in [
            ("5s", false, Level::Ok),
            ("30s", false, Level::Ok),
            ("30s", true, Level::Warn),
            ("5s", true, Level::Ok),
            ("1h", false, Level::Warn),
        ] {
            let yaml = TEST.replace("INTERVAL", interval);
            assert_eq!(found(&yaml, pinned).0, level, "{interval} {pinned}");
        }
    }

    #[test]
    fn a_start_that_takes_longer_than_a_rollout_waits_is_told() {
        let (level, text) = found(
            "healthcheck: {test: [CMD, true], interval: 5s, start_period: 5m}",
            false,
        );
        assert_eq!(level, Level::Warn);
        assert!(text.contains("5m to start"), "{text}");
        let patient = "healthcheck: {test: [CMD, true], interval: 5s, start_period: 5m}\nx-rollout: {timeout: 6m}";
        assert_eq!(found(patient, false).0, Level::Ok);
    }

    #[test]
    fn a_check_that_gives_up_after_seconds_is_told() {
        let hasty = "healthcheck: {test: [CMD, true], interval: 1s, retries: 3}";
        assert!(found(hasty, false).1.contains("3s after its start"));
        let patient =
            "healthcheck: {test: [CMD, true], interval: 1s, retries: 3, start_period: 30s}";
        assert_eq!(found(patient, false).0, Level::Ok);
    }

    #[test]
    fn the_images_own_check_counts_unless_the_file_switches_it_off() {
        let of_image = |yaml: &str| {
            let (facts, mut service) = testing::of(yaml);
            service.image_check = Some(HealthConfig {
                test: Some(vec!["CMD".to_owned(), "true".to_owned()]),
                interval: Some(5_000_000_000),
                ..HealthConfig::default()
            });
            check(&facts, &service)[0].level
        };
        assert_eq!(of_image("image: app"), Level::Ok);
        assert_eq!(of_image("healthcheck: {disable: true}"), Level::Warn);
        assert_eq!(of_image("healthcheck: {interval: 1h}"), Level::Warn);
    }

    #[test]
    fn a_missing_check_gets_a_block_with_what_the_image_has() {
        let fix = |programs: Option<&[&str]>| {
            let (facts, mut service) =
                testing::of("labels: {traefik.enable: 'true'}\nexpose: ['8080']");
            let own = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
            service.programs = programs.map(own);
            let found = check(&facts, &service).remove(0);
            assert_eq!(found.level, Level::Warn);
            found.fix.unwrap().told()[0].1.clone()
        };
        assert!(fix(Some(&["/bin/wget"])).contains(
            "- wget\n      - -q\n      - -O\n      - /dev/null\n      - http://127.0.0.1:8080/\n"
        ));
        assert!(fix(Some(&["/usr/bin/curl"])).contains("- curl\n"));
        assert!(fix(Some(&[])).contains("x-rollout:\n      ready-http: /\n"));
        assert!(fix(None).contains("- wget\n"));
    }

    #[test]
    fn a_page_that_a_rollout_asks_for_takes_the_place_of_a_check() {
        let yaml = "labels: {traefik.enable: 'true'}\nexpose: ['80']\nx-rollout: {ready-http: /up}";
        let (facts, service) = testing::of(yaml);
        assert_eq!(check(&facts, &service)[0].level, Level::Ok);
    }
}
