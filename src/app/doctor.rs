//! `rollout doctor`: gathers the facts, prints the findings, and changes nothing.

mod gather;

use super::{
    opened::{Opened, endpoint, no_part, read_project},
    print,
};
use crate::{
    cli::DoctorArgs,
    compose::Compose,
    docker::engine::Engine,
    doctor::{self, Check, Finding, Fix, Level},
    error::{Error, Result},
    event::Events,
    report::{Output, findings},
    swarm,
};

/// Prints the findings on standard output; an error with code 1 if one of them fails.
pub async fn show(asked: &DoctorArgs, events: &Events) -> Result<()> {
    let found = look(asked, events).await?;
    let text = match asked.target.output {
        Some(Output::Json) => findings::json(&found),
        _ => findings::human(&found),
    };
    print(text.as_bytes());
    let failed: Vec<&Finding> = found
        .iter()
        .filter(|own| own.level == Level::Fail)
        .collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(blocked(&failed, &asked.services)),
    }
}

fn blocked(failed: &[&Finding], services: &[String]) -> Error {
    let blocking = match failed.len() {
        1 => "1 problem blocks".to_owned(),
        many => format!("{many} problems block"),
    };
    let again = [&["rollout doctor".to_owned()], services]
        .concat()
        .join(" ");
    // Without an engine or Compose, the file was not read.
    let below = |own: &&Finding| matches!(own.check, Check::Engine | Check::Compose);
    let first = match failed.iter().any(below) {
        true => "apply the fix above",
        false => "fix the Compose file as shown",
    };
    Error::failed(format!("{blocking} zero-downtime rollouts"))
        .hint(format!("{first}, then run again: {again}"))
}

async fn look(asked: &DoctorArgs, events: &Events) -> Result<Vec<Finding>> {
    let engine = match Engine::connect(endpoint(&asked.target).await?, events).await {
        Ok(engine) => engine,
        Err(error) => return Ok(vec![foundation(Check::Engine, "docker", &error)]),
    };
    if let Some(name) = asked.target.project()
        && let Ok(Some(stack)) = swarm::find(&engine, &name).await
    {
        return Err(no_part(&stack));
    }
    let compose = match Compose::find(asked.target.invocation(), engine.endpoint().clone()).await {
        Ok(compose) => compose,
        Err(error) => return Ok(vec![foundation(Check::Compose, "docker compose", &error)]),
    };
    let names: Vec<&str> = asked.services.iter().map(String::as_str).collect();
    let project = read_project(&compose, &names).await?;
    let opened = Opened {
        engine,
        compose,
        project,
    };
    Ok(doctor::examine(&gather::facts(asked, &opened).await?))
}

fn foundation(check: Check, subject: &str, error: &Error) -> Finding {
    Finding::fail(check, subject, &error.message).fix(Fix::of_hint(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_engine_the_hint_is_not_to_fix_the_compose_file() {
        let hint = |check| {
            let found = Finding::fail(check, "x", "y");
            blocked(&[&found], &["web".to_owned()]).hint.unwrap()
        };
        for check in [Check::Engine, Check::Compose] {
            assert!(!hint(check).contains("Compose file"), "{}", hint(check));
            assert!(hint(check).ends_with("run again: rollout doctor web"));
        }
        assert!(hint(Check::Api).contains("Compose file"));
    }
}
