//! What an earlier rollout left behind: a lock, or unfinished work.

use super::{Check, Facts, Finding, Fix, ServiceFacts};

/// While another rollout holds the lock, the unfinished work is its own.
pub fn check(_: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    let name = service.name();
    match (&service.lock, &service.unfinished) {
        (Some((holder, true)), _) => {
            let text = format!("{name} is being rolled by {holder}");
            let watch = format!("rollout status {name} --watch");
            vec![Finding::warn(Check::Unfinished, name, text).fix(Fix::run("wait for it", watch))]
        }
        (_, Some(left)) => {
            let fix = Fix::run("settle it", format!("rollout resume {name}"));
            vec![Finding::warn(Check::Unfinished, name, left).fix(fix)]
        }
        (Some((holder, false)), None) => {
            let text = format!("{name} has a stale lock of {holder}, whose lease has run out");
            let fix = Fix::run("remove the lock", format!("rollout unlock {name}"));
            vec![Finding::warn(Check::Unfinished, name, text).fix(fix)]
        }
        (None, None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::testing;

    #[test]
    fn a_lock_and_what_is_left_are_reported_with_the_command_that_settles_them() {
        for (lock, unfinished, command) in [
            (None, None, None),
            (Some(true), Some("r"), Some("rollout status web --watch")),
            (Some(false), Some("r"), Some("rollout resume web")),
            (None, Some("r"), Some("rollout resume web")),
            (Some(false), None, Some("rollout unlock web")),
        ] {
            let mut service = testing::service("web");
            service.lock = lock.map(|lives| ("me".to_owned(), lives));
            service.unfinished = unfinished.map(str::to_owned);
            let found = check(&Facts::default(), &service);
            let fix = found.first().and_then(|own| own.fix.clone());
            assert_eq!(fix.and_then(|fix| fix.run).as_deref(), command);
        }
    }
}
