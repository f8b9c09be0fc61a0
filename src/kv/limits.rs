//! How much a store can do; checked before anything is sent.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{Error, Key, Result};

/// How changes reach a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The server tells.
    Pushed,
    /// Somebody looks, this often.
    Polled {
        /// The time between two looks.
        every: Duration,
    },
}

/// How far the fences of a store can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceScope {
    /// Any two, whatever they were given for.
    Store,
    /// Those of the same queue or the same key.
    Queue,
}

/// The amounts of a store: what it takes, and how late it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The store's name in errors, spans and tables, such as `"etcd"`.
    pub backend: &'static str,
    /// What runs there and in which version, such as `"SQLite 3.54.0"`, where that is known.
    pub server: Option<Arc<str>>,
    /// The longest key, in bytes of its normalised text.
    pub max_key: usize,
    /// The longest value, in bytes.
    pub max_value: usize,
    /// The most checks, puts and deletes in one commit.
    pub max_txn_ops: usize,
    /// The most bytes of keys and values put by one commit.
    pub max_txn_bytes: usize,
    /// The session lives that can be asked for.
    pub ttl: RangeInclusive<Duration>,
    /// How long after its ttl an unrenewed session may still stand: this long …
    pub slack: Duration,
    /// … and this many hundredths of its ttl.
    pub slack_percent: u32,
    /// The hundredths of a ttl by which a holder should stop early; see [`SessionOptions::margin`].
    ///
    /// [`SessionOptions::margin`]: super::SessionOptions::margin
    pub margin_percent: u32,
    /// How changes reach a watch.
    pub delivery: Delivery,
    /// Whether a watch may leave out values that were soon overwritten. The last is never left out.
    pub coalesces: bool,
    /// How far fences can be compared.
    pub fence: FenceScope,
}

impl Limits {
    /// For backends: generous amounts to start from, for a store of this name.
    #[must_use]
    pub fn new(backend: &'static str) -> Self {
        Self {
            backend,
            server: None,
            max_key: 1024,
            max_value: 1024 * 1024,
            max_txn_ops: 128,
            max_txn_bytes: 4 * 1024 * 1024,
            ttl: Duration::from_millis(100)..=Duration::from_hours(24),
            slack: Duration::from_millis(500),
            slack_percent: 0,
            margin_percent: 10,
            delivery: Delivery::Pushed,
            coalesces: false,
            fence: FenceScope::Store,
        }
    }

    /// How long after its `ttl` an unrenewed session may still stand.
    #[must_use]
    pub fn expiry_slack(&self, ttl: Duration) -> Duration {
        self.slack + ttl * self.slack_percent / 100
    }

    /// Refuses a session life outside the range.
    pub fn check_ttl(&self, ttl: Duration) -> Result<()> {
        if self.ttl.contains(&ttl) {
            return Ok(());
        }
        let (min, max) = (self.ttl.start(), self.ttl.end());
        Err(Error::invalid(format!("ttl {ttl:?} is outside {min:?} to {max:?}")).at(self.backend, "grant"))
    }

    /// Refuses a key that is too long.
    pub fn check_key(&self, key: &Key) -> Result<()> {
        let (len, max) = (key.as_str().len(), self.max_key);
        if len <= max {
            return Ok(());
        }
        Err(Error::invalid(format!("the key has {len} bytes, over the limit of {max}")).on(key))
    }

    /// Refuses a put of a key or value that is too long, or of both when no commit has room for them.
    pub(crate) fn check_put(&self, key: &Key, value: usize) -> Result<()> {
        self.check_key(key)?;
        self.check_value(key, value)?;
        self.check_bytes(key, key.as_str().len().saturating_add(value))
    }

    /// Refuses a value that is too long.
    pub(super) fn check_value(&self, key: &Key, len: usize) -> Result<()> {
        let max = self.max_value;
        if len <= max {
            return Ok(());
        }
        Err(Error::invalid(format!("the value has {len} bytes, over the limit of {max}")).on(key))
    }

    /// Refuses a commit that puts too many bytes; the error is on `key`.
    pub(super) fn check_bytes(&self, key: &Key, bytes: usize) -> Result<()> {
        let max = self.max_txn_bytes;
        if bytes <= max {
            return Ok(());
        }
        Err(Error::invalid(format!("the commit has {bytes} bytes, over the limit of {max}")).on(key))
    }
}
