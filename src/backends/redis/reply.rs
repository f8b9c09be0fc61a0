//! What a script answers.

use bytes::{Buf as _, Bytes};
use redis::Value;

use super::error::{Cure, Fault};
use crate::kv::{Entry, ErrorKind, Fence, Key, Outcome, SessionId, Version};

/// What stands before a value is shorter.
const HEAD: usize = 128;

/// Which life of the store it is, which revision was given last, and with which stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) epoch: u64,
    pub(super) revision: u64,
    pub(super) stamp: u64,
}

impl State {
    /// Reads `REVISION-STAMP EPOCH`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (id, epoch) = text.split_once(' ')?;
        let (revision, stamp) = numbered(id)?;
        Some(Self { epoch: epoch.parse().ok()?, revision, stamp })
    }

    /// Whether a session is of this life of the store.
    pub(super) fn bears(&self, session: &str) -> bool {
        session.split_once('.').is_some_and(|(epoch, _)| epoch.parse() == Ok(self.epoch))
    }
}

/// Reads `REVISION-STAMP`.
pub(super) fn numbered(id: &str) -> Option<(u64, u64)> {
    let (revision, stamp) = id.split_once('-')?;
    Some((revision.parse().ok()?, stamp.parse().ok()?))
}

/// The answer of a script: the state it left, how it went, and what else it says.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) state: State,
    pub(super) status: String,
    pub(super) rest: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(super) fn read(value: Value) -> Result<Self, Fault> {
        let mut parts = array(value)?.into_iter();
        let mut next = || parts.next().ok_or_else(|| odd("too short"));
        let state = State::read(&text(next()?)?).ok_or_else(|| odd("no state"))?;
        let status = text(next()?)?;
        Ok(Self { state, status, rest: parts })
    }

    /// What it says next.
    pub(super) fn next(&mut self) -> Option<Value> {
        self.rest.next().filter(|value| *value != Value::Nil)
    }
}

/// An answer that does not fit the question. The script ran, so what it was for may be done.
pub(super) fn odd(what: &str) -> Fault {
    Fault::new(
        ErrorKind::Internal,
        Outcome::Unknown,
        Cure::None,
        format!("the answer makes no sense: {what}"),
    )
}

pub(super) fn array(value: Value) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(parts) => Ok(parts),
        _ => Err(odd("no array")),
    }
}

pub(super) fn text(value: Value) -> Result<String, Fault> {
    String::from_utf8(bytes(value)?).map_err(|_| odd("no text"))
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, Fault> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(odd("no string")),
    }
}

pub(super) fn number(value: Value) -> Result<u64, Fault> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| odd("a negative number")),
        other => text(other)?.parse().map_err(|_| odd("no number")),
    }
}

pub(super) fn key(value: Value) -> Result<Key, Fault> {
    Key::decode(&text(value)?).map_err(|_| odd("no key"))
}

/// Reads the version of each of some keys; nothing stands where it is empty.
pub(super) fn versions(value: Value) -> Result<Vec<Option<Version>>, Fault> {
    let version = |value| {
        let raw = text(value)?;
        if raw.is_empty() {
            return Ok(None);
        }
        let raw = raw.parse::<u64>().map_err(|_| odd("no version"))?;
        Ok(Some(Version::new(raw.into())))
    };
    array(value)?.into_iter().map(version).collect()
}

/// Reads what is stored at a key: `SESSION VERSION FENCE`, a line break, and the value.
pub(super) fn entry(key: Key, stored: Vec<u8>) -> Result<Entry, Fault> {
    let head = stored.iter().take(HEAD).position(|byte| *byte == b'\n').ok_or_else(|| odd("no entry"))?;
    let marks = std::str::from_utf8(&stored[..head]).ok().and_then(|head| {
        let mut parts = head.split(' ');
        let (session, version, fence) = (parts.next()?, parts.next()?, parts.next()?);
        let session = (session != "-").then(|| SessionId::new(session));
        Some((Version::new(version.parse::<u64>().ok()?.into()), Fence::new(fence.parse().ok()?), session))
    });
    let (version, fence, session) = marks.ok_or_else(|| odd("no entry"))?;
    // What stands before it stays with it: to copy the value takes more.
    let mut value = Bytes::from(stored);
    value.advance(head + 1);
    Ok(Entry::new(key, value, version, fence, session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_stored_at_a_key() {
        let key = Key::new("k").unwrap();
        let read = |stored: &[u8]| entry(key.clone(), stored.to_vec());
        let bound = read(b"7.a 9 8\n\n\0x").unwrap();
        assert_eq!((bound.version.raw(), bound.fence.get(), &*bound.value), (9, 8, &b"\n\0x"[..]));
        assert_eq!(bound.session.as_ref().map(SessionId::as_str), Some("7.a"));
        let free = read(b"- 9 8\n").unwrap();
        assert_eq!((free.session, free.value.len()), (None, 0));
        let late = [&b"- 9 8"[..], &[b' '; HEAD], b"\n"].concat();
        for bad in [&b""[..], b"- 9 8", b"- 9\n", b"- 9 x\n", b"\xff 9 8\n", &late] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_versions() {
        let value = |text: &str| Value::BulkString(text.into());
        let read = versions(Value::Array(vec![value("9"), value("")])).unwrap();
        assert_eq!(read, [Some(Version::new(9)), None]);
        for bad in [value("9"), Value::Array(vec![value("x")]), Value::Array(vec![Value::Nil])] {
            assert!(versions(bad).is_err());
        }
    }

    #[test]
    fn reads_the_state_and_whose_life_a_session_is_of() {
        let state = State::read("9-3 12").unwrap();
        assert_eq!(state, State { epoch: 12, revision: 9, stamp: 3 });
        for bad in ["", "9-3", "9 12", "9-3 x", "-3 12"] {
            assert_eq!(State::read(bad), None, "{bad:?}");
        }
        assert!(state.bears("12.a"));
        for other in ["1.a", "123.a", "12", "a.12"] {
            assert!(!state.bears(other), "{other:?}");
        }
    }
}
