//! Something that an operator or the machine does to the stack in the middle of a rollout under load, and the run after it.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::{
    probe::Probe,
    strike::{QUICK, fits, leftovers, went_back},
};
use testbed::{Load, LoadOptions, LoadReport, Run, Running, Stack};

/// How much longer the outage may be than where Compose alone replaces the service: this machine has other work too.
fn at_most(gap: Duration) -> Duration {
    gap * 3 + Duration::from_secs(5)
}

/// A Traefik that is there again has not read everything at once.
const SLACK: Duration = Duration::from_millis(500);

/// How long it may take to be there again.
const RESTART: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    KillSocketProxy,
    RecreateSocketProxy,
    RestartTraefik,
    UpNew,
    UpOld,
    Down,
}

pub const ACTIONS: [Action; 6] = [
    Action::KillSocketProxy,
    Action::RecreateSocketProxy,
    Action::RestartTraefik,
    Action::UpNew,
    Action::UpOld,
    Action::Down,
];

impl Action {
    pub fn words(self) -> &'static str {
        match self {
            Self::KillSocketProxy => "kill -9 socket proxy, start",
            Self::RecreateSocketProxy => "up --force-recreate socket-proxy",
            Self::RestartTraefik => "restart traefik",
            Self::UpNew => "up -d, new file",
            Self::UpOld => "up -d, old file",
            Self::Down => "down",
        }
    }

    /// Does it; what docker said where it failed, which is no fault of a rollout.
    async fn act(self, stack: &Stack, old: &str) -> Option<String> {
        let recreate = "docker compose up -d --force-recreate socket-proxy";
        let line = match self {
            Self::KillSocketProxy => {
                "docker compose kill -s KILL socket-proxy && docker compose start socket-proxy"
            }
            Self::RecreateSocketProxy => recreate,
            Self::RestartTraefik => "docker compose restart traefik",
            Self::UpNew | Self::UpOld => "docker compose up -d",
            Self::Down => "docker compose down",
        };
        let mut command = stack.command("sh", &["-c", line]);
        if self == Self::UpOld {
            command.env("TAG", old);
        }
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or_default().to_owned();
        (!output.status.success()).then_some(last)
    }

    /// Whether Compose itself takes containers of the service away.
    fn replaces(self) -> bool {
        matches!(self, Self::UpNew | Self::UpOld | Self::Down)
    }
}

/// What became of it.
pub struct Done {
    pub action: Action,
    pub phase: &'static str,
    /// Whether the run had ended before the action was done: then it is not the run's to name it.
    pub was_over: bool,
    pub first: Run,
    pub docker: Option<String>,
    pub second: Run,
    pub report: LoadReport,
    /// The longest time in which no new connection was answered.
    pub outage: Duration,
    pub complaints: Vec<String>,
}

pub fn load(stack: &Stack) -> Load {
    Load::start(LoadOptions {
        // A drain takes as long as these.
        slow_requests: Some(Duration::from_secs(2)),
        max_duration: Duration::from_secs(400),
        ..stack.load_options()
    })
}

