//! What a store holds: entries, and the numbers on them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Error, Key};

/// Which state of an entry this is, for conditional writes. Only equality means anything.
///
/// A version is never valid again once the entry changed (also to the same value) or was deleted and made again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version(u128);

impl Version {
    /// For backends: a version from whatever tells the store's states apart.
    #[must_use]
    pub const fn new(raw: u128) -> Self {
        Self(raw)
    }

    /// For backends: the number it was made from.
    #[must_use]
    pub const fn raw(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Reads what `Display` prints.
impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let raw = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        raw.map(Self).ok_or_else(|| Error::invalid(format!("{text:?} is no version of an entry")))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({:x})", self.0)
    }
}

/// A number that only grows: along the holders of a lock, the leaders of an election, the lives of a key.
///
/// Hand it to whatever the lock protects, and let that refuse every number below the highest it has seen: only so
/// does a holder that was paused past its lease do no harm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence(u64);

impl Fence {
    /// A fence read back from where it was stored.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({})", self.0)
    }
}

/// One session's name, as the store gave it. Only [`SessionStore::grant`](super::SessionStore::grant) makes one
/// that means anything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// For backends: the store's own name for the session, without `/`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

/// A key and what stands there. Cloning is cheap.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// Which state of it this is.
    pub version: Version,
    /// Given when it was made, kept while it is overwritten, larger when it is made again. Binding it to another
    /// session may count as making it again.
    pub fence: Fence,
    /// The session it dies with, if it is bound to one.
    pub session: Option<SessionId>,
}

impl Entry {
    /// For backends: an entry as the store tells it.
    #[must_use]
    pub fn new(key: Key, value: Bytes, version: Version, fence: Fence, session: Option<SessionId>) -> Self {
        Self { key, value, version, fence, session }
    }

    /// For backends: the same entry, which shares the name of its session with the one before it in an answer, if that is
    /// bound to the same. Most entries of a long answer hang on few sessions, and so it takes less memory. `last` is `None`
    /// at first, and the same for all.
    #[must_use]
    pub fn sharing(mut self, last: &mut Option<SessionId>) -> Self {
        if self.session == *last {
            self.session.clone_from(last);
        } else {
            last.clone_from(&self.session);
        }
        self
    }
}

/// Never shows the value, only its length: values may be secret.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("len", &self.value.len())
            .field("version", &self.version)
            .field("fence", &self.fence)
            .field("session", &self.session)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::ErrorKind;

    #[test]
    fn the_entries_of_an_answer_share_the_names_of_their_sessions() {
        let mut last = None;
        let mut read = |session: Option<&str>| {
            let session = session.map(SessionId::new);
            let entry =
                Entry::new(Key::root(), Bytes::new(), Version::new(1), Fence::new(1), session.clone());
            let entry = entry.sharing(&mut last);
            assert_eq!(entry.session, session);
            entry.session
        };
        let [one, same, none, again, other] =
            [Some("a"), Some("a"), None, Some("a"), Some("b")].map(&mut read);
        let shared = |a: &Option<SessionId>, b: &Option<SessionId>| {
            a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| Arc::ptr_eq(&a.0, &b.0))
        };
        assert!(shared(&one, &same) && none.is_none() && !shared(&again, &other));
    }

    #[test]
    fn versions_come_back_as_they_were_printed() {
        for raw in [0, 1, 0xbeef, u128::MAX] {
            let version = Version::new(raw);
            assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        }
        for bad in ["", "+1", "-1", "0x1", "g", " 1", &"f".repeat(33)] {
            let error = bad.parse::<Version>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }
}
