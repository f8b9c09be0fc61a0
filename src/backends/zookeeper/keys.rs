//! How keys, places and sessions are named on the server: the one place that knows.
//!
//! A [`Key`] is a directory, a container node, and its entry the node `=` in it: nodes that die with a session can have no
//! children, and a directory that holds an empty value must differ from one that holds none. Only a key whose last
//! segment is named like a place in a queue, as `…-lock-0000000012`, is a node itself, so that queues are shared with
//! those who know nothing of `=`.
//!
//! Segments are themselves, but for what the server does not take or what would be taken for something else, which is
//! percent-encoded.

use std::fmt::Write as _;

use percent_encoding::percent_decode_str;

use crate::kv::{Entry, Fence, Key, SessionId, Ticket, Version};
use bytes::Bytes;
use zookeeper_client::Stat;

/// The name of the node that holds a directory's value.
pub(super) const VALUE: &str = "=";

/// What stands before the number of a place: of Curator's and ours, and of kazoo's.
const MARKS: [&str; 2] = ["-lock-", "__lock__"];

/// The node that the entry of `key` is, or would be.
pub(super) fn node(key: &Key) -> String {
    let (above, last) = key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()));
    let mut path = String::with_capacity(key.as_str().len() + 3);
    push_directories(&mut path, above);
    if sequence(last).is_some() {
        path.push('/');
        push_escaped(&mut path, last, above.is_empty());
    } else {
        path.push('/');
        push_directory(&mut path, last, above.is_empty());
        path.push('/');
        path.push_str(VALUE);
    }
    path
}

/// The directory of `prefix`, which what is below it stands in.
pub(super) fn directory(prefix: &Key) -> String {
    let mut path = String::with_capacity(prefix.as_str().len() + 1);
    push_directories(&mut path, prefix.as_str());
    if path.is_empty() { "/".to_owned() } else { path }
}

fn push_directories(path: &mut String, text: &str) {
    for (index, segment) in text.split('/').filter(|segment| !segment.is_empty()).enumerate() {
        path.push('/');
        push_directory(path, segment, index == 0);
    }
}

/// The directories above a node, the highest first.
pub(super) fn above(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices().skip(1).filter(|(_, sign)| *sign == '/').map(|(at, _)| &path[..at])
}

/// A node in the directory `parent`.
pub(super) fn below(parent: &str, name: &str) -> String {
    let parent = if parent == "/" { "" } else { parent };
    let mut path = String::with_capacity(parent.len() + 1 + name.len());
    path.extend([parent, "/", name]);
    path
}

/// What a node is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Is {
    /// The entry of this key.
    Entry(Key),
    /// The directory of this key.
    Directory(Key),
}

/// What the node of this path is, if it is anything here.
pub(super) fn decode(path: &str) -> Option<Is> {
    let (above, last) = path.rsplit_once('/')?;
    let mut segments = Vec::new();
    for (index, name) in above.split('/').skip(1).enumerate() {
        let segment = unescape(name)?;
        if written(push_directory, &segment, index == 0) != name {
            return None;
        }
        segments.push(segment);
    }
    if last == VALUE {
        return (!segments.is_empty()).then(|| Key::decode(&segments.join("/")).ok().map(Is::Entry))?;
    }
    let segment = unescape(last)?;
    let first = segments.is_empty();
    let directory = written(push_directory, &segment, first) == last;
    let entry = sequence(&segment).is_some() && written(push_escaped, &segment, first) == last;
    segments.push(segment);
    let key = Key::decode(&segments.join("/")).ok()?;
    if entry {
        return Some(Is::Entry(key));
    }
    directory.then_some(Is::Directory(key))
}

/// What the node of this name in the directory of `above` is, if it is anything here.
pub(super) fn inside(above: &Key, name: &str) -> Option<Is> {
    let first = above.is_root();
    if is_special(name, first) || !is_plain(name) && name.chars().any(|sign| sign == '%' || is_refused(sign))
    {
        return decode(&below(&directory(above), name));
    }
    // Nothing in it is encoded.
    let key = above.stored_below(name)?;
    Some(if sequence(name).is_some() { Is::Entry(key) } else { Is::Directory(key) })
}

/// A segment as the name of a directory, which is never like that of a place.
fn push_directory(name: &mut String, segment: &str, first: bool) {
    push_escaped(name, segment, first);
    if sequence(segment).is_some()
        && let Some(last) = name.pop()
    {
        push_encoded(name, last);
    }
}

