//! The steps of a canary, `x-rollout.steps` of a service: how much of the traffic moves, and how long each pause is.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{
    error::{Error, Result, did_you_mean},
    model::{Pause, Shift},
    settings::{self, STEPS, Strategy},
};

/// The shifts of a canary without steps.
const DEFAULT: [u16; 2] = [10, 50];
const DEFAULT_PAUSE: Duration = Duration::from_secs(60);

const KEYS: [&str; 3] = ["weight", "pause", "analysis"];

/// The shifts of a service before its cutover: those of its steps, or the default ones.
///
/// # Errors
/// A mistake in the steps, in one line.
pub fn read(service: &str, x_rollout: Option<&Value>) -> Result<Vec<Shift>> {
    let place = format!("steps in x-rollout of {service}");
    let list = match given(x_rollout) {
        None => return Ok(default()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(bad(format!("{place} is not a list"), FORM)),
    };
    let mut shifts = Vec::new();
    for (number, step) in (1..).zip(list) {
        add(&mut shifts, step, &format!("step {number} of {place}"))?;
    }
    // The last step is the cutover.
    match shifts.pop_if(|last| last.percent == 100) {
        Some(Shift { pause: Some(_), .. }) => Err(bad(
            format!("{place} end with a pause at 100 %, where there is no step to wait for"),
            "leave the pause out; --bake keeps the old replicas for a time after the last step",
        )),
        _ if shifts.is_empty() => Err(bad(format!("{place} move no part of the traffic"), FORM)),
        _ => Ok(shifts),
    }
}

/// Refuses steps that the strategy of the file does not use; a strategy that is named on the command line leaves them out.
pub fn refuse_idle(
    service: &str,
    x_rollout: Option<&Value>,
    (strategy, by_flag): (Strategy, bool),
) -> Result<()> {
    if given(x_rollout).is_none() || strategy == Strategy::Canary || by_flag {
        return Ok(());
    }
    let name = strategy.name();
    let message =
        format!("steps in x-rollout of {service} have no effect with the strategy {name}");
    Err(bad(
        message,
        "write strategy: canary beside them, or leave them out",
    ))
}

/// The steps as they stand in the file.
pub fn given(x_rollout: Option<&Value>) -> Option<&Value> {
    let steps = x_rollout.and_then(|own| own.get(STEPS));
    steps.filter(|steps| !steps.is_null())
}

fn default() -> Vec<Shift> {
    let shift = |percent| Shift {
        percent,
        pause: Some(Pause::Timed(DEFAULT_PAUSE)),
        analysis: false,
    };
    DEFAULT.map(shift).into()
}

/// `within` is the step's place in the file, for messages.
fn add(shifts: &mut Vec<Shift>, step: &Value, within: &str) -> Result<()> {
    let Value::Object(map) = step else {
        return Err(bad(format!("{within} is not a mapping: {step}"), FORM));
    };
    refuse_keys(map, within)?;
    let weight = map.get("weight").map(|weight| percent(weight, within));
    let pause = map.get("pause").map(|value| pause(value, within));
    let (weight, pause) = (weight.transpose()?, pause.transpose()?);
    match (weight, pause, shifts.last_mut()) {
        (None, None, _) => Err(bad(format!("{within} has neither weight nor pause"), FORM)),
        (None, Some(_), None) => Err(bad(
            format!("{within} is a pause before the first weight"),
            "begin with a weight, such as {weight: 10%}",
        )),
        (None, Some(_), Some(last)) if last.pause.is_some() => Err(bad(
            format!("{within} is a second pause in a row"),
            "write one pause after a weight",
        )),
        (None, pause, Some(last)) => {
            last.pause = pause;
            Ok(())
        }
        (Some(percent), _, Some(last)) if percent <= last.percent => Err(bad(
            format!(
                "weight {percent}% in {within} is not more than the {}% before it",
                last.percent
            ),
            "write growing weights",
        )),
        (Some(percent), pause, _) => {
            shifts.push(Shift {
                percent,
                pause,
                analysis: false,
            });
            Ok(())
        }
    }?;
    let analysis = map.get("analysis").map(|value| match value {
        Value::Bool(own) => Ok(*own),
        other => Err(bad(
            format!("analysis in {within}: {other} is neither true nor false"),
            FORM,
        )),
    });
    let analysis = analysis.transpose()?.unwrap_or(false);
    match shifts.last_mut().filter(|_| analysis) {
        Some(Shift { pause: None, .. }) => Err(bad(
            format!("analysis in {within} has no time: the step has no pause"),
            "write how long it takes, such as pause: 60s",
        )),
        Some(shift) => {
            shift.analysis = true;
            Ok(())
        }
        None => Ok(()),
    }
}

fn refuse_keys(map: &Map<String, Value>, within: &str) -> Result<()> {
    match map.keys().find(|key| !KEYS.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let near = did_you_mean(key, KEYS).map(|near| format!("; did you mean {near}?"));
            let near = near.unwrap_or_default();
            Err(bad(format!("unknown key {key} in {within}{near}"), FORM))
        }
    }
}

