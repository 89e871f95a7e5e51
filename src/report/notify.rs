//! Notifies addresses of how the rollout of a service ends: beside the command, and for a few seconds after it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use reqwest::{Client, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{json::Line, screen::change};
use crate::{
    client,
    error::{Error, Outcome, Result},
    event::{Event, Scope, Sink, host_name},
    model::RolloutId,
    retry,
    settings::{Address, Kind, Notify, Place},
};

/// How long the end of a command waits for notifications.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most characters of a text: Discord takes 2,000.
const LONGEST: usize = 1900;

/// An address with what it needs.
#[derive(Clone)]
pub struct Receiver {
    address: Address,
    token: Option<String>,
    on: Vec<Kind>,
}

impl Receiver {
    /// Reads the files of a setting, whose relative paths begin at `directory`.
    pub fn open(asked: &Notify, directory: &Path) -> Result<Self> {
        let token = asked.token_file.as_ref();
        let token = token.map(|file| first_line(&directory.join(file)));
        let address = match &asked.place {
            Place::Address(address) => address.clone(),
            Place::File(file) => {
                let file = directory.join(file);
                let address = first_line(&file)?.parse();
                address.map_err(|why: String| refused(&file, &why))?
            }
        };
        Ok(Self {
            address,
            token: token.transpose()?,
            on: asked.on.clone(),
        })
    }
}

fn first_line(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).map_err(|error| refused(file, &error.to_string()))?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(refused(file, "its first line is empty")),
    }
}

fn refused(file: &Path, why: &str) -> Error {
    let message = format!("{} of a notification: {why}", file.display());
    Error::refused(message).hint("see rollout help notifications")
}

pub struct Notifications {
    runtime: Handle,
    client: Result<Client, String>,
    /// By service.
    receivers: BTreeMap<String, Vec<Receiver>>,
    seen: BTreeMap<String, Seen>,
    /// What is being sent, and where to.
    sending: Vec<(Address, JoinHandle<Result<(), String>>)>,
}

impl Notifications {
    /// Sends within the runtime that runs the command.
    pub fn new(receivers: BTreeMap<String, Vec<Receiver>>) -> Self {
        let client = client::builder().user_agent(concat!("rollout/", env!("CARGO_PKG_VERSION")));
        Self {
            runtime: Handle::current(),
            client: client.build().map_err(|error| client::reason(&error)),
            receivers,
            seen: BTreeMap::new(),
            sending: Vec::new(),
        }
    }

    /// Sends an event to all that are notified of such an end.
    pub fn notify(&mut self, kind: Kind, (at, scope, event): (SystemTime, &Scope, &Event)) {
        let receivers = self.receivers.get(scope.service());
        let message = Arc::new(Message::of(kind, (at, scope, event)));
        let receivers = receivers.into_iter().flatten();
        for receiver in receivers.filter(|own| own.on.contains(&kind)) {
            let sent = send(self.client.clone(), receiver.clone(), Arc::clone(&message));
            let sent = self.runtime.spawn(sent);
            self.sending.push((receiver.address.clone(), sent));
        }
    }
}

impl Sink for Notifications {
    fn event(&mut self, at: SystemTime, scope: &Scope, event: &Event) {
        if !self.receivers.contains_key(scope.service()) {
            return;
        }
        let seen = self.seen.entry(scope.title()).or_default();
        let Some(kind) = seen.follow(scope, event) else {
            return;
        };
        self.notify(kind, (at, scope, event));
    }

    fn end(&mut self) -> BoxFuture<'static, Vec<String>> {
        let sending = std::mem::take(&mut self.sending);
        Box::pin(async move {
            let until = Instant::now() + PATIENCE;
            let mut failures = Vec::new();
            for (address, sent) in sending {
                let why = match timeout_at(until, sent).await {
                    Ok(Ok(Ok(()))) => continue,
                    Ok(Ok(Err(why))) => why,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => client::LATE.to_owned(),
                };
                failures.push(format!("the notification to {address} failed: {why}"));
            }
            failures.dedup();
            failures
        })
    }
}

/// What a notification depends on beside the event that ends a rollout.
#[derive(Default)]
struct Seen {
    /// The rollout that has moved traffic. A command may first settle an earlier one.
    moved: Option<RolloutId>,
    has_finished: bool,
}

impl Seen {
    /// How the rollout has ended with this event; `None` before its end, and where nothing was touched.
    fn follow(&mut self, scope: &Scope, event: &Event) -> Option<Kind> {
        if let Event::StepStarted {
            step: "shift" | "cutover",
            ..
        } = event
        {
            self.moved.clone_from(&scope.rollout);
        }
        match event {
            // A second end undoes the first, because another service has failed.
            Event::Finished { .. } => match std::mem::replace(&mut self.has_finished, true) {
                true => Some(Kind::Rollback),
                false => Some(Kind::Success),
            },
            Event::Completed { .. } | Event::Settled { forward: true, .. } => Some(Kind::Success),
            Event::Settled { forward: false, .. } => Some(Kind::Rollback),
            Event::Paused { .. } => Some(Kind::Paused),
            // Old and new replicas serve side by side until a person decides.
            Event::Failed { is_open: true, .. } => Some(Kind::NeedsAPerson),
            Event::Failed { code, .. } => self.failure(scope, *code),
            _ => None,
        }
    }

