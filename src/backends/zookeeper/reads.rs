//! Reads: single keys, and trees level by level, each level in one flight.

use std::future::ready;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use zookeeper_client::{Client, Error as Zk, MultiReadResult, Stat};

use super::connection::{Kind, barrier};
use super::ensemble::Ensemble;
use super::keys::{self, Is};
use crate::kv::{Consistency, Entry, Key, Result, Scope};

/// The segment that a prefix above it does not cover.
pub(super) const RESERVED: &str = "_quorate";

/// What a read has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// What the server that is asked has.
    Nothing,
    /// What the leader had, unless another had been elected that it does not know of.
    Leader,
    /// Whatever was acknowledged.
    Majority,
}

impl From<Consistency> for Behind {
    fn from(read: Consistency) -> Self {
        match read {
            Consistency::Linearizable => Self::Majority,
            Consistency::Local => Self::Nothing,
        }
    }
}

impl Behind {
    /// Sends what must be answered before the read is.
    fn what(self, client: &Client) -> BoxFuture<'_, Result<(), Zk>> {
        match self {
            Self::Nothing => ready(Ok(())).boxed(),
            Self::Leader => client.sync("/").boxed(),
            Self::Majority => barrier(client).boxed(),
        }
    }
}

/// How many nodes are asked for in one flight.
const FLIGHT: usize = 1000;

/// How many directories are asked for in one request, which has one answer for all of them and their values.
const BATCH: usize = 50;

/// What stands at a node; `None` where nothing does.
pub(super) type Found = Option<(Vec<u8>, Stat)>;

pub(super) fn found(answer: Result<(Vec<u8>, Stat), Zk>) -> Result<Found, Zk> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Zk::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What stands at some keys: one flight for as many as fit.
pub(super) async fn entries(
    ensemble: &Ensemble,
    operation: &'static str,
    keys: &[Key],
    behind: Behind,
) -> Result<Vec<Option<Entry>>> {
    let mut entries = Vec::with_capacity(keys.len());
    for some in keys.chunks(FLIGHT) {
        let answers = ensemble.call(Kind::Repeatable, operation, |client: Client| {
            let nodes: Vec<_> = some.iter().map(keys::node).collect();
            async move {
                let settled = behind.what(&client);
                let values: Vec<_> = nodes.iter().map(|node| client.get_data(node)).collect();
                settled.await?;
                let mut answers = Vec::with_capacity(values.len());
                for value in values {
                    answers.push(found(value.await)?);
                }
                Ok(answers)
            }
        });
        let answers = answers.await?;
        entries.extend(some.iter().zip(answers).map(|(key, found)| {
            found.map(|(value, stat)| keys::entry(key.clone(), Bytes::from(value), &stat))
        }));
    }
    Ok(entries)
}

/// What a scope covers, in key order.
pub(super) async fn covered(
    ensemble: &Ensemble,
    operation: &'static str,
    scope: &Scope,
    behind: Behind,
) -> Result<Vec<Entry>> {
    match scope {
        Scope::Key(key) if key.is_root() => Ok(Vec::new()),
        Scope::Key(key) => {
            let found = entries(ensemble, operation, std::slice::from_ref(key), behind).await?;
            Ok(found.into_iter().flatten().collect())
        }
        Scope::Prefix(prefix) => below(ensemble, operation, prefix, behind).await,
    }
}

/// A directory as it was seen: the names in it, and its value.
struct Directory {
    names: Vec<String>,
    value: Found,
}

async fn below(
    ensemble: &Ensemble,
    operation: &'static str,
    prefix: &Key,
    behind: Behind,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut level = vec![prefix.clone()];
    while !level.is_empty() {
        let (mut next, mut places) = (Vec::new(), Vec::new());
        for some in level.chunks(FLIGHT) {
            let seen = directories(ensemble, operation, some, behind).await?;
            for (key, directory) in some.iter().zip(seen) {
                let value = directory.value.filter(|_| key != prefix);
                entries.extend(value.map(|(value, stat)| keys::entry(key.clone(), value.into(), &stat)));
                let path = keys::directory(key);
                for name in directory.names.iter().filter(|name| *name != keys::VALUE) {
                    match keys::decode(&keys::below(&path, name)) {
                        Some(Is::Entry(place)) => places.push(place),
                        Some(Is::Directory(below)) if below.name() != RESERVED => next.push(below),
                        _ => {}
                    }
                }
            }
        }
        let places = self::entries(ensemble, operation, &places, behind).await?;
        entries.extend(places.into_iter().flatten());
        level = next;
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(entries)
}

async fn directories(
    ensemble: &Ensemble,
    operation: &'static str,
    keys: &[Key],
    behind: Behind,
) -> Result<Vec<Directory>> {
    let seen = ensemble.call(Kind::Repeatable, operation, |client: Client| {
        let paths: Vec<_> = keys.iter().map(keys::directory).collect();
        async move {
            let settled = behind.what(&client);
            let mut flight = Vec::new();
            for some in paths.chunks(BATCH) {
                let mut reads = client.new_multi_reader();
                for path in some {
                    reads.add_get_children(path)?;
                    reads.add_get_data(&keys::below(path, keys::VALUE))?;
                }
                flight.push(reads.commit());
            }
            settled.await?;
            let mut seen = Vec::with_capacity(paths.len());
            for answers in flight {
                let mut answers = answers.await?.into_iter();
                while let Some((names, value)) = answers.next().zip(answers.next()) {
                    seen.push(Directory { names: names_in(names)?, value: value_in(value)? });
                }
            }
            Ok(seen)
        }
    });
    seen.await
}

fn names_in(answer: MultiReadResult) -> Result<Vec<String>, Zk> {
    match answer {
        MultiReadResult::Children { children } => Ok(children),
        MultiReadResult::Error { err: Zk::NoNode } => Ok(Vec::new()),
        other => Err(unexpected(other)),
    }
}

fn value_in(answer: MultiReadResult) -> Result<Found, Zk> {
    match answer {
        MultiReadResult::Data { data, stat } => Ok(Some((data, stat))),
        MultiReadResult::Error { err: Zk::NoNode } => Ok(None),
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: MultiReadResult) -> Zk {
    match answer {
        MultiReadResult::Error { err } => err,
        _ => Zk::UnexpectedError("a read was answered by something else".to_owned()),
    }
}
