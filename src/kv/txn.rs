//! Writes: some checks, some puts, some deletes, all or nothing.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

use super::{Entry, Error, Fence, Key, Limits, Result, SessionId, Version};

/// What must hold for a commit to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing stands at the key.
    Absent(Key),
    /// The entry is in this state.
    Version(Key, Version),
    /// The entry made with this fence still stands, whatever its value is now.
    Stands(Key, Fence),
}

impl Check {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Version(key, _) | Self::Stands(key, _) => key,
        }
    }

    /// Whether it holds for what stands at its key. Backends that judge on their own side share this.
    #[must_use]
    pub fn holds(&self, found: Option<&Entry>) -> bool {
        match self {
            Self::Absent(_) => found.is_none(),
            Self::Version(_, version) => found.is_some_and(|entry| entry.version == *version),
            Self::Stands(_, fence) => found.is_some_and(|entry| entry.fence == *fence),
        }
    }
}

/// One put of a commit.
#[derive(Clone, PartialEq, Eq)]
pub struct Put {
    /// Where.
    pub key: Key,
    /// What.
    pub value: Bytes,
    /// The session the entry dies with; `None` unbinds an entry that was bound.
    pub session: Option<SessionId>,
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Put({:?}, {} bytes, {:?})", self.key, self.value.len(), self.session)
    }
}

/// A write: checks, puts and deletes that take effect together or not at all.
///
/// ```
/// use quorate::backends::Memory;
/// use quorate::kv::{Key, Store, Txn, Write};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Memory::new();
/// let (a, b) = (Key::new("a")?, Key::new("b")?);
/// let write = store.commit(Txn::new().absent(&a).put(&a, "1").put(&b, "2")).await?;
/// assert!(matches!(write, Write::Applied(entries) if entries.len() == 2));
/// let again = store.commit(Txn::new().absent(&a).delete(&b)).await?;
/// assert!(matches!(again, Write::Rejected(rejection) if rejection.key == a));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a transaction does nothing until it is committed"]
pub struct Txn {
    checks: Vec<Check>,
    puts: Vec<Put>,
    deletes: Vec<Key>,
}

impl Txn {
    /// A write of nothing, to add to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check.
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Applies only while nothing stands at `key`.
    pub fn absent(self, key: &Key) -> Self {
        self.check(Check::Absent(key.clone()))
    }

    /// Applies only while the entry at `key` is in this state.
    pub fn version(self, key: &Key, version: Version) -> Self {
        self.check(Check::Version(key.clone(), version))
    }

    /// Applies only while the entry made with `fence` still stands at `key`.
    pub fn stands(self, key: &Key, fence: Fence) -> Self {
        self.check(Check::Stands(key.clone(), fence))
    }

    /// Applies only while that entry stands, and says so before any other check does.
    pub(crate) fn guarded_by(mut self, key: &Key, fence: Fence) -> Self {
        self.checks.insert(0, Check::Stands(key.clone(), fence));
        self
    }

    /// Puts an entry that dies with nobody, whatever it was bound to before.
    pub fn put(self, key: &Key, value: impl Into<Bytes>) -> Self {
        self.entry(Put { key: key.clone(), value: value.into(), session: None })
    }

    /// Puts an entry that dies with `session`, whatever it was bound to before.
    pub fn put_bound(self, key: &Key, value: impl Into<Bytes>, session: &SessionId) -> Self {
        self.entry(Put { key: key.clone(), value: value.into(), session: Some(session.clone()) })
    }

    /// Adds a put.
    pub fn entry(mut self, put: Put) -> Self {
        self.puts.push(put);
        self
    }

    /// Deletes what stands at `key`, if anything does.
    pub fn delete(mut self, key: &Key) -> Self {
        self.deletes.push(key.clone());
        self
    }

    /// The checks, in the order they were added.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The puts, in the order they were added.
    #[must_use]
    pub fn puts(&self) -> &[Put] {
        &self.puts
    }

