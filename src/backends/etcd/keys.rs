//! How keys, places and sessions are named on the server: the one place that knows.
//!
//! A [`Key`] is its text, byte for byte, so whatever a key may contain is data to etcd too. The server holds keys that
//! are none here (`/leading`, `a//b`, bytes that are no text): those are not seen, and not deleted.

use etcd_client::KeyValue;

use crate::kv::{Entry, Fence, Key, SessionId, Version};

/// The segment that a prefix above it does not cover.
const RESERVED: &str = "_quorate";

/// What stands after `/`, and so ends what is below a key.
const AFTER_SLASH: u8 = b'/' + 1;

/// From a key to one before another, as the server takes it: a `\0` as the end is the end of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
}

/// A key as the server has it. The root names no entry; what stands for it is no key here.
pub(super) fn encode(key: &Key) -> Vec<u8> {
    if key.is_root() { vec![0] } else { key.as_str().as_bytes().to_vec() }
}

/// One key alone.
pub(super) fn only(key: &Key) -> Range {
    Range { start: encode(key), end: Vec::new() }
}

/// A key of the server, if it is one here.
pub(super) fn decode(raw: &[u8]) -> Option<Key> {
    Key::stored(str::from_utf8(raw).ok()?)
}

/// All that is strictly below `prefix`.
pub(super) fn below(prefix: &Key) -> Range {
    if prefix.is_root() {
        return Range { start: vec![0], end: vec![0] };
    }
    let (mut start, mut end) = (encode(prefix), encode(prefix));
    start.push(b'/');
    end.push(AFTER_SLASH);
    Range { start, end }
}

/// The same in two parts, around what is reserved right below `prefix`: locks are many, and seldom wanted.
pub(super) fn around_reserved(prefix: &Key) -> [Range; 2] {
    let whole = below(prefix);
    let mut reserved = if prefix.is_root() { Vec::new() } else { whole.start.clone() };
    reserved.extend_from_slice(RESERVED.as_bytes());
    let (mut from, mut to) = (reserved.clone(), reserved);
    from.push(b'/');
    to.push(AFTER_SLASH);
    [Range { start: whole.start, end: from }, Range { start: to, end: whole.end }]
}

/// The key of what was found, if it is text.
pub(super) fn text(found: &KeyValue) -> Option<&str> {
    str::from_utf8(found.key()).ok()
}

/// A key, its value and its numbers, if it is an entry here.
pub(super) fn entry(found: KeyValue) -> Option<Entry> {
    decode(found.key()).map(|key| entry_at(key, found))
}

/// What stands at a key.
pub(super) fn entry_at(key: Key, found: KeyValue) -> Entry {
    let version = Version::new(u128::from(number(found.mod_revision())));
    let (fence, session) = (fence(found.create_revision()), session(found.lease()));
    let (_, value) = found.into_key_value();
    Entry::new(key, value.into(), version, fence, session)
}

/// The fence of what was made at this revision.
pub(super) fn fence(create_revision: i64) -> Fence {
    Fence::new(number(create_revision))
}

/// The session that a lease is, if it is one: in lower-case hexadecimal digits, as etcd's own clients name their places.
pub(super) fn session(lease: i64) -> Option<SessionId> {
    (lease != 0).then(|| SessionId::new(format!("{lease:x}")))
}

/// The lease of a session; `None` for a session that etcd cannot have granted.
pub(super) fn lease(session: &SessionId) -> Option<i64> {
    let lease = i64::from_str_radix(session.as_str(), 16).ok()?;
    (lease > 0 && format!("{lease:x}") == session.as_str()).then_some(lease)
}

/// Revisions are counted from 1 upwards.
pub(super) fn number(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_back() {
        for text in ["a", "a/b", "ü b/*?[x]/..", "a%2Fb=c", "team/_quorate/lock/x", "a\n\u{1}"] {
            let key = Key::decode(text).unwrap();
            assert_eq!(decode(&encode(&key)), Some(key));
        }
    }

    #[test]
    fn foreign_keys_are_no_entries() {
        for raw in [&b"/a"[..], b"a/", b"a//b", b"", b"/", b"\xff", b"a\0"] {
            assert_eq!(decode(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn a_range_holds_what_is_below_and_nothing_else() {
        let key = |text| Key::decode(text).unwrap();
        let within = |range: &Range, text: &str| {
            range.start.as_slice() <= text.as_bytes()
                && (range.end == [0] || text.as_bytes() < range.end.as_slice())
        };
        let range = below(&key("a/b"));
        for (text, is) in
            [("a/b/c", true), ("a/b/_quorate/x", true), ("a/b", false), ("a/b!", false), ("a/b0", false)]
        {
            assert_eq!(within(&range, text), is, "{text}");
        }
        for prefix in ["", "a"] {
            let parts = around_reserved(&key(prefix));
            let name =
                |text: &str| if prefix.is_empty() { text.to_owned() } else { format!("{prefix}/{text}") };
            for (text, is) in [
                ("x", true),
                ("_quorate", true),
                ("_quorate/lock", false),
                ("_quorate!", true),
                ("_quoratf", true),
                ("A", true),
            ] {
                let covered = parts.iter().filter(|part| within(part, &name(text))).count();
                assert_eq!(covered, usize::from(is), "{prefix} {text}");
            }
        }
    }

    #[test]
    fn sessions_are_named_as_etcd_names_leases() {
        let id = session(0x694d_8f2a_77b0_1c05).unwrap();
        assert_eq!(id.as_str(), "694d8f2a77b01c05");
        assert_eq!(lease(&id), Some(0x694d_8f2a_77b0_1c05));
        assert_eq!(session(0), None);
        for text in ["", "s-1", "0", "-1", "0A", "0a", "+a", "ffffffffffffffff"] {
            assert_eq!(lease(&SessionId::new(text)), None, "{text}");
        }
    }
}
