//! Reads the engine's name and versions, and the memory of its machine.

use super::{Engine, failed};
use crate::error::Result;

/// Fields are empty where the engine does not report them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Such as `Podman Engine`; Docker reports `Engine`.
    pub name: String,
    /// Such as `28.5.2`.
    pub version: String,
    /// The newest version of its API, such as `1.51`.
    pub api: String,
    /// The oldest supported version of its API.
    pub least_api: String,
    /// That of its machine, such as `amd64`.
    pub architecture: String,
}

/// The memory of the engine's machine, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// What is free now, where the engine runs on this machine.
    Free(u64),
    /// All of it; how much is free is not known.
    Total(u64),
}

impl Engine {
    /// `None` where it cannot be read.
    pub async fn memory(&self) -> Option<Memory> {
        if self.is_here().await {
            let text = std::fs::read_to_string("/proc/meminfo").ok()?;
            return available(&text).map(Memory::Free);
        }
        let total = self.reader().info().await.ok()?.mem_total?;
        let total = u64::try_from(total).ok().filter(|total| *total > 0);
        total.map(Memory::Total)
    }

    /// The id of this node of a Swarm.
    pub async fn swarm_node(&self) -> Result<Option<String>> {
        let info = self.reader().info().await;
        let info = info.map_err(|error| failed("ask the engine for its node", &error))?;
        Ok(info.swarm.and_then(|own| own.node_id))
    }

    pub async fn about(&self) -> Result<About> {
        let version = self.docker.version().await;
        let version = version.map_err(|error| failed("ask the engine for its version", &error))?;
        let components = version.components.unwrap_or_default();
        let engine = components.into_iter().next();
        Ok(About {
            name: engine.map(|engine| engine.name).unwrap_or_default(),
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
            least_api: version.min_api_version.unwrap_or_default(),
            architecture: version.arch.unwrap_or_default(),
        })
    }
}

/// The kernel's estimate of what can be used without swapping, from `/proc/meminfo`.
fn available(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let value = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_available_memory_is_read_in_bytes() {
        let text =
            "MemTotal:       16309496 kB\nMemFree:          233788 kB\nMemAvailable:    8123 kB\n";
        assert_eq!(available(text), Some(8123 * 1024));
        for bad in ["", "MemAvailable: 5\n", "MemAvailable: x kB\n"] {
            assert_eq!(available(bad), None, "{bad}");
        }
    }
}
