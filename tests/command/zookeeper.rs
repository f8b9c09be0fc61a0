//! The command, kazoo and Curator in the same locks and elections, in both directions.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::kit::{Store, Trial, eventually};
use crate::printed::{Lines, object};
use crate::servers::Cluster as _;
use crate::shared::{ZOOKEEPER, fresh_namespace};

pub(crate) const TRIALS: &[Trial] = &[
    ("native_lock_and_kazoo_exclude_each_other", |store| locks(store, kazoo)),
    ("native_lock_and_curator_exclude_each_other", |store| locks(store, curator)),
    ("native_elect_is_one_of_the_queue", elections),
];

/// The whole server, as its own clients see it.
fn whole_url() -> String {
    ZOOKEEPER.cluster.url("")
}

fn kazoo(words: &[&str]) -> Command {
    let zookeeper = &ZOOKEEPER.cluster;
    zookeeper.kazoo(&zookeeper.addresses(), words).into_std()
}

fn curator(words: &[&str]) -> Command {
    let zookeeper = &ZOOKEEPER.cluster;
    ZOOKEEPER.runtime.block_on(zookeeper.curator(&zookeeper.addresses(), words)).into_std()
}

/// Another program, which holds what it waits for until its input ends.
fn start(mut command: Command) -> Lines {
    command.stdin(Stdio::piped());
    Lines::of(command)
}

/// Words for the command that are about the server as a whole, so that a name means to it what it means to others.
fn native<'a>(url: &'a str, verb: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--store", url, verb, "--native", name], more].concat()
}

/// Waits until so many stand in the queue.
fn stand(name: &str, count: usize) {
    eventually("they stand in the queue", || {
        let places = kazoo(&["children", &format!("/{name}")]).output().expect("kazoo runs");
        let places = String::from_utf8(places.stdout).expect("text");
        (places.lines().filter(|line| !line.is_empty()).count() == count).then_some(())
    });
}

fn locks(store: &Store, other: fn(&[&str]) -> Command) {
    let (url, name) = (whole_url(), fresh_namespace());
    let path = format!("/{name}");
    let script = "echo > held; while [ ! -e go ]; do sleep 0.01; done";
    let ours = store.start(&native(&url, "lock", &name, &["--", "sh", "-c", script]));
    store.wait_for("held");
    let mut theirs = start(other(&["lock", &path]));
    stand(&name, 2);
    assert!(theirs.is_silent(), "they hold beside us");
    std::fs::write(store.path("go"), "").expect("a file");
    ours.end().exits(0);
    theirs.expect("held");

    let refused = ["--no-wait", "--", "touch", "ran"];
    store.run(&native(&url, "lock", &name, &refused)).exits(75).says("held");
    let waiting = store.start(&native(&url, "lock", &name, &["--ttl", "1m", "--", "touch", "ran"]));
    stand(&name, 2);
    assert!(!store.path("ran").exists(), "we hold beside them");
    theirs.end_input();
    waiting.end().exits(0); // Long before the ttl.
    assert!(store.path("ran").exists());
}

fn elections(store: &Store) {
    let (url, name) = (whole_url(), fresh_namespace());
    let mut theirs = start(kazoo(&["lock", &format!("/{name}"), "their id"]));
    theirs.expect("held");
    let script = "echo $QUORATE_FENCE > led; exec sleep 60";
    let more = ["--id", "us", "--data", "our data", "--ttl", "1m", "--", "sh", "-c", script];
    let ours = store.start(&native(&url, "elect", &name, &more));
    stand(&name, 2);
    assert!(!store.path("led").exists(), "we lead beside them");
    let leader = object(store, &native(&url, "leader", &name, &["--json"]));
    assert_eq!(leader["id"], json!("their id"));
    theirs.end_input();
    let fence = store.wait_for("led");
    let leader = object(store, &native(&url, "leader", &name, &["--json"]));
    assert_eq!((&leader["data"], leader["fence"].to_string().as_str()), (&json!("our data"), fence.trim()));
    ours.signal(Signal::TERM);
    ours.end().exits(128 + 15);
    store.run(&native(&url, "leader", &name, &[])).exits(1);
}
