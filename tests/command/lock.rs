//! Holding a lock while a command runs.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::kit::{Store, Trial, eventually, is_alive, number};

pub(crate) const TRIALS: &[Trial] = &[
    ("lock_passes_the_end_of_the_command_on", passes_the_end_on),
    ("lock_refuses_wrong_usage", refuses_wrong_usage),
    ("lock_is_understood_once_and_a_word_like_others_elsewhere", understood_once),
    ("every_other_failure_has_its_code", other_failures),
    ("lock_gives_up_in_time", gives_up_in_time),
    ("lock_hands_over_at_once", hands_over_at_once),
    ("lock_leaves_nothing_of_a_command_that_never_ran", leaves_nothing),
    ("lock_passes_streams_and_environment", passes_streams_and_environment),
    ("lock_loses_no_increment_of_an_unprotected_counter", loses_no_increment),
    ("lock_has_a_ready_file_while_the_command_runs", ready_file),
    ("lock_says_what_it_waits_for", says_what_it_waits_for),
    ("lock_is_renewed_by_a_thread_of_its_own", renewed_by_a_thread),
];

fn passes_the_end_on(store: &Store) {
    store.run(&["lock", "a", "--", "true"]).exits(0);
    store.run(&["lock", "a", "--", "sh", "-c", "exit 7"]).exits(7);
    store.run(&["lock", "a", "--", "sh", "-c", "kill -KILL $$"]).exits(128 + 9);
    store.run(&["lock", "a", "--", "sh", "-c", "kill -TERM $$"]).exits(128 + 15);
    store.run(&["lock", "a", "--", "no-such-command"]).exits(127).says("no-such-command");
    let plain = store.path("plain");
    std::fs::write(&plain, "text").expect("a file");
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    store.run(&["lock", "a", "--", "./plain"]).exits(126).says("./plain");
}

fn refuses_wrong_usage(store: &Store) {
    for (words, named) in [
        (&["lock"][..], "<NAME>"),
        (&["lock", "a"], "<CMD>"),
        (&["lock", "", "--", "true"], "empty"),
        (&["lock", "a", "--ttl", "soon", "--", "true"], "soon"),
        (&["lock", "a", "--ttl", "25h", "--", "true"], "ttl"),
        (&["lock", "a", "--wait", "1s", "--no-wait", "--", "true"], "--no-wait"),
        (&["lock", "a", "--shared", "--", "true"], "--shared"),
        (&["lock", "a", "--permits", "3", "--", "true"], "--permits"),
        (&["--store", "etdc://me:hidden@h", "lock", "a", "--", "true"], "etdc"),
        (&["--namespace", "a//b", "lock", "a", "--", "true"], "a//b"),
    ] {
        let ran = store.run(words);
        ran.exits(2).says(named);
        assert!(!ran.err().contains("hidden"), "a secret was shown: {}", ran.err());
    }
}

/// A copy of the process, which reads the words too, says nothing about them; and would not each time be the first to.
fn understood_once(store: &Store) {
    let once = |text: &str| assert_eq!(text.matches("Usage:").count(), 1, "{text}");
    for _ in 0..50 {
        once(&store.run(&["lock"]).exits(2).err());
        once(&store.run(&["lock", "--help"]).exits(0).out());
        once(&store.run(&["kv", "put", "lock"]).exits(2).err());
    }
    store.run(&["kv", "put", "lock", "lock"]).exits(0);
    assert_eq!(store.run(&["kv", "get", "lock", "--raw"]).exits(0).out(), "lock");
    let elected = store.start(&["elect", "lock", "--", "sh", "-c", "echo > leads; exec sleep 60"]);
    store.wait_for("leads");
    assert_eq!(elected.children().len(), 1, "nothing is left of a copy that was for nothing");
}

fn other_failures(store: &Store) {
    let damaged = store.path("damaged.db");
    let whole = format!("embedded:{}", damaged.display());
    // Long enough for it not to be left in the log alone.
    for name in ["a", "b", "c", "d", "e", "f"] {
        store.run(&["--store", &whole, "kv", "put", name, &"x".repeat(100_000)]).exits(0);
    }
    let bytes = std::fs::read(&damaged).expect("a file");
    std::fs::write(&damaged, &bytes[..bytes.len() / 2]).expect("a file");
    let _ = std::fs::remove_file(store.path("damaged.db-wal"));
    store.run(&["--store", &whole, "lock", "a", "--", "true"]).exits(70).says("damaged");
    // As a process finds itself whose parent was killed before it could ask to be told.
    store.run(&["__become", "1", "touch", "ran"]).exits(71).says("gone");
    assert!(!store.path("ran").exists());
    store.run(&["kv", "put", "a", "1"]).exits(0);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let status =
        store.quorate(&["kv", "get", "a"]).stdout(full).stderr(Stdio::null()).status().expect("it runs");
    assert_eq!(status.code(), Some(74));
}

fn gives_up_in_time(store: &Store) {
    let holder = store.start(&["lock", "a", "--", "sh", "-c", "echo > held; exec sleep 60"]);
    store.wait_for("held");
    store.run(&["lock", "a", "--no-wait", "--", "touch", "ran"]).exits(75).says("held");
    store.run(&["lock", "a", "--wait", "300ms", "--", "touch", "ran"]).exits(75).says("in time");
    let outage = store.outage();
    store.run(&["lock", "b", "--wait", "300ms", "--", "touch", "ran"]).exits(75).says("in time");
    drop(outage);
    assert!(!store.path("ran").exists(), "a command ran without the lock");
    store.run(&["lock", "b", "--no-wait", "--", "true"]).exits(0);
    drop(holder);
}