pub async fn meddle(
    stack: &mut Stack,
    (old, new): (&str, &str),
    (action, phase): (Action, &'static str),
    gap: Duration,
) -> Done {
    let (load, probe) = (load(stack), Probe::start(stack));
    let began = Instant::now();
    stack.tag(new);
    let mut running = stack.start_rollout(&QUICK);
    running.reaches("step_started", phase).await;
    let acted = began.elapsed();
    let docker = action.act(stack, old).await;
    let was_over = is_over(&running);
    let mut complaints = Vec::new();
    let mut answered = None;
    if action == Action::RestartTraefik {
        complaints.extend(no_answer(stack, RESTART).await);
        answered = Some(began.elapsed());
    }
    let first = running.wait().await;
    if action == Action::Down {
        complaints.extend(fits(&first, false, new, (new, new)));
        comes_up_again(stack, new, docker.is_some()).await;
    } else {
        // Whether this is as the run says is judged below.
        no_answer(stack, RESTART).await;
        let serves = stack.version().await.unwrap_or_default();
        // What is done to it after the end is not the run's to know.
        let claimed = if first.code == Some(0) { new } else { old };
        let serves = if was_over { claimed } else { &serves };
        complaints.extend(fits(&first, false, serves, (old, new)));
    }
    let second = stack.rollout(&QUICK).await;
    let mut done = Done {
        action,
        phase,
        was_over,
        first,
        docker,
        second,
        report: load.stop().await,
        outage: probe.stop().await,
        complaints,
    };
    let judged = done.judged((acted, answered), gap);
    done.complaints.extend(judged);
    done.complaints.extend(leftovers(stack, new, 1).await);
    done
}

/// Whether a run has ended so far.
fn is_over(running: &Running) -> bool {
    let ends = ["finished", "failed"];
    let over = |event: &serde_json::Value| ends.iter().any(|end| event["event"] == *end);
    running.events().iter().any(over)
}

/// Brings the stack up again that `down` has removed, as far as it could.
async fn comes_up_again(stack: &Stack, new: &str, down_failed: bool) {
    if down_failed {
        // An engine that fails to remove a container keeps it as a dead one, until it is asked again.
        stack.compose(&["down"]).await;
    }
    // The engine may still be at what `down` has asked of it.
    stack
        .until("docker compose up -d && echo is up", "is up")
        .await;
    stack.answers(new).await;
    stack.traefik_listens().await;
}

impl Done {
    /// What is wrong with the two runs, and with what the clients saw.
    fn judged(
        &self,
        (acted, answered): (Duration, Option<Duration>),
        gap: Duration,
    ) -> Vec<String> {
        let Self {
            action,
            first,
            second,
            report,
            ..
        } = self;
        let mut complaints = Vec::new();
        if second.code != Some(0) {
            complaints.push(format!("the next run: {:?} {}", second.code, second.text));
        }
        // Two runs that want opposite things at the same moment can leave nothing; the run says that a person has to
        // look.
        let at_odds = *action == Action::UpOld && first.code == Some(3);
        let costs = costs(*action, report, (acted, answered), (self.outage, gap));
        complaints.extend(costs.filter(|_| !at_odds));
        let mixed = report.mixed > 0 && !went_back(first) && !went_back(second);
        if mixed && !action.replaces() {
            complaints.push(format!("{} mixed", report.mixed));
        }
        complaints.extend(complaint(*action, first, self.was_over));
        complaints
    }
}

/// Waits until any version answers; a complaint where none does. A table with one point that failed says more than none.
pub async fn no_answer(stack: &Stack, limit: Duration) -> Option<String> {
    let asked = async {
        while stack.version().await.is_none() {
            sleep(POLL).await;
        }
    };
    let came = timeout(limit, asked).await;
    came.err()
        .map(|_| format!("nothing answers within {limit:?}"))
}

/// What an action may cost by itself, and no more.
fn costs(
    action: Action,
    report: &LoadReport,
    (acted, answered): (Duration, Option<Duration>),
    (outage, gap): (Duration, Duration),
) -> Option<String> {
    match action {
        // Traefik reads containers one by one, and drops what it had not read yet when it is cut off.
        Action::KillSocketProxy | Action::Down => None,
        Action::RecreateSocketProxy => {
            (report.failed > 0).then(|| format!("{} failed: {:?}", report.failed, report.errors))
        }
        Action::RestartTraefik => {
            let inside =
                |at: Duration| at >= acted && answered.is_none_or(|back| at <= back + SLACK);
            let failed = report.records.iter().filter(|own| own.error().is_some());
            let outside = failed.filter(|own| !inside(own.ended)).count();
            (outside > 0).then(|| format!("{outside} failed outside of its restart"))
        }
        Action::UpNew | Action::UpOld => {
            (outage > at_most(gap)).then(|| format!("no answer for {outage:.1?}"))
        }
    }
}

/// What the report has to name.
fn complaint(action: Action, run: &Run, was_over: bool) -> Option<String> {
    let wanted = match action {
        Action::RestartTraefik => "Traefik ",
        Action::KillSocketProxy | Action::RecreateSocketProxy => "the socket proxy ",
        _ => return None,
    };
    let went = |text: &&str| text.starts_with(wanted) && text.contains(" stopped: ");
    let named = run.notices().iter().any(went);
    (!named && !was_over).then(|| "no notice names what stopped".to_owned())
}
