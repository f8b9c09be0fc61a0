//! Watches over broken connections, dropped history and emptied stores.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use libtest_mimic::Trial;
use quorate::kv::{
    Coordinator, ErrorKind, Event, Result, Scope, SessionStore, Store, StoreExt, Txn, WatchStore,
};

use super::keys::sees;
use super::{connect, key, soon, start, through, trial};
use crate::proxy::Proxy;
use crate::servers::redis::{Redis, Version};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_broken_watch_is_resumed_where_it_was", resumed),
        trial(version, "a_watch_whose_history_was_dropped_begins_anew", trimmed),
        trial(version, "what_was_published_in_vain_is_told", unheard),
        trial(version, "large_values_keep_the_stream_small", large),
        trial(version, "the_stream_keeps_some_thousand_changes", small),
        trial(version, "a_watch_begins_anew_on_a_wiped_store", wiped),
        trial(version, "what_was_lost_is_told_before_what_came_after_is_shown", foretold),
        trial(version, "a_loss_is_told_to_a_watch_of_a_key_before_what_came_after", heard_anew),
        trial(version, "all_watches_share_one_read", shared),
        trial(version, "the_dead_are_told_though_nobody_comes_by", buried),
    ]
}

pub(super) type Watch = BoxStream<'static, Result<Event>>;

/// A watch of `p` through a proxy that has told its first snapshot and is on the stream.
async fn watching(redis: &Redis) -> (Proxy, Arc<dyn Coordinator>, Watch) {
    let (proxy, store) = through(redis, "").await;
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
    store.put("p/first", "1").await.expect("it is put");
    assert!(matches!(told(&mut watch).await, Ok(Event::Put(_))));
    (proxy, store, watch)
}

pub(super) async fn told(watch: &mut Watch) -> Result<Event> {
    soon("the watch tells", watch.next()).await.expect("it goes on")
}

/// The next event but errors.
pub(super) async fn event(watch: &mut Watch) -> Event {
    loop {
        if let Ok(event) = told(watch).await {
            return event;
        }
    }
}

async fn resumed(version: Version) {
    let redis = start(version).await;
    let (proxy, _store, mut watch) = watching(&redis).await;
    let direct = connect(&redis.url("")).await;
    for round in 0..3 {
        proxy.cut();
        direct.put("p/a", format!("{round}")).await.expect("it is put");
        direct.delete("p/a").await.expect("it is deleted");
        let event = told(&mut watch).await;
        assert!(matches!(&event, Ok(Event::Put(entry)) if entry.value == format!("{round}")), "{event:?}");
        assert_eq!(told(&mut watch).await.ok(), Some(Event::Delete(key("p/a"))));
    }
}

async fn trimmed(version: Version) {
    let redis = start(version).await;
    let (proxy, _store, mut watch) = watching(&redis).await;
    let direct = connect(&redis.url("")).await;
    proxy.refuse();
    direct.put("p/a", "1").await.expect("it is put");
    redis.cli(&["XTRIM", "{quorate}:w", "MAXLEN", "0"]).await.expect("it is trimmed");
    direct.put("p/b", "1").await.expect("it is put");
    proxy.heal();
    let Event::Snapshot(entries) = event(&mut watch).await else { panic!("a change before a snapshot") };
    assert_eq!(entries.len(), 3);
}

/// Puts `p/NAME` as if the server had lost what it published: it stands, and in the stream or not even there.
pub(super) async fn silent_put(redis: &Redis, name: &str, streamed: bool) {
    const WRITE: &str = "local rev, life = string.match(redis.call('GET', '{quorate}:meta'), '^(%d+)(.*)$')
        rev = string.format('%.0f', rev + 1)
        local stamp, entry = string.match(life, '^-(%d+)'), '- ' .. rev .. ' ' .. rev .. '\\n1'
        redis.call('MSET', '{quorate}:meta', rev .. life, '{quorate}:e:p/' .. ARGV[1], entry)
        redis.call('ZADD', '{quorate}:i', 0, 'p\\0' .. ARGV[1])
        if ARGV[2] == 'true' then
            redis.call('XADD', '{quorate}:w', rev .. '-' .. stamp, 'p/' .. ARGV[1], entry)
        end";
    redis.cli(&["EVAL", WRITE, "0", name, &streamed.to_string()]).await.expect("it is written");
}

