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

/// Reads what a script published: strings in `MessagePack`, the first of which says at which revision it was.
pub(super) fn published(mut packed: &[u8]) -> Result<Told, Fault> {
    let id = unpacked(&mut packed).ok_or_else(|| odd("no revision"))?;
    let id = std::str::from_utf8(id).map_err(|_| odd("no revision"))?;
    let mut fields = Vec::with_capacity(2);
    while !packed.is_empty() {
        fields.push(unpacked(&mut packed).ok_or_else(|| odd("half a change"))?);
    }
    change(id, fields.into_iter())
}

/// Takes the next string.
fn unpacked<'a>(packed: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&kind, rest) = packed.split_first()?;
    let digits = match kind {
        0xa0..=0xbf => 0,
        0xd9 => 1,
        0xda => 2,
        0xdb => 4,
        _ => return None,
    };
    let (length, rest) = rest.split_at_checked(digits)?;
    let length = match digits {
        0 => usize::from(kind & 0x1f),
        _ => length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
    };
    let (text, rest) = rest.split_at_checked(length)?;
    *packed = rest;
    Some(text)
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
        told.events.push(if stored.is_empty() { Event::Delete(at) } else { Event::Put(entry(at, stored)?) });
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    #[test]
    fn reads_what_was_published_however_long() {
        let long = |length: usize| format!("- 9 9\n{}", "x".repeat(length));
        let of = |head: &[u8], text: &str| [head, text.as_bytes()].concat();
        let (some, more, most) = (long(94), long(994), long(69_994));
        let packed = [
            of(b"\xa39-1", ""),
            of(b"\xa1a", ""),
            of(b"\xd9\x64", &some),
            of(b"\xa1b", ""),
            of(b"\xda\x03\xe8", &more),
            of(b"\xa1c", ""),
            of(b"\xdb\x00\x01\x11\x70", &most),
            of(b"\xa1d\xa0", ""),
        ]
        .concat();
        let told = published(&packed).unwrap();
        assert_eq!((told.revision, told.stamp), (9, 1));
        let lengths = told.events.iter().map(|event| match event {
            Event::Put(entry) => entry.value.len(),
            _ => 0,
        });
        assert_eq!(lengths.collect::<Vec<_>>(), [94, 994, 69_994, 0]);
        for end in 0..packed.len() {
            let cut = published(&packed[..end]);
            assert!(cut.is_err() || cut.unwrap().events.len() < 4, "what is cut off is not believed");
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
