//! The known-bad variants, and the hunt that must find each.

use std::process::{Command, ExitCode};

/// Their names, as `QUORATE_BAD` takes them, what is wrong with them, and how the oracle words the rule that each is to
/// show red: a seed counts only if that is the first thing found.
const SWITCHES: &[(&str, &str, &str)] = &[
    (
        "deadline_from_reply",
        "the lease counts from the reply of a renewal, not from its sending",
        "which is gone",
    ),
    ("no_margin", "a session counts as held to the very end of its ttl", "believes in"),
    (
        "late_renewal_revives",
        "a renewal that comes after the deadline makes a lost session live again",
        "holds again what it had lost",
    ),
    (
        "revoke_on_loss",
        "a lost session is revoked at once, while work still has its margin",
        "these work at once",
    ),
    ("clock_forgets_suspend", "the clock stands still while the process is suspended", "believes in"),
    (
        "no_look_after_wait",
        "when the place ahead is gone the lock is ours, without another look",
        "stands ahead",
    ),
    (
        "wait_ignores_snapshot",
        "a waiter trusts events alone, and misses what a fresh snapshot tells",
        "some users never got their turn",
    ),
    (
        "waiter_deaf_to_session",
        "a waiter goes on though its session is lost",
        "waits on, though its session is lost",
    ),
    (
        "no_settle",
        "an unknown outcome of entering is reported, and forgotten",
        "some users never got their turn",
    ),
    (
        "retry_with_another_ticket",
        "an unknown outcome of entering is tried again as if nothing had been sent",
        "some users never got their turn",
    ),
    ("no_sweep", "nobody looks for what a late request made", "some users never got their turn"),
    ("drop_forgets_request", "a dropped future forgets what it has sent", "nobody holds or waits any more"),
    ("drop_forgets_guard", "a dropped guard leaves its place", "some users never got their turn"),
    ("release_by_name", "a release frees the lock, whoever holds it", "believes in"),
    ("ticket_used_too_early", "a ticket is used again before its place is gone", "was granted twice"),
    ("release_once", "a release that failed is not tried again", "is released, and it stands"),
    ("unguarded_write", "a guarded write does not check the place", "a guarded write of fence"),
    ("fence_not_checked", "a fence below one that was seen before is taken for good", "was granted twice"),
    ("no_own_place_watch", "a holder does not watch its own place", "is not told that its place was deleted"),
    (
        "loss_not_told",
        "those who wait for the loss of a place are not woken",
        "is not told that its place was deleted",
    ),
    ("work_begins_when_lost", "work begins in a term that was lost before it began", "began after"),
    (
        "rebinding_forgotten",
        "a registration is not put again after a loss of its session",
        "never came to an end",
    ),
    ("registration_not_watched", "a registration that somebody deletes is not put again", "does not stand"),
    ("released_before_work_stopped", "a leader resigns first, and stops its work then", "believes in"),
    (
        "empty_view_on_error",
        "a view forgets all it knows when its watch fails",
        "an error changed what a watcher knows",
    ),
    ("follower_ignores_delete", "a follower does not hear that a place went", "followers were told"),
    (
        "nobody_leads_untold",
        "a follower keeps the last leader when nobody leads",
        "nobody leads, and followers were told",
    ),
    ("election_not_told", "the status never says that the candidate leads", "began, and p"),
    ("loss_not_paired", "the status does not say that a term is over", "does not run, and is said to be"),
    (
        "rebinding_opens_gap",
        "a lost session is revoked before its registrations are bound to the next",
        "was gone for a moment",
    ),
];

/// Runs every known-bad variant until a seed breaks its rule, and prints a row for each; fails if one is not caught.
pub(crate) fn hunt(seeds: u64) -> ExitCode {
    if !cfg!(quorate_bad) {
        eprintln!("built without --cfg quorate_bad: use scripts/simulate --bad");
        return ExitCode::from(2);
    }
    println!("| switch | first seed | what went wrong |\n| --- | --- | --- |");
    let mut missed = Vec::new();
    for (switch, _, rule) in SWITCHES {
        match first(switch, rule, seeds) {
            Some((seed, what)) => println!("| `{switch}` | {seed} | `{what}` |"),
            None => missed.push(switch),
        }
    }
    let (caught, all) = (SWITCHES.len() - missed.len(), SWITCHES.len());
    println!("{caught} passed, {} failed", missed.len());
    if missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("{caught} of {all} known-bad variants were caught; the harness is too weak for {missed:?}");
    ExitCode::FAILURE
}

/// The family and seed at which a variant was caught, and as what: in a process of its own, since the variant is chosen
/// for a whole process.
fn first(switch: &str, rule: &str, seeds: u64) -> Option<(String, String)> {
    let program = std::env::current_exe().expect("a path");
    let run = Command::new(program)
        .args(["simulate", "--brief", "--rule", rule, "--seeds", &seeds.to_string()])
        .env("QUORATE_BAD", switch)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&run.stdout);
    let found = text.lines().find_map(|line| line.strip_prefix("FOUND "))?;
    let (seed, what) = found.split_once(": ")?;
    let (family, seed) = seed.split_once(' ')?;
    Some((format!("`{family}` {seed}"), what.replace('|', "\\|")))
}
