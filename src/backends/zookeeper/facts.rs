//! What is known of nodes, and how long it is true.
//!
//! The server can check that a node has been written so many times, but not that it is the node it was: one that was
//! deleted and made again counts from 0. So each node has a *generation*: a counter that it shares with others, which
//! every commit here that makes one of them raises. As long as the counter stands still, a node that stands is the one that
//! stood, and a commit checks the counter along with all else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use zookeeper_client::{Client, Error as Zk, Stat};

use super::connection::barrier;
use super::nodes::{How, Make, made, make};
use super::{Store, Via, keys};
use crate::kv::{Check, Entry, Key, Result, Txn};

/// How many counters there are: commits that know something fail, and look again, when a node with the same counter is
/// made by another.
const GENERATIONS: u64 = 256;

/// How many nodes are remembered: as many as a table of 4096 has room for.
const REMEMBERED: usize = 3584;

/// Which node it is that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// When it was made.
    pub(super) czxid: i64,
    /// The session it dies with, or 0.
    pub(super) owner: i64,
    /// What its counter was when it was this node.
    pub(super) generation: i32,
}

/// The facts that this client has learnt.
#[derive(Debug, Default)]
pub(super) struct Facts(Mutex<HashMap<String, Fact>>);

impl Facts {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Fact>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn get(&self, node: &str) -> Option<Fact> {
        self.with(|facts| facts.get(node).copied())
    }

    pub(super) fn learn(&self, node: &str, fact: Fact) {
        self.with(|facts| {
            // What was forgotten is looked up.
            if facts.len() >= REMEMBERED {
                facts.clear();
            }
            facts.insert(node.to_owned(), fact);
        });
    }

    pub(super) fn forget(&self, node: &str) {
        self.with(|facts| facts.remove(node));
    }
}

/// The node that counts the generations of this one. Places in queues have a counter of their own: they are not made by
/// commits, and no name of theirs comes again.
pub(super) fn counter(node: &str) -> String {
    let (_, name) = node.rsplit_once('/').unwrap_or_default();
    if keys::sequence(name).is_some() {
        return PLACES.to_owned();
    }
    // FNV-1a: all clients must agree on it.
    let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{COUNTERS}/{:02x}", hash % GENERATIONS)
}

/// The directory of the counters.
pub(super) const COUNTERS: &str = "/_quorate/generation";

/// The counter of places.
pub(super) const PLACES: &str = "/_quorate/generation/places";

/// What stood at some keys, and the counters they had just before.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    found: BTreeMap<Key, Option<(Bytes, Stat)>>,
    generations: BTreeMap<String, i32>,
}

impl Seen {
    pub(super) fn entry(&self, key: &Key) -> Option<Entry> {
        let (value, stat) = self.found.get(key)?.as_ref()?;
        Some(keys::entry(key.clone(), value.clone(), stat))
    }

    pub(super) fn fact(&self, key: &Key) -> Option<Fact> {
        let (_, stat) = self.found.get(key)?.as_ref()?;
        let generation = *self.generations.get(&counter(&keys::node(key)))?;
        Some(Fact { czxid: stat.czxid, owner: stat.ephemeral_owner, generation })
    }
}

/// Looks at all that a write is about, behind every write that was acknowledged: one flight. Only what is checked is read
/// whole, as the answer to a rejection.
pub(super) async fn look(store: &Store, via: &Via<'_>, txn: &Txn) -> Result<Seen> {
    let checked: BTreeSet<&Key> = txn.checks().iter().map(Check::key).collect();
    let written = txn.puts().iter().map(|put| &put.key).chain(txn.deletes());
    let keys: BTreeSet<&Key> = written.chain(checked.iter().copied()).collect();
    let nodes: Vec<_> = keys.iter().map(|key| (keys::node(key), checked.contains(key))).collect();
    let counters: BTreeSet<_> = nodes.iter().map(|(node, _)| counter(node)).collect();
    let makes: Vec<_> = store.nodes.missing(counters.iter().map(|counter| Make::Counter(counter.clone())));
    let acls = store.ensemble.settled.acls();
    let asked = via.call(super::connection::Kind::Repeatable, "commit", |client: Arc<Client>| {
        let (nodes, counters, makes) = (nodes.clone(), counters.clone(), makes.clone());
        async move {
            let making = make(&client, acls, &makes, How::OneByOne)?;
            let settled = barrier(&client);
            let counts: Vec<_> = counters.iter().map(|counter| client.check_stat(counter)).collect();
            let whole: Vec<_> =
                nodes.iter().map(|(node, whole)| whole.then(|| client.get_data(node))).collect();
            let stats: Vec<_> =
                nodes.iter().map(|(node, whole)| (!whole).then(|| client.check_stat(node))).collect();
            let missing = made(making).await?;
            settled.await?;
            let mut generations = BTreeMap::new();
            for (counter, count) in counters.iter().zip(counts) {
                // We may not make them, or somebody deletes them.
                let Some(count) = count.await? else { return Err(missing.explain(Zk::NoNode)) };
                generations.insert(counter.clone(), count.version);
            }
            let mut found = Vec::new();
            for (whole, stat) in whole.into_iter().zip(stats) {
                found.push(match (whole, stat) {
                    (Some(whole), _) => match whole.await {
                        Ok((value, stat)) => Some((Bytes::from(value), stat)),
                        Err(Zk::NoNode) => None,
                        Err(error) => return Err(error),
                    },
                    (None, Some(stat)) => stat.await?.map(|stat| (Bytes::new(), stat)),
                    (None, None) => None,
                });
            }
            Ok((generations, found))
        }
    });
    let answer = asked.await;
    if answer.is_err() {
        store.nodes.forget(makes.iter().map(Make::path));
    } else {
        store.nodes.remember(makes);
    }
    let (generations, found) = answer?;
    if let Some(generation) = generations.get(PLACES) {
        store.places.set(*generation);
    }
    let found = keys.into_iter().cloned().zip(found).collect();
    Ok(Seen { found, generations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_the_same_for_everybody() {
        assert_eq!(counter("/a/="), "/_quorate/generation/a1");
        assert_eq!(counter("/q/x-lock-0000000001"), PLACES);
        assert_eq!(counter("/a/x-lock-000000000%31/="), counter("/a/x-lock-000000000%31/="));
    }

    #[test]
    fn facts_do_not_pile_up() {
        let facts = Facts::default();
        let fact = Fact { czxid: 1, owner: 0, generation: 0 };
        for node in 0..3 * REMEMBERED {
            facts.learn(&node.to_string(), fact);
        }
        assert!(facts.with(|facts| facts.len()) <= REMEMBERED);
    }
}
