//! Histories by chance, good ones and falsified ones.

use super::super::{Verdict, check, check_within};
use super::clients::{Event, Plan, falsify, history, play};
use super::exhaustive::has_order;

pub(super) const TESTS: &[(&str, fn())] = &[
    (
        "short_histories_are_judged_as_by_trying_every_order",
        short_histories_are_judged_as_by_trying_every_order,
    ),
    ("good_histories_pass", good_histories_pass),
    ("falsified_histories_are_mostly_found", falsified_histories_are_mostly_found),
    ("long_histories_of_eight_clients_get_a_verdict", long_histories_of_eight_clients_get_a_verdict),
];

/// Few and many clients, values and unknown outcomes.
const PLANS: [Plan; 5] = [
    Plan { clients: 2, operations: 40, values: 1000, unknown: 0, refused: 0 },
    Plan { clients: 4, operations: 60, values: 1000, unknown: 10, refused: 10 },
    Plan { clients: 4, operations: 60, values: 2, unknown: 8, refused: 10 },
    Plan { clients: 8, operations: 100, values: 3, unknown: 20, refused: 20 },
    Plan { clients: 8, operations: 100, values: 1000, unknown: 0, refused: 10 },
];

/// Small worlds, where clients meet often and values say little, as they happened and with up to two replies falsified.
fn short_histories_are_judged_as_by_trying_every_order() {
    let mut without_order = 0;
    for seed in 0..300 {
        let plan = Plan { clients: 3, operations: 7, values: 2, unknown: [0, 3, 5][seed % 3], refused: 0 };
        let seed = seed as u64;
        let good = play(seed, plan);
        let wrong = falsify(&good, seed);
        for events in [&good, &wrong, &falsify(&wrong, seed + 1)] {
            let history = history(events);
            let expected = has_order(&history);
            let verdict = check(&history);
            assert_eq!(matches!(verdict, Verdict::Linearizable), expected, "seed {seed}: {verdict:?}");
            without_order += usize::from(!expected);
        }
    }
    assert!(without_order > 100, "only {without_order} histories had no order");
}

fn good_histories_pass() {
    for seed in 0..40 {
        for (index, plan) in PLANS.iter().enumerate() {
            let verdict = check(&history(&play(seed, *plan)));
            assert!(matches!(verdict, Verdict::Linearizable), "seed {seed}, plan {index}: {verdict:?}");
        }
    }
}

/// Not every falsified reply is wrong: a read beside a write may see either state.
fn falsified_histories_are_mostly_found() {
    for (index, plan) in PLANS.iter().enumerate() {
        let found =
            (0..40).filter(|seed| is_violation(&falsify(&play(*seed, *plan), *seed), 200_000)).count();
        assert!(found >= 28, "plan {index}: {found} of 40 were found");
    }
}

/// Each within a small part of the budget, whether it has an order or not.
fn long_histories_of_eight_clients_get_a_verdict() {
    for unknown in [0, 10, 50] {
        let plan = Plan { clients: 8, operations: 600, values: 3, unknown, refused: 20 };
        let mut found = 0;
        for seed in 0..20 {
            let events = play(seed, plan);
            assert!(!is_violation(&events, 5_000), "seed {seed}, one unknown in {unknown}");
            found += usize::from(is_violation(&falsify(&events, seed), 200_000));
        }
        assert!(found >= 14, "one unknown in {unknown}: {found} of 20 were found");
    }
}

fn is_violation(events: &[Event], budget: usize) -> bool {
    match check_within(&history(events), budget) {
        Verdict::Linearizable => false,
        Verdict::Violation(_) => true,
        Verdict::Unknown { states } => panic!("no verdict after {states} states"),
    }
}
