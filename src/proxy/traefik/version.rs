//! Which Traefik it is, and what it lacks. Pure.

use std::{fmt, str::FromStr};

/// `3.7.15`; what is not said is taken for 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
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
            minor: parts.next().transpose()?.unwrap_or(0),
            patch: parts.next().transpose()?.unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_in_every_form_that_images_agents_and_the_api_write() {
        for (text, version) in [
            ("3.7.15", "3.7.15"),
            ("v3.7", "3.7.0"),
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
}
