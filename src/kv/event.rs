//! What a watch tells.

use super::{Entry, Key};

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One key.
    Key(Key),
    /// Everything a prefix [covers](Key::covers): strictly below it.
    Prefix(Key),
}

impl Scope {
    /// The key or prefix.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Key(key) | Self::Prefix(key) => key,
        }
    }

    /// Whether a change of `key` is told here.
    #[must_use]
    pub fn covers(&self, key: &Key) -> bool {
        match self {
            Self::Key(own) => own == key,
            Self::Prefix(prefix) => prefix.covers(key),
        }
    }
}

/// One thing a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All that is there now, in key order; it replaces all that was known before. The first event of every watch,
    /// and told again whenever changes may have been missed.
    Snapshot(Vec<Entry>),
    /// An entry was made or changed.
    Put(Entry),
    /// An entry was deleted, or expired with its session.
    Delete(Key),
}
