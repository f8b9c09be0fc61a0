//! ZooKeeper writes every change into its transaction log before it answers, in the order in which all members apply them,
//! so the judge reads the log of the leader when all is over.
//!
//! A member that was away gets what it missed from the leader, one change after the other: the kit starts the servers so
//! that they never send a copy of all data instead, which would leave a gap in the member's own log. That there is no
//! gap is checked: changes are numbered through from the beginning of each leader's time, and no member may know of one
//! that is not in the leader's log.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use bytes::Buf;

use crate::history::{Change, Historian, Stands};
use crate::servers::Cluster as _;
use crate::servers::zookeeper::ZooKeeper;

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
        let leader = self.leader().await;
        let logs: Vec<_> = self.data().iter().map(|data| log(&data.join("version-2"))).collect();
        check(leader, &logs);
        let mut standing = BTreeMap::new();
        logs[leader].iter().flat_map(|(zxid, record)| changes(*zxid, record, &mut standing)).collect()
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

/// Fails unless the leader knows everything.
fn check(leader: usize, logs: &[Log]) {
    let mut last = 0;
    for zxid in logs[leader].keys().copied() {
        let begins = zxid >> 32 > last >> 32 && zxid & 0xffff_ffff == 1;
        assert!(begins || zxid == last + 1, "{leader} leads, and its log goes from {last:x} to {zxid:x}");
        last = zxid;
    }
    for (member, log) in logs.iter().enumerate() {
        let more = log.keys().find(|zxid| !logs[leader].contains_key(zxid));
        assert!(more.is_none(), "{member} knows of {more:x?}, and {leader}, which leads, does not");
    }
}

/// The changes of keys that are one of the log, in their order. Fences are remembered in `standing`.
fn changes(zxid: u64, (kind, record): &Record, standing: &mut BTreeMap<String, u64>) -> Vec<Change> {
    let mut rest = &**record;
    match *kind {
        CREATE | CREATE_2 | CREATE_CONTAINER | CREATE_TTL | SET => {
            let path = text(&mut rest);
            let Some(key) = key(&path) else { return Vec::new() };
            let fence = if *kind == SET { standing[&key] } else { zxid };
            standing.insert(key.clone(), fence);
            vec![Change { key, now: Some(Stands { fence, value: text(&mut rest) }) }]
        }
        DELETE | DELETE_CONTAINER => gone(&text(&mut rest), standing).into_iter().collect(),
        // What dies with the session.
        CLOSE_SESSION => (0..rest.get_i32()).filter_map(|_| gone(&text(&mut rest), standing)).collect(),
        MULTI => {
            let parts = (0..rest.get_i32()).map(|_| (rest.get_i32(), bytes(&mut rest)));
            let parts: Vec<Record> = parts.collect();
            parts.iter().flat_map(|part| changes(zxid, part, standing)).collect()
        }
        // Sessions that begin, requests that failed, checks in a multi, and who may do what.
        _ => Vec::new(),
    }
}

fn gone(path: &str, standing: &mut BTreeMap<String, u64>) -> Option<Change> {
    let key = key(path)?;
    standing.remove(&key);
    Some(Change { key, now: None })
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
