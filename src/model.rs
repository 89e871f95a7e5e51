//! The types of a rollout: desired state, observed state and routes. Imports no other module of this crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Labels that this tool sets on what it creates; none of them is part of Compose's config hash.
pub mod label {
    /// The id of the rollout that created the container.
    pub const ROLLOUT: &str = "io.rollout.id";
    /// The revision that the container runs.
    pub const REVISION: &str = "io.rollout.revision";
    /// How many replicas the rollout that created it wanted.
    pub const REPLICAS: &str = "io.rollout.replicas";
    /// On what an undo made: the revision that it went back to.
    pub const UNDO: &str = "io.rollout.undo";
    /// The name that the container gets once the old one is gone.
    pub const NAME: &str = "io.rollout.name";
    /// A digest of the configs and secrets that Compose's hash leaves out.
    pub const DIGEST: &str = "io.rollout.digest";
    /// The version of Compose that made it: others may hash the same config differently.
    pub const COMPOSE_VERSION: &str = "io.rollout.compose";
    /// Marks containers that are the tool's own: `lock`, `helper`, `state`, `ask`.
    pub const ROLE: &str = "io.rollout.role";
    /// On a helper image: the protocol version that its program and the CLI use.
    pub const HELPER: &str = "io.rollout.helper";
    /// On a helper: the container whose network namespace it is in.
    pub const HELPS: &str = "io.rollout.helps";
    /// Compose's own labels (compose-spec "Labels", docker/compose pkg/api/labels.go).
    pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";
    pub const COMPOSE_SERVICE: &str = "com.docker.compose.service";
    /// `True` on what `docker compose run` made.
    pub const COMPOSE_ONEOFF: &str = "com.docker.compose.oneoff";
    /// The hash of the service's resolved config.
    pub const COMPOSE_HASH: &str = "com.docker.compose.config-hash";
    /// The files that the project was read from.
    pub const COMPOSE_FILES: &str = "com.docker.compose.project.config_files";
    /// The base of relative paths in those files.
    pub const COMPOSE_DIRECTORY: &str = "com.docker.compose.project.working_dir";
    /// The replica's number, from 1.
    pub const COMPOSE_NUMBER: &str = "com.docker.compose.container-number";
    /// On a container in which Compose runs a lifecycle hook of a service, such as `pre_start`.
    pub const COMPOSE_HOOK: &str = "com.docker.compose.hook";
    /// docker-rollout's label for a command to run in an old container before it is stopped.
    pub const PRE_STOP_HOOK: &str = "docker-rollout.pre-stop-hook";

    /// Whether a container of a service is a hook or another one-off, and no replica. Some versions of Compose label a
    /// hook, others only omit the number.
    pub fn is_hook<'a>(get: impl Fn(&str) -> Option<&'a str>) -> bool {
        let is_one_off = get(COMPOSE_ONEOFF) == Some("True");
        is_one_off || get(COMPOSE_HOOK).is_some() || get(COMPOSE_NUMBER).is_none()
    }
}

/// A container's full id, as the engine gives it.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// The twelve characters that people see.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// The id of one attempt; a label on every container that it creates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RolloutId(pub String);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service of a project: what one rollout is about, and the key of its lock and its overlay claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceKey {
    pub project: String,
    pub service: String,
}

impl ServiceKey {
    /// Reads `project/service`.
    pub fn parse(text: &str) -> Option<Self> {
        let (project, service) = text.split_once('/')?;
        Some(Self {
            project: project.to_owned(),
            service: service.to_owned(),
        })
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.service)
    }
}

/// What the engine says a container is doing (`State.Status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    /// Made, never started.
    #[default]
    Created,
    Running,
    /// Between two starts of its restart policy.
    Restarting,
    Paused,
    /// Ended, or on its way out.
    Exited,
}

/// What Docker's health check says (`State.Health.Status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// The container has no health check.
    #[default]
    None,
    /// No verdict yet.
    Starting,
    Healthy,
    /// Too many checks failed in a row.
    Unhealthy,
}

