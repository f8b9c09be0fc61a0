//! Judges what clients saw of one key: is there an order of the operations that explains every reply?
//!
//! The search is Wing and Gong's with Lowe's memory: take an operation that nothing unordered precedes, apply it to a
//! model of the key, go on, and never look twice at the same set of ordered operations with the same state. What
//! keeps it short beyond that:
//!
//! * A version belongs to one put, so the reply of a put fixes its place among the reads, and the model need not know
//!   values: a version stands for one.
//! * An operation that changes nothing and fits the state is ordered at once; waiting could not help it.
//! * An operation of unknown outcome is ordered only right before one that needs it. Whoever needs none may do
//!   without: a history with many of them costs little more than one with none.
//!
//! The order of the calls to [`History`] is the order of time: a reply recorded before an invocation precedes it, even
//! at the same instant of a paused clock. Instants are only shown.
//!
//! What is not checked: that there is room for the fence of an entry that nobody ever saw between two that were seen.
//! Entries that die with a session are deletes of unknown outcome, invoked when the session was granted.

mod explanation;
mod history;
mod model;
mod search;
pub(crate) mod tests;

use std::collections::BTreeMap;

use quorate::kv::Key;

pub(crate) use explanation::Explanation;
pub(crate) use history::{Found, History, Id, Operation, Reply};

/// How many states of the search a history is worth, some seconds in a debug build. The good histories of the tests
/// take fewer than five thousand.
const BUDGET: usize = 500_000;

/// How many more are spent on finding where a history without an order first goes wrong.
const EXPLAINED: usize = 20_000;

/// What became of a history.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// There is an order that explains it.
    Linearizable,
    /// There is none.
    Violation(Explanation),
    /// The search was given up after so many states. This is not a pass.
    Unknown {
        /// How many states were looked at.
        states: usize,
    },
}

/// Judges the history of one key.
pub(crate) fn check(history: &History) -> Verdict {
    check_within(history, BUDGET)
}

/// Judges the history of one key, looking at no more states than this.
pub(crate) fn check_within(history: &History, budget: usize) -> Verdict {
    let model = match model::Model::learn(history) {
        Ok(model) => model,
        Err(explanation) => return Verdict::Violation(explanation),
    };
    let verdict = search::Search::new(&model, history, true).run(budget);
    if !matches!(verdict, Verdict::Violation(_)) {
        return verdict;
    }
    match search::Search::new(&model, history, false).run(budget.min(EXPLAINED)) {
        Verdict::Violation(clearer) => Verdict::Violation(clearer),
        _ => verdict,
    }
}

/// Judges every key on its own, which is enough: a store is linearizable when each of its keys is. The first that
/// does not pass is told.
pub(crate) fn check_all(histories: &BTreeMap<Key, History>) -> Result<(), (Key, Verdict)> {
    for (key, history) in histories {
        match check(history) {
            Verdict::Linearizable => {}
            other => return Err((key.clone(), other)),
        }
    }
    Ok(())
}
