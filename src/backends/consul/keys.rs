//! How keys and entries are named on the server: the one place that knows.
//!
//! Consul takes keys of any bytes in some versions, and refuses others in other versions; a few characters are safe in
//! all of them and in URLs. A segment keeps its letters, digits, `-` and `_`; every other byte is written as `_` and two
//! upper-case hexadecimal digits, and so is a `_` that could be mistaken for such a beginning. `_quorate/lock/jobs` is
//! itself, `ü b` is `_C3_BC_20b`.
//!
//! The server holds keys that are none here (`a//b`, `a.b`, `a/`): those are not seen, and not deleted.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use crate::kv::{Entry, Fence, Key, SessionId, Version};

/// A key and what stands there, as the server tells it: parts of its answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Stored<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    /// Absent in answers to writes.
    value: Option<Text<'a>>,
    create_index: u64,
    modify_index: u64,
    session: Option<Text<'a>>,
}

/// A string of JSON, which is only copied where something in it is escaped.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A key as the server has it. The root names no entry, and is what every key begins with.
pub(super) fn encode(key: &Key) -> String {
    let text = key.as_str();
    let mut encoded = String::with_capacity(text.len() + 8);
    for (at, byte) in text.bytes().enumerate() {
        if is_plain(&text.as_bytes()[at..]) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "_{byte:02X}");
        }
    }
    encoded
}

/// What all keys below `prefix` begin with.
pub(super) fn encode_below(prefix: &Key) -> String {
    if prefix.is_root() { String::new() } else { encode(prefix) + "/" }
}

/// A key of the server, if it is one here.
pub(super) fn decode(raw: &str) -> Option<Key> {
    let bytes = raw.as_bytes();
    if is_plain_throughout(bytes) {
        return Key::stored(raw);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = (byte == b'_').then(|| raw.get(at + 1..at + 3)).flatten();
        if let Some(digits) = digits.filter(|digits| digits.bytes().all(is_digit)) {
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    let key = Key::decode(&String::from_utf8(decoded).ok()?).ok()?;
    (!key.is_root() && encode(&key) == raw).then_some(key)
}

/// Whether every byte of a key [is plain](is_plain), as in most keys. What is not is counted, for which many bytes are
/// compared at once.
fn is_plain_throughout(raw: &[u8]) -> bool {
    let is_other = |byte: &&u8| !(byte.is_ascii_alphanumeric() || matches!(**byte, b'/' | b'-' | b'_'));
    let is_mistakable = |(byte, next): &(&u8, &u8)| **byte == b'_' && is_digit(**next);
    let pairs = raw.iter().zip(raw.get(1..).unwrap_or_default());
    raw.iter().filter(is_other).count() == 0 && pairs.filter(is_mistakable).count() == 0
}

/// Whether the first byte of what is left of a key stands for itself.
fn is_plain(rest: &[u8]) -> bool {
    match rest {
        [b'_', next, ..] => !is_digit(*next),
        [b'_' | b'/' | b'-', ..] | [] => true,
        [byte, ..] => byte.is_ascii_alphanumeric(),
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'F')
}

impl Stored<'_> {
    /// Whether it stands at this key, which is one of the server's.
    pub(super) fn is_at(&self, raw: &str) -> bool {
        self.key.0 == raw
    }

    /// Its key, if it is one here.
    pub(super) fn key(&self) -> Option<Key> {
        decode(&self.key.0)
    }

    /// The index it was made at.
    pub(super) fn fence(&self) -> Fence {
        Fence::new(self.create_index)
    }

    /// The index it was last written at.
    pub(super) fn version(&self) -> Version {
        Version::new(self.modify_index.into())
    }

    /// The session it is held by.
    pub(super) fn session(&self) -> Option<SessionId> {
        let session = self.session.as_ref().filter(|session| !session.0.is_empty());
        session.map(|session| SessionId::new(&*session.0))
    }

    /// The entry, if it is one here.
    pub(super) fn entry(&self) -> Option<Entry> {
        let value = match &self.value {
            Some(text) => bytes(&text.0)?,
            None => Bytes::new(),
        };
        Some(Entry::new(self.key()?, value, self.version(), self.fence(), self.session()))
    }
}

/// A value as the server takes it.
pub(super) fn value(value: &Bytes) -> String {
    STANDARD.encode(value)
}

/// A value that the server gave, in as much memory as it takes.
fn bytes(text: &str) -> Option<Bytes> {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    let mut value = vec![0; (text.len() / 4 * 3).checked_sub(padding)?];
    let len = STANDARD.decode_slice(text, &mut value).ok()?;
    (len == value.len()).then(|| value.into())
}

/// The index that a version was made from; 0, which none is, for one of another store.
pub(super) fn index(version: Version) -> u64 {
    u64::try_from(version.raw()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_back_in_safe_characters() {
        for text in [
            "a",
            "a/b",
            "ü b/*?[x]/..",
            "a%2Fb=c",
            "team/_quorate/lock/x",
            "a\n\u{1}",
            "_",
            "__",
            "_4",
            "_41",
            "__41",
            "_A",
            "_a",
            "_ ",
            "x_/_0",
            "host.example:80",
            "_Z_F",
        ] {
            let key = Key::decode(text).unwrap();
            let raw = encode(&key);
            assert!(raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-/".contains(&byte)), "{raw}");
            assert!(raw.len() <= 3 * text.len());
            assert_eq!(decode(&raw), Some(key), "{raw}");
        }
        for (text, raw) in
            [("_quorate/lock/jobs", "_quorate/lock/jobs"), ("ü b", "_C3_BC_20b"), ("my_key_1", "my_key_5F1")]
        {
            assert_eq!(encode(&Key::decode(text).unwrap()), raw);
        }
    }

    #[test]
    fn a_key_is_plain_throughout_if_every_byte_is() {
        for (byte, next) in (0..=u8::MAX).flat_map(|byte| (0..=u8::MAX).map(move |next| (byte, next))) {
            let plain = is_plain(&[byte, next]) && is_plain(&[next]);
            assert_eq!(is_plain_throughout(&[byte, next]), plain, "{byte} {next}");
        }
    }

    #[test]
    fn foreign_keys_are_no_entries() {
        for raw in ["/a", "a/", "a//b", "", "a.b", "a b", "ü", "_FF", "_41", "_2F", "a_00", "__41"] {
            assert_eq!(decode(raw), None, "{raw:?}");
        }
    }
}
