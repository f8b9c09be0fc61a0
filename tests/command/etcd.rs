//! The command and the real `etcdctl` in the same locks and elections, in both directions.

use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::kit::{Store, Trial, eventually};
use crate::printed::{Lines, object};
use crate::servers::Cluster as _;
use crate::shared::{ETCD, fresh_namespace};

pub(crate) const TRIALS: &[Trial] = &[
    ("native_lock_and_etcdctl_lock_exclude_each_other", locks),
    ("native_elect_and_etcdctl_elect_lead_in_turn", elections),
];

/// The whole server, as its own programs see it.
fn whole_url() -> String {
    ETCD.cluster.url("")
}

/// The real `etcdctl` with these words.
fn etcdctl(words: &[&str]) -> Command {
    let etcd = &ETCD.cluster;
    let mut command = etcd.etcdctl_command(&etcd.addresses()).into_std();
    command.args(words);
    command
}

/// Words for the command that are about the server as a whole, so that a name means to it what it means to `etcdctl`.
fn native<'a>(url: &'a str, verb: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--store", url, verb, "--native", name], more].concat()
}

/// Waits until so many stand in the queue.
fn stand(name: &str, count: usize) {
    eventually("they stand in the queue", || {
        let places = etcdctl(&["get", "--prefix", "--keys-only", &format!("{name}/")]).output();
        let places = String::from_utf8(places.expect("etcdctl runs").stdout).expect("text");
        (places.lines().filter(|line| !line.is_empty()).count() == count).then_some(())
    });
}

fn locks(store: &Store) {
    let (url, name) = (whole_url(), fresh_namespace());
    let script = "echo > held; while [ ! -e go ]; do sleep 0.01; done";
    let ours = store.start(&native(&url, "lock", &name, &["--", "sh", "-c", script]));
    store.wait_for("held");
    let theirs = Lines::of(etcdctl(&["lock", &name]));
    stand(&name, 2);
    assert!(theirs.is_silent(), "etcdctl holds beside us");
    std::fs::write(store.path("go"), "").expect("a file");
    ours.end().exits(0);
    assert!(theirs.next().starts_with(&format!("{name}/")));

    let refused = ["--no-wait", "--", "touch", "ran"];
    store.run(&native(&url, "lock", &name, &refused)).exits(75).says("held");
    let waiting = store.start(&native(&url, "lock", &name, &["--ttl", "1m", "--", "touch", "ran"]));
    stand(&name, 2);
    assert!(!store.path("ran").exists(), "we hold beside etcdctl");
    theirs.end(Signal::INT);
    waiting.end().exits(0); // Long before the ttl.
    assert!(store.path("ran").exists());
    stand(&name, 0);
}

fn elections(store: &Store) {
    let (url, name) = (whole_url(), fresh_namespace());
    let replica = |file: &str| {
        let script = format!("echo $QUORATE_FENCE > {file}; exec sleep 60");
        let more = ["--id", "us", "--data", "our data", "--ttl", "1m", "--", "sh", "-c", &script];
        store.start(&native(&url, "elect", &name, &more))
    };
    let first = replica("first");
    store.wait_for("first");
    let listener = Lines::of(etcdctl(&["elect", "--listen", &name]));
    assert!(listener.next().starts_with(&format!("{name}/")));
    listener.expect("our data");
    let theirs = Lines::of(etcdctl(&["elect", &name, "their data"]));
    stand(&name, 2);
    assert!(theirs.is_silent(), "etcdctl leads beside us");
    first.signal(Signal::TERM);
    first.end().exits(128 + 15);
    assert!(theirs.next().starts_with(&format!("{name}/")));
    theirs.expect("their data");
    assert!(listener.next().starts_with(&format!("{name}/")));
    listener.expect("their data");
    let leader = object(store, &native(&url, "leader", &name, &["--json"]));
    assert_eq!(leader["data"], json!("their data"));

    let second = replica("second");
    stand(&name, 2);
    assert!(!store.path("second").exists(), "we lead beside etcdctl");
    theirs.end(Signal::INT);
    let fence = store.wait_for("second");
    let leader = object(store, &native(&url, "leader", &name, &["--json"]));
    assert_eq!((&leader["data"], leader["fence"].to_string().as_str()), (&json!("our data"), fence.trim()));
    second.signal(Signal::TERM);
    second.end().exits(128 + 15);
    store.run(&native(&url, "leader", &name, &[])).exits(1);
}
