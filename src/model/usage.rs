//! What a container uses of the machine.

use std::time::Duration;

/// The counters of one container at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// When they were read, since 1970 by the engine's clock.
    pub at: Duration,
    /// Processor time since the start of the container.
    pub cpu: Duration,
    /// Memory in use, in bytes.
    pub memory: u64,
}
