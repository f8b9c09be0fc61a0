//! Signals, and the death of either process.

use rustix::process::Signal;

use crate::kit::{Store, Trial, eventually, heeding, is_alive, number};

pub(crate) const TRIALS: &[Trial] = &[
    ("signals_reach_the_whole_group", reach_the_group),
    ("signals_end_a_wait_and_leave_nothing", end_a_wait),
    ("signals_end_it_while_the_store_is_not_reached", end_a_connection),
    ("signals_that_are_ignored_stay_ignored", ignored_stay_ignored),
    ("the_command_dies_with_its_wrapper", dies_with_its_wrapper),
    ("the_death_of_the_command_frees_the_lock_at_once", death_of_the_command),
    ("a_terminal_is_lent_and_taken_back", terminal),
    ("a_job_stops_and_goes_on", job_control),
];

/// A command that says that it runs, and as what.
const RUN: &str = "echo $$ > pid; ";

fn reach_the_group(store: &Store) {
    for (signal, name, code) in [
        (Signal::TERM, "TERM", 3),
        (Signal::INT, "INT", 4),
        (Signal::HUP, "HUP", 5),
        (Signal::QUIT, "QUIT", 6),
    ] {
        // A process that it started in the background hears it as well.
        let background = format!(
            "(trap 'echo > told-{name}; exit' {name}; echo > ready-{name}; while :; do sleep 0.01; done) &"
        );
        let script = format!(
            "{background} trap 'wait; exit {code}' {name}; while [ ! -e ready-{name} ]; do sleep 0.01; done; echo > run-{name}; while :; do sleep 0.01; done"
        );
        let running = store.start(&["lock", "a", "--", "bash", "-c", &script]);
        store.wait_for(&format!("run-{name}"));
        running.signal(signal);
        running.end().exits(code);
        store.wait_for(&format!("told-{name}"));
    }
    // One that does not tell it to end is passed on too, and it goes on.
    let script = "trap 'echo > told' USR1; echo > run; while [ ! -e told ]; do sleep 0.01; done; exit 8";
    let running = store.start(&["lock", "a", "--", "bash", "-c", script]);
    store.wait_for("run");
    running.signal(Signal::USR1);
    running.end().exits(8);
}

fn end_a_wait(store: &Store) {
    let holder = store.start(&[
        "lock",
        "a",
        "--",
        "sh",
        "-c",
        &format!("{RUN} while [ ! -e go ]; do sleep 0.01; done"),
    ]);
    store.wait_for("pid");
    let waiting = store.start(&["lock", "a", "--ttl", "1m", "--", "touch", "ran"]);
    eventually("it waits", || (store.waiters_of("a") == 1).then_some(()));
    waiting.signal(Signal::TERM);
    waiting.end().exits(128 + 15);
    std::fs::write(store.path("go"), "").expect("a file");
    holder.end().exits(0);
    store.run(&["lock", "a", "--no-wait", "--", "true"]).exits(0);
    assert!(!store.path("ran").exists());
}

fn end_a_connection(store: &Store) {
    store.run(&["lock", "a", "--", "true"]).exits(0);
    let outage = store.outage();
    for words in [
        ["lock", "a", "--", "touch", "ran"].as_slice(),
        &["elect", "a", "--", "touch", "ran"],
        &["register", "a", "--address", "b:1", "--", "touch", "ran"],
    ] {
        let running = store.start(words);
        eventually("it hears signals", || running.catches(Signal::TERM).then_some(()));
        running.signal(Signal::TERM);
        running.end().exits(128 + 15);
    }
    drop(outage);
    assert!(!store.path("ran").exists());
}

