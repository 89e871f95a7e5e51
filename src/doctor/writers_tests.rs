//! Volumes that have one writer, and those that may have many.

use super::*;
use crate::doctor::{Level, testing};

fn found(yaml: &str) -> Option<Level> {
    let (facts, service) = testing::of(yaml);
    check(&facts, &service).first().map(|own| own.level)
}

#[test]
fn data_of_known_servers_is_a_warning_and_other_data_a_word() {
    for (yaml, level) in [
        (
            "image: postgres:17\nvolumes: [{type: volume, source: d, target: /var/lib/postgresql/data}]",
            Some(Level::Warn),
        ),
        (
            "image: ghcr.io/x/redis:7\nvolumes: [{type: volume, source: d, target: /data}]",
            Some(Level::Warn),
        ),
        ("image: redis:7", None),
        (
            "image: own/db\nvolumes: [{type: bind, source: /srv/d, target: /var/lib/mysql}]",
            Some(Level::Warn),
        ),
        (
            "image: own/db\nvolumes: [{type: bind, source: /srv/d, target: /var/lib/mysql, read_only: true}]",
            None,
        ),
        (
            "image: app\nvolumes: [{type: volume, source: d, target: /uploads}]",
            Some(Level::Ok),
        ),
        (
            "image: app\nvolumes: [{type: volume, target: /cache}]",
            None,
        ),
        (
            "image: app\nvolumes: [{type: bind, source: /var/run/docker.sock, target: /var/run/docker.sock}]",
            None,
        ),
        (
            "image: app\nenvironment: {DATABASE_URL: 'sqlite:///data/app.db?mode=rwc'}\nvolumes: [{type: volume, source: d, target: /data}]",
            Some(Level::Warn),
        ),
        (
            "image: app\nenvironment: {DATABASE_URL: 'sqlite:///tmp/app.db'}\nvolumes: [{type: volume, source: d, target: /data}]",
            Some(Level::Ok),
        ),
        (
            "image: postgres:17\nx-rollout: {strategy: recreate}\nvolumes: [{type: volume, source: d, target: /d}]",
            None,
        ),
    ] {
        assert_eq!(found(yaml), level, "{yaml}");
    }
}

#[test]
fn the_way_out_is_to_stop_the_old_set_first() {
    let (facts, service) =
        testing::of("image: postgres\nvolumes: [{type: volume, source: d, target: /d}]");
    let fix = check(&facts, &service)[0].fix.clone().unwrap();
    assert_eq!(
        fix.instructions()[0].1,
        "services:\n  web:\n    x-rollout:\n      strategy: recreate\n"
    );
}
