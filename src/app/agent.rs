//! `rollout agent`: checks whether images have moved, and has this program roll the services with `auto` in `x-rollout`.

mod child;
mod look;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, sleep_until},
};

use self::{
    child::{Ended, Refusal},
    look::{Step, Steps},
};
use super::{notify::notify_of_refusal, opened::Opened, signals::signals};
use crate::{
    agent::{
        Shared,
        auto::{self, Autos},
        webhook::{self, Token},
    },
    cli::AgentArgs,
    error::{Error, Outcome, Result},
    event::Events,
    execute,
    stack::{graph::Order, outcome::WORST},
};

/// The least time between two checks.
const APART: Duration = Duration::from_secs(10);
/// The longest time until the next check after one that failed as a whole.
const RETRY: Duration = Duration::from_secs(30);
/// A rollout that waits at a pause would keep the agent from all other services.
const NO_WAIT: &str = "--attach=false";

pub async fn agent(args: &AgentArgs, events: &Events) -> Result<ExitCode> {
    if args.target.files.iter().any(|file| file == "-") {
        let message =
            "an agent reads the Compose file at each check, so it cannot be standard input";
        return Err(Error::refused(message).hint("name a file: rollout agent -f FILE"));
    }
    let token = args.token_file.as_deref().map(Token::read).transpose()?;
    let interrupted = signals()?;
    let opened = Opened::of(&args.target, &[], events).await?;
    let autos = auto::read(&opened.project)?;
    refuse(&autos, args)?;
    let rolled = autos.keys().cloned().collect();
    let mut agent = Agent {
        args,
        events,
        interrupted,
        shared: Arc::new(Shared::new(token, args.interval, rolled)),
        said: BTreeMap::new(),
        refused: BTreeMap::new(),
    };
    if args.once {
        return agent.pass(None).await.map(ExitCode::from);
    }
    let address = args.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::refused(format!("cannot listen on {address}: {error}"))
            .hint("name another address: rollout agent --listen 127.0.0.1:8091")
    })?;
    let names: Vec<&str> = autos.keys().map(String::as_str).collect();
    let (names, interval) = (names.join(", "), humantime::format_duration(args.interval));
    events.notice(format!(
        "rolls {names} when an image moves, checked every {interval}; http://{address}"
    ));
    let shared = Arc::clone(&agent.shared);
    tokio::select! {
        () = webhook::serve(listener, shared) => {}
        () = agent.run() => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn refuse(autos: &Autos, args: &AgentArgs) -> Result<()> {
    if autos.is_empty() {
        return Err(
            Error::refused("no service of the Compose file has x-rollout: { auto: true }")
                .hint("add it to each service that is to be rolled; see rollout help agent"),
        );
    }
    let windows = autos.iter().filter(|_| !args.once);
    let windows = windows.filter_map(|(name, window)| Some((name, window.as_ref()?)));
    for (name, window) in windows {
        if window.length() < args.interval {
            let interval = humantime::format_duration(args.interval);
            return Err(Error::refused(format!(
                "the window of {name}, {window}, is shorter than --interval {interval}: no check may fall into it"
            ))
            .hint("give a shorter --interval"));
        }
    }
    Ok(())
}

struct Agent<'a> {
    args: &'a AgentArgs,
    events: &'a Events,
    interrupted: watch::Receiver<bool>,
    shared: Arc<Shared>,
    /// The last line about each service, which is not repeated.
    said: BTreeMap<String, String>,
    /// Why services were refused when they were last to be rolled.
    refused: BTreeMap<String, String>,
}

