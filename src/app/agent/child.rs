//! One run of this program that the agent starts: its options, its end, and what became of each service.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write},
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::watch,
};

use crate::{
    agent::metrics::ROLLED,
    app::EVENT_LOG,
    cli::TargetArgs,
    error::{Error, Outcome, Result},
    event::Event,
    execute,
    report::Output,
};

/// The events that say how services ended.
const ENDS: [&str; 3] = ["finished", "stack_finished", "failed"];
const REFUSED: u8 = Outcome::Refused as u8;

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: u8,
    /// The result of each service, as `stack_finished` has it.
    pub results: BTreeMap<String, String>,
    /// The service because of which nothing was touched, where that is one.
    pub refusal: Option<Refusal>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub service: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Refusal {
    pub fn event(&self) -> Event {
        Event::Failed {
            message: self.message.clone(),
            code: REFUSED,
            hint: self.hint.clone(),
            logs: Vec::new(),
            gap_ms: None,
            is_open: false,
        }
    }
}

/// Runs `rollout WORDS… SERVICE…` with the agent's own options to its end. A signal to the agent is passed on.
///
/// Its lines for people go to the agent's standard error; its events come through a pipe, and go on to where the agent's
/// own events go.
pub async fn run(
    target: &TargetArgs,
    words: &[String],
    services: &[String],
    interrupted: &watch::Receiver<bool>,
) -> Result<Ended> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("rollout").args(target.words());
    let failed = |error| Error::failed(format!("cannot start this program again: {error}"));
    let log = std::env::var_os(EVENT_LOG).filter(|path| !path.is_empty());
    let mut events: Box<dyn Write> = match (target.output, log) {
        (Some(Output::Json), _) => {
            command.args(["--output", "json"]);
            Box::new(io::stdout())
        }
        (_, log) => {
            command.args(["--output", "human"]);
            command.env(EVENT_LOG, "/dev/stdout");
            match log {
                None => Box::new(io::sink()),
                Some(path) => {
                    let file = OpenOptions::new().create(true).append(true).open(path);
                    Box::new(file.map_err(failed)?)
                }
            }
        }
    };
    command.args(words).args(services);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let output = child.stdout.take().map(|own| BufReader::new(own).lines());
    let ends = match output {
        Some(output) => follow(&child, output, &mut *events, interrupted.clone()).await,
        None => Vec::new(),
    };
    let status = child.wait().await.map_err(failed)?;
    // Without a code a signal has ended it: the next check finds what it left.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let code = code.unwrap_or(Outcome::Interrupted as u8);
    let refusal = refusal(services, code, &ends);
    let refused = refusal.as_ref().map(|own| own.service.as_str());
    Ok(Ended {
        code,
        results: results((services, refused), code, &ends),
        refusal,
    })
}

/// Passes all lines on until there are no more. Returns the events that say how services ended.
async fn follow(
    child: &Child,
    mut lines: Lines<BufReader<ChildStdout>>,
    to: &mut dyn Write,
    mut interrupted: watch::Receiver<bool>,
) -> Vec<Value> {
    let mut ends = Vec::new();
    let mut is_passed_on = false;
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return ends };
                // A reader that has gone away is no reason to stop a rollout.
                let _ = writeln!(to, "{line}").and_then(|()| to.flush());
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if ENDS.iter().any(|end| event["event"] == *end) {
                    ends.push(event);
                }
            }
            () = execute::raised(&mut interrupted), if !is_passed_on => {
                is_passed_on = true;
                if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                }
            }
        }
    }
}

fn refusal(services: &[String], code: u8, ends: &[Value]) -> Option<Refusal> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut failed = ends.iter().filter(|own| own["event"] == "failed");
    let failed = failed.find(|own| own["code"] == REFUSED && code == REFUSED)?;
    let service = text(&failed["service"]).filter(|own| services.contains(own))?;
    Some(Refusal {
        service,
        message: text(&failed["message"]).unwrap_or_default(),
        hint: text(&failed["hint"]),
    })
}

/// A service that was refused is the only one that has ended.
fn results(
    (services, refused): (&[String], Option<&str>),
    code: u8,
    ends: &[Value],
) -> BTreeMap<String, String> {
    let stack = ends.iter().find(|own| own["event"] == "stack_finished");
    if let Some(stack) = stack {
        let rows = stack["services"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let rows = rows.filter_map(|row| Some((text(&row["service"])?, text(&row["result"])?)));
        return rows.collect();
    }
    let finished = |own: &&Value| own["event"] == "finished";
    let has_finished = |name: &String| {
        let mut finished = ends.iter().filter(finished);
        finished.any(|own| own["service"] == *name.as_str())
    };
    let result = |name: &String| match code {
        0 if has_finished(name) => ROLLED,
        0 => "unchanged",
        REFUSED => "refused",
        3 => "needs_person",
        4 => "locked",
        5 => "paused",
        130 => "interrupted",
        _ => "failed",
    };
    let each = services.iter();
    let each = each.filter(|name| refused.is_none_or(|own| own == *name));
    each.map(|name| (name.clone(), result(name).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(services: &[&str], code: u8, ends: &[Value]) -> Vec<String> {
        let services: Vec<String> = services.iter().map(|&own| own.to_owned()).collect();
        let refused = refusal(&services, code, ends).map(|own| own.service);
        let results = results((&services, refused.as_deref()), code, ends).into_iter();
        results
            .map(|(name, result)| format!("{name} {result}"))
            .collect()
    }

    #[test]
    fn a_service_alone_ends_as_the_exit_code_says() {
        let finished = json!({"event": "finished", "service": "web"});
        assert_eq!(of(&["web"], 0, &[finished]), ["web rolled"]);
        assert_eq!(of(&["web"], 0, &[]), ["web unchanged"]);
        assert_eq!(of(&["web"], 3, &[]), ["web needs_person"]);
        assert_eq!(of(&["web", "api"], 2, &[]), ["api refused", "web refused"]);
    }

    #[test]
    fn of_several_services_one_is_refused_and_the_others_have_not_ended() {
        let failed = |service: &str, code: u8| json!({"event": "failed", "service": service, "code": code, "message": "no", "hint": "do"});
        let both = ["web", "api"];
        assert_eq!(of(&both, 2, &[failed("web", 2)]), ["web refused"]);
        let whole = json!({"event": "failed", "code": 2, "message": "no", "hint": null});
        assert_eq!(of(&both, 2, &[whole]), ["api refused", "web refused"]);
        let services = both.map(str::to_owned);
        let refused = refusal(&services, 2, &[failed("web", 2)]).unwrap();
        assert_eq!(
            (&*refused.message, refused.hint.as_deref()),
            ("no", Some("do"))
        );
        for (ends, code) in [
            (failed("web", 1), 1),
            (failed("db", 2), 2),
            (failed("web", 2), 1),
        ] {
            assert_eq!(refusal(&services, code, &[ends]), None);
        }
    }

    #[test]
    fn several_services_end_as_their_report_says() {
        let finished = json!({"event": "finished", "service": "api"});
        let rows = json!([
            {"service": "api", "result": "rolled_back"}, {"service": "web", "result": "failed"},
        ]);
        let stack = json!({"event": "stack_finished", "services": rows});
        let found = of(&["web", "api"], 1, &[finished, stack]);
        assert_eq!(found, ["api rolled_back", "web failed"]);
    }
}