fn hands_over_at_once(store: &Store) {
    let script = "echo > held; while [ ! -e go ]; do sleep 0.01; done";
    let holder = store.start(&["lock", "a", "--ttl", "1m", "--", "sh", "-c", script]);
    store.wait_for("held");
    let next = store.start(&["lock", "a", "--ttl", "1m", "--", "true"]);
    std::fs::write(store.path("go"), "").expect("a file");
    holder.end().exits(0);
    next.end().exits(0); // Long before the ttl.
}

/// The command's process is there already while the lock is waited for.
fn leaves_nothing(store: &Store) {
    let holder = store.start(&["lock", "a", "--", "sh", "-c", "echo > held; exec sleep 60"]);
    store.wait_for("held");
    for end in [Signal::KILL, Signal::TERM] {
        let waiting = store.start(&["lock", "a", "--", "touch", "ran"]);
        let prepared = eventually("a process of its own", || waiting.children().into_iter().next());
        waiting.signal(end);
        eventually("its end", || (!is_alive(&prepared)).then_some(()));
    }
    let waiting = store.start(&["lock", "a", "--wait", "500ms", "--", "touch", "ran"]);
    let prepared = eventually("a process of its own", || waiting.children().into_iter().next());
    waiting.end().exits(75);
    assert!(!is_alive(&prepared), "it outlived the wait");
    // Should that process be killed meanwhile, there is no command to run.
    let waiting = store.start(&["lock", "a", "--", "touch", "ran"]);
    let prepared = eventually("a process of its own", || waiting.children().into_iter().next());
    kill_process(number(&prepared), Signal::KILL).expect("it is there");
    eventually("its end", || (!is_alive(&prepared)).then_some(()));
    drop(holder);
    waiting.end().exits(71);
    assert!(!store.path("ran").exists(), "a command ran without the lock");
    store.run(&["lock", "a", "--no-wait", "--", "true"]).exits(0);
}

fn passes_streams_and_environment(store: &Store) {
    let script = "cat; echo to stderr >&2; echo $QUORATE_NAME $QUORATE_ID $QUORATE_NAMESPACE $QUORATE_STORE";
    let words = ["lock", "the name", "--id", "me", "--namespace", "n/s", "--", "sh", "-c", script];
    let mut running = store
        .quorate(&words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    running.stdin.take().expect("a pipe").write_all(b"from stdin\n").expect("it is read");
    let output = running.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "to stderr\n");
    let expected = format!("from stdin\nthe name me n/s {}\n", store.url());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    // Within a namespace of its own it is another lock.
    store
        .run(&[
            "lock",
            "a",
            "--",
            env!("CARGO_BIN_EXE_quorate"),
            "--namespace",
            "n",
            "lock",
            "a",
            "--no-wait",
            "--",
            "true",
        ])
        .exits(0);
    store
        .run(&["lock", "a", "--", env!("CARGO_BIN_EXE_quorate"), "lock", "a", "--no-wait", "--", "true"])
        .exits(75);
}

fn loses_no_increment(store: &Store) {
    const WORKERS: usize = 8;
    const TIMES: usize = 200;
    std::fs::write(store.path("counter"), "0\n").expect("a file");
    let increment = "read n < counter; echo $((n + 1)) > counter; echo $QUORATE_FENCE >> fences";
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                for _ in 0..TIMES {
                    store.run(&["lock", "counter", "--quiet", "--", "sh", "-c", increment]).exits(0);
                }
            });
        }
    });
    assert_eq!(store.wait_for("counter"), format!("{}\n", WORKERS * TIMES));
    let fences: Vec<u64> =
        store.wait_for("fences").lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(fences.len(), WORKERS * TIMES);
    assert!(fences.is_sorted_by(|before, after| before < after), "fences do not grow");
}

fn ready_file(store: &Store) {
    let words = [
        "lock",
        "a",
        "--ready-file",
        "ready",
        "--",
        "sh",
        "-c",
        "echo $QUORATE_FENCE > fence; while [ ! -e go ]; do sleep 0.01; done",
    ];
    let running = store.start(&words);
    assert_eq!(store.wait_for("ready"), store.wait_for("fence"));
    std::fs::write(store.path("go"), "").expect("a file");
    running.end().exits(0);
    assert!(!store.path("ready").exists());
}

fn says_what_it_waits_for(store: &Store) {
    let holder = store.start(&[
        "lock",
        "a",
        "--id",
        "the-holder",
        "--",
        "sh",
        "-c",
        "echo $QUORATE_FENCE > held; exec sleep 60",
    ]);
    let fence = store.wait_for("held");
    let waiting = store.run(&["lock", "a", "--wait", "2s", "--", "true"]);
    waiting
        .exits(75)
        .says("waiting for a")
        .says("as number 1 of 1")
        .says(&format!("the-holder holds it with fence {}", fence.trim()));
    let quiet = store.run(&["lock", "a", "--quiet", "--wait", "2s", "--", "true"]);
    assert!(!quiet.exits(75).err().contains("waiting for a"));
    drop(holder);
    eventually("the lock is free", || store.run(&["lock", "a", "--no-wait", "--", "true"]).is_ok());
}

/// Sooner or later, so that nothing that blocks the other thread costs what is held for long.
fn renewed_by_a_thread(store: &Store) {
    for what in ["lock", "elect"] {
        let held = store.start(&[what, "a", "--", "sh", "-c", &format!("echo > {what}; exec sleep 60")]);
        store.wait_for(what);
        let renews = || held.threads().iter().any(|name| name == "quorate-session");
        eventually("a thread that renews", || renews().then_some(()));
    }
}