/// One container of a Compose service, one-offs aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replica {
    pub id: ContainerId,
    /// Its name now, without a slash.
    pub name: String,
    /// Its final name, if a rollout gave it a temporary one.
    pub final_name: Option<String>,
    /// The rollout that created it; `None` for what Compose itself made.
    pub rollout: Option<RolloutId>,
    /// How many replicas that rollout wanted.
    pub wanted: Option<u32>,
    /// The revision it runs, where known.
    pub revision: Option<u64>,
    pub run: Run,
    pub health: Health,
    /// How often its restart policy has started it again.
    pub restarts: i64,
    /// When it last started, as the engine wrote it (RFC 3339); names one life of the container.
    pub started_at: String,
    /// The image it runs, by id.
    pub image: String,
    /// The image that was asked for, as the engine has kept it.
    pub reference: String,
    pub hash: String,
    /// Our digest of configs and secrets, where it has one.
    pub digest: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// The engine's names of its networks.
    pub networks: Vec<String>,
    /// Its address in each network.
    pub addresses: Vec<IpAddr>,
    /// Network → its address there, IPv4 where it has both.
    pub endpoints: BTreeMap<String, IpAddr>,
    /// Network → the names by which it is found there.
    pub names: BTreeMap<String, BTreeSet<String>>,
    /// TCP ports that its image or its service exposes.
    pub ports: Vec<u16>,
    /// The lowest port that they expose, UDP ones among them.
    pub lowest_port: Option<u16>,
    /// Where its ports are published on a certain address of the engine's machine.
    pub published: BTreeSet<SocketAddr>,
    /// Whether it has no network of its own, but the host's or another container's.
    pub borrows_network: bool,
    /// How Docker checks its health, where it does.
    pub check: Option<HealthCheck>,
    /// The last lines of what that check printed, where it failed the last time.
    pub complaint: Option<String>,
}

impl Replica {
    /// Whether its process runs, or may run again by its restart policy.
    pub fn may_run(&self) -> bool {
        !matches!(self.run, Run::Exited | Run::Created)
    }

    /// Whether its process runs and Docker does not call it unhealthy.
    pub fn serves(&self) -> bool {
        self.run == Run::Running && self.health != Health::Unhealthy
    }

    /// The longest time until Docker has its first health result.
    pub fn undecided_for(&self) -> Duration {
        let check = self
            .check
            .as_ref()
            .filter(|_| self.health == Health::Starting);
        check.map_or(Duration::ZERO, |check| check.interval + check.timeout)
    }

    /// The text with the output of its failing health check.
    pub fn with_complaint(&self, said: &str) -> String {
        match &self.complaint {
            Some(complaint) => format!("{said} (health check: {complaint})"),
            None => said.to_owned(),
        }
    }

    pub fn target_name(&self) -> &str {
        self.final_name.as_deref().unwrap_or(&self.name)
    }
}

/// An image as people call it: by its reference, or by its short id where it has none.
pub fn image_name(reference: &str, id: &str) -> String {
    let bare = |text: &str| text.strip_prefix("sha256:").unwrap_or(text).to_owned();
    if reference.is_empty() || bare(id).starts_with(&bare(reference)) {
        return short_image(id).to_owned();
    }
    match reference.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@{}", short_image(digest)),
        None => reference.to_owned(),
    }
}

/// The twelve characters of an image's id that people see.
pub fn short_image(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// The new image and the one that it replaces. Two images with the same name are shown with their ids.
pub fn image_change(reference: &str, id: &str, olds: &[Replica]) -> (String, Option<String>) {
    let new = image_name(reference, id);
    let moved = |old: &&Replica| old.image != id && image_name(&old.reference, &old.image) == new;
    let moved = olds.iter().any(|old| moved(&old));
    let named = |reference: &str, id: &str| match moved {
        true => format!("{} ({})", image_name(reference, id), short_image(id)),
        false => image_name(reference, id),
    };
    let all: BTreeSet<String> = olds
        .iter()
        .map(|old| named(&old.reference, &old.image))
        .collect();
    let all: Vec<String> = all.into_iter().collect();
    let replaces = (!all.is_empty()).then(|| all.join(", "));
    (named(reference, id), replaces)
}

/// The health check of a container (`Config.Healthcheck`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// The command to exec, `CMD-SHELL` already unfolded.
    pub command: Vec<String>,
    /// How long Docker waits between two checks.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
}

/// What part of the traffic a replica gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    Hidden,
    /// Relative to the weights of the other replicas; at least 1.
    Weight(u32),
    /// The same as every other live replica.
    Live,
}

/// Which replicas a share is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Replica(ContainerId),
    /// Every replica of this rollout, those that do not exist yet included.
    Rollout(RolloutId),
}

/// Target → share, applied in one atomic step. A replica without a target keeps the routes of its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoutePlan {
    pub shares: BTreeMap<Target, Share>,
}

