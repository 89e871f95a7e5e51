//! The hooks of a service, `x-rollout.hooks`: what runs in each phase of a rollout.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    error::{Error, Result, did_you_mean},
    model::HookPhase,
    settings,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Where a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a one-off container of the new image.
    Run,
    /// In one new replica.
    Exec,
    /// On the machine of the CLI, in the project's directory.
    Host,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub place: Place,
    pub command: Vec<String>,
    pub timeout: Duration,
}

pub type Hooks = BTreeMap<HookPhase, Vec<Hook>>;

/// Reads the hooks of a service; a mistake is refused with one line.
pub fn read(service: &str, x_rollout: Option<&Value>) -> Result<Hooks> {
    let place = format!("hooks in x-rollout of {service}");
    let phases = match x_rollout.and_then(|own| own.get(settings::HOOKS)) {
        None | Some(Value::Null) => return Ok(Hooks::new()),
        Some(Value::Object(phases)) => phases,
        Some(_) => return Err(bad(format!("{place} is not a mapping of phases to hooks"))),
    };
    let names = HookPhase::ALL.map(HookPhase::name);
    let mut hooks = Hooks::new();
    for (key, value) in phases {
        let mut known = HookPhase::ALL.into_iter();
        let phase = known.find(|phase| phase.name() == key);
        let phase = phase.ok_or_else(|| unknown(key, &place, &names))?;
        let all = match value {
            Value::Null => Vec::new(),
            Value::Array(all) => all.iter().collect(),
            one => vec![one],
        };
        let place = format!("{key} of {place}");
        let all: Result<Vec<Hook>> = all
            .into_iter()
            .map(|own| hook(own, phase, &place))
            .collect();
        let all = all?;
        if !all.is_empty() {
            hooks.insert(phase, all);
        }
    }
    Ok(hooks)
}

/// The longest that the hooks of a phase run.
pub fn limit(hooks: &[Hook]) -> Duration {
    hooks.iter().map(|hook| hook.timeout).sum()
}

const PLACES: [(&str, Place); 3] = [
    ("run", Place::Run),
    ("exec", Place::Exec),
    ("host", Place::Host),
];

/// `within` is the hook's place in the file, for messages.
fn hook(value: &Value, phase: HookPhase, within: &str) -> Result<Hook> {
    let Value::Object(map) = value else {
        return Err(bad(format!("{within}: {value} is not a hook")));
    };
    let keys = ["run", "exec", "host", "timeout"];
    if let Some(key) = map.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(unknown(key, within, &keys));
    }
    let mut given = PLACES.into_iter().filter(|(key, _)| map.contains_key(*key));
    let (Some((key, place)), None) = (given.next(), given.next()) else {
        let message = format!("{within}: a hook has one of run, exec and host");
        return Err(bad(message));
    };
    if place == Place::Exec && matches!(phase, HookPhase::PreDeploy | HookPhase::Failed) {
        let message = format!("{within}: exec has no new replica to run in; use run or host");
        return Err(bad(message));
    }
    let refuse = |key: &str, why: String| bad(format!("{key} in {within}: {why}"));
    Ok(Hook {
        place,
        command: command(&map[key]).map_err(|why| refuse(key, why))?,
        timeout: settings::span(map.get("timeout"), DEFAULT_TIMEOUT)
            .map_err(|why| refuse("timeout", why))?,
    })
}

/// A list is read as in Compose's `command`; a text is a command line for a shell.
fn command(value: &Value) -> Result<Vec<String>, String> {
    let word = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other => Err(format!("{other} is not a word of a command")),
    };
    let words = match value {
        Value::String(line) if !line.trim().is_empty() => {
            ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
        }
        Value::Array(words) => words.iter().map(word).collect::<Result<_, _>>()?,
        _ => Vec::new(),
    };
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err(format!("{value} is not a command; write a text or a list")),
    }
}

fn unknown(key: &str, place: &str, known: &[&str]) -> Error {
    let hint = did_you_mean(key, known.iter().copied()).map_or_else(
        || format!("known are {}", known.join(", ")),
        |near| format!("did you mean {near}?"),
    );
    bad(format!("unknown key {key} in {place}; {hint}"))
}