fn ignored_stay_ignored(store: &Store) {
    let quorate = env!("CARGO_BIN_EXE_quorate");
    let script = format!(
        "trap '' HUP; exec {quorate} lock a -- sh -c '{RUN} while [ ! -e go ]; do sleep 0.01; done; exit 9'"
    );
    let mut shell = heeding("sh");
    shell.args(["-c", &script]).current_dir(store.path("")).env("QUORATE_STORE", store.url());
    let running = crate::kit::Running::of(shell);
    let pid = store.wait_for("pid");
    running.signal(Signal::HUP);
    running.signal(Signal::HUP);
    assert!(is_alive(&pid));
    std::fs::write(store.path("go"), "").expect("a file");
    running.end().exits(9);
}

fn dies_with_its_wrapper(store: &Store) {
    let running = store.start(&[
        "lock",
        "a",
        "--ttl",
        &store.ttl(2),
        "--",
        "sh",
        "-c",
        &format!("{RUN} trap '' TERM; while :; do sleep 0.01; done"),
    ]);
    let pid = store.wait_for("pid");
    running.signal(Signal::KILL);
    drop(running);
    eventually("the command is dead", || (!is_alive(&pid)).then_some(()));
    // And its lock is free after the ttl.
    store.run(&["lock", "a", "--", "true"]).exits(0);
}

fn death_of_the_command(store: &Store) {
    let running =
        store.start(&["lock", "a", "--ttl", "1m", "--", "sh", "-c", &format!("{RUN} exec sleep 60")]);
    let pid = store.wait_for("pid");
    let pid = number(&pid);
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
    running.end().exits(128 + 9);
    store.run(&["lock", "a", "--wait", "20s", "--", "true"]).exits(0);
}

/// In a terminal of its own, typed at with `script(1)`.
fn terminal(store: &Store) {
    let quorate = env!("CARGO_BIN_EXE_quorate");
    // The command reads from the terminal, and so does the shell around it afterwards.
    let inner = format!("{quorate} lock a -- sh -c 'read x; echo child $x'; read y; echo shell $y");
    let out = typed(store, &inner, &["one\n", "two\n"]);
    assert!(out.contains("child one") && out.contains("shell two"), "{out}");
    // What is typed to interrupt reaches the command, and its end is passed on.
    let inner = format!(
        "{quorate} lock a -- sh -c 'trap \"exit 42\" INT; echo > up; while :; do sleep 0.01; done'; echo code $? >&2; read y; echo shell $y"
    );
    let inner = format!("trap : INT; {inner}");
    let out = typed(store, &inner, &["\x03", "two\n"]);
    assert!(out.contains("code 42") && out.contains("shell two"), "{out}");
}

/// Runs a shell in a terminal, and types each part once what it waits for is there: at first the terminal, then the echo.
fn typed(store: &Store, inner: &str, parts: &[&str]) -> String {
    use std::io::{Read as _, Write as _};
    let _ = std::fs::remove_file(store.path("up"));
    let mut command = heeding("script");
    command
        .args(["-qec", inner, "/dev/null"])
        .current_dir(store.path(""))
        .env("QUORATE_STORE", store.url())
        .env("SHELL", "/bin/bash");
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut script = command.spawn().expect("script(1) is there");
    let mut input = script.stdin.take().expect("a pipe");
    for part in parts {
        if *part == "\x03" {
            store.wait_for("up");
        }
        input.write_all(part.as_bytes()).expect("it is read");
        input.flush().expect("it is read");
    }
    let mut out = String::new();
    script.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    script.wait().expect("it ends");
    out
}

/// A shell with job control sees the job stop with the command, and go on with it.
fn job_control(store: &Store) {
    let quorate = env!("CARGO_BIN_EXE_quorate");
    let inner = format!(
        "set -m; {quorate} lock a -- sh -c 'echo > up; kill -STOP $$; echo went on'; echo stopped $?; fg; echo ended $?"
    );
    let out = typed(store, &inner, &[]);
    let (stopped, went_on) = (out.find("stopped 147"), out.rfind("went on"));
    assert!(stopped.is_some() && stopped < went_on && out.contains("ended 0"), "{out}");
}