impl RoutePlan {
    /// The share that the plan gives a replica; the replica's own target comes before that of its rollout.
    pub fn share(&self, replica: &Replica) -> Option<Share> {
        let own = self.shares.get(&Target::Replica(replica.id.clone()));
        let rollout = replica.rollout.clone().map(Target::Rollout);
        let joint = || rollout.and_then(|rollout| self.shares.get(&rollout));
        own.or_else(joint).copied()
    }

    pub fn hides(&self, replica: &Replica) -> bool {
        self.share(replica) == Some(Share::Hidden)
    }

    /// Whether the replica's whole rollout gets traffic.
    pub fn promotes(&self, replica: &Replica) -> bool {
        let rollout = replica.rollout.clone().map(Target::Rollout);
        rollout.is_some_and(|own| {
            self.shares
                .get(&own)
                .is_some_and(|share| *share != Share::Hidden)
        })
    }

    /// A plan that hides these old replicas, and gives the rollout this share.
    pub fn of(
        rollout: &RolloutId,
        share: Share,
        hides: impl IntoIterator<Item = ContainerId>,
    ) -> Self {
        let olds = hides.into_iter().map(Target::Replica);
        let olds = olds.map(|old| (old, Share::Hidden));
        let own = (Target::Rollout(rollout.clone()), share);
        Self {
            shares: olds.chain([own]).collect(),
        }
    }

    /// The old replicas that it hides by their ids.
    pub fn hidden(&self) -> impl Iterator<Item = &ContainerId> {
        self.shares
            .iter()
            .filter_map(|(target, share)| match (target, share) {
                (Target::Replica(id), Share::Hidden) => Some(id),
                _ => None,
            })
    }

    pub fn is_hidden(&self, target: &Target) -> bool {
        self.shares.get(target) == Some(&Share::Hidden)
    }
}

/// How far a rollout has come: with the route plan, its commit record.
///
/// The words by which it is stored are those of version 0.1.0, whose records are read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Phase {
    /// The new replicas are hidden and have been since their creation.
    Prepared,
    /// The new replicas get a part of the traffic, by the shift of this number from 1.
    Shifted { step: u16 },
    /// The new replicas are live, the old ones hidden: from here a rollout is finished forward.
    Committed,
    /// The traffic was taken back to the old replicas.
    RolledBack,
    /// The socket proxy un-hid the new replicas by itself because the service had no visible one left. No cutover was
    /// requested.
    ForceShown,
    /// The rollout is over; what is left only covers a health check that has no result yet.
    Settled,
}

impl Phase {
    /// Whether the plan of this phase leaves the traffic with the old replicas, or takes it back to them.
    pub fn keeps_old(self) -> bool {
        matches!(self, Self::Prepared | Self::RolledBack)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepared => f.write_str("hold"),
            Self::Shifted { step } => write!(f, "shift-{step}"),
            Self::Committed => f.write_str("cutover"),
            Self::RolledBack => f.write_str("back"),
            Self::ForceShown => f.write_str("shown"),
            Self::Settled => f.write_str("settled"),
        }
    }
}

/// A phase that only a later version has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the phase {0:?} is not known: a newer rollout wrote it")]
pub struct UnknownPhase(String);

impl std::str::FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(word: &str) -> Result<Self, UnknownPhase> {
        let unknown = || UnknownPhase(word.to_owned());
        match word {
            "hold" => Ok(Self::Prepared),
            "cutover" => Ok(Self::Committed),
            "back" => Ok(Self::RolledBack),
            "shown" => Ok(Self::ForceShown),
            "settled" => Ok(Self::Settled),
            _ => {
                let step = word.strip_prefix("shift-").ok_or_else(unknown)?;
                let step: u16 = step.parse().map_err(|_| unknown())?;
                let read = Self::Shifted { step };
                (step > 0 && read.to_string() == word)
                    .then_some(read)
                    .ok_or_else(unknown)
            }
        }
    }
}

impl From<Phase> for String {
    fn from(phase: Phase) -> Self {
        phase.to_string()
    }
}

impl TryFrom<String> for Phase {
    type Error = UnknownPhase;

    fn try_from(word: String) -> Result<Self, UnknownPhase> {
        word.parse()
    }
}

/// The durable record of a rollout's route plan and phase.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The rollout that owns it.
    pub rollout: RolloutId,
    pub phase: Phase,
    pub plan: RoutePlan,
    /// The recorded server addresses are outdated (a replica restarted with a new IP); apply the same plan again.
    pub stale: bool,
}

