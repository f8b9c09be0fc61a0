//! Watches over broken, silent and wiped servers.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use libtest_mimic::Trial;
use quorate::kv::{Coordinator, Event, Key, Result, Scope, Store, StoreExt, Txn, WatchStore};

use super::counted::Counted;
use super::{PATIENCE, connect, key, soon, trial};
use crate::proxy::Proxy;
use crate::servers::Cluster as _;
use crate::servers::consul::{Consul, Options, Version};
use crate::servers::until;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_broken_watch_goes_on_where_it_was", resumed),
        trial(version, "a_silent_agent_is_left", silent),
        trial(version, "a_silent_agent_is_left_where_much_is_watched_too", much),
        trial(version, "a_watch_goes_on_when_the_servers_leader_is_killed", killed),
        trial(version, "a_watch_begins_anew_on_a_wiped_store", wiped),
        trial(version, "what_is_made_anew_was_deleted_before", made_anew),
        trial(version, "who_was_told_and_leaves_closes_no_connection", told_and_left),
        trial(version, "a_watch_survives_the_runtime_it_is_served_on", another_runtime),
    ]
}

type Watch = BoxStream<'static, Result<Event>>;

/// A watch of `p` through proxies that has told its first snapshot and a change.
async fn watching(consul: &Consul, options: &str) -> (Vec<Proxy>, Arc<dyn Coordinator>, Watch) {
    let proxies = Proxy::to_each(&consul.addresses()).await;
    let addresses: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let store = connect(&format!("{}/?{options}", consul.url_via(&addresses, ""))).await;
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
    store.put("p/first", "1").await.expect("it is put");
    assert!(matches!(told(&mut watch).await, Ok(Event::Put(_))));
    (proxies, store, watch)
}

async fn told(watch: &mut Watch) -> Result<Event> {
    soon("the watch tells", watch.next()).await.expect("it goes on")
}

/// The next event but errors.
async fn event(watch: &mut Watch) -> Event {
    loop {
        if let Ok(event) = told(watch).await {
            return event;
        }
    }
}

async fn resumed(version: Version) {
    let consul = Options::new(version).start().await;
    let (proxies, _store, mut watch) = watching(&consul, "").await;
    let direct = connect(&consul.url("")).await;
    for round in 0..3 {
        proxies[0].refuse();
        direct.put("p/a", format!("{round}")).await.expect("it is put");
        proxies[0].heal();
        let put = told(&mut watch).await;
        assert!(matches!(&put, Ok(Event::Put(entry)) if entry.value == format!("{round}")), "{put:?}");
    }
    proxies[0].refuse();
    direct.delete("p/a").await.expect("it is deleted");
    proxies[0].heal();
    assert_eq!(told(&mut watch).await.ok(), Some(Event::Delete(key("p/a"))));
}

async fn silent(version: Version) {
    let consul = Options::new(version).members(3).start().await;
    let (proxies, _store, mut watch) = watching(&consul, "try_timeout=1s").await;
    let direct = connect(&consul.url("")).await;
    proxies[0].freeze();
    direct.put("p/second", "2").await.expect("it is put");
    // Nobody asks this store for anything else: it must find out by itself.
    assert!(matches!(event(&mut watch).await, Event::Put(entry) if entry.key == key("p/second")));
}

/// Many entries are told all anew where nothing has changed, which is asked for seldom; that somebody answers is seen
/// otherwise.
async fn much(version: Version) {
    let consul = Options::new(version).members(3).start().await;
    let direct = connect(&consul.url("")).await;
    for some in (0..300).collect::<Vec<_>>().chunks(direct.limits().max_txn_ops) {
        let txn = some.iter().fold(Txn::new(), |txn, nth| txn.put(&key(&format!("p/{nth}")), "1"));
        assert!(direct.commit(txn).await.expect("it is put").is_applied());
    }
    let mut ways = Vec::new();
    for address in consul.addresses() {
        ways.push(Counted::to(address).await);
    }
    let proxies = Proxy::to_each(&ways.iter().map(Counted::address).collect::<Vec<_>>()).await;
    let addresses: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let store = connect(&format!("{}/?try_timeout=1s", consul.url_via(&addresses, ""))).await;
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(entries)) if entries.len() == 300));
    let asked = |kind| ways[0].requests().get(kind).copied().unwrap_or(0);
    // The first one is the watch's own beginning.
    until("it is seen twice that somebody answers", PATIENCE, async || match asked("GET kv") {
        3.. => Ok(()),
        some => Err(format!("{some} reads")),
    })
    .await;
    assert_eq!(asked("GET kv until changed"), 1, "{:?}", ways[0].requests());
    proxies[0].freeze();
    direct.put("p/second", "2").await.expect("it is put");
    assert!(matches!(event(&mut watch).await, Event::Put(entry) if entry.key == key("p/second")));
}

