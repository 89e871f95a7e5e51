//! The result of each service of a command, and the exit code.

use std::collections::BTreeSet;

use super::{choose::Left, graph::Order, schedule::Ends};
use crate::{
    error::{Error, Outcome, one_line},
    event::{ServiceResult, ServiceRow},
    roll::Ended,
};

/// A row for each service: those of the command in its order, then those that were left alone.
pub fn rows(order: &Order<'_>, ends: &Ends<'_, Ended>, left: &[Left]) -> Vec<ServiceRow> {
    let of_order = order.services.iter().map(|own| {
        let end = ends.iter().find(|(name, _)| *name == own.name);
        match end {
            Some((name, Ok(ended))) => done(name, ended),
            Some((name, Err(error))) if error.is_pause() => {
                other(name, ServiceResult::Paused, &error.message)
            }
            Some((name, Err(error))) => other(name, ServiceResult::Failed, &error.message),
            None => {
                let reason = not_begun(&own.needs, ends);
                other(own.name, ServiceResult::NotBegun, &reason)
            }
        }
    });
    let left = left
        .iter()
        .map(|own| other(&own.service, ServiceResult::LeftAlone, &own.reason));
    of_order.chain(left).collect()
}

/// Why a service that has these needs was not begun.
fn not_begun(needs: &BTreeSet<&str>, ends: &Ends<'_, Ended>) -> String {
    let how = |error: &Error| match error.is_pause() {
        true => "is paused",
        false => "failed",
    };
    let open = ends.iter();
    let mut open = open.filter_map(|(name, end)| Some((*name, how(end.as_ref().err()?))));
    match open.clone().find(|(name, _)| needs.contains(name)) {
        Some((needed, how)) => format!("it needs {needed}, which {how}"),
        None => match open.find(|(_, how)| *how == "failed") {
            Some((first, how)) => format!("{first} {how} before it began"),
            None => "interrupted before it began".to_owned(),
        },
    }
}

fn done(service: &str, ended: &Ended) -> ServiceRow {
    ServiceRow {
        host: None,
        service: service.to_owned(),
        result: ended.result,
        revision: ended.revision,
        image: Some(ended.image.clone()),
        reason: None,
    }
}

pub fn other(service: &str, result: ServiceResult, reason: &str) -> ServiceRow {
    ServiceRow {
        host: None,
        service: service.to_owned(),
        result,
        revision: None,
        image: None,
        reason: Some(one_line(reason)),
    }
}

/// After the rollout of other services, a refusal says that this one was not touched.
pub fn after_others(error: Error, service: &str) -> Error {
    match error.outcome {
        Outcome::Refused => Error {
            message: format!("{}; {service} was not touched", error.message),
            ..error
        },
        _ => error,
    }
}

/// The worst first. An interrupted service may have been touched, a refused one never was.
pub const WORST: [Outcome; 6] = [
    Outcome::NeedsPerson,
    Outcome::Failed,
    Outcome::Locked,
    Outcome::Interrupted,
    Outcome::Paused,
    Outcome::Refused,
];

/// The error of the whole command; `None` where no service failed and none is left to do.
pub fn failure(rows: &[ServiceRow], errors: &[&Error]) -> Option<Error> {
    let of = |result: ServiceResult| -> Vec<String> {
        let own = rows.iter().filter(|own| own.result == result);
        own.map(ServiceRow::title).collect()
    };
    let (failed, open) = (of(ServiceResult::Failed), of(ServiceResult::NotBegun));
    let listed = |what: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("; {what}: {}", names.join(", ")),
    };
    let back = listed("rolled back", &of(ServiceResult::RolledBack));
    let rest = format!("{back}{}", listed("not begun", &open));
    let Some(outcome) = worst(rows, errors) else {
        let interrupted = Error::interrupted(format!("interrupted{rest}"));
        return (!open.is_empty()).then_some(interrupted);
    };
    if outcome == Outcome::Interrupted {
        let failed = failed.join(", ");
        return Some(Error::interrupted(format!("interrupted: {failed}{rest}")));
    }
    if outcome == Outcome::Paused {
        let paused = of(ServiceResult::Paused);
        let on = match rows.iter().any(|own| own.host.is_some()) {
            true => " --on HOST",
            false => "",
        };
        let hint = format!(
            "rollout promote SERVICE{on} goes on with one; rollout abort SERVICE{on} takes it back"
        );
        return Some(Error::paused(format!("paused: {}{rest}", paused.join(", "))).hint(hint));
    }
    let parts = rows
        .iter()
        .filter(|own| own.result != ServiceResult::LeftAlone);
    let message = format!(
        "{} of {} services failed: {}{rest}",
        failed.len(),
        parts.count(),
        failed.join(", ")
    );
    let hint =
        "fix the problem and run the same command again; what is up to date is not rolled again";
    Some(Error {
        outcome,
        ..Error::failed(message).hint(hint)
    })
}