impl Claim {
    /// Whether its new replicas replaced others, which may be gone: the new ones may be the only ones that serve.
    pub fn has_replaced_any(&self) -> bool {
        let took_over = matches!(self.phase, Phase::Committed | Phase::RolledBack);
        took_over && self.plan.hidden().next().is_some()
    }

    /// The claim of a finished rollout whose replicas have no result of Docker's health check yet.
    pub fn settled(rollout: &RolloutId) -> Self {
        Self {
            rollout: rollout.clone(),
            phase: Phase::Settled,
            plan: RoutePlan::of(rollout, Share::Live, []),
            stale: false,
        }
    }
}

/// The observed state, read from the engine and the overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observed {
    /// Every replica of the service, in any state, in the order of their numbers.
    pub replicas: Vec<Replica>,
    /// The overlay's record for the service.
    pub claim: Option<Claim>,
}

impl Observed {
    /// The replicas of this rollout, and all others.
    pub fn split(&self, rollout: &RolloutId) -> (Vec<&Replica>, Vec<&Replica>) {
        let all = self.replicas.iter();
        all.partition(|replica| replica.rollout.as_ref() == Some(rollout))
    }
}

/// The result of the gates of a new replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may get traffic.
    Ready,
    /// It failed for good: why, in a few words.
    Failed(String),
}

/// How an old replica's traffic ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drained {
    Answered,
    /// The drain timeout passed first.
    TimedOut,
    /// Its sockets cannot be inspected; its network was quiet for long enough.
    Quiet,
    /// It exited before it had answered everything, or before that was known.
    Ended,
    /// It was not drained: its sockets cannot be inspected and no proxy routes to it, so that its network may never fall
    /// quiet; or it did not run when the drain began.
    Unseen,
}

/// A moment of a rollout at which the hooks of `x-rollout.hooks` run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookPhase {
    /// The image is there; nothing is created yet.
    PreDeploy,
    /// The new replicas are ready, and hidden.
    PreCutover,
    /// The new replicas are live; the old ones still run.
    PostCutover,
    /// The old replicas are gone, and the revision is recorded.
    PostDeploy,
    /// The rollout has failed, and is rolled back as far as possible.
    Failed,
}

impl HookPhase {
    pub const ALL: [Self; 5] = [
        Self::PreDeploy,
        Self::PreCutover,
        Self::PostCutover,
        Self::PostDeploy,
        Self::Failed,
    ];

    /// The key in the Compose file, and the name of the step.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreDeploy => "pre-deploy",
            Self::PreCutover => "pre-cutover",
            Self::PostCutover => "post-cutover",
            Self::PostDeploy => "post-deploy",
            Self::Failed => "failed",
        }
    }
}

/// How the hooks of a phase ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookEnd {
    Passed,
    /// Why: one line.
    Failed(String),
}

/// What this run has learned from its waits; lost with the process, and learned again by the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Verdicts on new replicas.
    pub verdicts: BTreeMap<ContainerId, Verdict>,
    /// The wait for readiness timed out.
    pub ready_expired: bool,
    /// The phase whose route plan every proxy has confirmed, if any since the routing last changed.
    pub confirmed: Option<Phase>,
    /// The confirmation of this phase timed out or failed early.
    pub confirm_expired: Option<Phase>,
    /// Set when confirmation failed early: the proxy's own error, e.g. "router web is disabled".
    pub complaint: Option<String>,
    /// The cutover removed routers of other services.
    pub harms: bool,
    /// How the hooks of each phase ended.
    pub hooks: BTreeMap<HookPhase, HookEnd>,
    /// The result of the bake, once it has ended.
    pub baked: Option<Baked>,
    /// Old replicas that are drained.
    pub drained: BTreeMap<ContainerId, Drained>,
    /// Old replicas whose pre-stop hooks have run.
    pub hooked: BTreeSet<ContainerId>,
    /// Old replicas that this run started again in a rollback.
    pub started: BTreeSet<ContainerId>,
    /// The overlay's record was released.
    pub released: bool,
    /// The replicas of this rollout were created by this run.
    pub created: bool,
    /// What all services of a joint cutover have reached.
    pub others: Option<Milestone>,
    /// Why another service of the joint cutover goes back.
    pub others_failed: Option<String>,
}

/// What a service of a joint cutover reaches, and waits for in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Milestone {
    /// The new replicas are ready, and hidden.
    Ready,
    /// The new replicas are live, confirmed and baked; the old ones still run.
    Live,
}

/// The result of a bake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Baked {
    /// Its time has passed without a failure.
    Passed,
    /// The reason for a rollback.
    Failed(String),
}

