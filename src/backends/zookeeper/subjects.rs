//! The keys of a write, each named once as the server has it.

use std::ops::Deref;

use super::facts::Counter;
use super::keys;
use crate::kv::{Key, Txn};

/// A key of a write.
#[derive(Debug)]
pub(super) struct Subject<'t> {
    pub(super) key: &'t Key,
    pub(super) node: String,
    /// What counts the generations of the node.
    pub(super) counter: Counter,
    /// Whether the write puts or deletes it.
    pub(super) written: bool,
    /// Whether the write demands something of it.
    pub(super) checked: bool,
}

/// All of them, in key order.
#[derive(Debug)]
pub(super) struct Subjects<'t>(Vec<Subject<'t>>);

impl<'t> Subjects<'t> {
    pub(super) fn of(txn: &'t Txn) -> Self {
        let subject = |key: &'t Key, written| {
            let node = keys::node(key);
            Subject { key, counter: Counter::of(&node), node, written, checked: !written }
        };
        let puts = txn.puts().iter().map(|put| subject(&put.key, true));
        let deletes = txn.deletes().iter().map(|key| subject(key, true));
        let checks = txn.checks().iter().map(|check| subject(check.key(), false));
        let mut all: Vec<_> = puts.chain(deletes).chain(checks).collect();
        all.sort_by(|one, other| one.key.cmp(other.key));
        all.dedup_by(|again, kept| {
            let same = again.key == kept.key;
            kept.written |= same && again.written;
            kept.checked |= same && again.checked;
            same
        });
        Self(all)
    }

    /// The number of a key; `None` if the write is not about it.
    pub(super) fn number(&self, key: &Key) -> Option<usize> {
        self.0.binary_search_by(|subject| subject.key.cmp(key)).ok()
    }

    /// As the server has this key.
    pub(super) fn find(&self, key: &Key) -> Option<&Subject<'t>> {
        self.number(key).map(|at| &self.0[at])
    }
}

impl<'t> Deref for Subjects<'t> {
    type Target = [Subject<'t>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_named_once() {
        let [a, b, c] = ["a", "b", "c"].map(|name| Key::new(name).unwrap());
        let txn = Txn::new().absent(&b).absent(&a).put(&c, "").delete(&b);
        let subjects = Subjects::of(&txn);
        let seen: Vec<_> =
            subjects.iter().map(|subject| (&*subject.node, subject.written, subject.checked)).collect();
        assert_eq!(seen, [("/a/=", false, true), ("/b/=", true, true), ("/c/=", true, false)]);
        assert_eq!(subjects.number(&c), Some(2));
        assert_eq!(subjects.number(&Key::root()), None);
    }
}
