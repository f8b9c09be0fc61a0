//! The known-bad variants, and the hunt that must find each.

use std::process::{Command, ExitCode};

/// Their names, as `QUORATE_BAD` takes them, and what is wrong with them.
const SWITCHES: &[(&str, &str)] = &[
    ("deadline_from_reply", "the lease counts from the reply of a renewal, not from its sending"),
    ("no_margin", "a session counts as held to the very end of its ttl"),
    ("late_renewal_revives", "a renewal that comes after the deadline makes a lost session live again"),
    ("revoke_on_loss", "a lost session is revoked at once, while work still has its margin"),
    ("clock_forgets_suspend", "the clock stands still while the process is suspended"),
    ("no_look_after_wait", "when the place ahead is gone the lock is ours, without another look"),
    ("wait_ignores_snapshot", "a waiter trusts events alone, and misses what a fresh snapshot tells"),
    ("waiter_deaf_to_session", "a waiter goes on though its session is lost"),
    ("no_settle", "an unknown outcome of entering is reported, and forgotten"),
    (
        "retry_with_another_ticket",
        "an unknown outcome of entering is tried again as if nothing had been sent",
    ),
    ("no_sweep", "nobody looks for what a late request made"),
    ("drop_forgets_request", "a dropped future forgets what it has sent"),
    ("drop_forgets_guard", "a dropped guard leaves its place"),
    ("release_by_name", "a release frees the lock, whoever holds it"),
    ("release_once", "a release that failed is not tried again"),
    ("unguarded_write", "a guarded write does not check the place"),
    ("fence_not_checked", "a fence below one that was seen before is taken for good"),
    ("no_own_place_watch", "a holder does not watch its own place"),
    ("loss_not_told", "those who wait for the loss of a place are not woken"),
    ("work_begins_when_lost", "work begins in a term that was lost before it began"),
    ("rebinding_forgotten", "a registration is not put again after a loss of its session"),
    ("registration_not_watched", "a registration that somebody deletes is not put again"),
    ("released_before_work_stopped", "a leader resigns first, and stops its work then"),
    ("empty_view_on_error", "a view forgets all it knows when its watch fails"),
];

/// Runs every known-bad variant until a seed breaks something, and prints a row for each; fails if one is not caught.
pub(crate) fn hunt(seeds: u64) -> ExitCode {
    if !cfg!(quorate_bad) {
        eprintln!("built without --cfg quorate_bad: use scripts/simulate --bad");
        return ExitCode::from(2);
    }
    println!("| switch | first seed | what went wrong |\n| --- | --- | --- |");
    let mut missed = Vec::new();
    for (switch, _) in SWITCHES {
        match first(switch, seeds) {
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
fn first(switch: &str, seeds: u64) -> Option<(String, String)> {
    let program = std::env::current_exe().expect("a path");
    let run = Command::new(program)
        .args(["simulate", "--brief", "--seeds", &seeds.to_string()])
        .env("QUORATE_BAD", switch)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&run.stdout);
    let found = text.lines().find_map(|line| line.strip_prefix("FOUND "))?;
    let (seed, what) = found.split_once(": ")?;
    let (family, seed) = seed.split_once(' ')?;
    Some((format!("`{family}` {seed}"), what.replace('|', "\\|")))
}
