//! What the stream says: one entry for every revision, written by the script that made it.

use std::time::Duration;

use redis::Value;

use super::error::Fault;
use super::reply::{array, bytes, entry, numbered, odd, text};
use crate::kv::{Event, Key};

/// All that happened at one revision.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) revision: u64,
    /// What tells it from another that was given the same number after a failover.
    pub(super) stamp: u64,
    /// The life of the store that begins here.
    pub(super) epoch: Option<u64>,
    pub(super) events: Vec<Event>,
    /// The life of a session that was granted.
    pub(super) granted: Option<Duration>,
}

/// Reads what `XREAD` found in the one stream.
pub(super) fn told(found: Value) -> Result<Vec<Told>, Fault> {
    let stream = array(found)?.into_iter().next().ok_or_else(|| odd("no stream"))?;
    let entries = array(stream)?.into_iter().nth(1).ok_or_else(|| odd("no entries"))?;
    array(entries)?.into_iter().map(streamed).collect()
}

/// A key, and what stands there.
type Change<'a> = [&'a [u8]; 2];

/// Reads what a script published: parts that NUL separates, which is in no key. The first says at which revision it was; then
/// come of each change its key, the length of what stands there, and that. The last has no length, and goes to the end.
pub(super) fn published(text: &[u8]) -> Result<Told, Fault> {
    let (id, rest) = part(text).ok_or_else(|| odd("no revision"))?;
    let id = std::str::from_utf8(id).map_err(|_| odd("no revision"))?;
    let (mut fields, mut rest) = (Vec::with_capacity(2), Some(rest));
    while let Some(text) = rest {
        let (change, behind) = first(text).ok_or_else(|| odd("half a change"))?;
        fields.extend(change);
        rest = behind;
    }
    change(id, fields.into_iter())
}

/// The first of the changes, and what comes behind it.
fn first(text: &[u8]) -> Option<(Change<'_>, Option<&[u8]>)> {
    let (key, rest) = part(text)?;
    let (length, rest) = part(rest)?;
    if length.is_empty() {
        return Some(([key, rest], None));
    }
    let length = std::str::from_utf8(length).ok()?.parse().ok()?;
    let (what, rest) = rest.split_at_checked(length)?;
    Some(([key, what], Some(rest.strip_prefix(b"\0")?)))
}

/// What stands before the next NUL, and behind it.
fn part(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == 0)?;
    Some((&text[..end], &text[end + 1..]))
}

fn streamed(entry: Value) -> Result<Told, Fault> {
    let parts: Result<[Value; 2], _> = array(entry)?.try_into();
    let Ok([id, fields]) = parts else { return Err(odd("no entry of a stream")) };
    let fields = array(fields)?.into_iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
    change(&text(id)?, fields.iter().map(Vec::as_slice))
}

/// Reads what happened at a revision: each key with what stands there now, or nothing if it was deleted; and what concerns no
/// key, under none.
fn change<'a>(id: &str, mut fields: impl Iterator<Item = &'a [u8]>) -> Result<Told, Fault> {
    let (revision, stamp) = numbered(id).ok_or_else(|| odd("no revision"))?;
    let mut told = Told { revision, stamp, epoch: None, events: Vec::new(), granted: None };
    while let (Some(at), Some(stored)) = (fields.next(), fields.next()) {
        if at.is_empty() {
            let said = std::str::from_utf8(stored).ok().and_then(|text| text.split_once(' '));
            match said.and_then(|(what, number)| Some((what, number.parse().ok()?))) {
                Some(("epoch", epoch)) => told.epoch = Some(epoch),
                Some(("ttl", millis)) => told.granted = Some(Duration::from_millis(millis)),
                _ => return Err(odd("a change of an unknown kind")),
            }
            continue;
        }
        let at =
            std::str::from_utf8(at).ok().and_then(|at| Key::decode(at).ok()).ok_or_else(|| odd("no key"))?;
        told.events.push(if stored.is_empty() {
            Event::Delete(at)
        } else {
            Event::Put(entry(at, stored.to_vec())?)
        });
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    #[test]
    fn reads_what_was_published() {
        let value = "- 9 9\nx\0y\0";
        let changes = format!("a/b\0{}\0{value}\0c\x000\0\0d\0\0{value}", value.len());
        let text = format!("9-1\0{changes}");
        let told = published(text.as_bytes()).unwrap();
        assert_eq!((told.revision, told.stamp), (9, 1));
        let [Event::Put(first), Event::Delete(gone), Event::Put(last)] = &*told.events else {
            panic!("{told:?}")
        };
        assert_eq!((first.key.as_str(), gone.as_str(), last.key.as_str()), ("a/b", "c", "d"));
        assert_eq!([&*first.value, &*last.value], [b"x\0y\0"; 2]);
        // What goes to the end may end anywhere; all else may not.
        for end in 0..text.len() - value.len() {
            assert!(
                published(&text.as_bytes()[..end]).is_err(),
                "what is cut off after {end} is not believed"
            );
        }
        let deleted = published(b"9-1\0a\0\0").unwrap();
        assert_eq!(deleted.events, [Event::Delete(Key::new("a").unwrap())]);
        let begun = published(b"9-1\0\0\0epoch 7").unwrap();
        assert_eq!((begun.epoch, begun.events.len()), (Some(7), 0));
        for bad in
            ["", "9-1", "9-1\0", "9-1\0a\0", "9-1\0a\0x\0b", "9-1\0a\x001\0bc", "9-1\0a\x009\0b", "9\0a\0\0"]
        {
            assert!(published(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_every_kind_of_change() {
        let fields = [
            "a/b",
            "8.1 9 7\n\0x\n",
            "c",
            "",
            "d",
            "- 9 9\n",
            "",
            "ttl 20",
            "",
            "epoch 18446744073709551615",
        ];
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let list: String = fields.into_iter().map(bulk).collect();
        let entry = format!("*2\r\n{}*{}\r\n{list}", bulk("9-18446744073709551615"), fields.len());
        let text = format!("*1\r\n*2\r\n{}*1\r\n{entry}", bulk("{q}:w"));
        let told = told(parse_redis_value(text.as_bytes()).unwrap()).unwrap();
        let [Told { revision: 9, stamp: u64::MAX, epoch: Some(u64::MAX), events, granted }] = &*told else {
            panic!("{told:?}")
        };
        let [Event::Put(bound), Event::Delete(gone), Event::Put(free)] = &**events else {
            panic!("{events:?}")
        };
        assert_eq!((bound.key.as_str(), &*bound.value, bound.fence.get()), ("a/b", &b"\0x\n"[..], 7));
        assert_eq!(bound.session.as_ref().unwrap().as_str(), "8.1");
        assert_eq!(*granted, Some(Duration::from_millis(20)));
        assert_eq!((gone.as_str(), free.session.as_ref(), free.version.raw()), ("c", None, 9));
    }
}
