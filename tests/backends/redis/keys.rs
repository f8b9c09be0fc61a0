//! Watches of single keys, by clients that hear of nothing else.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{Coordinator, ErrorKind, Event, Scope, Store, StoreExt, Txn, WatchStore};
use tokio::time::Instant;

use super::watches::{Watch, event, silent_put, told, wiped_under};
use super::{PATIENCE, connect, key, start, through, trial};
use crate::servers::redis::{Redis, Version};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "who_watches_a_key_hears_of_no_other", alone),
        trial(version, "who_watches_a_key_goes_on_when_all_is_heard", widened),
        trial(version, "a_broken_watch_of_a_key_misses_nothing", broken),
        trial(version, "a_watch_that_begins_in_an_outage_is_told_of_it", outage),
        trial(version, "what_was_published_in_vain_is_seen_at_the_key", unheard),
        trial(version, "a_key_removed_by_an_operator_is_seen", removed),
        trial(version, "a_watch_of_a_key_begins_anew_on_a_wiped_store", wiped),
        trial(version, "the_dead_are_told_to_who_watches_their_key", buried),
        trial(version, "more_keys_are_watched_than_have_channels", many),
        trial(version, "keys_that_were_watched_are_forgotten", forgotten),
        trial(version, "a_watch_outlives_the_runtime_that_another_began_on", outlived),
    ]
}

/// A watch of a key that has told its first snapshot.
async fn watching(store: &Arc<dyn Coordinator>, at: &str) -> Watch {
    let mut watch = store.watch(Scope::Key(key(at)));
    assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
    watch
}

async fn put(watch: &mut Watch, expected: &str) {
    let event = told(watch).await;
    assert!(matches!(&event, Ok(Event::Put(entry)) if entry.value == expected), "{event:?}");
}

/// Until it tells that this stands somewhere, by a change or, if it looks late, by a snapshot.
pub(super) async fn sees(watch: &mut Watch, value: &str) {
    let told = |event| match event {
        Event::Put(entry) => entry.value == *value,
        Event::Snapshot(entries) => entries.iter().any(|entry| entry.value == *value),
        Event::Delete(_) => panic!("nothing is deleted"),
    };
    while !told(event(watch).await) {}
}

/// How many listen to what tells all, to what tells of more than one key, and to `p/a`.
async fn listeners(redis: &Redis) -> Vec<usize> {
    let ask = ["PUBSUB", "NUMSUB", "{quorate}:w", "{quorate}:w:", "{quorate}:w:p/a"];
    let asked = redis.cli(&ask).await.expect("it answers");
    asked.lines().skip(1).step_by(2).map(|count| count.parse().expect("a number")).collect()
}

/// Until they are so many.
async fn listened(redis: &Redis, expected: [usize; 3]) {
    until("they listen", PATIENCE, async || match listeners(redis).await {
        counts if counts == expected => Ok(()),
        counts => Err(format!("{counts:?}, and not {expected:?}")),
    })
    .await;
}

async fn alone(version: Version) {
    let redis = start(version).await;
    let (store, other) = (connect(&redis.url("")).await, connect(&redis.url("")).await);
    let mut watch = watching(&store, "p/a").await;
    assert_eq!(listeners(&redis).await, [0, 1, 1]);
    for value in ["1", "2"] {
        other.put("p/b", value).await.expect("it is put");
        other.put("p/a", value).await.expect("it is put");
        put(&mut watch, value).await;
    }
    // More than one change, and one by a key alone again.
    let both = Txn::new().put(&key("p/a"), "3").put(&key("p/b"), "3");
    assert!(other.commit(both).await.expect("it answers").is_applied());
    put(&mut watch, "3").await;
    other.delete_prefix(&key("p")).await.expect("they are deleted");
    assert_eq!(told(&mut watch).await.ok(), Some(Event::Delete(key("p/a"))));
    other.put("p/a", "4").await.expect("it is put");
    put(&mut watch, "4").await;
    // Another watch of it is as good as the first.
    let mut second = watching(&store, "p/a").await;
    other.put("p/a", "5").await.expect("it is put");
    put(&mut watch, "5").await;
    put(&mut second, "5").await;
    assert_eq!(listeners(&redis).await, [0, 1, 1]);
}