/// A segment as a name that the server takes: <https://zookeeper.apache.org/doc/r3.8.0/zookeeperProgrammers.html>, "The
/// ZooKeeper Data Model".
fn push_escaped(name: &mut String, segment: &str, first: bool) {
    let special = is_special(segment, first);
    if !special && is_plain(segment) {
        return name.push_str(segment);
    }
    for (index, sign) in segment.chars().enumerate() {
        if sign == '%' || special && index == 0 || is_refused(sign) {
            push_encoded(name, sign);
        } else {
            name.push(sign);
        }
    }
}

/// A segment as `push` writes it.
fn written(push: fn(&mut String, &str, bool), segment: &str, first: bool) -> String {
    let mut name = String::new();
    push(&mut name, segment, first);
    name
}

/// Whether a name means something to the server, or to us.
fn is_special(name: &str, first: bool) -> bool {
    matches!(name, "." | ".." | VALUE) || first && name == "zookeeper"
}

/// Whether all of it is written as it is, as most names are.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%')
}

/// The server counts in UTF-16, and refuses surrogates and with them all that needs two.
fn is_refused(sign: char) -> bool {
    matches!(sign, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

fn push_encoded(name: &mut String, sign: char) {
    for byte in sign.encode_utf8(&mut [0; 4]).bytes() {
        // Writing to a string does not fail.
        let _ = write!(name, "%{byte:02X}");
    }
}

fn unescape(name: &str) -> Option<String> {
    percent_decode_str(name).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The number at the end of a place's name, if it is one. It may have wrapped around.
pub(super) fn sequence(name: &str) -> Option<i32> {
    numbered(name).map(|(_, number)| number)
}

/// What stands before a place's number, and the number. It is asked of each who stands in a queue, so it looks at the end of the
/// name and does not search all of it.
fn numbered(name: &str) -> Option<(&str, i32)> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let is_marked = |stem: &&str| MARKS.iter().any(|mark| stem.ends_with(mark));
    let stem = name.get(..name.len() - digits)?;
    let stem = Some(stem).filter(is_marked).or_else(|| stem.strip_suffix('-').filter(is_marked))?;
    let number = &name[stem.len()..];
    let number = if number.len() < 10 { None } else { number.parse().ok() };
    Some((stem, number?))
}

/// What stands before the number of a place of ours. It never comes again: `attempt` is counted by the session.
pub(super) fn place_stem(session: &SessionId, ticket: &Ticket, attempt: u64) -> String {
    format!("{session}-{ticket}.{attempt}{}", MARKS[0])
}

/// Whose a place of ours is, by its name.
pub(super) fn place_owner(name: &str) -> Option<(SessionId, Ticket)> {
    let (stem, _) = numbered(name)?;
    let (stem, attempt) = stem.strip_suffix(MARKS[0])?.rsplit_once('.')?;
    attempt.parse::<u64>().ok()?;
    let (owner, ticket) = stem.split_once('-')?;
    let owner = SessionId::new(owner);
    session_number(&owner)?;
    Some((owner, ticket.parse().ok()?))
}

/// The session of this number, if it is one.
pub(super) fn session(number: i64) -> Option<SessionId> {
    /// What containers have instead of an owner.
    const CONTAINER: i64 = i64::MIN;
    (number != 0 && number != CONTAINER).then(|| SessionId::new(format!("{:016x}", number.cast_unsigned())))
}

/// The number of a session; `None` for one that ZooKeeper cannot have granted.
pub(super) fn session_number(session: &SessionId) -> Option<i64> {
    let text = session.as_str();
    let is_written_so =
        text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = u64::from_str_radix(text, 16).ok().filter(|number| is_written_so && *number != 0)?;
    Some(number.cast_signed())
}

/// An entry as the server tells it.
pub(super) fn entry(key: Key, value: Bytes, stat: &Stat) -> Entry {
    let owner = session(stat.ephemeral_owner);
    Entry::new(key, value, version(stat.czxid, stat.version), fence(stat.czxid), owner)
}

/// When the node was made, which tells it from others of its name, and how often it was written since.
pub(super) fn version(czxid: i64, written: i32) -> Version {
    Version::new(u128::from(czxid.cast_unsigned()) << 32 | u128::from(written.cast_unsigned()))
}

/// What a version was made of; `None` for one that is not of this store.
pub(super) fn version_parts(version: Version) -> Option<(i64, i32)> {
    let (czxid, written) = (u64::try_from(version.raw() >> 32).ok()?, version.raw() & u128::from(u32::MAX));
    Some((czxid.cast_signed(), u32::try_from(written).ok()?.cast_signed()))
}

pub(super) fn fence(czxid: i64) -> Fence {
    Fence::new(czxid.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Mode, Random};

    fn key(text: &str) -> Key {
        Key::decode(text).unwrap()
    }

    #[test]
    fn every_key_comes_back() {
        for (text, path) in [
            ("a/b", "/a/b/="),
            ("a/=/=", "/a/%3D/%3D/="),
            ("zookeeper/zookeeper", "/%7Aookeeper/zookeeper/="),
            ("./..", "/%2E/%2E./="),
            ("a%2Fb", "/a%252Fb/="),
            ("a\n\u{7f}🦀\u{e000}é", "/a%0A%7F%F0%9F%A6%80%EE%80%80é/="),
            ("_quorate/lock/x-lock-0000000012", "/_quorate/lock/x-lock-0000000012"),
            ("x__lock__0000000012/y", "/x__lock__000000001%32/y/="),
            ("x-lock-12", "/x-lock-12/="),
            ("x-lock--2147483648", "/x-lock--2147483648"),
        ] {
            assert_eq!(node(&key(text)), path);
            assert_eq!(decode(path), Some(Is::Entry(key(text))));
            let directory = directory(&key(text));
            assert_eq!(decode(&directory), Some(Is::Directory(key(text))), "{directory}");
            for path in [path, &directory] {
                let (above, name) = path.rsplit_once('/').unwrap();
                let above = match decode(above) {
                    Some(Is::Directory(above)) => above,
                    _ => Key::root(),
                };
                assert_eq!(inside(&above, name), decode(path), "{path}");
            }
        }
        assert_eq!(directory(&Key::root()), "/");
    }

    #[test]
    fn foreign_nodes_are_no_entries() {
        for path in ["/=", "/%41/=", "/a/%2", "/zookeeper", "/a/%FF/="] {
            assert_eq!(decode(path), None, "{path}");
        }
        for name in ["=", "%41", "%2", "zookeeper", "%FF"] {
            assert_eq!(inside(&Key::root(), name), None, "{name}");
        }
        assert_eq!(decode("/a/b"), Some(Is::Directory(key("a/b"))));
    }

    #[test]
    fn directories_are_told_from_the_top() {
        assert_eq!(above("/a/b/=").collect::<Vec<_>>(), ["/a", "/a/b"]);
        assert_eq!(above("/a").count(), 0);
    }

    #[test]
    fn places_tell_whose_they_are() {
        let (session, ticket) =
            (session(0x1000_0000_0000_0001).unwrap(), Ticket::new(Mode::Shared, &Random::seeded(1)));
        let name = format!("{}0000000007", place_stem(&session, &ticket, 3));
        assert_eq!(place_owner(&name), Some((session, ticket)));
        assert_eq!(sequence(&name), Some(7));
        for foreign in ["_c_0b1f-lock-0000000001", "0b1f__lock__0000000001"] {
            assert_eq!((place_owner(foreign), sequence(foreign)), (None, Some(1)));
        }
        for (other, number) in
            [("x-lock--2147483648", i32::MIN), ("x__lock__-000000001", -1), ("é-lock-0000000002", 2)]
        {
            assert_eq!(sequence(other), Some(number), "{other}");
        }
        for other in [
            "",
            "0000000001",
            "latch-0000000001",
            "-lock-",
            "x-lock--",
            "x-lock-1",
            "x-lock---000000001",
            "x-lock-+000000001",
            "x-lock-99999999999",
        ] {
            assert_eq!(sequence(other), None, "{other}");
        }
    }

    #[test]
    fn sessions_and_versions_come_back() {
        for number in [1, i64::MAX, -1, 0x1000_0ABC_DEF0_0001] {
            assert_eq!(session_number(&session(number).unwrap()), Some(number));
        }
        assert_eq!(session(0), None);
        for text in ["", "1", "0000000000000000", "000000000000000A", "+000000000000001"] {
            assert_eq!(session_number(&SessionId::new(text)), None, "{text}");
        }
        assert_eq!(version_parts(version(0x5_0000_0001, 7)), Some((0x5_0000_0001, 7)));
    }
}
