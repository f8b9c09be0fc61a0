//! Reads: single keys, and trees level by level, each level in one flight.

use std::future::ready;
use std::sync::Arc;

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
    pub(super) fn what(self, client: &Client) -> BoxFuture<'_, Result<(), Zk>> {
        match self {
            Self::Nothing => ready(Ok(())).boxed(),
            Self::Leader => client.sync("/").boxed(),
            Self::Majority => barrier(client).boxed(),
        }
    }
}

/// How many nodes are asked for in one flight.
const FLIGHT: usize = 1000;

/// How many nodes are asked for in one request, which has one answer for all of them and their values.
pub(super) const BATCH: usize = 100;

/// What stands at a node; `None` where nothing does.
pub(super) type Found = Option<(Bytes, Stat)>;

pub(super) fn found(answer: Result<(Vec<u8>, Stat), Zk>) -> Result<Found, Zk> {
    match answer {
        Ok((value, stat)) => Ok(Some((value.into(), stat))),
        Err(Zk::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What stands at one key.
pub(super) async fn entry(
    ensemble: &Ensemble,
    operation: &'static str,
    key: &Key,
    behind: Behind,
) -> Result<Option<Entry>> {
    let node = keys::node(key);
    let found = ensemble.call(Kind::Repeatable, operation, |client: Arc<Client>| {
        let node = node.clone();
        async move {
            match behind {
                Behind::Nothing => found(client.get_data(&node).await),
                behind => ensemble.together.read(client, behind, node).await,
            }
        }
    });
    Ok(found.await?.map(|(value, stat)| keys::entry(key.clone(), value, &stat)))
}

/// What stands at some keys: one flight for as many as fit.
pub(super) async fn entries(
    ensemble: &Ensemble,
    operation: &'static str,
    keys: &[Key],
    behind: Behind,
) -> Result<Vec<Option<Entry>>> {
    if let [key] = keys {
        return Ok(vec![entry(ensemble, operation, key, behind).await?]);
    }
    let (mut entries, mut last) = (Vec::with_capacity(keys.len()), None);
    for some in keys.chunks(FLIGHT) {
        let answers = ensemble.call(Kind::Repeatable, operation, |client: Arc<Client>| {
            let nodes: Vec<_> = some.iter().map(keys::node).collect();
            async move {
                let settled = behind.what(&client);
                let mut flight = Vec::new();
                for some in nodes.chunks(BATCH) {
                    flight.push(values(&client, some)?);
                }
                settled.await?;
                let mut all = Vec::with_capacity(nodes.len());
                for values in flight {
                    for value in values.await? {
                        all.push(value?);
                    }
                }
                Ok(all)
            }
        });
        let answers = answers.await?;
        for (key, found) in some.iter().zip(answers) {
            let found = found.map(|(value, stat)| keys::entry(key.clone(), value, &stat));
            entries.push(found.map(|entry| entry.sharing(&mut last)));
        }
    }
    Ok(entries)
}

/// Sends one request for what stands at these nodes.
pub(super) fn values<'c>(
    client: &'c Client,
    nodes: &[String],
) -> Result<impl Future<Output = Result<Vec<Result<Found, Zk>>, Zk>> + Send + use<'c>, Zk> {
    let mut reads = client.new_multi_reader();
    for node in nodes {
        reads.add_get_data(node)?;
    }
    let answers = reads.commit();
    Ok(async move { Ok(answers.await?.into_iter().map(value_in).collect()) })
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
            let found = entry(ensemble, operation, key, behind).await?;
            Ok(found.into_iter().collect())
        }
        Scope::Prefix(prefix) => below(ensemble, operation, prefix, behind).await,
    }
}

/// A directory as it was seen: the names in it, and its value.
struct Directory {
    names: Vec<String>,
    value: Found,
}

pub(super) async fn below(
    ensemble: &Ensemble,
    operation: &'static str,
    prefix: &Key,
    behind: Behind,
) -> Result<Vec<Entry>> {
    let (mut entries, mut last) = (Vec::new(), None);
    let mut level = vec![(prefix.clone(), keys::directory(prefix))];
    while !level.is_empty() {
        let (mut next, mut places) = (Vec::new(), Vec::new());
        for some in level.chunks(FLIGHT) {
            let seen = directories(ensemble, operation, some, behind).await?;
            for ((key, path), mut directory) in some.iter().zip(seen) {
                let value = directory.value.filter(|_| key != prefix);
                let entry = value.map(|(value, stat)| keys::entry(key.clone(), value, &stat));
                entries.extend(entry.map(|entry| entry.sharing(&mut last)));
                // The server has them in no order, and to sort names takes less than to sort entries.
                directory.names.sort_unstable();
                for name in directory.names.iter().filter(|name| *name != keys::VALUE) {
                    match keys::inside(key, name) {
                        Some(Is::Entry(place)) => places.push(place),
                        Some(Is::Directory(below)) if below.name() != RESERVED => {
                            next.push((below, keys::below(path, name)));
                        }
                        _ => {}
                    }
                }
            }
        }
        let places = self::entries(ensemble, operation, &places, behind).await?;
        entries.extend(places.into_iter().flatten());
        level = next;
    }
    entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(entries)
}

/// What stands in these directories, told by their keys and paths.
async fn directories(
    ensemble: &Ensemble,
    operation: &'static str,
    all: &[(Key, String)],
    behind: Behind,
) -> Result<Vec<Directory>> {
    let seen = ensemble.call(Kind::Repeatable, operation, |client: Arc<Client>| async move {
        let settled = behind.what(&client);
        let mut flight = Vec::new();
        // Each takes two reads.
        for some in all.chunks(BATCH / 2) {
            let mut reads = client.new_multi_reader();
            for (_, path) in some {
                reads.add_get_children(path)?;
                reads.add_get_data(&keys::below(path, keys::VALUE))?;
            }
            flight.push(reads.commit());
        }
        settled.await?;
        let mut seen = Vec::with_capacity(all.len());
        for answers in flight {
            let mut answers = answers.await?.into_iter();
            while let Some((names, value)) = answers.next().zip(answers.next()) {
                seen.push(Directory { names: names_in(names)?, value: value_in(value)? });
            }
        }
        Ok(seen)
    });
    seen.await
}

pub(super) fn names_in(answer: MultiReadResult) -> Result<Vec<String>, Zk> {
    match answer {
        MultiReadResult::Children { children } => Ok(children),
        MultiReadResult::Error { err: Zk::NoNode } => Ok(Vec::new()),
        MultiReadResult::Error { err } => Err(err),
        _ => Err(unexpected()),
    }
}

pub(super) fn value_in(answer: MultiReadResult) -> Result<Found, Zk> {
    match answer {
        MultiReadResult::Data { data, stat } => Ok(Some((data.into(), stat))),
        MultiReadResult::Error { err: Zk::NoNode } => Ok(None),
        MultiReadResult::Error { err } => Err(err),
        _ => Err(unexpected()),
    }
}

/// A read that was answered by something else.
pub(super) fn unexpected() -> Zk {
    Zk::UnexpectedError("a read was answered by something else".to_owned())
}
