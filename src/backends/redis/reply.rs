//! What a script answers.

use redis::Value;

use super::error::{Cure, Fault};
use crate::kv::{Entry, ErrorKind, Fence, Key, Outcome, SessionId, Version};

/// The answer of a script: which life of the store it is of, at which revision and with which stamp, how it went, and what
/// else it says.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) epoch: String,
    pub(super) revision: u64,
    pub(super) stamp: u64,
    pub(super) status: String,
    pub(super) rest: Vec<Value>,
}

impl Reply {
    pub(super) fn read(value: Value) -> Result<Self, Fault> {
        let Value::Array(parts) = value else { return Err(odd("no array")) };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().ok_or_else(|| odd("too short"));
        let (epoch, revision, stamp) = (text(next()?)?, number(next()?)?, number(next()?)?);
        let status = text(next()?)?;
        Ok(Self { epoch, revision, stamp, status, rest: parts.collect() })
    }

    /// The part after the status at this place.
    pub(super) fn take(&mut self, at: usize) -> Option<Value> {
        let part = self.rest.get_mut(at)?;
        match std::mem::replace(part, Value::Nil) {
            Value::Nil => None,
            value => Some(value),
        }
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

/// Key, value, version, fence and session, as the scripts give them.
pub(super) fn entry(value: Value) -> Result<Entry, Fault> {
    let mut parts = array(value)?.into_iter();
    next_entry(&mut parts)?.ok_or_else(|| odd("no entry"))
}

/// Any number of them in one row.
pub(super) fn entries(value: Value) -> Result<Vec<Entry>, Fault> {
    let mut parts = array(value)?.into_iter();
    let mut entries = Vec::with_capacity(parts.len() / 5);
    while let Some(entry) = next_entry(&mut parts)? {
        entries.push(entry);
    }
    Ok(entries)
}

fn next_entry(parts: &mut impl Iterator<Item = Value>) -> Result<Option<Entry>, Fault> {
    let Some(at) = parts.next() else { return Ok(None) };
    let mut part = || parts.next().ok_or_else(|| odd("half an entry"));
    let (at, value, version) = (key(at)?, bytes(part()?)?, number(part()?)?);
    let (fence, session) = (number(part()?)?, text(part()?)?);
    Ok(Some(Entry::new(at, value.into(), Version::new(version.into()), Fence::new(fence), bound(session))))
}

pub(super) fn bound(session: String) -> Option<SessionId> {
    (!session.is_empty()).then(|| SessionId::new(session))
}
