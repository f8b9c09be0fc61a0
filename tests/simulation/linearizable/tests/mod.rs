//! The judge, judged: histories whose verdict is known.

mod clients;
mod exhaustive;
mod generated;
mod reads;
mod unknown;
mod writes;

use std::time::Duration;

use bytes::Bytes;
use libtest_mimic::Trial;
use quorate::kv::{Fence, Version};

use super::{Explanation, Found, History, Id, Operation, Reply, Verdict, check};
use crate::trial;

type Tests = &'static [(&'static str, fn())];

/// All of them, as `linearizable::…`.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    let groups: [(&str, Tests); 4] = [
        ("reads", reads::TESTS),
        ("writes", writes::TESTS),
        ("unknown", unknown::TESTS),
        ("generated", generated::TESTS),
    ];
    groups.into_iter().flat_map(|(group, tests)| {
        tests.iter().map(move |(name, test)| trial(&format!("linearizable::{group}::{name}"), *test))
    })
}

/// A history written by hand, one moment a second.
#[derive(Default)]
struct Script {
    history: History,
    now: Duration,
}

impl Script {
    fn invoke(&mut self, process: usize, operation: Operation) -> Id {
        self.now += Duration::from_secs(1);
        self.history.invoke(process, operation, self.now)
    }

    fn complete(&mut self, id: Id, reply: Reply) {
        self.now += Duration::from_secs(1);
        self.history.complete(id, reply, self.now);
    }

    /// An operation that overlaps with none that is completed before or invoked after it.
    fn alone(&mut self, operation: Operation, reply: Reply) -> Id {
        let id = self.invoke(0, operation);
        self.complete(id, reply);
        id
    }

    /// An operation nobody got an answer to.
    fn unknown(&mut self, operation: Operation) -> Id {
        let id = self.invoke(9, operation);
        self.history.unknown(id);
        id
    }

    #[track_caller]
    fn passes(&self) {
        let verdict = check(&self.history);
        assert!(matches!(verdict, Verdict::Linearizable), "{verdict:?}");
    }

    /// The history has no order, and `culprit` is the operation that says so.
    #[track_caller]
    fn fails_at(&self, culprit: Id) -> Explanation {
        match check(&self.history) {
            Verdict::Violation(explanation) => {
                assert_eq!(explanation.operation(), culprit, "{explanation}");
                explanation
            }
            other => panic!("{other:?}"),
        }
    }
}

fn version(number: u64) -> Version {
    Version::new(number.into())
}

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn put(text: &'static str) -> Operation {
    Operation::Put(value(text))
}

fn create(text: &'static str) -> Operation {
    Operation::Create(value(text))
}

fn replace(old: u64, text: &'static str) -> Operation {
    Operation::Replace(version(old), value(text))
}

fn delete_if(old: u64) -> Operation {
    Operation::DeleteIf(version(old))
}

fn written(number: u64, fence: u64) -> Reply {
    Reply::Written(version(number), Fence::new(fence))
}

#[expect(clippy::unnecessary_wraps, reason = "it is what replies hold")]
fn found(text: &'static str, number: u64, fence: u64) -> Option<Found> {
    Some(Found { value: value(text), version: version(number), fence: Fence::new(fence) })
}

fn read(text: &'static str, number: u64, fence: u64) -> Reply {
    Reply::Read(found(text, number, fence))
}

const NOTHING: Reply = Reply::Read(None);
