//! The examples in the help, tried as they are written.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::process::Signal;

use crate::kit::{Running, Store, Trial, eventually, heeding};
use crate::printed::Lines;

pub(crate) const TRIALS: &[Trial] =
    &[("help_examples_run_as_written", examples), ("help_names_every_command_and_exit_code", names)];

/// The commands whose help has examples, and how many.
const PAGES: [(&[&str], usize); 4] = [(&[], 8), (&["lock"], 3), (&["elect"], 3), (&["register"], 2)];

/// How an example goes.
enum Course {
    /// It ends by itself, with this status.
    Ends(i32),
    /// It runs its command, until it is told to end.
    Runs,
    /// It prints, until it is told to end.
    Prints(&'static str),
    /// It stays, and is found by this command, until it is told to end.
    Stays(&'static [&'static str]),
}

/// How the example goes that begins so.
const COURSES: &[(&str, Course)] = &[
    ("quorate lock nightly-report", Course::Ends(0)),
    ("quorate lock --no-wait backup", Course::Ends(0)),
    ("quorate lock deploy", Course::Ends(0)),
    ("quorate lock backup", Course::Ends(0)),
    ("quorate elect scheduler", Course::Runs),
    ("quorate elect migration", Course::Ends(0)),
    ("quorate elect vip", Course::Runs),
    ("quorate leader scheduler --watch", Course::Prints("nobody")),
    ("quorate register api", Course::Runs),
    ("quorate register db", Course::Stays(&["discover", "db"])),
    ("quorate discover api --json", Course::Ends(1)), // Nobody is there, as nothing else runs.
    ("quorate kv put motd hello", Course::Ends(0)),
    ("quorate doctor", Course::Ends(0)),
];

/// The programs that the examples run: those that end, and those that stay. Each says that it ran.
const PROGRAMS: [(&str, &str); 7] = [
    ("report.sh", ""),
    ("backup.sh", ""),
    ("migrate.sh", ""),
    ("drop-address.sh", ""),
    ("scheduler", "exec sleep 60"),
    ("hold-address.sh", "exec sleep 60"),
    ("api", "exec sleep 60"),
];

fn examples(store: &Store) {
    for (name, rest) in PROGRAMS {
        let path = store.path(name);
        std::fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\" >> ran\n{rest}\n")).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    for (page, count) in PAGES {
        let examples = examples_of(store, page);
        assert_eq!(examples.len(), count, "{page:?}: {examples:?}");
        for example in examples {
            follow(store, &example);
        }
    }
}

/// The lines of the help that are examples, without what is said about them.
fn examples_of(store: &Store, page: &[&str]) -> Vec<String> {
    let help = store.run(&[page, &["--help"]].concat()).exits(0).out();
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let examples = lines.take_while(|line| line.starts_with("  quorate "));
    // What is said about an example stands apart from it.
    examples.map(|line| line.trim().split("   ").next().unwrap_or_default().trim_end().to_owned()).collect()
}

fn follow(store: &Store, example: &str) {
    let course = COURSES.iter().find(|(beginning, _)| example.starts_with(beginning));
    let (_, course) = course.unwrap_or_else(|| panic!("how does this example go? {example}"));
    let _ = std::fs::remove_file(store.path("ran"));
    match course {
        Course::Ends(code) => {
            let ran = Running::of(shell(store, example)).end();
            ran.exits(*code);
            // Whatever it was to run has run.
            let runs = PROGRAMS.iter().find(|(name, _)| example.contains(&format!("-- ./{name}")));
            assert_eq!(store.path("ran").exists(), runs.is_some(), "{example}");
            assert!(!example.contains("$QUORATE_FENCE") || ran.out().starts_with("holder "), "{example}");
        }
        Course::Runs => {
            let running = Running::of(shell(store, &format!("exec {example}")));
            store.wait_for("ran");
            ends(running, example);
        }
        Course::Prints(line) => {
            let lines = Lines::of(shell(store, &format!("exec {example}")));
            lines.expect(line);
            lines.ends_by(Signal::TERM);
        }
        Course::Stays(look) => {
            let running = Running::of(shell(store, &format!("exec {example}")));
            eventually(example, || store.run(look).is_ok());
            ends(running, example);
        }
    }
}

fn ends(running: Running, example: &str) {
    running.signal(Signal::TERM);
    let ran = running.end();
    ran.exits(128 + 15);
    assert!(!ran.err().contains("cannot"), "{example}: {}", ran.err());
}

/// A line as somebody types it, where `quorate` is installed.
fn shell(store: &Store, line: &str) -> Command {
    let template = store.quorate(&[]);
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_quorate"));
    let installed = binary.parent().expect("a directory").display().to_string();
    let path = std::env::var("PATH").expect("a path");
    let mut command = heeding("sh");
    command.arg("-c").arg(line).env("PATH", format!("{installed}:{path}"));
    command.current_dir(template.get_current_dir().expect("a directory")).stdin(std::process::Stdio::null());
    for (name, value) in template.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn names(store: &Store) {
    let help = store.run(&["--help"]).exits(0).out();
    let words = ["lock", "elect", "leader", "holders", "register", "discover", "kv", "doctor", "completions"];
    let variables =
        ["QUORATE_STORE", "QUORATE_NAMESPACE", "QUORATE_PASSWORD", "QUORATE_PASSWORD_FILE", "QUORATE_ID"];
    let codes = ["2 wrong", "69 ", "70 ", "71 ", "74 ", "75 ", "76 ", "77 ", "126 ", "127 "];
    for part in words.iter().chain(&variables).chain(&codes) {
        assert!(help.contains(part), "{part:?} is not in {help}");
    }
    for word in words {
        assert!(store.run(&[word, "--help"]).exits(0).out().contains("Usage: quorate"), "{word}");
    }
    store.run(&["kv", "put", "--help"]).exits(0);
    assert!(store.run(&["--version"]).exits(0).out().contains(env!("CARGO_PKG_VERSION")));
    store.run(&[]).exits(2);
    store.run(&["unheard-of"]).exits(2).says("unheard-of");
}
