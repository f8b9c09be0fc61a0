//! A write as the operations of one multi, given what is known of its keys.

use std::collections::BTreeMap;

use bytes::Bytes;
use zookeeper_client::{Acls, Client, CreateMode, Error as Zk, MultiWriter};

use super::facts::{Counter, Fact, Facts, Seen};
use super::grouped::Part;
use super::nodes::Make;
use super::subjects::{Subject, Subjects};
use super::{Nodes, keys};
use crate::kv::{Check, Put, Txn};

/// What a counter is written.
static NOTHING: Bytes = Bytes::new();

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op<'p> {
    /// The node was written so many times; -1: it is there.
    Check(&'p str, i32),
    /// Whether it is bound to the session.
    Create(&'p str, &'p [u8], bool),
    Set(&'p str, &'p Bytes),
    Delete(&'p str),
}

/// The operations of a write, and what must stand for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan<'p> {
    pub(super) ops: Vec<Op<'p>>,
    /// For each put, which operation does it, and what it overwrites if anything.
    pub(super) puts: Vec<(usize, Option<Fact>)>,
    /// Which operations raise which counters.
    pub(super) raised: BTreeMap<Counter, usize>,
    pub(super) makes: Vec<Make>,
}

/// What a client may assume of each key without looking; `None` when it must look.
pub(super) fn remembered(facts: &Facts, txn: &Txn, subjects: &Subjects<'_>) -> Option<Vec<Guess>> {
    // That is for those to delete.
    let mut guesses = vec![Guess::Something; subjects.len()];
    for put in txn.puts() {
        let at = subjects.number(&put.key)?;
        guesses[at] = facts.get(&subjects[at].node).map_or(Guess::Absent, Guess::Stands);
    }
    for check in txn.checks() {
        let at = subjects.number(check.key())?;
        let known = facts.get(&subjects[at].node);
        guesses[at] = match (check, known) {
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
    }
    Some(guesses)
}

fn is_absent(check: &Check) -> bool {
    matches!(check, Check::Absent(_))
}

/// What was just seen of each key.
pub(super) fn seen(seen: &Seen, subjects: &Subjects<'_>) -> Vec<Guess> {
    let fact = |at| seen.fact(subjects, at).map_or(Guess::Absent, Guess::Stands);
    (0..subjects.len()).map(fact).collect()
}

impl<'p> Plan<'p> {
    /// The operations, if all that is assumed holds together.
    pub(super) fn of(
        txn: &'p Txn,
        subjects: &'p Subjects<'_>,
        guesses: &[Guess],
        nodes: &Nodes,
    ) -> Option<Self> {
        let mut plan = Self::default();
        plan.check_generations(txn, subjects, guesses)?;
        for check in txn.checks() {
            let subject = subjects.find(check.key())?;
            match check {
                Check::Absent(_) if subject.written => {}
                Check::Absent(_) => plan.assert_absent(&subject.node),
                Check::Stands(..) => plan.ops.push(Op::Check(&subject.node, -1)),
                Check::Version(_, version) => {
                    let (_, written) = keys::version_parts(*version)?;
                    plan.ops.push(Op::Check(&subject.node, written));
                }
            }
        }
        for put in txn.puts() {
            let at = subjects.number(&put.key)?;
            plan.put(put, &subjects[at], guesses[at]);
        }
        for key in txn.deletes() {
            let at = subjects.number(key)?;
            match guesses[at] {
                Guess::Absent => plan.assert_absent(&subjects[at].node),
                Guess::Stands(_) | Guess::Something => plan.ops.push(Op::Delete(&subjects[at].node)),
            }
        }
        for (counter, at) in &mut plan.raised {
            *at = plan.ops.len();
            plan.ops.push(Op::Set(counter.path(), &NOTHING));
        }
        plan.makes = plan.needs(nodes);
        Some(plan)
    }

    /// That each node which must be a certain one still is.
    fn check_generations(&mut self, txn: &Txn, subjects: &Subjects<'_>, guesses: &[Guess]) -> Option<()> {
        let certain = txn.checks().iter().map(Check::key).chain(txn.puts().iter().map(|put| &put.key));
        let mut generations = BTreeMap::new();
        for key in certain {
            let at = subjects.number(key)?;
            if let Guess::Stands(fact) = guesses[at] {
                let before = generations.insert(subjects[at].counter, fact.generation);
                if before.is_some_and(|before| before != fact.generation) {
                    return None;
                }
            }
        }
        self.ops
            .extend(generations.iter().map(|(counter, generation)| Op::Check(counter.path(), *generation)));
        Some(())
    }

    /// The server checks that something stands, but not that nothing does: what can be made was not there.
    fn assert_absent(&mut self, node: &'p str) {
        self.ops.extend([Op::Create(node, &[], false), Op::Delete(node)]);
    }

    /// Overwriting leaves a node with the session it was bound to. Where that is to change, it is made again.
    fn put(&mut self, put: &'p Put, subject: &'p Subject<'_>, guess: Guess) {
        let node = &*subject.node;
        let owner = put.session.as_ref().map_or(Some(0), keys::session_number);
        let stands = match guess {
            Guess::Stands(fact) => Some(fact),
            Guess::Absent | Guess::Something => None,
        };
        let kept = stands.filter(|fact| Some(fact.owner) == owner);
        if kept.is_some() {
            self.puts.push((self.ops.len(), kept));
            return self.ops.push(Op::Set(node, &put.value));
        }
        if stands.is_some() {
            self.ops.push(Op::Delete(node));
        }
        self.raised.insert(subject.counter, 0);
        self.puts.push((self.ops.len(), None));
        self.ops.push(Op::Create(node, &put.value, put.session.is_some()));
    }

    fn needs(&self, nodes: &Nodes) -> Vec<Make> {
        let directories = self.ops.iter().filter_map(|op| match op {
            Op::Create(node, ..) => keys::above(node).last().map(Make::Directory),
            _ => None,
        });
        nodes.missing(directories.chain(self.raised.keys().map(|counter| Make::Counter(counter.path()))))
    }

    /// The operations, if they do nothing but overwrite what is known: only such go together with others, as one that fails takes
    /// all others along.
    pub(super) fn overwrites(&self) -> Option<Vec<Part>> {
        let part = |op: &Op<'_>| match *op {
            Op::Check(node, written) => Some(Part::Check(node.to_owned(), written)),
            Op::Set(node, value) => Some(Part::Set(node.to_owned(), value.clone())),
            Op::Create(..) | Op::Delete(_) => None,
        };
        self.ops.iter().map(part).collect()
    }

    /// What the operations are about.
    pub(super) fn paths(&self) -> impl Iterator<Item = &'p str> {
        self.ops.iter().map(|op| match *op {
            Op::Check(node, _) | Op::Create(node, ..) | Op::Set(node, _) | Op::Delete(node) => node,
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