async fn unheard(version: Version) {
    let redis = start(version).await;
    let (_proxy, store, mut watch) = watching(&redis).await;
    silent_put(&redis, "streamed", true).await;
    let event = told(&mut watch).await.expect("nothing is broken");
    assert!(matches!(&event, Event::Put(entry) if entry.key == key("p/streamed")), "{event:?}");
    silent_put(&redis, "silent", false).await;
    let event = told(&mut watch).await.expect("nothing is broken");
    assert!(matches!(&event, Event::Snapshot(entries) if entries.len() == 3), "{event:?}");
    store.put("p/next", "1").await.expect("it is put");
    let event = told(&mut watch).await.expect("nothing is broken");
    assert!(matches!(&event, Event::Put(entry) if entry.key == key("p/next")), "{event:?}");
}

async fn large(version: Version) {
    const COUNT: usize = 40;
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
    let large = vec![7; store.limits().max_value];
    for _ in 0..COUNT {
        store.put("p/large", large.clone()).await.expect("it is put");
    }
    let kept: usize =
        redis.cli(&["XLEN", "{quorate}:w"]).await.expect("it answers").parse().expect("a number");
    assert!(kept <= 16, "{kept} changes of a megabyte each");
    store.put("p/last", "1").await.expect("it is put");
    soon("the last is told", async {
        loop {
            match event(&mut watch).await {
                Event::Snapshot(entries) if entries.len() == 2 => return,
                Event::Put(entry) if entry.key == key("p/last") => return,
                _ => {}
            }
        }
    })
    .await;
}

async fn small(version: Version) {
    const COUNT: usize = 10_000;
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let puts = stream::iter(0..COUNT).map(|nth| store.put("p/small", nth.to_string()));
    puts.buffer_unordered(64).for_each(async |put| drop(put.expect("it is put"))).await;
    let kept: usize =
        redis.cli(&["XLEN", "{quorate}:w"]).await.expect("it answers").parse().expect("a number");
    // It is looked at with every hundredth, and the server drops a hundred at a time.
    assert!((4096..4096 + 200).contains(&kept), "{kept} changes of {COUNT}");
}

async fn wiped(version: Version) {
    let mut redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
    store.put("p/a", "1").await.expect("it is put");
    assert!(matches!(told(&mut watch).await, Ok(Event::Put(_))));
    wiped_under(&mut redis, &store, &mut watch, "p/b").await;
}

/// Wipes the store. The watch is told that, sees nothing there, and goes on with what is put then.
pub(super) async fn wiped_under(
    redis: &mut Redis,
    store: &Arc<dyn Coordinator>,
    watch: &mut Watch,
    then: &'static str,
) {
    redis.wipe().await;
    let mut regressed = false;
    soon("it begins anew", async {
        loop {
            match told(watch).await {
                Ok(Event::Snapshot(entries)) if entries.is_empty() => return,
                Err(error) => regressed |= error.kind() == ErrorKind::FenceRegression,
                Ok(_) => {}
            }
        }
    })
    .await;
    assert!(regressed, "what was lost is not lost in silence");
    soon("a put succeeds", async { while store.put(then, "1").await.is_err() {} }).await;
    assert!(matches!(event(watch).await, Event::Put(entry) if entry.key == key(then)));
}

