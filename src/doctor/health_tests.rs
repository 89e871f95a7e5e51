//! Health checks that are missing, too rare, too hasty, and fine.

use super::*;
use crate::{
    doctor::{Level, testing},
    roll::Way,
};

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
fn a_start_that_takes_longer_than_a_rollout_waits_is_a_warning() {
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
fn a_check_that_gives_up_after_seconds_is_a_warning() {
    let hasty = "healthcheck: {test: [CMD, true], interval: 1s, retries: 3}";
    assert!(found(hasty, false).1.contains("3s after its start"));
    let patient = "healthcheck: {test: [CMD, true], interval: 1s, retries: 3, start_period: 30s}";
    assert_eq!(found(patient, false).0, Level::Ok);
}

#[test]
fn the_images_own_check_counts_unless_the_file_switches_it_off() {
    let of_image = |yaml: &str| {
        let (facts, mut service) = testing::of(yaml);
        service.image.check = Some(HealthConfig {
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
        found.fix.unwrap().instructions()[0].1.clone()
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

#[test]
fn the_longest_times_and_the_most_retries_of_an_image_overflow_nothing() {
    let (facts, mut service) = testing::of("image: a");
    service.image.check = Some(HealthConfig {
        test: Some(vec!["CMD".to_owned(), "true".to_owned()]),
        interval: Some(i64::MAX),
        timeout: Some(i64::MAX),
        start_period: Some(i64::MAX),
        start_interval: None,
        retries: Some(u32::MAX.into()),
    });
    let levels: Vec<Level> = check(&facts, &service)
        .iter()
        .map(|own| own.level)
        .collect();
    assert_eq!(levels, [Level::Warn; 2]);
}
