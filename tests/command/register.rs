//! Registering a service, and finding it.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{Running, Store, Trial, eventually};
use crate::printed::{Lines, parsed};

pub(crate) const TRIALS: &[Trial] = &[
    ("register_is_found_for_as_long_as_its_command_runs", with_a_command),
    ("register_without_a_command_stays_until_told", without_a_command),
    ("register_tells_tags_and_metadata", tags_and_metadata),
    ("register_goes_with_a_killed_process", killed),
    ("register_refuses_what_does_not_do", refuses),
    ("discover_watch_tells_every_change", watch),
];

/// Who is found now; nobody is an answer too.
fn found(store: &Store, more: &[&str]) -> Vec<Value> {
    let ran = store.run(&[&["discover", "s", "--json"], more].concat());
    let found: Vec<Value> = parsed(&ran.out());
    ran.exits(i32::from(found.is_empty()));
    found
}

fn registered(store: &Store, id: &str, more: &[&str]) -> Running {
    let ready = format!("{id}-ready");
    let words = ["register", "s", "--address", "10.0.0.7:80", "--id", id, "--ready-file", &ready];
    let running = store.start(&[&words[..], more].concat());
    eventually("it is ready", || store.path(&ready).exists().then_some(()));
    running
}

fn with_a_command(store: &Store) {
    let script = "env > environment; trap 'exit 7' USR1; echo > begun; while :; do sleep 0.01; done";
    let running = registered(store, "a", &["--", "sh", "-c", script]);
    store.wait_for("begun");
    let all = found(store, &[]);
    assert_eq!((all.len(), &all[0]["id"], &all[0]["address"]), (1, &json!("a"), &json!("10.0.0.7:80")));
    let environment = store.read("environment").expect("it was written");
    for line in ["QUORATE_NAME=s", "QUORATE_ID=a", &format!("QUORATE_STORE={}", store.url())] {
        assert!(environment.lines().any(|found| found == line), "{line} is not in {environment}");
    }
    assert!(!environment.contains("QUORATE_FENCE"), "there is no fence to tell");
    running.signal(Signal::USR1);
    assert_eq!(running.end().exits(7).out(), "");
    assert_eq!(found(store, &[]), Vec::<Value>::new());
    assert!(!store.path("a-ready").exists());
    store.run(&["register", "s", "--address", "a:1", "--", "no-such-command"]).exits(127);
    store.run(&["register", "s", "--address", "a:1", "--", "sh", "-c", "kill -KILL $$"]).exits(128 + 9);
}

fn without_a_command(store: &Store) {
    for (signal, code) in [(Signal::INT, 2), (Signal::TERM, 15)] {
        let running = registered(store, "a", &[]);
        assert_eq!(found(store, &[]).len(), 1);
        running.signal(signal);
        running.end().exits(128 + code);
        assert_eq!(found(store, &[]), Vec::<Value>::new());
        assert!(!store.path("a-ready").exists());
    }
}

fn tags_and_metadata(store: &Store) {
    assert_eq!(store.run(&["discover", "s"]).exits(1).says("nobody is registered for s").out(), "");
    let more = ["--tag", "blue", "--tag", "primary", "--meta", "version=3", "--meta", "odd=a=b\n"];
    let first = registered(store, "a", &more);
    let second = registered(store, "b", &[]);
    let all = found(store, &[]);
    let expected = json!({
        "service": "s", "id": "a", "address": "10.0.0.7:80", "state": "ready", "health": "passing", "weight": 1,
        "zone": null, "tags": ["blue", "primary"], "metadata": {"version": "3", "odd": "a=b\n"},
    });
    assert_eq!((all.len(), &all[0]), (2, &expected));
    assert_eq!(found(store, &["--tag", "primary"]), [expected]);
    assert_eq!(found(store, &["--tag", "other"]), Vec::<Value>::new());
    let shown = store.run(&["discover", "s"]).exits(0).out();
    let expected = "\
ID  ADDRESS      STATE  HEALTH   TAGS          METADATA
a   10.0.0.7:80  ready  passing  blue,primary  odd=a=b\\n version=3
b   10.0.0.7:80  ready  passing
";
    assert_eq!(shown, expected);
    drop(first);
    drop(second);
}

fn killed(store: &Store) {
    let running = registered(store, "a", &["--ttl", &store.ttl(2), "--", "sleep", "60"]);
    running.signal(Signal::KILL);
    eventually("it is gone", || found(store, &[]).is_empty().then_some(()));
}

fn refuses(store: &Store) {
    for (words, named) in [
        (&["register", "s"][..], "--address"),
        (&["register", "", "--address", "a:1"], "service"),
        (&["register", "s", "--address", ""], "address"),
        (&["register", "s", "--address", "a:1", "--meta", "none"], "NAME=VALUE"),
        (&["register", "s", "--address", "a:1", "--tag", ""], "tag"),
        (&["register", "s", "--address", "a:1", "--ttl", "25h"], "ttl"),
        (&["discover", ""], "service"),
    ] {
        store.run(words).exits(2).says(named);
    }
}

fn watch(store: &Store) {
    let first = registered(store, "a", &["--tag", "blue"]);
    let human = Lines::of(store.quorate(&["discover", "s", "--watch"]));
    let json = Lines::of(store.quorate(&["discover", "s", "--watch", "--json", "--tag", "blue"]));
    human.expect("added    a  10.0.0.7:80  ready  passing  blue");
    let added = json.next_object();
    assert_eq!(
        (&added["event"], &added["id"], &added["tags"]),
        (&json!("added"), &json!("a"), &json!(["blue"]))
    );
    let second = registered(store, "b", &[]);
    human.expect("added    b  10.0.0.7:80  ready  passing");
    first.signal(Signal::TERM);
    first.end().exits(128 + 15);
    human.expect("removed  a  10.0.0.7:80  ready  passing  blue");
    let removed = json.next_object();
    assert_eq!((&removed["event"], &removed["id"]), (&json!("removed"), &json!("a")));
    human.ends_by(Signal::INT);
    json.ends_by(Signal::TERM);
    drop(second);
}
