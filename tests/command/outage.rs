//! Loss while the command runs: it must be dead before anybody else can hold.

use std::time::Duration;

use quorate::kv::{Clock as _, SystemClock};
use rustix::process::Signal;

use crate::kit::{Store, Trial, eventually, is_alive, rest};

pub(crate) const TRIALS: &[Trial] = &[
    ("a_store_that_is_gone_ends_the_command_in_time", store_gone),
    ("a_store_that_is_slow_costs_nothing", store_slow),
    ("a_store_that_is_gone_from_the_start_is_told", store_gone_from_the_start),
    ("a_wrapper_that_was_stopped_ends_the_command_first", stopped),
    ("a_revoked_session_ends_the_command", revoked),
];

/// A command that does not heed TERM, and tells when it runs beside another.
const STUBBORN: &str =
    "trap 'echo > told' TERM; echo $$ > pid; while :; do [ -e second ] && echo > overlap; sleep 0.005; done";
/// The next holder.
const SECOND: &[&str] = &["lock", "a", "--", "touch", "second"];

fn store_gone(store: &Store) {
    let holder = store.start(&[
        "lock",
        "a",
        "--ttl",
        &store.ttl(3),
        "--on-loss",
        "echo $QUORATE_REASON > why",
        "--",
        "bash",
        "-c",
        STUBBORN,
    ]);
    let pid = store.wait_for("pid");
    let (clock, outage) = (SystemClock::new(), store.outage());
    let began = clock.now();
    // It waits for the store, and has the lock as soon as the session has ended there.
    let next = store.start_undisturbed(SECOND);
    eventually("the command is dead", || (!is_alive(&pid)).then_some(()));
    let lived = clock.now().since(began);
    assert!(lived < store.time(3), "it lived for {lived:?}, and its session was renewed before that");
    holder.end().exits(76).says("could not be reached");
    store.wait_for("told");
    assert_eq!(store.wait_for("why"), "store-unavailable\n");
    drop(outage);
    next.end().exits(0);
    assert!(!store.path("overlap").exists(), "two held at once");
}

fn store_slow(store: &Store) {
    let script = "echo > run; while [ ! -e go ]; do sleep 0.01; done";
    let holder = store.start(&["lock", "a", "--ttl", &store.ttl(6), "--", "sh", "-c", script]);
    store.wait_for("run");
    for _ in 0..4 {
        let outage = store.outage();
        rest(store.time(2)); // The outage is as long as this.
        drop(outage);
        rest(Duration::from_millis(300)); // And this the time the store answers in between.
    }
    std::fs::write(store.path("go"), "").expect("a file");
    holder.end().exits(0);
}

fn store_gone_from_the_start(store: &Store) {
    store.run(&["lock", "a", "--", "true"]).exits(0);
    let outage = store.outage();
    store.run(&["lock", "a", "--ttl", &store.ttl(2), "--", "touch", "ran"]).exits(69).says("unavailable");
    drop(outage);
    assert!(!store.path("ran").exists());
}

fn stopped(store: &Store) {
    let holder = store.start(&[
        "lock",
        "a",
        "--ttl",
        &store.ttl(2),
        "--",
        "bash",
        "-c",
        "trap '' TERM; echo $$ > pid; while :; do sleep 0.01; done",
    ]);
    let pid = store.wait_for("pid");
    holder.signal(Signal::STOP);
    // The next has the lock once the ttl has passed.
    store.run(SECOND).exits(0);
    assert!(is_alive(&pid), "who could have ended it?");
    // What is passed on comes after the look whether the lock is still held.
    holder.signal(Signal::USR1);
    holder.signal(Signal::CONT);
    holder.end().exits(76);
    eventually("the command is dead", || (!is_alive(&pid)).then_some(()));
}

fn revoked(store: &Store) {
    let holder = store.start(&[
        "lock",
        "a",
        "--ttl",
        &store.ttl(3),
        "--on-loss",
        "echo $QUORATE_REASON > why",
        "--",
        "sh",
        "-c",
        "echo $$ > pid; exec sleep 60",
    ]);
    let pid = store.wait_for("pid");
    store.revoke_holders_of("a");
    holder.end().exits(76);
    assert!(!is_alive(&pid));
    let why = store.wait_for("why");
    assert!(why == "revoked\n" || why == "deleted\n", "{why}");
}
