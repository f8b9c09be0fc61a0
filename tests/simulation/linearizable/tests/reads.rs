//! What a get may see.

use std::collections::BTreeMap;

use quorate::kv::Key;

use super::super::{Operation, Reply, Verdict, check, check_all, check_within};
use super::{NOTHING, Script, create, found, put, read, replace, version, written};

pub(super) const TESTS: &[(&str, fn())] = &[
    ("an_empty_history_passes", an_empty_history_passes),
    ("a_client_alone_sees_its_writes", a_client_alone_sees_its_writes),
    ("a_read_beside_a_write_sees_either_state", a_read_beside_a_write_sees_either_state),
    ("a_stale_read_is_found", a_stale_read_is_found),
    ("a_read_that_goes_back_is_found", a_read_that_goes_back_is_found),
    ("a_read_from_the_future_is_found", a_read_from_the_future_is_found),
    ("a_value_nobody_put_is_found", a_value_nobody_put_is_found),
    ("a_wrong_value_is_found", a_wrong_value_is_found),
    ("a_rejection_may_show_what_a_later_read_saw", a_rejection_may_show_what_a_later_read_saw),
    ("a_rejection_may_not_show_what_never_stood", a_rejection_may_not_show_what_never_stood),
    ("a_reply_to_another_question_is_found", a_reply_to_another_question_is_found),
    ("keys_are_judged_apart", keys_are_judged_apart),
    ("a_small_budget_is_no_verdict", a_small_budget_is_no_verdict),
    ("an_explanation_names_what_matters", an_explanation_names_what_matters),
];

fn an_empty_history_passes() {
    Script::default().passes();
}

fn a_client_alone_sees_its_writes() {
    let mut script = Script::default();
    script.alone(Operation::Get, NOTHING);
    script.alone(create("a"), written(1, 1));
    script.alone(Operation::Get, read("a", 1, 1));
    script.alone(put("b"), written(2, 1));
    script.alone(replace(2, "b"), written(3, 1));
    script.alone(Operation::Get, read("b", 3, 1));
    script.alone(Operation::Delete, Reply::Deleted);
    script.alone(Operation::Delete, Reply::Deleted);
    script.alone(Operation::Get, NOTHING);
    script.alone(put("a"), written(4, 4));
    script.alone(Operation::DeleteIf(version(4)), Reply::Deleted);
    script.alone(Operation::DeleteIf(version(4)), Reply::Rejected(None));
    script.passes();
}

fn a_read_beside_a_write_sees_either_state() {
    for (before, during) in [(read("a", 1, 1), read("a", 1, 1)), (read("a", 1, 1), read("b", 2, 1))] {
        let mut script = Script::default();
        script.alone(put("a"), written(1, 1));
        let write = script.invoke(1, put("b"));
        script.alone(Operation::Get, before);
        script.alone(Operation::Get, during);
        script.complete(write, written(2, 1));
        script.alone(Operation::Get, read("b", 2, 1));
        script.passes();
    }
}

fn a_stale_read_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.alone(put("b"), written(2, 1));
    let stale = script.alone(Operation::Get, read("a", 1, 1));
    script.alone(Operation::Get, read("b", 2, 1));
    script.fails_at(stale);
}

fn a_read_that_goes_back_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    let write = script.invoke(1, put("b"));
    script.alone(Operation::Get, read("b", 2, 1));
    let back = script.alone(Operation::Get, read("a", 1, 1));
    script.complete(write, written(2, 1));
    script.fails_at(back);
}

fn a_read_from_the_future_is_found() {
    let mut script = Script::default();
    let early = script.alone(Operation::Get, read("a", 1, 1));
    script.alone(put("a"), written(1, 1));
    script.fails_at(early);
}

fn a_value_nobody_put_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    let strange = script.alone(Operation::Get, read("b", 2, 1));
    script.fails_at(strange);
}

fn a_wrong_value_is_found() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    let wrong = script.alone(Operation::Get, read("b", 1, 1));
    script.fails_at(wrong);
}

fn a_rejection_may_show_what_a_later_read_saw() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    let late = script.invoke(1, create("b"));
    script.alone(Operation::Delete, Reply::Deleted);
    script.complete(late, Reply::Rejected(None));
    script.passes();
}

fn a_rejection_may_not_show_what_never_stood() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    script.alone(put("b"), written(2, 1));
    let rejected = script.alone(create("c"), Reply::Rejected(found("a", 1, 1)));
    script.fails_at(rejected);
}

fn a_reply_to_another_question_is_found() {
    let mut script = Script::default();
    let odd = script.alone(put("a"), Reply::Deleted);
    script.fails_at(odd);
}

fn keys_are_judged_apart() {
    let key = |name| Key::new(name).expect("a key");
    let mut good = Script::default();
    good.alone(put("a"), written(1, 1));
    let mut bad = Script::default();
    bad.alone(Operation::Get, read("a", 1, 1));
    let mut histories = BTreeMap::from([(key("good"), good.history)]);
    assert!(check_all(&histories).is_ok());
    histories.insert(key("bad"), bad.history);
    let (found, verdict) = check_all(&histories).expect_err("what another key holds explains nothing");
    assert_eq!(found, key("bad"));
    assert!(matches!(verdict, Verdict::Violation(_)), "{verdict:?}");
}

fn a_small_budget_is_no_verdict() {
    let mut script = Script::default();
    for number in 1..=10 {
        script.alone(put("a"), written(number, 1));
    }
    script.passes();
    let verdict = check_within(&script.history, 5);
    assert!(matches!(verdict, Verdict::Unknown { states: 5 }), "{verdict:?}");
}

fn an_explanation_names_what_matters() {
    let mut script = Script::default();
    script.alone(put("a"), written(1, 1));
    let other = script.invoke(7, put("b"));
    let stale = script.alone(Operation::Get, NOTHING);
    script.complete(other, written(2, 1));
    let Verdict::Violation(explanation) = check(&script.history) else { panic!("it has no order") };
    assert_eq!(explanation.operation(), stale);
    let expected = r#"
no order explains the history up to this reply:
  #2 process 0, 4s to 5s: get -> nothing
while these were under way or of unknown outcome:
  #1 process 7, 3s to 6s: put b"b" -> version 2, fence 1
an order that comes so far leaves b"a" (version 1, fence 1) and ends in:
  #0 process 0, 1s to 2s: put b"a" -> version 1, fence 1
an order that comes so far leaves b"b" (version 2, fence 1) and ends in:
  #0 process 0, 1s to 2s: put b"a" -> version 1, fence 1
  #1 process 7, 3s to 6s: put b"b" -> version 2, fence 1"#;
    assert_eq!(explanation.to_string(), expected.trim());
}