    /// The deletes, in the order they were added.
    #[must_use]
    pub fn deletes(&self) -> &[Key] {
        &self.deletes
    }

    /// The session that puts of this write are bound to, if any are.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        self.puts.iter().find_map(|put| put.session.as_ref())
    }

    /// The key an error of the whole write should name: the first it writes, else the first it checks.
    #[must_use]
    pub fn subject(&self) -> Option<&Key> {
        let written = self.puts.iter().map(|put| &put.key).chain(&self.deletes).next();
        written.or_else(|| self.checks.first().map(Check::key))
    }

    /// For backends: the same write with every key changed, as a chroot does.
    pub fn map_keys(mut self, mut map: impl FnMut(&Key) -> Result<Key>) -> Result<Self> {
        for check in &mut self.checks {
            let (Check::Absent(key) | Check::Version(key, _) | Check::Stands(key, _)) = check;
            *key = map(key)?;
        }
        for put in &mut self.puts {
            put.key = map(&put.key)?;
        }
        for key in &mut self.deletes {
            *key = map(key)?;
        }
        Ok(self)
    }

    /// For backends: refuses what no store takes, or this one does not, before anything is sent.
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        let refuse = |key: &Key, why: String| Err(Error::invalid(why).on(key).at(limits.backend, "commit"));
        let written = || self.puts.iter().map(|put| &put.key).chain(&self.deletes);
        if let Some(root) = written().find(|key| key.is_root()) {
            return refuse(root, "the root names no entry".into());
        }
        // What is in order, as of those who write many keys, has none twice.
        let mut seen = BTreeSet::new();
        if !written().is_sorted_by(|one, next| one < next)
            && let Some(twice) = written().find(|key| !seen.insert(*key))
        {
            return refuse(twice, "the key appears twice among the puts and deletes of one commit".into());
        }
        for key in written().chain(self.checks.iter().map(Check::key)) {
            limits.check_key(key).map_err(|error| error.at(limits.backend, "commit"))?;
        }
        let session = self.session();
        let mut bytes = 0_usize;
        for put in &self.puts {
            let fits = limits.check_value(&put.key, put.value.len());
            fits.map_err(|error| error.at(limits.backend, "commit"))?;
            if put.session.is_some() && put.session.as_ref() != session {
                return refuse(&put.key, "one commit binds to at most one session".into());
            }
            bytes = bytes.saturating_add(put.value.len()).saturating_add(put.key.as_str().len());
        }
        let ops = self.checks.len() + self.puts.len() + self.deletes.len();
        let subject = self.subject().cloned().unwrap_or_else(Key::root);
        if ops > limits.max_txn_ops {
            let max = limits.max_txn_ops;
            return refuse(&subject, format!("the commit has {ops} operations, over the limit of {max}"));
        }
        limits.check_bytes(&subject, bytes).map_err(|error| error.at(limits.backend, "commit"))
    }
}

/// What became of a write. A lost race is an answer, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a rejected write changed nothing"]
pub enum Write<T = Vec<Entry>> {
    /// It took effect; for a commit, the entries it put, in the order of its puts.
    Applied(T),
    /// A check did not hold, and nothing changed.
    Rejected(Rejection),
}

impl<T> Write<T> {
    /// Whether it took effect.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied(_))
    }

    /// What it made, if it took effect.
    #[must_use]
    pub fn applied(self) -> Option<T> {
        match self {
            Self::Applied(made) => Some(made),
            Self::Rejected(_) => None,
        }
    }

    /// The same answer with another thing made.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Write<U> {
        match self {
            Self::Applied(made) => Write::Applied(map(made)),
            Self::Rejected(rejection) => Write::Rejected(rejection),
        }
    }
}

/// The first check that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The key it was about.
    pub key: Key,
    /// What stood there; on some stores, what a later read saw.
    pub found: Option<Entry>,
}