fn bad(message: String) -> Error {
    Error::refused(message).hint("rollout help hooks has examples")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};
    use serde_json::json;

    use super::*;
    use crate::arbitrary::replaced;

    fn of(hooks: Value) -> Result<Hooks> {
        read("web", Some(&json!({ "hooks": hooks })))
    }

    fn message(hooks: Value) -> String {
        let error = of(hooks).unwrap_err();
        assert_eq!(error.outcome, crate::error::Outcome::Refused);
        error.message
    }

    #[test]
    fn a_list_is_run_as_it_stands_and_a_text_by_a_shell() {
        let hooks = of(json!({
            "pre-deploy": {"run": ["./manage", "migrate", 7], "timeout": "10m"},
            "post-deploy": [{"host": "./notify.sh && echo done"}, {"exec": ["/app"], "timeout": 3}],
            "failed": null,
        }));
        let hook = |place, command: &[&str], seconds| Hook {
            place,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: Duration::from_secs(seconds),
        };
        let shell = ["/bin/sh", "-c", "./notify.sh && echo done"];
        let wanted = Hooks::from([
            (
                HookPhase::PreDeploy,
                vec![hook(Place::Run, &["./manage", "migrate", "7"], 600)],
            ),
            (
                HookPhase::PostDeploy,
                vec![
                    hook(Place::Host, &shell, 300),
                    hook(Place::Exec, &["/app"], 3),
                ],
            ),
        ]);
        assert_eq!(hooks.unwrap(), wanted);
        assert_eq!(limit(&wanted[&HookPhase::PostDeploy]).as_secs(), 303);
        assert_eq!(read("web", Some(&json!({"wait": "3s"}))), Ok(Hooks::new()));
        assert_eq!(read("web", None), Ok(Hooks::new()));
    }

    #[test]
    fn a_mistake_is_one_line_that_names_it_and_its_place() {
        let of_web = "pre-deploy of hooks in x-rollout of web";
        for (hooks, wanted) in [
            (
                json!({"pre-deplyo": {"run": "x"}}),
                "unknown key pre-deplyo in hooks in x-rollout of web; did you mean pre-deploy?"
                    .to_owned(),
            ),
            (
                json!({"pre-deploy": {"run": "x", "timeot": "3s"}}),
                format!("unknown key timeot in {of_web}; did you mean timeout?"),
            ),
            (
                json!({"pre-deploy": {"run": "x", "host": "y"}}),
                format!("{of_web}: a hook has one of run, exec and host"),
            ),
            (
                json!({"pre-deploy": {"timeout": "3s"}}),
                format!("{of_web}: a hook has one of run, exec and host"),
            ),
            (
                json!({"pre-deploy": {"run": "x", "timeout": "soon"}}),
                format!(
                    "timeout in {of_web}: \"soon\" is not a duration; write 30s, 1m30s, 250ms or a number of seconds"
                ),
            ),
            (
                json!({"pre-deploy": {"run": "x", "timeout": 0}}),
                format!("timeout in {of_web}: it must be longer than zero"),
            ),
            (
                json!({"pre-deploy": {"exec": "x"}}),
                format!("{of_web}: exec has no new replica to run in; use run or host"),
            ),
            (
                json!({"pre-deploy": {"run": [[]]}}),
                format!("run in {of_web}: [] is not a word of a command"),
            ),
            (
                json!({"pre-deploy": "./migrate"}),
                format!("{of_web}: \"./migrate\" is not a hook"),
            ),
            (
                json!("x"),
                "hooks in x-rollout of web is not a mapping of phases to hooks".to_owned(),
            ),
        ] {
            assert_eq!(message(hooks), wanted);
        }
        for empty in [
            json!(""),
            json!([]),
            json!(["", "x"]),
            json!(null),
            json!(3),
        ] {
            let said = message(json!({"pre-deploy": [{ "run": empty }]}));
            assert!(said.contains("is not a command"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn hooks_of_any_shape_are_read_or_refused_in_one_line(
            value in replaced(json!({"pre-deploy": {"run": ["a", "b"], "timeout": "3s"}, "failed": [{"host": "x"}]})),
        ) {
            match of(value) {
                Ok(hooks) => {
                    let mut all = hooks.values().flatten();
                    prop_assert!(all.all(|hook| !hook.command.is_empty() && !hook.timeout.is_zero()));
                }
                Err(error) => prop_assert!(!error.message.contains('\n'), "{}", error),
            }
        }
    }
}
