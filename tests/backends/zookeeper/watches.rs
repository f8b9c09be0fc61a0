//! Watches over broken and silent connections, and over a store that was wiped.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use libtest_mimic::Trial;
use quorate::kv::{Coordinator, Event, Result, Scope, StoreExt, WatchStore};

use super::{connect, key, soon, through, trial};
use crate::proxy::Proxy;
use crate::servers::Cluster as _;
use crate::servers::zookeeper::{Options, Version, ZooKeeper};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_broken_watch_begins_anew_elsewhere", broken),
        trial(version, "a_silent_server_is_left_by_its_watchers", silent),
        trial(version, "a_watch_begins_anew_on_a_wiped_store", wiped),
        trial(version, "watches_of_one_key_come_and_go", many),
    ]
}

type Watch = BoxStream<'static, Result<Event>>;

/// A watch of `p` through proxies that has told its first snapshot.
async fn watching(zookeeper: &ZooKeeper, options: &str) -> (Vec<Proxy>, Arc<dyn Coordinator>, Watch) {
    let (proxies, store) = through(zookeeper, options).await;
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert_eq!(event(&mut watch).await, Event::Snapshot(Vec::new()));
    store.put("p/first", "1").await.expect("it is put");
    assert!(matches!(event(&mut watch).await, Event::Put(_)));
    (proxies, store, watch)
}

/// The next event but errors.
async fn event(watch: &mut Watch) -> Event {
    loop {
        if let Ok(event) = soon("the watch tells", watch.next()).await.expect("it goes on") {
            return event;
        }
    }
}

/// Follows until a snapshot or a put shows this value.
async fn shows(watch: &mut Watch, value: &str) {
    loop {
        match event(watch).await {
            Event::Put(entry) if entry.value == value => return,
            Event::Snapshot(entries) if entries.iter().any(|entry| entry.value == value) => return,
            _ => {}
        }
    }
}

/// Follows until a snapshot or a delete shows that `p/a` is gone.
async fn gone(watch: &mut Watch) {
    loop {
        match event(watch).await {
            Event::Delete(deleted) if deleted == key("p/a") => return,
            Event::Snapshot(entries) if entries.iter().all(|entry| entry.key != key("p/a")) => return,
            _ => {}
        }
    }
}

async fn broken(version: Version) {
    let zookeeper = Options::new(version).members(3).start().await;
    let (proxies, _store, mut watch) = watching(&zookeeper, "").await;
    let direct = connect(&zookeeper.url("")).await;
    for round in 0..6 {
        // Whichever it is connected to, it must find another.
        let (down, up) = (round % 3, (round + 1) % 3);
        proxies[down].refuse();
        direct.put("p/a", format!("away {round}")).await.expect("it is put");
        shows(&mut watch, &format!("away {round}")).await;
        proxies[down].heal();
        // The watch that was set anew tells, too.
        proxies[up].cut();
        direct.put("p/a", format!("back {round}")).await.expect("it is put");
        shows(&mut watch, &format!("back {round}")).await;
        direct.delete("p/a").await.expect("it is deleted");
        gone(&mut watch).await;
    }
}

async fn silent(version: Version) {
    let zookeeper = Options::new(version).members(3).start().await;
    let (proxies, _store, mut watch) = watching(&zookeeper, "try_timeout=1s").await;
    let direct = connect(&zookeeper.url("")).await;
    for (round, proxy) in proxies.iter().enumerate() {
        proxy.freeze();
        direct.put("p/second", round.to_string()).await.expect("it is put");
        // Nobody asks this store for anything else: it must find out by itself.
        shows(&mut watch, &round.to_string()).await;
        proxy.heal();
    }
}

async fn wiped(version: Version) {
    let mut zookeeper = Options::new(version).start().await;
    let (_proxies, store, mut watch) = watching(&zookeeper, "").await;
    zookeeper.wipe().await;
    assert_eq!(event(&mut watch).await, Event::Snapshot(Vec::new()));
    soon("a put succeeds", async { while store.put("p/new", "new").await.is_err() {} }).await;
    shows(&mut watch, "new").await;
}

async fn many(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    let open = async || {
        let mut watch = store.watch(Scope::Key(key("k")));
        assert!(matches!(event(&mut watch).await, Event::Snapshot(_)));
        watch
    };
    let mut stays = open().await;
    for round in 0..20 {
        let (goes, late) = (open().await, open().await);
        drop(goes);
        store.put("k", round.to_string()).await.expect("it is put");
        shows(&mut stays, &round.to_string()).await;
        let mut late = late;
        shows(&mut late, &round.to_string()).await;
        stays = late;
    }
}