    fn failure(&self, scope: &Scope, code: u8) -> Option<Kind> {
        let is = |outcome: Outcome| code == outcome as u8;
        let has_moved_traffic = self.moved.is_some() && self.moved == scope.rollout;
        match has_moved_traffic {
            _ if is(Outcome::NeedsPerson) => Some(Kind::NeedsAPerson),
            true if is(Outcome::Failed) || is(Outcome::Interrupted) => Some(Kind::Rollback),
            false if is(Outcome::Failed) => Some(Kind::Failure),
            _ => None,
        }
    }
}

/// A notification in each form.
struct Message {
    title: String,
    text: String,
    json: String,
    kind: Kind,
}

/// What a webhook gets: the event, and what Slack and Discord show of it.
#[derive(Serialize)]
struct Body<'a> {
    kind: Kind,
    /// Read by Slack.
    text: String,
    /// Read by Discord.
    content: String,
    /// Of Discord: a message notifies no one by name, whatever stands in it.
    allowed_mentions: Value,
    #[serde(flatten)]
    line: Line<'a>,
}

impl Message {
    fn of(kind: Kind, (at, scope, event): (SystemTime, &Scope, &Event)) -> Self {
        let project = scope.project.as_deref().unwrap_or_default();
        let host = scope.host.as_deref().filter(|_| scope.is_of_hosts());
        let host = host.map_or_else(String::new, |host| format!(" on {}", host_name(host)));
        let title = format!("{project}/{}{host}: {}", scope.service(), look(kind).0);
        let text: String = text(event).chars().take(LONGEST).collect();
        let content = match text.is_empty() {
            true => title.clone(),
            false => format!("{title}\n{text}"),
        };
        let mut event = event.clone();
        // What a container logs may be secret.
        if let Event::Failed { logs, .. } = &mut event {
            logs.clear();
        }
        let body = Body {
            kind,
            text: for_slack(&content),
            content,
            allowed_mentions: json!({"parse": []}),
            line: Line::of(at, scope, &event),
        };
        // Plain values always serialize.
        let json = serde_json::to_string(&body).unwrap_or_default();
        Self {
            title,
            text,
            json,
            kind,
        }
    }
}

/// The word, the priority and the tags of ntfy.
fn look(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Success => ("rolled out", "default", "white_check_mark"),
        Kind::Failure => ("failed", "high", "x"),
        Kind::Rollback => ("rolled back", "high", "leftwards_arrow_with_hook"),
        Kind::NeedsAPerson => ("needs a person", "urgent", "rotating_light"),
        Kind::Paused => ("paused", "default", "hourglass"),
    }
}

/// What there is to say beside how it ended.
fn text(event: &Event) -> String {
    match event {
        Event::Finished {
            image,
            replaces,
            revision,
            ..
        } => {
            let change = change(image, replaces.as_deref());
            format!("{change}, revision {revision}")
        }
        Event::Completed { image, .. } => image.clone(),
        Event::Failed { message, hint, .. } | Event::Paused { message, hint, .. } => {
            let next = hint.iter().map(|hint| format!("\nnext: {hint}"));
            message.clone() + &next.collect::<String>()
        }
        _ => String::new(),
    }
}

/// Slack reads `<…>` as a link or a mention.
fn for_slack(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// Tries twice.
async fn send(
    client: Result<Client, String>,
    receiver: Receiver,
    message: Arc<Message>,
) -> Result<(), String> {
    let client = client?;
    let post = move || post(client.clone(), receiver.clone(), Arc::clone(&message));
    retry::for_a_while(Duration::ZERO, post).await
}

async fn post(client: Client, receiver: Receiver, message: Arc<Message>) -> Result<(), String> {
    let Receiver { address, token, .. } = receiver;
    let mut request = client.post(address.url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let request = match address.is_ntfy {
        true => {
            let (_, priority, tags) = look(message.kind);
            let request = request.header("title", &message.title);
            let request = request.header("priority", priority).header("tags", tags);
            request.body(message.text.clone())
        }
        false => {
            let request = request.header(CONTENT_TYPE, "application/json");
            request.body(message.json.clone())
        }
    };
    let answer = request.send().await;
    let answer = answer.map_err(|error| client::reason(&error.without_url()))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}

#[cfg(test)]
#[path = "notify_tests.rs"]
mod tests;
