//! How the traffic of one service is moved, and whether Traefik serves it now.

use super::{Check, Facts, Finding, Fix, Level, ServiceFacts, front};
use crate::roll::Way;

/// One finding, or none if the findings of its Traefik say what is wrong.
pub fn check(facts: &Facts, service: &ServiceFacts) -> Vec<Finding> {
    let name = service.name();
    match &service.way {
        Ok(way) => moved(service, way),
        Err(error) => {
            let explained = front::check(facts)
                .iter()
                .any(|own| own.level == Level::Fail && concerns(service, &own.subject));
            match explained {
                true => Vec::new(),
                false => {
                    let check = error.check.unwrap_or(Check::Switch);
                    let found = Finding::fail(check, name, &error.message);
                    vec![found.fix(Fix::of_hint(error))]
                }
            }
        }
    }
}

fn concerns(service: &ServiceFacts, front: &str) -> bool {
    front == front::NO_TRAEFIK || service.fronts.iter().any(|own| own == front)
}

fn moved(service: &ServiceFacts, way: &Way) -> Vec<Finding> {
    let name = service.name();
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
        // Other findings say how it is routed.
        None if !way.routes && service.bypasses.iter().any(|own| own.routes) => Vec::new(),
        // Recreate loses only the requests of the gap.
        None if !way.routes && !service.runs_twice() => {
            vec![Finding::ok(Check::Switch, name, text)]
        }
        // This is what the settings ask for, although requests are lost.
        None if !way.routes && service.is_labelled => {
            let text = match &way.notice {
                Some(notice) => notice.clone(),
                None => format!(
                    "{name} has a Traefik router, and Traefik learns nothing of a rollout: both versions will answer for a while, and requests can fail"
                ),
            };
            let fix = Fix::text(
                "let Traefik read through the socket proxy, and remove allow-split or proxy: none",
            );
            vec![Finding::warn(Check::Switch, name, text).fix(fix)]
        }
        None => vec![Finding::ok(Check::Switch, name, text)],
    }
}
