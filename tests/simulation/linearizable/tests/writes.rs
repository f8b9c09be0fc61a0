//! What writes may be told.

use super::super::{Operation, Reply};
use super::{NOTHING, Script, create, delete_if, found, put, read, replace, written};

pub(super) const TESTS: &[(&str, fn())] = &[
    ("racers_are_ordered_by_what_was_read", racers_are_ordered_by_what_was_read),
    ("a_lost_update_is_found", a_lost_update_is_found),
    ("two_winning_creates_are_found", two_winning_creates_are_found),
    ("a_create_that_lost_to_nobody_is_found", a_create_that_lost_to_nobody_is_found),
    ("a_replace_by_an_old_version_is_found", a_replace_by_an_old_version_is_found),
    ("a_delete_by_an_old_version_is_found", a_delete_by_an_old_version_is_found),
    ("a_replace_rejected_without_a_reason_is_found", a_replace_rejected_without_a_reason_is_found),
    ("a_deleted_entry_that_stays_is_found", a_deleted_entry_that_stays_is_found),
    ("a_version_given_twice_is_found", a_version_given_twice_is_found),
    ("a_version_that_comes_back_is_found", a_version_that_comes_back_is_found),
    ("a_fence_that_goes_back_is_found", a_fence_that_goes_back_is_found),
    ("an_overwrite_that_changes_the_fence_is_found", an_overwrite_that_changes_the_fence_is_found),
];

fn racers_are_ordered_by_what_was_read() {
    let mut script = Script::default();
    let one = script.invoke(1, put("a"));
    let two = script.invoke(2, put("b"));
    let three = script.invoke(3, create("c"));
    script.complete(one, written(1, 1));
    script.complete(two, written(3, 1));
    script.complete(three, Reply::Rejected(found("b", 3, 1)));
    script.alone(Operation::Get, read("a", 1, 1));
    script.passes();
}

/// Two clients read the same, and both replace it.
fn a_lost_update_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    let one = script.invoke(1, replace(1, "b"));
    let two = script.invoke(2, replace(1, "c"));
    script.complete(one, written(2, 1));
    script.complete(two, written(3, 1));
    script.fails_at(two);
}

fn two_winning_creates_are_found() {
    let mut script = Script::default();
    let one = script.invoke(1, create("a"));
    let two = script.invoke(2, create("b"));
    script.complete(one, written(1, 1));
    script.complete(two, written(2, 2));
    script.fails_at(two);
}

fn a_create_that_lost_to_nobody_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.alone(Operation::Delete, Reply::Deleted);
    let lost = script.alone(create("b"), Reply::Rejected(None));
    script.fails_at(lost);
}

fn a_replace_by_an_old_version_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.alone(put("b"), written(2, 1));
    let old = script.alone(replace(1, "c"), written(3, 1));
    script.fails_at(old);
}

fn a_delete_by_an_old_version_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.alone(Operation::Delete, Reply::Deleted);
    script.alone(put("a"), written(2, 2));
    let old = script.alone(delete_if(1), Reply::Deleted);
    script.fails_at(old);
}

fn a_replace_rejected_without_a_reason_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    let rejected = script.alone(replace(1, "b"), Reply::Rejected(found("a", 1, 1)));
    script.fails_at(rejected);
}

fn a_deleted_entry_that_stays_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.alone(Operation::Delete, Reply::Deleted);
    let ghost = script.alone(Operation::Get, read("a", 1, 1));
    script.fails_at(ghost);
}

fn a_version_given_twice_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.alone(put("b"), written(2, 1));
    let again = script.alone(put("a"), written(1, 1));
    script.fails_at(again);
}

/// The same value under the version of its first put, though something else stood there between.
fn a_version_that_comes_back_is_found() {
    let mut script = Script::default();
    script.unknown(put("a"));
    script.unknown(put("a"));
    script.alone(Operation::Get, read("a", 1, 1));
    script.alone(put("b"), written(2, 1));
    let back = script.alone(Operation::Get, read("a", 1, 1));
    script.fails_at(back);
}

fn a_fence_that_goes_back_is_found() {
    for fence in [4, 5] {
        let mut script = Script::default();
        script.alone(create("a"), written(1, 5));
        script.alone(Operation::Delete, Reply::Deleted);
        script.alone(Operation::Get, NOTHING);
        let low = script.alone(create("b"), written(2, fence));
        script.fails_at(low);
    }
}

fn an_overwrite_that_changes_the_fence_is_found() {
    let mut script = Script::default();
    script.alone(create("a"), written(1, 1));
    let changed = script.alone(put("b"), written(2, 2));
    script.fails_at(changed);
}
