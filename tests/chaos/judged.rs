//! The judge on small histories: nothing is found in a good one, and each rule finds what breaks it.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::contest::Contest;
use crate::history::{Change, Stands};
use crate::judge::{Verdict, judge, longest_gap};
use crate::record::{Hold, Moment, Said, What, holds};

pub(crate) fn trials() -> Vec<Trial> {
    [
        ("judge::nothing_is_found_in_a_good_history", good as fn()),
        ("judge::a_turn_taken_while_another_stands_ahead", overlap),
        ("judge::a_turn_that_never_came", never_first),
        ("judge::a_fence_that_went_back", fence_back),
        ("judge::a_fence_granted_twice", fence_twice),
        ("judge::a_write_of_an_older_fence", old_write),
        ("judge::an_increment_that_was_lost", lost_increment),
        ("judge::beliefs_that_overlap", beliefs),
        ("judge::the_longest_gap", gap),
        ("judge::a_log_is_read_back", log),
    ]
    .map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    })
    .into()
}

fn seconds(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn place(name: &str, fence: u64) -> Change {
    let queue = Contest::Lock.queue().expect("a good name");
    Change { key: format!("{}/{name}", queue.key()), now: Some(Stands { fence, value: String::new() }) }
}

fn gone(name: &str) -> Change {
    Change { now: None, ..place(name, 0) }
}

fn count(count: u64, fence: u64) -> Change {
    let value = format!("{count} {fence}");
    Change { key: Contest::Lock.counter().to_owned(), now: Some(Stands { fence: 1, value }) }
}

/// Called, granted and given up at these seconds.
fn hold(worker: &str, fence: u64, called: u64, acquired: u64, believed: u64) -> Hold {
    Hold {
        worker: worker.to_owned(),
        fence,
        called: seconds(called),
        acquired: seconds(acquired),
        believed: seconds(believed),
        until: seconds(believed),
        wrote: Vec::new(),
        end: Some("Expired".to_owned()),
    }
}

fn of(history: &[Change], holds: &[Hold]) -> Verdict {
    judge(Contest::Lock, history, holds, &[])
}

/// What was counted: overlaps, fences, writes, increments, beliefs without excuse.
fn found(verdict: &Verdict) -> [u64; 5] {
    let Verdict { overlaps, fences, writes, increments, inexcusable, .. } = verdict;
    let found = [*overlaps, *fences, *writes, *increments, *inexcusable];
    assert_eq!(verdict.problems.len() as u64, found.iter().sum::<u64>(), "{verdict:?}");
    found
}

fn two_turns() -> Vec<Change> {
    vec![place("a", 2), place("b", 3), count(1, 2), count(2, 2), gone("a"), count(3, 3), gone("b")]
}

fn good() {
    let mut holds = [hold("a", 2, 0, 1, 3), hold("b", 3, 0, 4, 5)];
    holds[0].wrote = vec![(1, 2), (2, 2)];
    assert_eq!(found(&of(&two_turns(), &holds)), [0; 5]);
}

fn overlap() {
    let history = [place("a", 2), place("b", 3), count(1, 2), count(2, 3)];
    assert_eq!(found(&of(&history, &[])), [1, 0, 0, 0, 0]);
    let nobody = [place("a", 2), gone("a"), count(1, 2)];
    assert_eq!(found(&of(&nobody, &[])), [1, 0, 0, 0, 0]);
}

fn never_first() {
    let history = [place("a", 2), place("b", 3), gone("b"), gone("a")];
    assert_eq!(found(&of(&history, &[hold("b", 3, 0, 1, 2)])), [1, 0, 0, 0, 0]);
}

fn fence_back() {
    let history = [place("a", 5), place("b", 4), gone("b")];
    // Four comes first after five, and five after that.
    assert_eq!(found(&of(&history, &[])), [0, 2, 0, 0, 0]);
    // Whoever is granted the smaller fence later believes in it too late as well.
    let late = [hold("b", 3, 0, 1, 2), hold("a", 2, 3, 4, 5)];
    assert_eq!(found(&of(&two_turns(), &late)), [0, 1, 0, 0, 1]);
    let waited = [hold("b", 3, 0, 4, 5), hold("a", 2, 1, 2, 3)];
    assert_eq!(found(&of(&two_turns(), &waited)), [0; 5]);
}

fn fence_twice() {
    let holds = [hold("a", 2, 0, 2, 3), hold("b", 2, 1, 4, 5)];
    assert_eq!(found(&of(&two_turns(), &holds)), [0, 1, 0, 0, 0]);
}

fn old_write() {
    let history = [place("a", 2), count(1, 2), gone("a"), place("b", 3), count(2, 3), count(3, 2)];
    assert_eq!(found(&of(&history, &[])), [1, 0, 1, 0, 0]);
}

fn lost_increment() {
    let history = [place("a", 2), count(1, 2), count(1, 2)];
    assert_eq!(found(&of(&history, &[])), [0, 0, 0, 1, 0]);
    let mut holds = [hold("a", 2, 0, 1, 3)];
    holds[0].wrote = vec![(3, 2)];
    assert_eq!(found(&of(&two_turns(), &holds)), [0, 0, 0, 1, 0]);
}

fn beliefs() {
    let mut holds = [hold("a", 2, 0, 1, 5), hold("b", 3, 0, 3, 6)];
    let verdict = of(&two_turns(), &holds);
    assert_eq!(found(&verdict), [0, 0, 0, 0, 1]);
    assert_eq!((verdict.beliefs, verdict.longest_belief), (1, seconds(2)));
    let paused = |from, to| judge(Contest::Lock, &two_turns(), &holds, &[(seconds(from), seconds(to))]);
    assert_eq!(found(&paused(2, 3)), [0; 5]);
    assert_eq!(found(&paused(6, 7)), [0, 0, 0, 0, 1], "it was paused afterwards");
    holds[0].end = Some("Deleted".to_owned());
    let verdict = of(&two_turns(), &holds);
    assert_eq!((found(&verdict), verdict.beliefs), ([0; 5], 1));
}

fn gap() {
    let holds = [hold("a", 2, 0, 1, 5), hold("b", 3, 0, 3, 4), hold("a", 4, 0, 8, 9)];
    assert_eq!(longest_gap(&holds), seconds(3));
}

fn log() {
    let said = [
        (1, What::Started),
        (2, What::Called),
        (3, What::Acquired { fence: 7 }),
        (4, What::Held { until: seconds(6) }),
        (5, What::Wrote { count: 1, fence: 7 }),
        (6, What::Ended { how: "Revoked".to_owned() }),
        (7, What::Called),
        (8, What::Acquired { fence: 9 }),
        (9, What::Started),
    ];
    let lines = said.map(|(at, what)| Said { at: seconds(at), what }.line());
    let read = holds("a", &format!("2026 WARN something else\n{}\n", lines.join("\n")));
    let [first, second] = &read[..] else { panic!("two turns: {read:?}") };
    assert_eq!((first.fence, first.called, first.acquired), (7, seconds(2), seconds(3)));
    assert_eq!((first.believed, first.until, &*first.wrote), (seconds(4), seconds(6), &[(1, 7)][..]));
    assert_eq!(first.end.as_deref(), Some("Revoked"));
    assert_eq!((second.fence, second.end.as_deref()), (9, None), "killed");
    assert_eq!((second.acquired, second.believed), (seconds(8), seconds(7)), "it never knew that it held");
}
