//! What the stream says: one entry for every revision, written by the script that made it.

use std::time::Duration;

use redis::Value;

use super::error::Fault;
use super::reply::{array, bound, bytes, key, number, odd, text};
use crate::kv::{Entry, Event, Fence, Version};

/// All that happened at one revision.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) revision: u64,
    /// What tells it from another that was given the same number after a failover.
    pub(super) stamp: u64,
    /// The life of the store that begins here.
    pub(super) epoch: Option<String>,
    pub(super) events: Vec<Event>,
    /// The life of a session that was granted.
    pub(super) granted: Option<Duration>,
}

/// Reads what `XREAD` found in the one stream.
pub(super) fn told(found: Value) -> Result<Vec<Told>, Fault> {
    let stream = array(found)?.into_iter().next().ok_or_else(|| odd("no stream"))?;
    let entries = array(stream)?.into_iter().nth(1).ok_or_else(|| odd("no entries"))?;
    array(entries)?.into_iter().map(entry).collect()
}

fn entry(entry: Value) -> Result<Told, Fault> {
    let parts: Result<[Value; 2], _> = array(entry)?.try_into();
    let Ok([id, fields]) = parts else { return Err(odd("no entry of a stream")) };
    let id = text(id)?;
    let parsed =
        id.split_once('-').and_then(|(revision, stamp)| Some((revision.parse().ok()?, stamp.parse().ok()?)));
    let (revision, stamp) = parsed.ok_or_else(|| odd("no revision"))?;
    let mut told = Told { revision, stamp, epoch: None, events: Vec::new(), granted: None };
    let mut fields = array(fields)?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match &*bytes(name)? {
            b"d" => told.events.push(Event::Delete(key(value)?)),
            b"e" => told.epoch = Some(text(value)?),
            b"g" => told.granted = Some(Duration::from_millis(number(value)?)),
            b"p" => {
                let mut field = || fields.nth(1).ok_or_else(|| odd("half a put"));
                let (at, fence, session) = (key(value)?, number(field()?)?, text(field()?)?);
                let (version, fence) = (Version::new(told.revision.into()), Fence::new(fence));
                let entry = Entry::new(at, bytes(field()?)?.into(), version, fence, bound(session));
                told.events.push(Event::Put(entry));
            }
            _ => return Err(odd("a change of an unknown kind")),
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    #[test]
    fn reads_every_kind_of_change() {
        let fields =
            ["p", "a/b", "c", "7", "s", "e.1", "v", "\0x", "d", "c", "p", "d", "c", "9", "s", "", "v", ""];
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let list: String = fields.into_iter().map(bulk).collect();
        let entry = format!("*2\r\n{}*{}\r\n{list}", bulk("9-18446744073709551615"), fields.len());
        let text = format!("*1\r\n*2\r\n{}*1\r\n{entry}", bulk("{q}:w"));
        let told = told(parse_redis_value(text.as_bytes()).unwrap()).unwrap();
        let [Told { revision: 9, stamp: u64::MAX, epoch: None, events, granted: None }] = &*told else {
            panic!("{told:?}")
        };
        let [Event::Put(bound), Event::Delete(gone), Event::Put(free)] = &**events else {
            panic!("{events:?}")
        };
        assert_eq!((bound.key.as_str(), &*bound.value, bound.fence.get()), ("a/b", &b"\0x"[..], 7));
        assert_eq!(bound.session.as_ref().unwrap().as_str(), "e.1");
        assert_eq!((gone.as_str(), free.session.as_ref(), free.version.raw()), ("c", None, 9));
    }
}
