//! What is known of nodes, and how long it is true.
//!
//! The server can check that a node has been written so many times, but not that it is the node it was: one that was
//! deleted and made again counts from 0. So each node has a *generation*: a counter that it shares with others, which
//! every commit here that makes one of them raises. As long as the counter stands still, a node that stands is the one that
//! stood, and a commit checks the counter along with all else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use zookeeper_client::{Client, Error as Zk, Stat};

use super::connection::barrier;
use super::nodes::{How, Make, made, make};
use super::subjects::Subjects;
use super::{Store, Via, keys};
use crate::kv::{Entry, Result};

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

/// A node that counts generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counter {
    /// That of the places in queues: they are not made by commits, and no name of theirs comes again.
    Places,
    /// One that other nodes share.
    Shared(u8),
}

impl Counter {
    /// What counts the generations of this node.
    pub(super) fn of(node: &str) -> Self {
        let (_, name) = node.rsplit_once('/').unwrap_or_default();
        if keys::sequence(name).is_some() {
            return Self::Places;
        }
        // FNV-1a: all clients must agree on it. There are 256 counters: commits that know something fail, and look again,
        // when a node with the same counter is made by another.
        let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::Shared(hash.to_le_bytes()[0])
    }

    pub(super) fn path(self) -> &'static str {
        static SHARED: LazyLock<Vec<String>> =
            LazyLock::new(|| (0..=u8::MAX).map(|number| format!("{COUNTERS}/{number:02x}")).collect());
        match self {
            Self::Places => PLACES,
            Self::Shared(number) => &SHARED[usize::from(number)],
        }
    }
}

/// The directory of the counters.
pub(super) const COUNTERS: &str = "/_quorate/generation";

/// The counter of places.
const PLACES: &str = "/_quorate/generation/places";

/// What stood at the keys of a write, and the counters they had just before.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    found: Vec<Option<(Bytes, Stat)>>,
    generations: BTreeMap<Counter, i32>,
}

impl Seen {
    /// What stood at the key of this number.
    pub(super) fn entry(&self, subjects: &Subjects<'_>, at: usize) -> Option<Entry> {
        let (value, stat) = self.found.get(at)?.as_ref()?;
        Some(keys::entry(subjects[at].key.clone(), value.clone(), stat))
    }

    pub(super) fn fact(&self, subjects: &Subjects<'_>, at: usize) -> Option<Fact> {
        let (_, stat) = self.found.get(at)?.as_ref()?;
        let generation = *self.generations.get(&subjects[at].counter)?;
        Some(Fact { czxid: stat.czxid, owner: stat.ephemeral_owner, generation })
    }
}

/// Looks at all that a write is about, behind every write that was acknowledged: one flight. Only what is checked is read
/// whole, as the answer to a rejection.
pub(super) async fn look(store: &Store, via: &Via<'_>, subjects: &Subjects<'_>) -> Result<Seen> {
    let counters: BTreeSet<_> = subjects.iter().map(|subject| subject.counter).collect();
    let makes: Vec<_> = store.nodes.missing(counters.iter().map(|counter| Make::Counter(counter.path())));
    let acls = store.ensemble.settled.acls();
    let asked = via.call(super::connection::Kind::Repeatable, "commit", |client: Arc<Client>| {
        let (counters, makes) = (&counters, &makes);
        async move {
            let making = make(&client, acls, makes, How::OneByOne)?;
            let settled = barrier(&client);
            let counts: Vec<_> = counters.iter().map(|counter| client.check_stat(counter.path())).collect();
            let whole: Vec<_> = subjects
                .iter()
                .map(|subject| subject.checked.then(|| client.get_data(&subject.node)))
                .collect();
            let stats: Vec<_> = subjects
                .iter()
                .map(|subject| (!subject.checked).then(|| client.check_stat(&subject.node)))
                .collect();
            let missing = made(making).await?;
            settled.await?;
            let mut generations = BTreeMap::new();
            for (counter, count) in counters.iter().zip(counts) {
                // We may not make them, or somebody deletes them.
                let Some(count) = count.await? else { return Err(missing.explain(Zk::NoNode)) };
                generations.insert(*counter, count.version);
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
            Ok(Seen { found, generations })
        }
    });
    let seen = asked.await;
    if seen.is_err() {
        store.nodes.forget(makes.iter().map(Make::path));
    } else {
        store.nodes.remember(makes);
    }
    let seen = seen?;
    if let Some(generation) = seen.generations.get(&Counter::Places) {
        store.places.set(*generation);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_the_same_for_everybody() {
        assert_eq!(Counter::of("/a/=").path(), "/_quorate/generation/a1");
        assert_eq!(Counter::of("/q/x-lock-0000000001").path(), "/_quorate/generation/places");
        assert!(matches!(Counter::of("/a/x-lock-000000000%31/="), Counter::Shared(_)));
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