async fn foretold(version: Version) {
    // More than wait for a watch that is not asked.
    const MANY: usize = 1100;
    let mut redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let [mut watch, mut other] = [(); 2].map(|()| store.watch(Scope::Prefix(key("p"))));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let began = runtime.spawn(async move {
        for watch in [&mut watch, &mut other] {
            assert!(matches!(told(watch).await, Ok(Event::Snapshot(_))));
        }
        (watch, other)
    });
    let (mut watch, mut other) = began.await.expect("it does not panic");
    for nth in 0..MANY {
        store.put("p/a", nth.to_string()).await.expect("it is put");
    }
    // So the watch will look when it is asked.
    sees(&mut other, &(MANY - 1).to_string()).await;
    // Whoever listens for both does nothing for a while, and hears of the loss last of all.
    let (busy, freed) = (tokio::sync::oneshot::channel(), std::sync::mpsc::sync_channel::<()>(0));
    runtime.spawn(async move { (busy.0.send(()), freed.1.recv()) });
    busy.1.await.expect("it is busy");
    redis.wipe().await;
    soon("the loss is noticed", async {
        while store.put("p/b", "1").await.expect_err("it is lost").kind() != ErrorKind::FenceRegression {}
    })
    .await;
    let lost = told(&mut watch).await;
    assert!(matches!(&lost, Err(error) if error.kind() == ErrorKind::FenceRegression), "{lost:?}");
    let anew = told(&mut watch).await;
    assert!(matches!(&anew, Ok(Event::Snapshot(entries)) if entries.is_empty()), "{anew:?}");
    drop(freed.0);
    store.put("p/c", "1").await.expect("it is put");
    loop {
        match told(&mut watch).await {
            Ok(Event::Put(entry)) if entry.key == key("p/c") => break,
            Ok(Event::Snapshot(entries)) if !entries.is_empty() => break,
            Ok(_) => {}
            Err(error) => assert_ne!(error.kind(), ErrorKind::FenceRegression, "it is told once"),
        }
    }
    runtime.shutdown_background();
}

async fn heard_anew(version: Version) {
    let mut redis = start(version).await;
    let (proxy, store) = through(&redis, "").await;
    let mut watch = store.watch(Scope::Key(key("p/a")));
    assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
    proxy.freeze();
    redis.wipe().await;
    let direct = connect(&redis.url("")).await;
    // What concerns more than one key is heard before it is asked for any.
    let put = async || direct.commit(Txn::new().put(&key("p/a"), "anew").put(&key("p/b"), "anew")).await;
    assert!(put().await.expect("both are put").is_applied());
    let writes = async {
        loop {
            assert!(put().await.expect("both are put").is_applied());
        }
    };
    // Nothing that froze is heard. The answers come late, and meanwhile there is much to hear.
    proxy.cut();
    proxy.heal();
    proxy.delay(Duration::from_millis(20));
    let watched = async {
        loop {
            match told(&mut watch).await {
                Err(error) if error.kind() == ErrorKind::FenceRegression => break,
                Err(error) => assert!(error.is_transient(), "{error}"),
                Ok(event) => panic!("of the new life, before the loss: {event:?}"),
            }
        }
    };
    tokio::select! {
        () = watched => {}
        () = writes => {}
    }
    assert!(matches!(event(&mut watch).await, Event::Snapshot(_)));
}

async fn shared(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let mut watches: Vec<_> = (0..50).map(|_| store.watch(Scope::Prefix(key("p")))).collect();
    for watch in &mut watches {
        assert!(matches!(told(watch).await, Ok(Event::Snapshot(_))));
    }
    store.put("p/a", "1").await.expect("it is put");
    for watch in &mut watches {
        assert!(matches!(told(watch).await, Ok(Event::Put(_))));
    }
    // One for requests, one that waits, and the one that asks.
    let clients = || async { redis.cli(&["CLIENT", "LIST"]).await.expect("it answers").lines().count() };
    assert_eq!(clients().await, 3);
    drop(watches);
    until("nobody waits any more", super::PATIENCE, async || match clients().await {
        2 => Ok(()),
        more => Err(format!("{more} clients")),
    })
    .await;
}

async fn buried(version: Version) {
    // Shorter than the pauses at which a quiet stream is looked after.
    const BRIEF: Duration = Duration::from_millis(700);
    let redis = start(version).await;
    let (store, other) = (connect(&redis.url("")).await, connect(&redis.url("")).await);
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
    let session = other.grant(BRIEF).await.expect("it grants").id;
    let txn = (0..100).fold(Txn::new(), |txn, nth| txn.put_bound(&key(&format!("p/{nth}")), "1", &session));
    let granted = tokio::time::Instant::now();
    other.commit(txn).await.expect("it is put").applied().expect("nothing is checked");
    drop(other);
    let (mut put, mut gone) = (0, 0);
    while gone < 100 {
        match told(&mut watch).await {
            Ok(Event::Put(_)) => put += 1,
            Ok(Event::Delete(_)) => gone += 1,
            other => panic!("{other:?}"),
        }
    }
    let slack = store.limits().expiry_slack(BRIEF);
    assert!(granted.elapsed() < BRIEF + slack, "told after {:?}", granted.elapsed());
    assert_eq!(put, 100);
}
