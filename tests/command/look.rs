//! Looking at locks, elections, services and the store itself.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{Store, Trial, eventually};
use crate::printed::{Lines, object, parsed};

pub(crate) const TRIALS: &[Trial] = &[
    ("leader_says_who_leads_or_no", leader),
    ("leader_watch_tells_every_change", leader_watch),
    ("holders_tells_the_queue_in_order", holders),
    ("doctor_tells_what_it_found_as_a_table", doctor_table),
    ("doctor_tells_what_it_found_as_json", doctor_json),
    ("doctor_leaves_nothing_behind_when_it_is_stopped", doctor_stopped),
    ("doctor_says_when_the_store_is_not_there", doctor_unavailable),
    ("passwords_are_read_from_where_they_are_and_never_shown", passwords),
    ("completions_are_made_for_every_shell", completions),
];

fn leader(store: &Store) {
    let nobody = store.run(&["leader", "e"]);
    assert_eq!(nobody.exits(1).says("nobody leads e").out(), "");
    assert_eq!(store.run(&["leader", "e", "--json"]).exits(1).out(), "");
    let words = [
        "elect",
        "e",
        "--id",
        "a\tb",
        "--data",
        "two\nlines",
        "--",
        "sh",
        "-c",
        "echo $QUORATE_FENCE > a; exec sleep 60",
    ];
    let leader = store.start(&words);
    let fence = store.wait_for("a");
    let fence = fence.trim();
    let shown = store.run(&["leader", "e"]).exits(0).out();
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [vec!["ID", "FENCE", "DATA"], vec!["a\\tb", fence, "two\\nlines"]]);
    let object = object(store, &["leader", "e", "--json"]);
    assert!(object["session"].is_string(), "{object}");
    assert_eq!(object["fence"].to_string(), fence);
    assert_eq!(
        (&object["id"], &object["data"], &object["name"]),
        (&json!("a\tb"), &json!("two\nlines"), &json!("e"))
    );
    store.run(&["leader", "other"]).exits(1);
    store.run(&["--namespace", "elsewhere", "leader", "e"]).exits(1);
    store.run(&["leader", "e", "--native"]).exits(1);
    store.run(&["leader", ""]).exits(2).says("empty");
    drop(leader);
}

fn leader_watch(store: &Store) {
    let human = Lines::of(store.quorate(&["leader", "e", "--watch"]));
    let json = Lines::of(store.quorate(&["leader", "e", "--watch", "--json"]));
    human.expect("nobody");
    assert_eq!(json.next_object(), json!({"name": "e", "leader": null}));
    let leader = store.start(&["elect", "e", "--id", "a", "--data", "here", "--", "sleep", "60"]);
    let object = json.next_object();
    assert_eq!((&object["id"], &object["data"]), (&json!("a"), &json!("here")));
    human.expect(&format!("a  fence {}  here", object["fence"]));
    leader.signal(Signal::TERM);
    leader.end().exits(128 + 15);
    human.expect("nobody");
    assert_eq!(json.next_object()["leader"], Value::Null);
    human.ends_by(Signal::INT);
    json.ends_by(Signal::TERM);
}

fn holders(store: &Store) {
    store.run(&["holders", "l"]).exits(1).says("nobody holds l");
    assert_eq!(store.run(&["holders", "l", "--json"]).exits(1).out(), "");
    let hold = |id: &str| store.start(&["lock", "l", "--id", id, "--", "sleep", "60"]);
    let queue = |ids: &[&str]| {
        eventually("they stand there", || {
            let ran = store.run(&["holders", "l", "--json"]);
            let found: Vec<Value> = parsed(&ran.out());
            let owners: Vec<&str> = found.iter().filter_map(|claim| claim["owner"].as_str()).collect();
            (owners == ids).then_some(found)
        })
    };
    let first = hold("a b");
    queue(&["a b"]);
    let second = hold("c");
    let found = queue(&["a b", "c"]);
    for (nth, claim) in found.iter().enumerate() {
        assert_eq!((&claim["position"], &claim["holds"]), (&json!(nth + 1), &json!(nth == 0)));
        assert!(claim["session"].is_string() && claim["fence"].is_u64(), "{claim}");
    }
    assert!(found[0]["fence"].as_u64() < found[1]["fence"].as_u64());
    let shown = store.run(&["holders", "l"]).exits(0).out();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("POSITION"), "{shown}");
    assert!(
        lines[1].starts_with("1         holds  a b") && lines[2].starts_with("2         waits  c"),
        "{shown}"
    );
    drop(first);
    drop(second);
}

