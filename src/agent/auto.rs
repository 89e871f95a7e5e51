//! `auto` in `x-rollout` of a service: whether the agent rolls it, and when.

use std::collections::BTreeMap;

use serde_json::Value;

use super::window::Window;
use crate::{
    compose::{Project, Service},
    error::{Error, Result},
    settings::{AUTO, boolean},
};

/// The services that the agent rolls, each with its window.
pub type Autos = BTreeMap<String, Option<Window>>;

/// Refused with one line where a service has a value that cannot be read, or runs only once.
pub fn read(project: &Project) -> Result<Autos> {
    let mut autos = Autos::new();
    for service in project.services.values() {
        let name = &service.name;
        let own = of(service).map_err(|why| {
            let message = format!("{AUTO} in x-rollout of {name}: {why}");
            Error::refused(message).hint("rollout help agent")
        })?;
        if own.is_some() && project.runs_once(service) {
            let message = format!(
                "{AUTO} in x-rollout of {name}: it runs to completion, and the agent rolls only what keeps running"
            );
            return Err(Error::refused(message).hint(
                "remove it; what has to run before a rollout is a hook of that service: x-rollout: { hooks: { pre-deploy: … } }",
            ));
        }
        autos.extend(own.map(|window| (name.clone(), window)));
    }
    Ok(autos)
}

/// Whether the agent rolls a service, and its window; the error is one line.
pub fn of(service: &Service) -> Result<Option<Option<Window>>, String> {
    let value = service.x_rollout.as_ref().and_then(|own| own.get(AUTO));
    let whole = |is_on: bool| is_on.then_some(None);
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(is_on)) => Ok(whole(*is_on)),
        Some(Value::String(text)) => boolean(text).map(whole),
        Some(Value::Object(map)) => {
            if let Some(key) = map.keys().find(|key| *key != "window") {
                return Err(format!("unknown key {key}; known is window"));
            }
            let window = map
                .get("window")
                .map(|own| own.as_str().unwrap_or_default());
            window.map(str::parse).transpose().map(Some)
        }
        Some(other) => Err(format!(
            "{other} is neither true nor false, nor a mapping with a window"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn autos(value: &str) -> Result<Autos> {
        let text = format!(
            "name: p\nservices: {{web: {{image: a, x-rollout: {{{value}}}}}, db: {{image: b}}}}"
        );
        read(&crate::compose::resolved(&text).unwrap())
    }

    #[test]
    fn only_what_says_so_is_rolled_and_in_its_window() {
        for (value, windows) in [
            ("bake: 1m", vec![]),
            ("auto: false", vec![]),
            ("auto: true", vec![None]),
            ("auto: 'yes'", vec![None]),
            ("auto: {}", vec![None]),
            (
                "auto: {window: '02:00-05:00 UTC'}",
                vec!["02:00-05:00 UTC".parse().ok()],
            ),
        ] {
            let found: Vec<_> = autos(value).unwrap().into_values().collect();
            assert_eq!(found, windows, "{value}");
        }
    }

    #[test]
    fn what_runs_only_once_is_refused() {
        let text = "name: p\nservices: {
            job: {image: a, x-rollout: {auto: true}},
            web: {image: b, depends_on: {job: {condition: service_completed_successfully}}}}";
        let error = read(&crate::compose::resolved(text).unwrap()).unwrap_err();
        assert!(
            error.message.contains("job: it runs to completion"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_the_name_of_its_service() {
        for (value, why) in [
            (
                "auto: 3",
                "3 is neither true nor false, nor a mapping with a window",
            ),
            ("auto: maybe", "\"maybe\" is neither true nor false"),
            ("auto: {windw: x}", "unknown key windw; known is window"),
            ("auto: {window: 3}", "\"\" is not a window"),
        ] {
            let error = autos(value).unwrap_err();
            let begin = format!("auto in x-rollout of web: {why}");
            assert!(error.message.starts_with(&begin), "{error}");
        }
    }
}
