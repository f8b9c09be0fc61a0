//! A write as the operations of one multi, given what is known of its keys.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zookeeper_client::{Acls, Client, CreateMode, Error as Zk, MultiWriter};

use super::facts::{Fact, Facts, Seen, counter};
use super::nodes::Make;
use super::{Nodes, keys};
use crate::kv::{Check, Key, Put, Txn};

/// What is assumed of a node; if it is not so, the multi fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// Nothing stands there.
    Absent,
    /// This node does.
    Stands(Fact),
    /// Whatever stands there, something does.
    Something,
}

/// One operation of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The node was written so many times; -1: it is there.
    Check(String, i32),
    Create(String, Bytes, bool),
    Set(String, Bytes),
    Delete(String),
}

/// The operations of a write, and what must stand for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    /// For each put, which operation does it, and what it overwrites if anything.
    pub(super) puts: Vec<(usize, Option<Fact>)>,
    /// Which operations raise which counters.
    pub(super) raised: BTreeMap<String, usize>,
    pub(super) makes: Vec<Make>,
}

/// What a client may assume without looking; `None` when it must look.
pub(super) fn remembered(facts: &Facts, txn: &Txn) -> Option<BTreeMap<Key, Guess>> {
    let mut guesses = BTreeMap::new();
    for key in txn.deletes() {
        guesses.insert(key.clone(), Guess::Something);
    }
    for put in txn.puts() {
        let known = facts.get(&keys::node(&put.key)).map_or(Guess::Absent, Guess::Stands);
        guesses.insert(put.key.clone(), known);
    }
    for check in txn.checks() {
        let known = facts.get(&keys::node(check.key()));
        let guess = match (check, known) {
            (Check::Absent(_), None) => Guess::Absent,
            (Check::Version(_, version), Some(fact))
                if keys::version_parts(*version).is_some_and(|(czxid, _)| czxid == fact.czxid) =>
            {
                Guess::Stands(fact)
            }
            (Check::Stands(_, fence), Some(fact)) if *fence == keys::fence(fact.czxid) => Guess::Stands(fact),
            _ => return None,
        };
        if txn.checks().iter().any(|other| other.key() == check.key() && is_absent(other) != is_absent(check))
        {
            return None;
        }
        guesses.insert(check.key().clone(), guess);
    }
    Some(guesses)
}

fn is_absent(check: &Check) -> bool {
    matches!(check, Check::Absent(_))
}

/// What was just seen.
pub(super) fn seen(seen: &Seen, txn: &Txn) -> BTreeMap<Key, Guess> {
    let keys = txn.puts().iter().map(|put| &put.key).chain(txn.deletes());
    let keys = keys.chain(txn.checks().iter().map(Check::key));
    keys.map(|key| (key.clone(), seen.fact(key).map_or(Guess::Absent, Guess::Stands))).collect()
}

impl Plan {
    /// The operations, if all that is assumed holds together.
    pub(super) fn of(txn: &Txn, guesses: &BTreeMap<Key, Guess>, nodes: &Nodes) -> Option<Self> {
        let mut plan = Self::default();
        plan.check_generations(txn, guesses)?;
        let written: BTreeSet<_> = txn.puts().iter().map(|put| &put.key).chain(txn.deletes()).collect();
        for check in txn.checks() {
            let node = keys::node(check.key());
            match check {
                Check::Absent(key) if written.contains(key) => {}
                Check::Absent(_) => plan.assert_absent(node),
                Check::Stands(..) => plan.ops.push(Op::Check(node, -1)),
                Check::Version(_, version) => {
                    let (_, written) = keys::version_parts(*version)?;
                    plan.ops.push(Op::Check(node, written));
                }
            }
        }
        for put in txn.puts() {
            plan.put(put, *guesses.get(&put.key)?);
        }
        for key in txn.deletes() {
            match guesses.get(key)? {
                Guess::Absent => plan.assert_absent(keys::node(key)),
                Guess::Stands(_) | Guess::Something => plan.ops.push(Op::Delete(keys::node(key))),
            }
        }
        for (counter, at) in &mut plan.raised {
            *at = plan.ops.len();
            plan.ops.push(Op::Set(counter.clone(), Bytes::new()));
        }
        plan.makes = plan.needs(nodes);
        Some(plan)
    }

    /// That each node which must be a certain one still is.
    fn check_generations(&mut self, txn: &Txn, guesses: &BTreeMap<Key, Guess>) -> Option<()> {
        let certain = txn.checks().iter().map(Check::key).chain(txn.puts().iter().map(|put| &put.key));
        let mut generations = BTreeMap::new();
        for key in certain {
            if let Guess::Stands(fact) = guesses.get(key)? {
                let before = generations.insert(counter(&keys::node(key)), fact.generation);
                if before.is_some_and(|before| before != fact.generation) {
                    return None;
                }
            }
        }
        self.ops.extend(generations.into_iter().map(|(counter, generation)| Op::Check(counter, generation)));
        Some(())
    }

    /// The server checks that something stands, but not that nothing does: what can be made was not there.
    fn assert_absent(&mut self, node: String) {
        self.ops.push(Op::Create(node.clone(), Bytes::new(), false));
        self.ops.push(Op::Delete(node));
    }

    /// Overwriting leaves a node with the session it was bound to. Where that is to change, it is made again.
    fn put(&mut self, put: &Put, guess: Guess) {
        let node = keys::node(&put.key);
        let owner = put.session.as_ref().map_or(Some(0), keys::session_number);
        let stands = match guess {
            Guess::Stands(fact) => Some(fact),
            Guess::Absent | Guess::Something => None,
        };
        let kept = stands.filter(|fact| Some(fact.owner) == owner);
        if kept.is_some() {
            self.puts.push((self.ops.len(), kept));
            return self.ops.push(Op::Set(node, put.value.clone()));
        }
        if stands.is_some() {
            self.ops.push(Op::Delete(node.clone()));
        }
        self.raised.insert(counter(&node), 0);
        self.puts.push((self.ops.len(), None));
        self.ops.push(Op::Create(node, put.value.clone(), put.session.is_some()));
    }

    fn needs(&self, nodes: &Nodes) -> Vec<Make> {
        let made = self.ops.iter().filter_map(|op| match op {
            Op::Create(node, ..) => Some(node.as_str()),
            _ => None,
        });
        let counters = self.raised.keys().map(|counter| Make::Counter(counter.clone()));
        let mut makes = nodes.missing_above(made);
        makes.extend(nodes.missing(counters));
        makes.sort_by_key(|make| make.path().len());
        makes.dedup();
        makes
    }

    /// What the operations are about.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.ops.iter().map(|op| match op {
            Op::Check(node, _) | Op::Create(node, ..) | Op::Set(node, _) | Op::Delete(node) => node.as_str(),
        })
    }

    /// The same for the client, which refuses paths that the server would refuse.
    pub(super) fn writer<'c>(&self, client: &'c Client, acls: Acls<'_>) -> Result<MultiWriter<'c>, Zk> {
        let mut writer = client.new_multi_writer();
        for op in &self.ops {
            match op {
                Op::Check(node, written) => writer.add_check_version(node, *written),
                Op::Create(node, value, bound) => {
                    let mode = if *bound { CreateMode::Ephemeral } else { CreateMode::Persistent };
                    writer.add_create(node, value, &mode.with_acls(acls))
                }
                Op::Set(node, value) => writer.add_set_data(node, value, None),
                Op::Delete(node) => writer.add_delete(node, None),
            }?;
        }
        Ok(writer)
    }
}