async fn killed(version: Version) {
    let mut consul = Options::new(version).members(3).start().await;
    let (_proxies, store, mut watch) = watching(&consul, "").await;
    let leader = consul.leader().await;
    consul.kill(leader);
    let put = async { while store.put("p/second", "2").await.is_err() {} };
    soon("it is put", put).await;
    loop {
        match event(&mut watch).await {
            Event::Put(entry) => assert_eq!(entry.key, key("p/second")),
            Event::Snapshot(entries) => assert_eq!(entries.len(), 2),
            Event::Delete(key) => panic!("{key:?} was never deleted"),
        }
        let seen = store.fetch("p/second").await;
        if seen.is_ok_and(|seen| seen.is_some()) {
            return;
        }
    }
}

async fn wiped(version: Version) {
    let mut consul = Options::new(version).start().await;
    let (_proxies, store, mut watch) = watching(&consul, "").await;
    for _ in 0..20 {
        store.put("elsewhere", "to grow").await.expect("it is put");
    }
    store.put("p/last", "1").await.expect("it is put");
    assert!(matches!(told(&mut watch).await, Ok(Event::Put(_))));
    consul.wipe().await;
    store.put("p/new", "1").await.expect("it is put");
    // Whatever it is told as, in the end only the new one is there.
    let mut seen = vec![key("p/first"), key("p/last")];
    while seen != [key("p/new")] {
        match event(&mut watch).await {
            Event::Snapshot(entries) => seen = entries.into_iter().map(|entry| entry.key).collect(),
            Event::Put(entry) => seen.push(entry.key),
            Event::Delete(gone) => seen.retain(|key| *key != gone),
        }
    }
}

async fn made_anew(version: Version) {
    let consul = Options::new(version).start().await;
    let (proxies, _store, mut watch) = watching(&consul, "").await;
    let direct = connect(&consul.url("")).await;
    // Seen only when both have happened.
    proxies[0].refuse();
    direct.delete("p/first").await.expect("it is deleted");
    let made = direct.put("p/first", "2").await.expect("it is put");
    proxies[0].heal();
    assert_eq!(told(&mut watch).await.ok(), Some(Event::Delete(key("p/first"))));
    assert_eq!(told(&mut watch).await.ok(), Some(Event::Put(made)));
}

/// On one thread, where nobody can ask for what changes next before whoever was told has left.
async fn told_and_left(version: Version) {
    let consul = Options::new(version).start().await;
    let opened = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let counted = Counted::to(consul.addresses()[0]).await;
            let store = connect(&consul.url_via(&[counted.address()], "")).await;
            let waits = || counted.requests().get("GET kv until changed").copied();
            for _ in 0..10 {
                let before = waits();
                store.put("a", "1").await.expect("it is put");
                let mut watch = store.watch(Scope::Key(key("a")));
                assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
                until("it waits", PATIENCE, async || {
                    if waits() > before { Ok(()) } else { Err(format!("{before:?} before")) }
                })
                .await;
                let deleting = tokio::spawn({
                    let store = Arc::clone(&store);
                    async move { store.delete("a").await }
                });
                assert!(matches!(told(&mut watch).await, Ok(Event::Delete(_))));
                drop(watch);
                deleting.await.expect("it does not panic").expect("it is deleted");
            }
            counted.opened()
        })
    });
    let opened = opened.await.expect("it does not panic");
    assert!(opened <= 5, "{opened} connections were opened");
}

async fn another_runtime(version: Version) {
    let consul = Options::new(version).start().await;
    let url = consul.url("");
    let elsewhere = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = connect(&url).await;
            let mut first = store.watch(Scope::Key(Key::new("a").expect("a key")));
            assert!(matches!(told(&mut first).await, Ok(Event::Snapshot(_))));
            store
        })
    });
    let store = elsewhere.await.expect("it does not panic");
    let mut watch = store.watch(Scope::Key(key("a")));
    assert!(matches!(event(&mut watch).await, Event::Snapshot(_)));
    store.put("a", "1").await.expect("it is put");
    assert!(matches!(event(&mut watch).await, Event::Put(_)));
}
