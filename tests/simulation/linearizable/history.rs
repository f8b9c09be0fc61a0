//! What clients asked of one key, and what they were told.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use quorate::kv::{Fence, Version};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A linearizable read.
    Get,
    /// A put whatever stands there.
    Put(Bytes),
    /// A put if nothing stands there.
    Create(Bytes),
    /// A put if this version stands there.
    Replace(Version, Bytes),
    /// A delete whatever stands there, if anything does.
    Delete,
    /// A delete if this version stands there.
    DeleteIf(Version),
}

/// An entry as a reply showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its value.
    pub(crate) value: Bytes,
    /// Its version.
    pub(crate) version: Version,
    /// Its fence.
    pub(crate) fence: Fence,
}

/// What a client was definitely told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// What a get saw.
    Read(Option<Found>),
    /// The put took effect and made this.
    Written(Version, Fence),
    /// The delete took effect.
    Deleted,
    /// The condition did not hold. What was found is checked as a read of its own, at any time between invocation
    /// and reply, for it may be what a later read saw.
    Rejected(Option<Found>),
}

/// One operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(pub(super) usize);

/// A moment: its place among all moments of the history, and what the clock showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) order: usize,
    at: Duration,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It may take effect at any time after its invocation, once, or never.
    Unknown,
    /// It had and will have no effect.
    NotApplied,
    Replied(Reply, Moment),
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    process: usize,
    pub(super) operation: Operation,
    pub(super) invoked: Moment,
    pub(super) outcome: Outcome,
}

/// The operations on one key, recorded in the order in which things happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    calls: Vec<Call>,
    moments: usize,
}

impl History {
    /// Records that `process` is about to send an operation, whose outcome is unknown until something else is
    /// recorded. `at` is only shown.
    pub(crate) fn invoke(&mut self, process: usize, operation: Operation, at: Duration) -> Id {
        let invoked = self.moment(at);
        self.calls.push(Call { process, operation, invoked, outcome: Outcome::Unknown });
        Id(self.calls.len() - 1)
    }

    /// Records a definite reply.
    pub(crate) fn complete(&mut self, id: Id, reply: Reply, at: Duration) {
        let returned = self.moment(at);
        self.calls[id.0].outcome = Outcome::Replied(reply, returned);
    }

    /// Records that nobody knows: it may take effect at any later time, or never.
    pub(crate) fn unknown(&mut self, id: Id) {
        self.calls[id.0].outcome = Outcome::Unknown;
    }

    /// Records that it had and will have no effect.
    pub(crate) fn not_applied(&mut self, id: Id) {
        self.calls[id.0].outcome = Outcome::NotApplied;
    }

    /// How many operations were invoked.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = (Id, &Call)> {
        self.calls.iter().enumerate().map(|(index, call)| (Id(index), call))
    }

    pub(super) fn call(&self, id: Id) -> &Call {
        &self.calls[id.0]
    }

    fn moment(&mut self, at: Duration) -> Moment {
        self.moments += 1;
        Moment { order: self.moments, at }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (version {}, fence {})", self.value, self.version, self.fence)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("get"),
            Self::Put(value) => write!(f, "put {value:?}"),
            Self::Create(value) => write!(f, "create {value:?}"),
            Self::Replace(version, value) => write!(f, "replace version {version} by {value:?}"),
            Self::Delete => f.write_str("delete"),
            Self::DeleteIf(version) => write!(f, "delete version {version}"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(Some(found)) => write!(f, "{found}"),
            Self::Read(None) => f.write_str("nothing"),
            Self::Written(version, fence) => write!(f, "version {version}, fence {fence}"),
            Self::Deleted => f.write_str("deleted"),
            Self::Rejected(Some(found)) => write!(f, "rejected, found {found}"),
            Self::Rejected(None) => f.write_str("rejected, found nothing"),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}, {:?} to ", self.process, self.invoked.at)?;
        match &self.outcome {
            Outcome::Unknown => write!(f, "ever: {} -> unknown", self.operation),
            Outcome::NotApplied => write!(f, "ever: {} -> not applied", self.operation),
            Outcome::Replied(reply, returned) => {
                write!(f, "{:?}: {} -> {reply}", returned.at, self.operation)
            }
        }
    }
}