/// `10%`, or the number alone.
fn percent(value: &Value, within: &str) -> Result<u16> {
    let number = match value {
        Value::String(text) => text.strip_suffix('%').unwrap_or(text).trim().parse().ok(),
        other => other.as_u64(),
    };
    let number = number.and_then(|own| u16::try_from(own).ok());
    number.filter(|own| (1..=100).contains(own)).ok_or_else(|| {
        bad(
            format!("weight in {within}: {value} is not a percentage from 1% to 100%"),
            FORM,
        )
    })
}

/// A duration; `{}` and `true` are a pause that a person ends.
fn pause(value: &Value, within: &str) -> Result<Pause> {
    let refuse = |why: String| bad(format!("pause in {within}: {why}"), FORM);
    let span = match value {
        Value::Bool(true) => return Ok(Pause::Open),
        Value::Object(map) if map.is_empty() => return Ok(Pause::Open),
        Value::String(text) => settings::duration(text),
        Value::Number(seconds) => settings::duration(&seconds.to_string()),
        other => Err(format!("{other} is neither a duration nor {{}}")),
    };
    let span = span.map_err(refuse)?;
    match span.is_zero() {
        true => Err(refuse("it must be longer than zero".to_owned())),
        false => Ok(Pause::Timed(span)),
    }
}

const FORM: &str = "write them as steps: [{weight: 10%, pause: 60s}, {weight: 50%, pause: {}}]; see rollout help settings";

