//! The machine that this program runs on, by its name and its boot.

use std::fs;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    /// Empty where the kernel does not give it.
    pub boot: String,
}

impl Machine {
    pub fn here() -> Self {
        let name = nix::unistd::gethostname().ok();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            name: name
                .and_then(|own| own.into_string().ok())
                .unwrap_or_default(),
            boot: boot.trim().to_owned(),
        }
    }

    /// Whether both are the same machine: a container has another name, and after a restart the boot is another one.
    pub fn is(&self, other: &Self) -> bool {
        self.name == other.name || (!self.boot.is_empty() && self.boot == other.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_itself_in_a_container_and_after_a_restart_and_no_other() {
        let machine = |name: &str, boot: &str| Machine {
            name: name.to_owned(),
            boot: boot.to_owned(),
        };
        let here = machine("a", "1");
        assert!(here.is(&machine("a", "2")) && here.is(&machine("0f3b", "1")));
        assert!(!here.is(&machine("b", "2")));
        assert!(!machine("a", "").is(&machine("b", "")));
        assert!(Machine::here().is(&Machine::here()));
    }
}