fn doctor_table(store: &Store) {
    let ran = store.run(&["doctor", "--samples", "3"]);
    let shown = ran.exits(0).out();
    for part in [
        "LATENCY",
        "MIN",
        "MEDIAN",
        "P99",
        "LIMIT",
        "TIME",
        "THIS STORE",
        "PROMISED",
        "NOT PROMISED",
        store.url(),
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    assert_eq!(ran.err(), "");
    assert_left_alone(store);
    store.run(&["doctor", "--samples", "0"]).exits(2);
}

fn doctor_json(store: &Store) {
    let found = object(store, &["--namespace", "team", "doctor", "--samples", "3", "--json"]);
    assert_eq!(found["store"].as_str(), store.url().split(':').next());
    assert!(found["server"].as_str().expect("a text").contains(|c: char| c.is_ascii_digit()), "{found}");
    assert_eq!((&found["namespace"], &found["samples"]), (&json!("team"), &json!(3)));
    let latency = found["latency"].as_object().expect("an object");
    let operations: Vec<&str> = latency.keys().map(String::as_str).collect();
    assert_eq!(
        operations,
        [
            "commit", "create", "delete", "event", "get", "grant", "list", "lock", "put", "renew", "revoke",
            "unlock"
        ]
    );
    for (operation, times) in latency {
        let [min, median, p99] =
            ["min_us", "median_us", "p99_us"].map(|name| times[name].as_u64().expect("a number"));
        assert!(min <= median && median <= p99 && p99 > 0, "{operation}: {times}");
    }
    assert_eq!(found["session"]["ttl_ms"], 15_000);
    assert_eq!(found["session"]["renewals_in_time"], true);
    assert!(found["limits"]["max_value_bytes"].as_u64() > Some(1000), "{found}");
    assert!(found["promises"].as_array().is_some_and(|all| all.iter().any(|row| row["name"] == "fence")));
    assert!(found["not_promised"].as_str().is_some_and(|text| text.contains("paused")), "{found}");
    assert!(found["particulars"]["survives"].is_string(), "{found}");
    assert_left_alone(store);
}

/// Nothing of anybody's stands in the store.
#[track_caller]
fn assert_left_alone(store: &Store) {
    let left = store.run(&["kv", "list", "--json"]).exits(0).out();
    assert_eq!(left, "");
}

fn doctor_stopped(store: &Store) {
    let doctor = store.start(&["doctor", "--samples", "10000"]);
    eventually("it has begun", || {
        let listed = store.run(&["kv", "list", "--json"]).out();
        listed.contains("quorate-doctor-").then_some(())
    });
    doctor.signal(Signal::TERM);
    assert_eq!(doctor.end().exits(128 + 15).out(), "");
    assert_left_alone(store);
}

fn doctor_unavailable(store: &Store) {
    let ran = store.run(&["--store", "embedded:/no/such/directory/store.db", "doctor"]);
    ran.says("/no/such/directory");
    assert_eq!(ran.out(), "");
    assert!(ran.is_ok().is_none());
}

fn passwords(store: &Store) {
    let file = store.path("password");
    std::fs::write(&file, "hidden-in-a-file\n").expect("a file");
    let file = file.to_str().expect("a path");
    let urls = [
        "etdc://me:hidden@h:1",
        "etdc://me:hidden@h:1?token=hidden",
        "etdc://me:hidden@h:99999",
        "etdc://me:hidden@h1,,h2",
        "etdc://me:hidden/hidden@h:1",
        "etdc://me:hidden?hidden@h:1",
        "etdc://me:hidden@",
        "etdc:me:hidden@h",
        "Etdc://me:hidden@h",
        "me:hidden@h",
        "hidden",
        "memory:?token=hidden",
        "memory://me:hidden@h",
    ];
    for url in urls {
        for words in [
            &["leader", "x"][..],
            &["doctor"],
            &["register", "s", "--address", "a:1"],
            &["lock", "l", "--", "env"],
        ] {
            let mut command = store.quorate(words);
            command.env("QUORATE_STORE", url).env("RUST_LOG", "trace");
            assert_hidden(&mut command, url);
        }
    }
    for url in ["etdc://me@h:1", "etdc://h:1", "memory:"] {
        let mut from_file = store.quorate(&["--password-file", file, "leader", "x"]);
        assert_hidden(from_file.env("QUORATE_STORE", url), url);
        let mut from_environment = store.quorate(&["leader", "x", "--help"]);
        assert_hidden(from_environment.env("QUORATE_STORE", "etdc://me:hidden@h"), url);
        let mut from_environment = store.quorate(&["leader", "x"]);
        let command = from_environment.env("QUORATE_STORE", url).env("QUORATE_PASSWORD", "hidden");
        assert_hidden(command, url);
    }
    store.run(&["--password-file", "missing", "leader", "x"]).exits(2).says("missing");
    // A password that nobody asks for is refused rather than left unused.
    store.run(&["--password-file", file, "leader", "x"]).exits(2).says("names no user");
}

#[track_caller]
fn assert_hidden(command: &mut std::process::Command, url: &str) {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let shown = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(!shown.iter().any(|text| text.contains("hidden")), "{url}: {shown:?}");
    assert!(shown.iter().any(|text| !text.is_empty()), "{url}: nothing was said");
}

fn completions(store: &Store) {
    for shell in ["bash", "zsh", "fish"] {
        let script = store.run(&["completions", shell]).exits(0).out();
        for word in ["doctor", "password-file", "elect"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        if shell == "bash" {
            let path = store.path("completions");
            std::fs::write(&path, script).expect("a file");
            let checked = std::process::Command::new("bash").arg("-n").arg(&path).output().expect("bash");
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }
    store.run(&["completions", "none"]).exits(2);
    // No store is made, or asked, for them.
    assert!(store.read("store.db").is_none() && !store.path("store.db").exists());
}
