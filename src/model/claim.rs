//! The commit record of a rollout: its route plan and its phase.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{RolloutId, RoutePlan, Share};

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

/// How far a rollout has come: with the route plan, its commit record.
///
/// The words by which it is stored are those of version 0.1.0, whose records are read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Phase {
    /// The new replicas are hidden and have been since their creation.
    Prepared,
    /// The new replicas get a part of the traffic or are previewed, by the shift of this number from 1.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