impl Agent<'_> {
    /// Checks and rolls until a signal.
    async fn run(&mut self) {
        let (mut only, mut whole) = (None, Instant::now());
        loop {
            let began = Instant::now();
            if only.is_none() {
                whole = began;
            }
            self.shared.state().checked = began;
            let trouble = self.pass(only.as_ref()).await.err().map(|own| own.message);
            let has_failed = trouble.is_some();
            match trouble {
                Some(text) => self.say(self.events, "", text),
                None => drop(self.said.remove("")),
            }
            let interval = match has_failed {
                true => self.args.interval.min(RETRY),
                false => self.args.interval,
            };
            self.shared.state().has_failed = has_failed;
            only = self.wait(whole + interval, began + APART).await;
            if self.is_interrupted() {
                return;
            }
        }
    }

    /// Waits for the next check. Returns the services that the webhook asks for; `None` for a check of all.
    async fn wait(&self, next: Instant, earliest: Instant) -> Option<BTreeSet<String>> {
        let mut interrupted = self.interrupted.clone();
        let asked = async {
            self.shared.called.notified().await;
            sleep_until(earliest).await;
        };
        tokio::select! {
            () = execute::raised(&mut interrupted) => None,
            () = sleep_until(next) => {
                self.shared.take_asked();
                None
            }
            () = asked => Some(self.shared.take_asked()),
        }
    }

    fn is_interrupted(&self) -> bool {
        *self.interrupted.borrow()
    }

    /// Checks all services, or only these; settles what is unfinished, then rolls what has moved. After a
    /// signal nothing more is started. Returns the exit code.
    async fn pass(&mut self, only: Option<&BTreeSet<String>>) -> Result<u8> {
        let (mut opened, mut steps) = self.look(only).await?;
        let mut codes = Vec::new();
        for service in of(&steps, |step| *step == Step::Settle) {
            if self.is_interrupted() {
                return Ok(worst(&codes));
            }
            let words = ["resume", NO_WAIT].map(str::to_owned);
            codes.push(self.start(&words, &[service]).await?.code);
        }
        if !codes.is_empty() {
            (opened, steps) = self.look(only).await?;
        }
        if steps.values().any(|step| matches!(step, Step::Unknown(_))) {
            codes.push(Outcome::Failed as u8);
        }
        if let Some(opened) = opened {
            codes.extend(self.roll(&opened, steps).await?);
        }
        Ok(worst(&codes))
    }

    /// Rolls what has moved. What is refused is left out, with all that needs it, and the others are rolled. Returns the exit
    /// codes.
    async fn roll(&mut self, opened: &Opened, mut steps: Steps) -> Result<Vec<u8>> {
        steps.retain(|_, step| matches!(step, Step::Roll(_)));
        let names: Vec<String> = steps.keys().cloned().collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let order = Order::of(&opened.project, &names)?;
        let mut codes = Vec::new();
        while !steps.is_empty() && !self.is_interrupted() {
            let moved: Vec<String> = steps.keys().cloned().collect();
            let ended = self.start(&to_roll(&steps), &moved).await?;
            self.count(&ended);
            codes.push(ended.code);
            let Some(refusal) = ended.refusal else {
                self.refused.retain(|service, _| !moved.contains(service));
                break;
            };
            let held = leave_out(&mut steps, &order, &refusal.service);
            self.report_refusal(opened, &refusal, &held).await;
        }
        Ok(codes)
    }

    /// Notifies of a refusal once, until it is another one.
    async fn report_refusal(&mut self, opened: &Opened, refusal: &Refusal, held: &[&str]) {
        let (service, message) = (&refusal.service, &refusal.message);
        let before = self.refused.insert(service.clone(), message.clone());
        if before.as_ref() == Some(message) {
            return;
        }
        let events = opened.events(self.events, service);
        if !held.is_empty() {
            let held = held.join(", ");
            events.notice(format!(
                "not rolled, since {service} is refused, which they need: {held}"
            ));
        }
        notify_of_refusal(opened, service, &refusal.event(), &events).await;
    }

    /// Looks at the services, and says what is done about each; nothing is done after a signal.
    async fn look(&mut self, only: Option<&BTreeSet<String>>) -> Result<(Option<Opened>, Steps)> {
        let mut interrupted = self.interrupted.clone();
        let looked = look::look(&self.args.target, &self.shared, only);
        let (opened, steps) = tokio::select! {
            biased;
            () = execute::raised(&mut interrupted) => return Ok((None, Steps::new())),
            looked = looked => looked?,
        };
        for (service, step) in &steps {
            let needs_person = matches!(step, Step::Person(_));
            if needs_person {
                self.shared.state().metrics.waiting.insert(service.clone());
            } else {
                self.shared.state().metrics.waiting.remove(service);
            }
            if !matches!(step, Step::Roll(_)) {
                self.refused.remove(service);
            }
            match step.text() {
                Some(text) => {
                    let events = opened.events(self.events, service);
                    self.say(&events, service, format!("{service}: {text}"));
                }
                None => drop(self.said.remove(service)),
            }
        }
        Ok((Some(opened), steps))
    }

    /// A line that was the last about its service is not repeated at each check.
    fn say(&mut self, events: &Events, service: &str, text: String) {
        if self.said.get(service) != Some(&text) {
            events.notice(&text);
            self.said.insert(service.to_owned(), text);
        }
    }

    /// Starts this program with these words, and waits for its end.
    async fn start(&mut self, words: &[String], services: &[String]) -> Result<Ended> {
        self.shared.state().is_rolling = true;
        let ended = child::run(&self.args.target, words, services, &self.interrupted).await;
        let mut state = self.shared.state();
        (state.is_rolling, state.checked) = (false, Instant::now());
        ended
    }

    fn count(&self, ended: &Ended) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let mut state = self.shared.state();
        for (service, result) in &ended.results {
            state.metrics.ended(service, result, now);
        }
    }
}

