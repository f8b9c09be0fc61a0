//! What the workers contend for.

use quorate::kv::{Queue, Result};

/// One queue, and the key that whoever is at its head counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contest {
    Lock,
    Election,
}

impl Contest {
    pub(crate) const ALL: [Self; 2] = [Self::Lock, Self::Election];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Election => "election",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contest| contest.name() == name)
    }

    /// Where the count stands, and behind it the fence of whoever counted last.
    pub(crate) fn counter(self) -> &'static str {
        match self {
            Self::Lock => "counters/lock",
            Self::Election => "counters/election",
        }
    }

    pub(crate) fn queue(self) -> Result<Queue> {
        match self {
            Self::Lock => Queue::lock(self.name()),
            Self::Election => Queue::election(self.name()),
        }
    }
}
