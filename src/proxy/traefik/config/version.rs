//! Parses Traefik's version, and says what that version lacks. Pure.

use std::{fmt, str::FromStr};

/// `3.7.15`; a number that is not said is [`Version::LAST`], since `v3.7` names the last release of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// What stands for a number that is not said: it is later than any other.
    pub const LAST: u32 = u32::MAX;

    /// Whether it reads `DOCKER_HOST`, and agrees with the engine on a version of its API: both since 3.6.1 and 2.11.31.
    /// Before, it reads what `providers.docker.endpoint` says, by API 1.24 (`pkg/provider/docker/shared.go`).
    pub fn reads_docker_host(self) -> bool {
        let (minor, patch) = if self.major == 2 { (11, 31) } else { (6, 1) };
        let major = self.major.clamp(2, 3);
        let since = Self {
            major,
            minor,
            patch,
        };
        self >= since
    }

    /// Whether it takes pin files as they are written, and the weight of a server: both since 3.0.
    pub fn takes_pins_and_weights(self) -> bool {
        self.major >= 3
    }
}

impl FromStr for Version {
    type Err = ();

    /// Reads `3.7.15`, `v3.7`, `Traefik 3.0.4`, `3.1.0-rc1`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let number = text.rsplit(' ').next().unwrap_or_default();
        let mut parts = number
            .trim_start_matches('v')
            .split(['-', '+'])
            .next()
            .unwrap_or_default()
            .split('.')
            .map(|part| part.parse().map_err(drop));
        let major = parts.next().ok_or(())??;
        Ok(Self {
            major,
            minor: parts.next().transpose()?.unwrap_or(Self::LAST),
            patch: parts.next().transpose()?.unwrap_or(Self::LAST),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major)?;
        let said = |number: &&u32| **number != Self::LAST;
        for number in [self.minor, self.patch].iter().take_while(said) {
            write!(f, ".{number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    #[test]
    fn docker_host_is_read_since_two_releases() {
        for (text, reads) in [
            ("2.11.30", false),
            ("2.11.31", true),
            ("3.0.4", false),
            ("3.5.6", false),
            ("3.6.0", false),
            ("3.6.1", true),
            ("3.6", true),
            ("2.11", true),
            ("2.10", false),
            ("2", true),
            ("3", true),
            ("3.7.15", true),
        ] {
            let version: Version = text.parse().unwrap();
            assert_eq!(version.reads_docker_host(), reads, "{text}");
        }
    }

    #[test]
    fn a_version_is_read_in_every_form_that_images_agents_and_the_api_write() {
        for (text, version) in [
            ("3.7.15", "3.7.15"),
            ("v3.7", "3.7"),
            ("v3", "3"),
            ("Traefik 3.0.4", "3.0.4"),
            ("3.1.0-rc1", "3.1.0"),
        ] {
            let read: Version = text.parse().unwrap();
            assert_eq!(read.to_string(), version, "{text}");
        }
        for text in ["", "latest", "dev", "3.x"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_version_that_reads_back_or_none(text in mutated_text("Traefik v3.7.15-rc1+x")) {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string().parse(), Ok(version));
            }
        }
    }
}
