//! The plain store from the command line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use quorate::kv::StoreExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{Store, Trial, block_on};
use crate::printed::{Lines, object, objects};

pub(crate) const TRIALS: &[Trial] = &[
    ("kv_get_prints_the_value_or_says_no", get),
    ("kv_takes_awkward_keys_as_they_are", awkward_keys),
    ("kv_passes_binary_values_unharmed", binary),
    ("kv_create_applies_once", create),
    ("kv_replace_and_delete_go_by_the_version", by_version),
    ("kv_delete_takes_a_key_or_all_below_it", delete),
    ("kv_lists_one_entry_a_line", list),
    ("kv_put_with_a_ttl_is_gone_after_it", ttl),
    ("kv_refuses_what_the_store_does_not_take", refuses),
    ("kv_watch_tells_what_stands_and_every_change", watch),
    ("kv_watch_ends_when_told_and_when_nobody_reads", watch_ends),
];

fn get(store: &Store) {
    store.run(&["kv", "get", "k"]).exits(1).says("nothing stands");
    let put = store.run(&["kv", "put", "k", "two words"]);
    assert_eq!((put.exits(0).out(), put.err()), (String::new(), String::new()));
    assert_eq!(store.run(&["kv", "get", "k"]).exits(0).out(), "two words\n");
    assert_eq!(store.run(&["kv", "get", "k", "--raw"]).exits(0).out(), "two words");
    let entry = object(store, &["kv", "get", "k", "--json"]);
    let fields: Vec<&str> = entry.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(fields, ["bound", "fence", "key", "session", "value", "version"]);
    assert_eq!(
        (&entry["key"], &entry["value"], &entry["bound"]),
        (&json!("k"), &json!("two words"), &json!(false))
    );
    assert!(entry["fence"].is_u64() && entry["session"].is_null(), "{entry}");
    let told = object(store, &["--json", "kv", "put", "k", "again"]);
    assert_ne!(told["version"], entry["version"]);
    assert_eq!(told, object(store, &["kv", "get", "k", "--json"]));
    let missing = store.run(&["kv", "get", "missing", "--json"]);
    assert_eq!(missing.exits(1).out(), "");
}

fn awkward_keys(store: &Store) {
    let keys = ["*", "a b", "100%", "..", "x=y", "caf\u{e9}/\u{1f600}", "tab\there", "line\nbreak", "-"];
    for key in keys {
        let value = format!("at {key}");
        store.run(&["kv", "put", "--", key, &value]).exits(0);
        assert_eq!(store.run(&["kv", "get", "--raw", "--", key]).exits(0).out(), value);
        assert_eq!(object(store, &["kv", "get", "--json", "--", key])["key"], key);
    }
    assert_eq!(store.run(&["kv", "get", "/a b/"]).exits(0).out(), "at a b\n");
    assert_eq!(objects(store, &["kv", "list", "--json"]).len(), keys.len());
    store.run(&["kv", "put", "k", "-1"]).exits(0);
    assert_eq!(store.run(&["kv", "get", "k"]).out(), "-1\n");
}

fn binary(store: &Store) {
    let bytes = [0, 0xff, b'\n', 0x80, b'a'];
    let mut put = store.quorate(&["kv", "put", "k", "-"]);
    let mut put = put.stdin(Stdio::piped()).spawn().expect("it starts");
    put.stdin.take().expect("it is piped").write_all(&bytes).expect("it reads");
    assert!(put.wait().expect("it ends").success());
    let raw = store.quorate(&["kv", "get", "k", "--raw"]).output().expect("it runs");
    assert_eq!(raw.stdout, bytes);
    let entry = object(store, &["kv", "get", "k", "--json"]);
    assert_eq!((&entry["value_base64"], &entry["value"]), (&json!("AP8KgGE="), &Value::Null));
    assert_eq!(store.run(&["kv", "list"]).out(), "KEY  VALUE\nk    \\u{0}\\xff\\n\\x80a\n");
    store.run(&["kv", "put", "empty", "-"]).exits(0);
    assert_eq!(object(store, &["kv", "get", "empty", "--json"])["value"], "");
}

fn create(store: &Store) {
    store.run(&["kv", "create", "k", "first"]).exits(0);
    store.run(&["kv", "create", "k", "second"]).exits(1).says("already");
    assert_eq!(store.run(&["kv", "get", "k"]).out(), "first\n");
}

fn by_version(store: &Store) {
    let version = |key: &str| {
        let entry = object(store, &["kv", "get", key, "--json"]);
        entry["version"].as_str().expect("a text").to_owned()
    };
    store.run(&["kv", "put", "k", "1"]).exits(0);
    let first = version("k");
    store.run(&["kv", "replace", "k", "2", "--version", &first]).exits(0);
    store.run(&["kv", "replace", "k", "3", "--version", &first]).exits(1).says("not at version");
    store.run(&["kv", "delete", "k", "--version", &first]).exits(1).says("not at version");
    assert_eq!(store.run(&["kv", "get", "k"]).out(), "2\n");
    store.run(&["kv", "delete", "k", "--version", &version("k")]).exits(0);
    store.run(&["kv", "get", "k"]).exits(1);
    store.run(&["kv", "replace", "k", "2", "--version", "no"]).exits(2).says("no version");
}

