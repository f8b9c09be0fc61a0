//! ZooKeeper's members write every change into their transaction logs before they agree to it, in the order in which all
//! apply them, so the judge reads these logs when all is over.
//!
//! One log is not enough. A member that was away may be sent a copy of all data, and then lacks what led to it; and one
//! that led, and was stopped, may have written down what nobody agreed to. So it is taken for a change what a majority
//! has written down, or one member and before something that a majority has, as everything before that was agreed to. No
//! change may be missing in between: they are numbered through from the beginning of each leader's time. And in the end
//! the same must stand there as the servers answer.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use bytes::Buf;

use crate::history::{Change, Historian, Stands};
use crate::servers::zookeeper::ZooKeeper;
use crate::servers::{PATIENCE, until};

/// The types of what is in a log that matter here.
const CREATE: i32 = 1;
const DELETE: i32 = 2;
const SET: i32 = 5;
const MULTI: i32 = 14;
const CREATE_2: i32 = 15;
const CREATE_CONTAINER: i32 = 19;
const DELETE_CONTAINER: i32 = 20;
const CREATE_TTL: i32 = 21;
const CLOSE_SESSION: i32 = -11;

#[async_trait(?Send)]
impl Historian for ZooKeeper {
    async fn history(&mut self) -> Vec<Change> {
        // What stands changes as long as sessions end, so what was read from the logs may not be what is answered.
        until("the logs and the answers agree", PATIENCE, async || {
            let logs: Vec<_> = self.data().iter().map(|data| log(&data.join("version-2"))).collect();
            let mut replay = Replay::default();
            for (zxid, record) in &agreed(&logs) {
                replay.apply(*zxid, record);
            }
            let mut plain = self.plain(0).await?;
            plain.sync().await?;
            for (path, (_, value)) in &replay.nodes {
                let answered = plain.get(path).await;
                if answered.as_ref() != Ok(value) {
                    return Err(format!("{path}: {value:?} in the log, {answered:?} on the server"));
                }
            }
            plain.close().await?;
            Ok(replay.history)
        })
        .await
    }
}

/// What a member knows: each change by its number.
type Log = BTreeMap<u64, Record>;

/// The type of a change, and the rest of it.
type Record = (i32, Vec<u8>);

/// Reads the log that is in this directory, in one or more files.
fn log(directory: &Path) -> Log {
    let files = std::fs::read_dir(directory).expect("it has a log").map(|file| file.expect("a file").path());
    let logs =
        files.filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log.")));
    logs.flat_map(|file| records(&std::fs::read(file).expect("it is read"))).collect()
}

/// Reads one file. It ends with zeros, and may end in the middle of a record if its writer was killed.
fn records(file: &[u8]) -> Vec<(u64, Record)> {
    const HEADER: usize = 16; // A magic number, a version, and the number of a database.
    let mut rest = file.get(HEADER..).unwrap_or_default();
    let mut records = Vec::new();
    loop {
        if rest.len() < 12 {
            return records;
        }
        rest.advance(8); // A checksum.
        let length = usize::try_from(rest.get_i32()).expect("a length");
        // Every record has this behind it.
        if length == 0 || rest.get(length) != Some(&b'B') {
            return records;
        }
        let mut record = &rest[..length];
        record.advance(12); // The session, and the number of its request.
        let zxid = record.get_u64();
        record.advance(8); // The time.
        records.push((zxid, (record.get_i32(), record.to_vec())));
        rest.advance(length + 1);
    }
}

/// What was agreed to, of all that was written down.
fn agreed(logs: &[Log]) -> Log {
    let majority = logs.len() / 2 + 1;
    let known = |zxid: &u64| logs.iter().filter(|log| log.contains_key(zxid)).count();
    let mut all: Log = logs.iter().flatten().map(|(zxid, record)| (*zxid, record.clone())).collect();
    // In each leader's time, the last that a majority knows.
    let ends: BTreeMap<u64, u64> =
        all.keys().filter(|zxid| known(zxid) >= majority).map(|zxid| (zxid >> 32, *zxid)).collect();
    all.retain(|zxid, _| ends.get(&(*zxid >> 32)).is_some_and(|end| zxid <= end));
    let mut last = 0;
    for zxid in all.keys().copied() {
        let begins = zxid >> 32 > last >> 32 && zxid & 0xffff_ffff == 1;
        assert!(begins || zxid == last + 1, "no log has what is between {last:x} and {zxid:x}");
        last = zxid;
    }
    all
}

/// What stands after the changes so far, and all that has changed on the way.
#[derive(Debug, Default)]
struct Replay {
    /// The fence and the value of each node that is a key's.
    nodes: BTreeMap<String, (u64, String)>,
    history: Vec<Change>,
}

impl Replay {
    fn apply(&mut self, zxid: u64, (kind, record): &Record) {
        let mut rest = &**record;
        match *kind {
            CREATE | CREATE_2 | CREATE_CONTAINER | CREATE_TTL | SET => {
                let (path, value) = (text(&mut rest), text(&mut rest));
                self.put(path, zxid, value);
            }
            DELETE | DELETE_CONTAINER => self.delete(&text(&mut rest)),
            // What dies with the session.
            CLOSE_SESSION => (0..rest.get_i32()).for_each(|_| self.delete(&text(&mut rest))),
            MULTI => {
                for _ in 0..rest.get_i32() {
                    self.apply(zxid, &(rest.get_i32(), bytes(&mut rest)));
                }
            }
            // Sessions that begin, requests that failed, checks in a multi, and who may do what.
            _ => {}
        }
    }

    fn put(&mut self, path: String, zxid: u64, value: String) {
        if let Some(key) = key(&path) {
            let (fence, stands) = self.nodes.entry(path).or_insert_with(|| (zxid, String::new()));
            stands.clone_from(&value);
            self.history.push(Change { key, now: Some(Stands { fence: *fence, value }) });
        }
    }

    fn delete(&mut self, path: &str) {
        if let (Some(key), Some(_)) = (key(path), self.nodes.remove(path)) {
            self.history.push(Change { key, now: None });
        }
    }
}

/// The key that a node is of: the value of one is called `=` there, and places are nodes themselves. Other nodes only
/// hold these together.
fn key(path: &str) -> Option<String> {
    let path = path.strip_prefix('/')?;
    let (above, name) = path.rsplit_once('/')?;
    match name {
        "=" => Some(above.to_owned()),
        _ if name.contains("-lock-") => Some(path.to_owned()),
        _ => None,
    }
}

fn text(rest: &mut &[u8]) -> String {
    String::from_utf8_lossy(&bytes(rest)).into_owned()
}

/// A length, and so many bytes; none if the length is −1.
fn bytes(rest: &mut &[u8]) -> Vec<u8> {
    let length = usize::try_from(rest.get_i32()).unwrap_or(0);
    rest.copy_to_bytes(length).to_vec()
}