/// The command that rolls what was decided; under its lock it checks each digest again.
fn to_roll(steps: &Steps) -> Vec<String> {
    let begin = ["up", "--pull", "always", NO_WAIT].map(str::to_owned);
    let decided = steps.iter().filter_map(|(service, step)| match step {
        Step::Roll(digest) => Some(format!("--decided={service}={digest}")),
        _ => None,
    });
    begin.into_iter().chain(decided).collect()
}

/// Takes a service and all that needs it out of what is rolled. Returns the names of the others.
fn leave_out<'a>(steps: &mut Steps, order: &Order<'a>, refused: &str) -> Vec<&'a str> {
    steps.remove(refused);
    let held = order
        .services
        .iter()
        .filter(|own| own.needs.contains(refused));
    let held = held.filter(|own| steps.remove(own.name).is_some());
    held.map(|own| own.name).collect()
}

fn of(steps: &Steps, is: impl Fn(&Step) -> bool) -> Vec<String> {
    let all = steps.iter().filter(|(_, step)| is(step));
    all.map(|(service, _)| service.clone()).collect()
}

/// The exit code of several runs. A code that is in no list is a failure.
fn worst(codes: &[u8]) -> u8 {
    let all = WORST.map(|own| own as u8);
    let failed = Outcome::Failed as u8;
    let known = |code: &u8| match *code {
        0 => 0,
        code if all.contains(&code) => code,
        _ => failed,
    };
    let codes: Vec<u8> = codes.iter().map(known).collect();
    let worst = all.into_iter().find(|code| codes.contains(code));
    worst.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &str) -> AgentArgs {
        let words = ["rollout", "agent"]
            .into_iter()
            .chain(words.split_whitespace());
        match crate::cli::parse(words.map(Into::into)) {
            Ok(crate::cli::Command::Agent(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_agent_without_services_or_with_a_window_that_it_may_miss_is_refused() {
        let window = |text: &str| Autos::from([("web".to_owned(), text.parse().ok())]);
        let (none, hour) = (Autos::new(), window("02:00-03:00 UTC"));
        assert!(
            refuse(&none, &args(""))
                .unwrap_err()
                .message
                .starts_with("no service")
        );
        refuse(&hour, &args("--interval 1h")).unwrap();
        let error = refuse(&hour, &args("--interval 61m")).unwrap_err();
        let begin = "the window of web, 02:00-03:00 UTC, is shorter than --interval 1h 1m";
        assert!(error.message.starts_with(begin), "{error}");
        refuse(&hour, &args("--interval 61m --once")).unwrap();
    }

    #[test]
    fn a_refused_service_is_left_out_with_all_that_needs_it() {
        let project = crate::compose::resolved(
            "name: p
services:
  api: {image: a}
  mail: {image: a}
  web: {image: a, depends_on: {api: {condition: service_started, required: true}}}
",
        )
        .unwrap();
        let order = Order::of(&project, &["api", "mail", "web"]).unwrap();
        let all = ["api", "mail", "web"].map(|name| (name.to_owned(), Step::Roll("d".to_owned())));
        let mut steps = Steps::from(all);
        assert_eq!(leave_out(&mut steps, &order, "api"), ["web"]);
        let words = to_roll(&steps).join(" ");
        assert_eq!(words, "up --pull always --attach=false --decided=mail=d");
        assert_eq!(leave_out(&mut steps, &order, "mail"), [""; 0]);
        assert!(steps.is_empty());
    }

    #[test]
    fn the_worst_exit_code_counts() {
        assert_eq!(worst(&[]), 0);
        assert_eq!(worst(&[0, 5, 1]), 1);
        assert_eq!(worst(&[130, 3]), 3);
        assert_eq!(worst(&[0, 101]), 1, "a crash");
        assert_eq!(worst(&[101, 3]), 3);
    }
}