fn bad(message: String, hint: &str) -> Error {
    Error::refused(message).hint(hint)
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};
    use serde_json::json;

    use super::*;
    use crate::arbitrary::replaced;

    fn steps(steps: Value) -> Result<Vec<Shift>> {
        read("web", Some(&json!({ "steps": steps })))
    }

    fn shift(percent: u16, pause: Option<Pause>) -> Shift {
        Shift {
            percent,
            pause,
            analysis: false,
        }
    }

    #[test]
    fn an_analysis_needs_a_pause_and_is_one_of_the_step() {
        let read = steps(
            json!([{"weight": "10%", "pause": "30s", "analysis": true}, {"weight": "50%", "pause": true, "analysis": false}]),
        );
        let all: Vec<bool> = read.unwrap().iter().map(|own| own.analysis).collect();
        assert_eq!(all, [true, false]);
        for (step, said) in [
            (
                json!({"weight": "10%", "analysis": true}),
                "has no time: the step has no pause",
            ),
            (
                json!({"weight": "10%", "pause": "1s", "analysis": "on"}),
                "is neither true nor false",
            ),
        ] {
            let error = steps(json!([step])).unwrap_err();
            assert!(error.message.contains(said), "{error}");
        }
    }

    #[test]
    fn steps_are_shares_with_pauses_and_the_last_one_is_the_cutover() {
        let timed = |seconds| Some(Pause::Timed(Duration::from_secs(seconds)));
        let open = Some(Pause::Open);
        for (given, wanted) in [
            (
                json!([{"weight": "10%", "pause": "30s"}, {"weight": "50%"}, {"pause": {}}, {"weight": "100%"}]),
                vec![shift(10, timed(30)), shift(50, open)],
            ),
            (
                json!([{"weight": 5, "pause": true}, {"weight": "20 %", "pause": 90}]),
                vec![shift(5, open), shift(20, timed(90))],
            ),
            (json!([{"weight": "99%"}]), vec![shift(99, None)]),
            (
                json!(null),
                vec![shift(10, timed(60)), shift(50, timed(60))],
            ),
        ] {
            assert_eq!(steps(given.clone()), Ok(wanted), "{given}");
        }
        assert_eq!(read("web", None), Ok(default()));
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn a_mistake_in_the_steps_is_one_line_that_names_it() {
        for (given, said) in [
            (
                json!({"weight": "10%"}),
                "steps in x-rollout of web is not a list",
            ),
            (json!([]), "move no part of the traffic"),
            (json!([{"weight": "100%"}]), "move no part of the traffic"),
            (
                json!(["10%"]),
                "step 1 of steps in x-rollout of web is not a mapping: \"10%\"",
            ),
            (json!([{}]), "has neither weight nor pause"),
            (
                json!([{"weight": "0%"}]),
                "\"0%\" is not a percentage from 1% to 100%",
            ),
            (json!([{"weight": "101%"}]), "\"101%\" is not a percentage"),
            (json!([{"weight": "2.5%"}]), "\"2.5%\" is not a percentage"),
            (
                json!([{"weight": "50%"}, {"weight": "50%"}]),
                "weight 50% in step 2",
            ),
            (
                json!([{"weight": "50%"}, {"weight": "10%"}]),
                "is not more than the 50% before it",
            ),
            (
                json!([{"pause": "5s"}, {"weight": "10%"}]),
                "is a pause before the first weight",
            ),
            (
                json!([{"weight": "10%", "pause": "5s"}, {"pause": {}}]),
                "is a second pause in a row",
            ),
            (
                json!([{"weight": "10%", "pause": "0s"}]),
                "it must be longer than zero",
            ),
            (
                json!([{"weight": "10%", "pause": "soon"}]),
                "pause in step 1",
            ),
            (
                json!([{"weight": "10%", "pause": null}]),
                "null is neither a duration nor {}",
            ),
            (
                json!([{"weight": "10%"}, {"weight": "100%", "pause": {}}]),
                "end with a pause at 100 %",
            ),
            (
                json!([{"weight": "10%", "analysis": true}]),
                "analysis in step 1",
            ),
            (
                json!([{"wieght": "10%"}]),
                "unknown key wieght in step 1 of steps in x-rollout of web; did you mean weight?",
            ),
        ] {
            let error = steps(given.clone()).unwrap_err();
            assert!(error.message.contains(said), "{given}: {error}");
            assert!(error.hint.is_some() && !error.message.contains('\n'));
        }
    }

    #[test]
    fn steps_beside_another_strategy_are_refused_unless_a_flag_names_it() {
        let own = json!({"steps": [{"weight": "10%"}]});
        let refused = |strategy, by_flag| refuse_idle("web", Some(&own), (strategy, by_flag));
        let error = refused(Strategy::BlueGreen, false).unwrap_err();
        assert_eq!(
            error.message,
            "steps in x-rollout of web have no effect with the strategy blue-green"
        );
        assert_eq!(refused(Strategy::BlueGreen, true), Ok(()));
        assert_eq!(refused(Strategy::Canary, false), Ok(()));
    }

    proptest! {
        #[test]
        fn steps_of_any_type_are_shares_that_grow_or_one_line(
            value in replaced(json!([{"weight": "10%", "pause": "30s"}, {"weight": 50, "pause": {}}])),
        ) {
            match steps(value) {
                Ok(read) => prop_assert!(read.is_sorted_by(|a, b| a.percent < b.percent)),
                Err(error) => prop_assert!(!error.message.contains('\n'), "{}", error),
            }
        }
    }
}