/// Replica → its share, as a proxy reports it.
pub type Routing = BTreeMap<ContainerId, Share>;

/// The goal of a run of the planner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Create the new replicas and move the traffic.
    Roll,
    /// Finish a rollout whose cutover is recorded.
    Finish,
    /// Roll back to the old replicas.
    Undo(Reason),
}

/// Why a rollout is undone, which decides the exit code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Something failed: one line.
    Failed(String),
    Interrupted,
    /// An earlier run left it unfinished.
    Unfinished,
}

/// The strategy of a rollout, as data for the planner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    pub order: Order,
    /// The shares of the new set, in per cent of the traffic, before it gets all of it.
    pub shifts: Vec<u16>,
    /// Whether the new replicas bake before the old ones are removed.
    pub bake: bool,
    /// Whether other services cut over in the same moment.
    pub together: bool,
}

/// Whether the new replicas are created before the old ones are stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Two sets run at the same time: no gap.
    #[default]
    StartFirst,
    /// The old replicas are stopped first, and kept until the new ones are ready and confirmed.
    StopFirst,
}

/// The desired state; with [`Observed`] and [`Facts`] it decides every step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Desired {
    pub goal: Goal,
    /// The rollout of the new replicas.
    pub rollout: RolloutId,
    pub replicas: u32,
    pub policy: Policy,
    /// Old replicas that ran when a stop-first rollout began; a rollback starts them again.
    pub restartable: BTreeSet<ContainerId>,
    /// Whether a proxy routes to the service, so that replicas are hidden, shown and confirmed.
    pub routed: bool,
    /// Whether a hold re-routes traffic itself and must be confirmed before replicas are created.
    pub confirm_hold: bool,
    /// The old replicas at the start of the rollout; any other replica was created by another command.
    pub old_at_start: BTreeSet<ContainerId>,
    /// Those that no proxy routed to; a rollback does not wait for their routes.
    pub unrouted: BTreeSet<ContainerId>,
    /// Whether any of the old replicas served at the start.
    pub served: bool,
    /// Whether the old replicas have pre-stop hooks.
    pub hooks: bool,
    /// The phases that have hooks in `x-rollout.hooks`.
    pub hook_phases: BTreeSet<HookPhase>,
}

impl Desired {
    pub fn may_start_again(&self, old: &Replica) -> bool {
        self.restartable.contains(&old.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::simulator::old;

    #[test]
    fn a_phase_reads_as_it_is_written_and_no_other_word_is_one() {
        use Phase::{Committed, ForceShown, Prepared, RolledBack, Settled, Shifted};
        let steps = [1, 2, u16::MAX].map(|step| Shifted { step });
        for phase in [Prepared, Committed, RolledBack, ForceShown, Settled]
            .into_iter()
            .chain(steps)
        {
            assert_eq!(phase.to_string().parse(), Ok(phase));
        }
        for word in [
            "",
            "Hold",
            "shift",
            "shift-0",
            "shift-01",
            "shift-+1",
            "shift-65536",
        ] {
            let unknown = word.parse::<Phase>().unwrap_err().to_string();
            assert!(unknown.contains("a newer rollout wrote it"), "{unknown}");
        }
    }

    #[test]
    fn an_image_goes_by_its_name_and_two_of_one_name_by_their_ids_too() {
        let (a, b) = ("sha256:aaaaaaaaaaaaaaaa", "sha256:bbbbbbbbbbbbbbbb");
        assert_eq!(image_name("app:v1", a), "app:v1");
        assert_eq!(image_name("", a), "aaaaaaaaaaaa");
        assert_eq!(image_name(a, a), "aaaaaaaaaaaa");
        assert_eq!(
            image_name("app@sha256:cccccccccccccccc", a),
            "app@cccccccccccc"
        );
        let ran = |reference: &str, id: &str| Replica {
            reference: reference.to_owned(),
            image: id.to_owned(),
            ..old("one")
        };
        let change = |reference, olds: &[Replica]| image_change(reference, b, olds);
        assert_eq!(change("app:v2", &[]), ("app:v2".to_owned(), None));
        let (new, before) = change("app:v2", &[ran("app:v1", a), ran("app:v1", a)]);
        assert_eq!(
            (new.as_str(), before.as_deref()),
            ("app:v2", Some("app:v1"))
        );
        let (new, before) = change("app", &[ran("app", a)]);
        assert_eq!(new, "app (bbbbbbbbbbbb)");
        assert_eq!(before.as_deref(), Some("app (aaaaaaaaaaaa)"));
    }
}