async fn widened(version: Version) {
    let redis = start(version).await;
    let (store, other) = (connect(&redis.url("")).await, connect(&redis.url("")).await);
    let mut one = watching(&store, "p/a").await;
    let writing = tokio::spawn(async move {
        for nth in 1..=200 {
            other.put("p/a", nth.to_string()).await.expect("it is put");
        }
    });
    let mut all = store.watch(Scope::Prefix(key("p")));
    // Both at the same time, so that it is widened while it tells.
    tokio::join!(counts_up(&mut one), counts_up(&mut all));
    writing.await.expect("it does not panic");
    listened(&redis, [1, 0, 0]).await;
}

/// Until it has told of 200, and never of less than before.
async fn counts_up(watch: &mut Watch) {
    let mut last = 0;
    while last < 200 {
        let entry = match told(watch).await.expect("nothing is broken") {
            Event::Put(entry) => Some(entry),
            Event::Snapshot(entries) => entries.into_iter().next(),
            Event::Delete(_) => panic!("nothing is deleted"),
        };
        let now = entry
            .map_or(0, |entry| std::str::from_utf8(&entry.value).expect("text").parse().expect("a number"));
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
}

async fn broken(version: Version) {
    let redis = start(version).await;
    let (proxy, store) = through(&redis, "").await;
    let direct = connect(&redis.url("")).await;
    let mut watch = watching(&store, "p/a").await;
    for round in 0..3 {
        proxy.cut();
        direct.put("p/a", format!("{round}")).await.expect("it is put");
        let event = told(&mut watch).await.expect("such a break is not told");
        let entry = match event {
            Event::Put(entry) => entry,
            Event::Snapshot(entries) => entries.into_iter().next().expect("it stands"),
            Event::Delete(_) => panic!("it stands"),
        };
        assert_eq!(entry.value, format!("{round}"));
        proxy.cut();
        direct.delete("p/a").await.expect("it is deleted");
        match told(&mut watch).await.expect("such a break is not told") {
            Event::Delete(_) => {}
            Event::Snapshot(entries) => assert_eq!(entries, []),
            Event::Put(_) => panic!("it is gone"),
        }
    }
}

async fn outage(version: Version) {
    let redis = start(version).await;
    let (proxy, store) = through(&redis, "timeout=1s&try_timeout=500ms&connect_timeout=300ms").await;
    let mut before = watching(&store, "p/a").await;
    proxy.refuse();
    assert!(told(&mut before).await.is_err());
    let mut within = [Scope::Key(key("p/a")), Scope::Key(key("p/b")), Scope::Prefix(key("p"))]
        .map(|scope| store.watch(scope));
    for watch in &mut within {
        assert_eq!(told(watch).await.expect_err("nobody is there").kind(), ErrorKind::Unavailable);
    }
    proxy.heal();
    let direct = connect(&redis.url("")).await;
    direct.put("p/b", "1").await.expect("it is put");
    for watch in &mut within {
        assert!(matches!(event(watch).await, Event::Snapshot(_)));
    }
    direct.put("p/a", "2").await.expect("it is put");
    let [first, _, below] = &mut within;
    for watch in [&mut before, first, below] {
        sees(watch, "2").await;
    }
}

/// As if the server had lost what it published.
async fn unheard(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let mut watch = watching(&store, "p/a").await;
    for _ in 0..2 {
        silent_put(&redis, "a", false).await;
        let event = told(&mut watch).await.expect("nothing is broken");
        assert!(matches!(&event, Event::Snapshot(entries) if entries.len() == 1), "{event:?}");
        store.put("p/a", "next").await.expect("it is put");
        put(&mut watch, "next").await;
    }
}

async fn removed(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let mut watch = watching(&store, "p/a").await;
    store.put("p/a", "1").await.expect("it is put");
    put(&mut watch, "1").await;
    redis.cli(&["DEL", "{quorate}:e:p/a"]).await.expect("it is removed");
    assert_eq!(told(&mut watch).await.ok(), Some(Event::Snapshot(Vec::new())));
}

async fn wiped(version: Version) {
    let mut redis = start(version).await;
    let store = connect(&redis.url("")).await;
    store.put("p/a", "1").await.expect("it is put");
    let mut watch = watching(&store, "p/a").await;
    wiped_under(&mut redis, &store, &mut watch, "p/a").await;
}

async fn buried(version: Version) {
    // Shorter than the pauses at which it is looked after what stands there.
    const BRIEF: Duration = Duration::from_millis(700);
    let redis = start(version).await;
    let (store, other) = (connect(&redis.url("")).await, connect(&redis.url("")).await);
    let mut watch = watching(&store, "p/a").await;
    let session = other.grant(BRIEF).await.expect("it grants").id;
    let granted = Instant::now();
    let bound = Txn::new().put_bound(&key("p/a"), "1", &session);
    assert!(other.commit(bound).await.expect("it answers").is_applied());
    drop(other);
    put(&mut watch, "1").await;
    assert_eq!(told(&mut watch).await.ok(), Some(Event::Delete(key("p/a"))));
    let slack = store.limits().expiry_slack(BRIEF);
    assert!(granted.elapsed() < BRIEF + slack, "told after {:?}", granted.elapsed());
}

/// So many that it is cheaper to hear of all.
async fn many(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let keys: Vec<_> = (0..1500).map(|nth| format!("p/{nth}")).collect();
    let mut watches = Vec::new();
    // One by one, then all at once.
    for at in &keys[..300] {
        watches.push(watching(&store, at).await);
    }
    let rest = keys[300..].iter().map(|at| watching(&store, at));
    watches.extend(futures_util::future::join_all(rest).await);
    for (at, watch) in keys.iter().zip(&mut watches) {
        store.put(at.as_str(), at.clone()).await.expect("it is put");
        // To hear of all instead, it looks once more.
        loop {
            match told(watch).await.expect("nothing is broken") {
                Event::Put(entry) if entry.value == *at => break,
                Event::Snapshot(entries) if entries.iter().all(|entry| entry.value == *at) => {
                    if !entries.is_empty() {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // All is heard now.
    listened(&redis, [1, 0, 0]).await;
}

/// As those are whom one stood behind in a queue.
async fn forgotten(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let mut steady = watching(&store, "p/a").await;
    for nth in 0..3000 {
        drop(watching(&store, &format!("q/{nth}")).await);
    }
    let channels = redis.cli(&["PUBSUB", "CHANNELS", "{quorate}:w:q/*"]).await.expect("it answers");
    assert!(channels.lines().count() < 1500, "{} channels are listened to", channels.lines().count());
    store.put("p/a", "1").await.expect("it is put");
    put(&mut steady, "1").await;
    drop(steady);
    listened(&redis, [0, 0, 0]).await;
}

async fn outlived(version: Version) {
    let redis = start(version).await;
    let (store, other) = (connect(&redis.url("")).await, connect(&redis.url("")).await);
    for (scope, value) in [(Scope::Key(key("p/a")), "1"), (Scope::Prefix(key("p")), "2")] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (elsewhere, first) = (Arc::clone(&store), scope.clone());
        let began = runtime.spawn(async move {
            let mut watch = elsewhere.watch(first);
            assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
            watch
        });
        let deaf = began.await.expect("it does not panic");
        let mut watch = store.watch(scope);
        assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
        runtime.shutdown_background();
        let told = told(&mut watch).await;
        assert!(matches!(&told, Err(error) if error.kind() == ErrorKind::Unavailable), "{told:?}");
        assert!(matches!(event(&mut watch).await, Event::Snapshot(_)));
        other.put("p/a", value).await.expect("it is put");
        sees(&mut watch, value).await;
        drop((deaf, watch));
        listened(&redis, [0, 0, 0]).await;
    }
}