fn delete(store: &Store) {
    for key in ["a", "a/1", "a/2", "b"] {
        store.run(&["kv", "put", key, ""]).exits(0);
    }
    assert_eq!(object(store, &["kv", "delete", "--prefix", "a", "--json"])["deleted"], 2);
    assert_eq!(store.run(&["kv", "delete", "--prefix", "a"]).exits(0).out(), "0\n");
    store.run(&["kv", "delete", "a"]).exits(0);
    store.run(&["kv", "delete", "a"]).exits(0);
    assert_eq!(store.run(&["kv", "list"]).out(), "KEY  VALUE\nb\n");
    store.run(&["kv", "delete", "b", "--prefix", "--version", "1"]).exits(2);
}

fn list(store: &Store) {
    assert_eq!(store.run(&["kv", "list"]).exits(0).out(), "");
    for (key, value) in [("a/long-key", "1"), ("a/b", "two\nlines \x1b[31m"), ("c", "3")] {
        store.run(&["kv", "put", key, value]).exits(0);
    }
    let shown = "KEY         VALUE\na/b         two\\nlines \\u{1b}[31m\na/long-key  1\n";
    assert_eq!(store.run(&["kv", "list", "a"]).exits(0).out(), shown);
    let entries = objects(store, &["kv", "list", "--json"]);
    let keys: Vec<&Value> = entries.iter().map(|entry| &entry["key"]).collect();
    assert_eq!(keys, ["a/b", "a/long-key", "c"]);
    assert_eq!(entries[0]["value"], "two\nlines \u{1b}[31m");
    let below = objects(store, &["--namespace", "a", "kv", "list", "--json"]);
    assert_eq!(below.len(), 2);
    assert_eq!(below[0]["key"], "b");
}

fn ttl(store: &Store) {
    let entry = object(store, &["kv", "put", "k", "v", "--ttl", &store.ttl(2), "--json"]);
    assert_eq!(entry["bound"], true);
    assert!(entry["session"].is_string(), "{entry}");
    let watch = Lines::of(store.quorate(&["kv", "watch", "k"]));
    watch.expect("put     k  v");
    watch.expect("delete  k");
    store.run(&["kv", "put", "k", "v", "--ttl", "48h"]).exits(2).says("ttl");
}

fn refuses(store: &Store) {
    for (words, named) in [
        (&["kv", "get"][..], "<KEY>"),
        (&["kv", "put", "a//b", ""], "empty segment"),
        (&["kv", "put", "_quorate/lock", ""], "reserved"),
        (&["kv", "put", "", ""], "root"),
        (&["kv", "list", "a//b"], "empty segment"),
        (&["kv", "watch", "a//b"], "empty segment"),
    ] {
        let ran = store.run(words);
        ran.exits(2).says(named);
        assert_eq!(ran.out(), "", "{words:?}");
    }
    let mut put = store.quorate(&["kv", "put", "k", "-"]);
    put.stdin(std::fs::File::open("/dev/zero").expect("it is there"));
    let refused = put.output().expect("it ends");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("over the limit"));
    store.run(&["kv", "get", "k"]).exits(1);
}

fn watch(store: &Store) {
    store.run(&["kv", "put", "a/1", "one"]).exits(0);
    let human = Lines::of(store.quorate(&["kv", "watch", "--prefix", "a"]));
    let json = Lines::of(store.quorate(&["kv", "watch", "--prefix", "a", "--json"]));
    human.expect("put     a/1  one");
    let first = json.next_object();
    assert_eq!(
        (&first["event"], &first["key"], &first["value"]),
        (&json!("put"), &json!("a/1"), &json!("one"))
    );
    store.run(&["kv", "put", "b", "elsewhere"]).exits(0);
    store.run(&["kv", "put", "a/2", "two"]).exits(0);
    human.expect("put     a/2  two");
    assert_eq!(json.next_object()["key"], "a/2");
    store.run(&["kv", "delete", "a/1"]).exits(0);
    human.expect("delete  a/1");
    assert_eq!(json.next_object(), json!({"event": "delete", "key": "a/1"}));
}

fn watch_ends(store: &Store) {
    store.run(&["kv", "put", "k", "v"]).exits(0);
    for signal in [Signal::INT, Signal::TERM] {
        let watch = Lines::of(store.quorate(&["kv", "watch", "k"]));
        watch.expect("put     k  v");
        watch.ends_by(signal);
    }
    let mut watch = store.quorate(&["kv", "watch", "k"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut first = String::new();
    BufReader::new(watch.stdout.take().expect("it is piped")).read_line(&mut first).expect("a line");
    assert_eq!(first, "put     k  v\n");
    // The pipe is closed now, which the next change shows.
    block_on(async { store.client().await.kv().put("k", "w").await.expect("it is put") });
    let ended = watch.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr)), (Some(128 + 13), "".into()));
}
