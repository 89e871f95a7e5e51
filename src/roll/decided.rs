//! Checks again under the lock what an agent has decided: the image, its window, and that it was not tried meanwhile.

use jiff::Timestamp;

use super::{Ended, record::Version, unfinished::Settled, version::Fetched};
use crate::{
    agent::{auto, images},
    compose::Service,
    state::{journal::Intent, revisions::Revisions},
};

impl Settled<'_> {
    /// Why an agent would not decide on this rollout now; `None` also where no agent has decided on it.
    pub fn is_undecided(&self, fetched: &Fetched) -> Option<String> {
        let prepared = &self.locked.prepared;
        let decided = Decided {
            digest: prepared.run.decided?,
            service: prepared.context.service,
        };
        let records = (&self.memory.revisions, &self.memory.attempts[..]);
        decided.is_over(&fetched.version, records, Timestamp::now())
    }

    pub fn left_undecided(&self, why: &str) -> Ended {
        let prepared = &self.locked.prepared;
        let name = &prepared.context.service.name;
        prepared
            .run
            .events
            .notice(format!("{name}: left alone: {why}"));
        self.left_alone()
    }
}

/// What an agent has decided to roll.
struct Decided<'a> {
    digest: &'a str,
    service: &'a Service,
}

impl Decided<'_> {
    /// Why it is not rolled any more; `fetched` has the image that the engine has now.
    fn is_over(
        &self,
        fetched: &Version,
        (revisions, attempts): (&Revisions, &[Intent]),
        now: Timestamp,
    ) -> Option<String> {
        let digest = self.digest;
        if !images::has(&fetched.digests, digest) {
            return Some(format!(
                "its image has moved on from {digest} since the check"
            ));
        }
        if let Some(why) = images::given_up((digest, &fetched.content), revisions, attempts) {
            return Some(format!(
                "{digest} is not tried again before its tag moves ({why})"
            ));
        }
        match auto::of(self.service) {
            Ok(Some(None)) => None,
            Ok(Some(Some(window))) => (!window.is_open(now))
                .then(|| format!("{digest} waits for {window}, which has ended since the check")),
            Ok(None) | Err(_) => Some("x-rollout has no auto any more".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        error::Outcome,
        state::revisions::{ImageRecord, Revision},
    };

    fn service(auto: &str) -> Service {
        Service {
            x_rollout: Some(
                json!({ "auto": serde_json::from_str::<serde_json::Value>(auto).unwrap() }),
            ),
            ..Service::default()
        }
    }

    fn digests(digest: &str) -> Vec<String> {
        vec![format!("r.example/web@{digest}")]
    }

    #[test]
    fn a_decision_holds_for_its_image_in_its_window_until_it_is_tried() {
        let night = r#"{"window": "02:00-05:00 UTC"}"#;
        let failed = Intent {
            revision: Revision {
                image: ImageRecord {
                    digests: digests("sha256:1"),
                    ..Default::default()
                },
                ..Revision::default()
            },
            failed: Some("unhealthy".to_owned()),
            code: Some(Outcome::Failed as u8),
            ..Intent::default()
        };
        let none = Revisions::default();
        for (auto, fetched, attempts, time, said) in [
            ("true", "sha256:1", &[][..], "12:00", None),
            (night, "sha256:1", &[], "04:59", None),
            (
                night,
                "sha256:1",
                &[],
                "05:00",
                Some("which has ended since the check"),
            ),
            (
                "true",
                "sha256:2",
                &[],
                "12:00",
                Some("has moved on from sha256:1"),
            ),
            ("false", "sha256:1", &[], "12:00", Some("no auto any more")),
            (
                "true",
                "sha256:1",
                std::slice::from_ref(&failed),
                "12:00",
                Some("is not tried again before its tag moves (unhealthy)"),
            ),
        ] {
            let decided = Decided {
                digest: "sha256:1",
                service: &service(auto),
            };
            let now = format!("2026-01-01T{time}:00Z").parse().unwrap();
            let fetched = Version {
                digests: digests(fetched),
                ..Version::default()
            };
            let why = decided.is_over(&fetched, (&none, attempts), now);
            match said {
                None => assert_eq!(why, None, "{auto} {time}"),
                Some(said) => assert!(why.unwrap().contains(said), "{auto} {time}"),
            }
        }
    }
}
