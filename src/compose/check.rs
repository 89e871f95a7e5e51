//! What makes two sets of a service impossible or unwise.

use super::{Project, Service};

/// One reason, in one line that names the thing and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing it is, so that a flag can allow it.
    pub kind: Kind,
    /// One line, lower case, naming the thing.
    pub message: String,
    /// The way out.
    pub hint: String,
}

/// The kinds of [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A published host port that only one container can have.
    HostPort,
    /// A network namespace that is not the container's own.
    NetworkMode,
    /// A static IP address.
    StaticAddress,
    /// A fixed MAC address.
    MacAddress,
    /// A fixed name and several replicas.
    ContainerName,
    /// Volumes that a new set would start without; allowed by `--renew-anon-volumes`.
    AnonymousVolumes,
    /// Another service that lives in this one's namespaces or volumes.
    Joined,
    /// A dependency that the project does not have.
    UnknownDependency,
}

/// Finds every reason why `replicas` new containers of `service` cannot or should not stand beside the old ones.
pub fn check(
    project: &Project,
    service: &Service,
    replicas: u32,
    image_volumes: &[String],
) -> Vec<Problem> {
    let _ = (project, service, replicas, image_volumes);
    todo!()
}
