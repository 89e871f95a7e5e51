//! How the traffic of one service is moved, and what Traefik says of it as it runs now.

use super::{Check, Facts, Finding, Fix, Level, ServiceFacts, Way, front};

/// One finding, or none where what is wrong is said of its Traefik.
pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    let name = service.name();
    match &service.way {
        Ok(way) => moved(name, way),
        Err(error) => {
            let explained = front::check(facts)
                .iter()
                .any(|own| own.level == Level::Fail && concerns(service, &own.subject));
            match explained {
                true => Vec::new(),
                false => {
                    let found = Finding::fail(Check::Switch, name, &error.message);
                    vec![found.fix(Fix::of_hint(error))]
                }
            }
        }
    }
}

fn concerns(service: &ServiceFacts, front: &str) -> bool {
    front == front::NOBODY || service.fronts.iter().any(|own| own == front)
}

fn moved(name: &str, way: &Way) -> Vec<Finding> {
    let text = match (way.routes, &way.notice) {
        (true, None) => format!("moved by {}", way.describe),
        (true, Some(notice)) => format!("moved by {}; {notice}", way.describe),
        (false, Some(notice)) => notice.clone(),
        (false, None) => format!("{name} is rolled on health alone: no proxy routes to it"),
    };
    let trouble = way.trouble.as_ref().map(|trouble| {
        let text = format!("Traefik does not serve {name} as it runs now: {trouble}");
        Finding::warn(Check::Switch, name, text).fix(Fix::text(
            "Traefik's log says why; often another container has a router of the same name",
        ))
    });
    match trouble {
        Some(trouble) => vec![trouble],
        None => vec![Finding::ok(Check::Switch, name, text)],
    }
}