fn worst(rows: &[ServiceRow], errors: &[&Error]) -> Option<Outcome> {
    let has = |outcome: &Outcome| errors.iter().any(|own| own.outcome == *outcome);
    let worst = WORST.into_iter().find(has)?;
    let is_touched = |own: &ServiceRow| {
        use ServiceResult as R;
        matches!(own.result, R::Rolled | R::Completed | R::RolledBack)
    };
    // Code 2 promises that nothing was touched.
    Some(match worst {
        Outcome::Refused if rows.iter().any(is_touched) => Outcome::Failed,
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose;

    fn ended(result: ServiceResult) -> Ended {
        Ended {
            result,
            revision: Some(3),
            before: Some(2),
            image: "app:v2".to_owned(),
        }
    }

    const PROJECT: &str = "name: p
services:
  api: {image: a}
  mail: {image: a}
  web: {image: a, depends_on: {api: {condition: service_started, required: true}}}
";

    /// The rows as `service result reason`, and the exit code, of these ends of `api`, `mail` and `web`.
    fn reported(ends: Ends<'_, Ended>) -> (Vec<String>, u8, String) {
        let project = compose::resolved(PROJECT).unwrap();
        let order = Order::of(&project, &["web", "mail", "api"]).unwrap();
        let rows = rows(&order, &ends, &[Left::of("db", "it keeps data")]);
        let errors: Vec<&Error> = ends
            .iter()
            .filter_map(|(_, own)| own.as_ref().err())
            .collect();
        let failure = failure(&rows, &errors);
        let line = |own: &ServiceRow| {
            let reason = own.reason.clone().unwrap_or_default();
            format!("{} {:?} {reason}", own.service, own.result)
        };
        let code = failure.as_ref().map_or(0, |own| own.outcome as u8);
        let message = failure.map_or_else(String::new, |own| own.message);
        (rows.iter().map(line).collect(), code, message)
    }

    const OK: ServiceResult = ServiceResult::Rolled;

    #[test]
    fn every_service_has_a_row_and_what_was_left_alone_comes_last() {
        let unchanged = ended(ServiceResult::Unchanged);
        let (rows, code, _) = reported(vec![
            ("mail", Ok(unchanged)),
            ("api", Ok(ended(OK))),
            ("web", Ok(ended(OK))),
        ]);
        let expected = [
            "mail Unchanged ",
            "api Rolled ",
            "web Rolled ",
            "db LeftAlone it keeps data",
        ];
        assert_eq!((&rows[..], code), (&expected.map(str::to_owned)[..], 0));
    }

    #[test]
    fn what_was_not_begun_says_why() {
        let (rows, code, message) = reported(vec![
            ("mail", Ok(ended(OK))),
            ("api", Err(Error::failed("broken\nin two lines"))),
        ]);
        assert_eq!(
            rows[1..3],
            [
                "api Failed broken in two lines",
                "web NotBegun it needs api, which failed"
            ]
        );
        assert_eq!(code, 1);
        assert_eq!(message, "1 of 3 services failed: api; not begun: web");
        let (rows, ..) = reported(vec![
            ("mail", Err(Error::failed("x"))),
            ("api", Ok(ended(OK))),
        ]);
        assert_eq!(rows[2], "web NotBegun mail failed before it began");
        let (rows, code, message) = reported(vec![("mail", Ok(ended(OK))), ("api", Ok(ended(OK)))]);
        assert_eq!(rows[2], "web NotBegun interrupted before it began");
        assert_eq!(
            (code, message.as_str()),
            (130, "interrupted; not begun: web")
        );
    }

    #[test]
    fn a_canary_that_is_paused_has_a_row_and_its_own_exit_code() {
        let paused = || Error::paused("paused at step 1 of 3");
        let (rows, code, message) = reported(vec![("mail", Ok(ended(OK))), ("api", Err(paused()))]);
        assert_eq!(rows[1], "api Paused paused at step 1 of 3");
        assert_eq!(rows[2], "web NotBegun it needs api, which is paused");
        assert_eq!((code, message.as_str()), (5, "paused: api; not begun: web"));
        let both = vec![("mail", Err(Error::failed("x"))), ("api", Err(paused()))];
        let (_, code, message) = reported(both);
        assert_eq!(code, 1);
        assert!(
            message.starts_with("1 of 3 services failed: mail"),
            "{message}"
        );
    }

    #[test]
    fn the_exit_code_is_the_worst_of_any_service() {
        let codes = |errors: [Error; 2]| {
            let [first, second] = errors;
            reported(vec![("mail", Err(first)), ("api", Err(second))]).1
        };
        let refused = || Error::refused("x");
        assert_eq!(codes([refused(), Error::locked("x")]), 4);
        assert_eq!(codes([Error::locked("x"), Error::failed("x")]), 1);
        assert_eq!(codes([Error::failed("x"), Error::needs_person("x")]), 3);
        assert_eq!(codes([refused(), Error::interrupted("x")]), 130);
        assert_eq!(codes([refused(), refused()]), 2);
    }

    #[test]
    fn a_refusal_beside_a_service_that_was_touched_is_a_failure() {
        let code = |result| {
            let ends = vec![
                ("mail", Ok(ended(result))),
                ("api", Err(Error::refused("x"))),
            ];
            reported(ends).1
        };
        assert_eq!(code(OK), 1);
        assert_eq!(code(ServiceResult::Unchanged), 2);
    }
}
