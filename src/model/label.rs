//! Labels that this tool sets on what it creates; none of them is part of Compose's config hash.

use super::RolloutId;

/// The id of the rollout that created the container.
pub const ROLLOUT: &str = "io.rollout.id";
/// The revision that the container runs.
pub const REVISION: &str = "io.rollout.revision";
/// How many replicas the rollout that created it wanted.
pub const REPLICAS: &str = "io.rollout.replicas";
/// On a replica of a rolling update: its rollout and its batch.
pub const BATCH: &str = "io.rollout.batch";
/// On what an undo made, a twin too: the revision that it went back to.
pub const UNDO: &str = "io.rollout.undo";
/// The name that the container gets once the old one is gone.
pub const NAME: &str = "io.rollout.name";
/// A digest of the configs and secrets that Compose's hash leaves out.
pub const DIGEST: &str = "io.rollout.digest";
/// The version of Compose that made it: others may hash the same config differently.
pub const COMPOSE_VERSION: &str = "io.rollout.compose";
/// Marks what is the tool's own: containers with `lock`, `helper`, `state`, `ask`, and a Swarm service with [`TWIN`].
pub const ROLE: &str = "io.rollout.role";
/// The [`ROLE`] of the Swarm service that has the traffic of another one while that is updated.
pub const TWIN: &str = "twin";
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

/// The value of [`BATCH`].
pub fn batch(rollout: &RolloutId, batch: u16) -> String {
    format!("{rollout}.{batch}")
}

/// The batch in a value of [`BATCH`].
pub fn batch_of(value: &str) -> Option<u16> {
    value.rsplit_once('.')?.1.parse().ok()
}

/// Whether a container of a service is a hook or another one-off, and no replica. Some versions of Compose label a
/// hook, others only omit the number.
pub fn is_one_off<'a>(get: impl Fn(&str) -> Option<&'a str>) -> bool {
    let is_one_off = get(COMPOSE_ONEOFF) == Some("True");
    is_one_off || get(COMPOSE_HOOK).is_some() || get(COMPOSE_NUMBER).is_none()
}
