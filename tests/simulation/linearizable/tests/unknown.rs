//! Operations without a definite reply.

use super::super::{Operation, Reply};
use super::{NOTHING, Script, create, delete_if, found, put, read, replace, written};

pub(super) const TESTS: &[(&str, fn())] = &[
    ("an_unknown_put_may_never_be_seen", an_unknown_put_may_never_be_seen),
    ("an_unknown_put_may_be_seen_late", an_unknown_put_may_be_seen_late),
    ("an_unknown_put_is_not_seen_before_it_was_sent", an_unknown_put_is_not_seen_before_it_was_sent),
    ("an_unknown_put_takes_effect_once", an_unknown_put_takes_effect_once),
    ("an_unknown_put_has_one_version", an_unknown_put_has_one_version),
    ("each_unknown_put_has_its_own_version", each_unknown_put_has_its_own_version),
    ("an_unknown_put_keeps_the_fence", an_unknown_put_keeps_the_fence),
    ("a_refused_write_that_is_seen_is_found", a_refused_write_that_is_seen_is_found),
    ("a_refused_write_explains_no_rejection", a_refused_write_explains_no_rejection),
    ("an_unseen_write_explains_a_rejection_once", an_unseen_write_explains_a_rejection_once),
    ("an_unknown_delete_explains_an_absence_once", an_unknown_delete_explains_an_absence_once),
    ("an_unknown_conditional_write_needs_its_version", an_unknown_conditional_write_needs_its_version),
    ("a_chain_of_unknown_writes_is_followed", a_chain_of_unknown_writes_is_followed),
    ("a_version_known_from_elsewhere_can_be_replaced", a_version_known_from_elsewhere_can_be_replaced),
];

fn an_unknown_put_may_never_be_seen() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.unknown(put("b"));
    script.alone(Operation::Get, read("a", 1, 1));
    script.passes();
}

fn an_unknown_put_may_be_seen_late() {
    let mut script = Script::default();
    script.unknown(put("late"));
    script.alone(put("a"), written(1, 1));
    script.alone(Operation::Get, read("a", 1, 1));
    script.alone(put("b"), written(2, 1));
    script.alone(Operation::Get, read("late", 3, 1));
    script.alone(replace(3, "c"), written(4, 1));
    script.passes();
}

fn an_unknown_put_is_not_seen_before_it_was_sent() {
    let mut script = Script::default();
    let early = script.alone(Operation::Get, read("a", 1, 1));
    script.unknown(put("a"));
    script.fails_at(early);
}

/// Seen, then gone without anybody's doing.
fn an_unknown_put_takes_effect_once() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.unknown(put("b"));
    script.alone(Operation::Get, read("b", 2, 1));
    let gone = script.alone(Operation::Get, read("a", 1, 1));
    script.fails_at(gone);
}

fn an_unknown_put_has_one_version() {
    let mut script = Script::default();
    script.unknown(put("a"));
    script.alone(Operation::Get, read("a", 1, 1));
    let second = script.alone(Operation::Get, read("a", 2, 1));
    script.fails_at(second);
}

fn each_unknown_put_has_its_own_version() {
    let mut script = Script::default();
    script.unknown(put("a"));
    script.unknown(put("a"));
    script.alone(Operation::Get, read("a", 1, 1));
    script.alone(Operation::Get, read("a", 2, 1));
    script.passes();
    let third = script.alone(Operation::Get, read("a", 3, 1));
    script.fails_at(third);
}

fn an_unknown_put_keeps_the_fence() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.unknown(put("b"));
    let made = script.alone(Operation::Get, read("b", 2, 2));
    script.fails_at(made);
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.unknown(put("b"));
    script.unknown(Operation::Delete);
    script.alone(Operation::Get, read("b", 2, 2));
    script.passes();
}

fn a_refused_write_that_is_seen_is_found() {
    let mut script = Script::default();
    let refused = script.invoke(1, put("a"));
    script.history.not_applied(refused);
    script.alone(Operation::Get, NOTHING);
    script.passes();
    let seen = script.alone(Operation::Get, read("a", 1, 1));
    script.fails_at(seen);
}

fn a_refused_write_explains_no_rejection() {
    let mut script = Script::default();
    let refused = script.invoke(1, put("a"));
    script.history.not_applied(refused);
    let rejected = script.alone(create("b"), Reply::Rejected(None));
    script.fails_at(rejected);
}

/// Somebody created it and somebody deleted it; nobody is left to have created it again.
fn an_unseen_write_explains_a_rejection_once() {
    let mut script = Script::default();
    script.unknown(put("a"));
    script.unknown(Operation::Delete);
    script.alone(create("b"), Reply::Rejected(None));
    script.alone(Operation::Get, NOTHING);
    script.passes();
    let again = script.alone(create("c"), Reply::Rejected(None));
    script.fails_at(again);
}

fn an_unknown_delete_explains_an_absence_once() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.unknown(Operation::Delete);
    script.alone(Operation::Get, read("a", 1, 1));
    script.alone(Operation::Get, NOTHING);
    script.alone(create("b"), written(2, 2));
    script.passes();
    let again = script.alone(Operation::Get, NOTHING);
    script.fails_at(again);
}

fn an_unknown_conditional_write_needs_its_version() {
    for operation in [replace(1, "c"), create("c"), delete_if(1)] {
        let reply = if operation == delete_if(1) { NOTHING } else { read("c", 3, 1) };
        let mut script = Script::default();
        script.alone(put("a"), written(1, 1));
        script.alone(put("b"), written(2, 1));
        script.unknown(operation);
        script.alone(Operation::Get, read("b", 2, 1));
        script.passes();
        let changed = script.alone(Operation::Get, reply);
        script.fails_at(changed);
    }
}

/// A delete, a put, and a replace of what was put, all without a reply, explain one read.
fn a_chain_of_unknown_writes_is_followed() {
    let chain = [Operation::Delete, put("b"), replace(2, "c")];
    for left_out in 0..=chain.len() {
        let mut script = Script::default();
        script.alone(put("a"), written(1, 1));
        for (index, operation) in chain.iter().enumerate() {
            if index != left_out {
                script.unknown(operation.clone());
            }
        }
        let last = script.alone(Operation::Get, read("c", 3, 3));
        if left_out == chain.len() {
            script.passes();
        } else {
            script.fails_at(last);
        }
    }
}

/// A watch told the version, say; the history has no read of it.
fn a_version_known_from_elsewhere_can_be_replaced() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.unknown(put("b"));
    script.alone(replace(7, "c"), written(8, 1));
    script.alone(Operation::Get, read("c", 8, 1));
    script.passes();
    let again = script.alone(delete_if(7), Reply::Rejected(found("c", 8, 1)));
    script.passes();
    assert_eq!(script.history.len(), again.0 + 1);
    let twice = script.alone(delete_if(7), Reply::Deleted);
    script.fails_at(twice);
}
