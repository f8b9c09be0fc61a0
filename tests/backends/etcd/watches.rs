//! Watches over broken, silent and compacted streams.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use libtest_mimic::Trial;
use quorate::kv::{Coordinator, Event, Key, Result, Scope, StoreExt, WatchStore};

use super::metrics::metric;
use super::{connect, key, soon, trial};
use crate::proxy::Proxy;
use crate::servers::Cluster as _;
use crate::servers::etcd::{Etcd, Options, Version};
use crate::servers::until;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_broken_watch_is_resumed_where_it_was", resumed),
        trial(version, "a_compacted_watch_begins_anew", compacted),
        trial(version, "a_silent_stream_is_left", silent),
        trial(version, "a_watch_begins_anew_on_a_wiped_store", wiped),
        trial(version, "all_watches_share_one_stream", shared),
    ]
}

type Watch = BoxStream<'static, Result<Event>>;

/// A watch of `p` through proxies that has told its first snapshot and is on the stream.
async fn watching(etcd: &Etcd, options: &str) -> (Vec<Proxy>, Arc<dyn Coordinator>, Watch) {
    let proxies = Proxy::to_each(&etcd.addresses()).await;
    let addresses: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let store = connect(&format!("{}/?{options}", etcd.url_via(&addresses, ""))).await;
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
    let etcd = Options::new(version).start().await;
    let (proxies, _store, mut watch) = watching(&etcd, "").await;
    let direct = connect(&etcd.url("")).await;
    for round in 0..3 {
        proxies[0].refuse();
        direct.put("p/a", format!("{round}")).await.expect("it is put");
        direct.delete("p/a").await.expect("it is deleted");
        proxies[0].heal();
        let put = told(&mut watch).await;
        assert!(matches!(&put, Ok(Event::Put(entry)) if entry.value == format!("{round}")), "{put:?}");
        assert_eq!(told(&mut watch).await.ok(), Some(Event::Delete(key("p/a"))));
    }
}

async fn compacted(version: Version) {
    let etcd = Options::new(version).start().await;
    let (proxies, _store, mut watch) = watching(&etcd, "").await;
    let direct = connect(&etcd.url("")).await;
    proxies[0].refuse();
    direct.delete("p/first").await.expect("it is deleted");
    let last = direct.put("p/second", "2").await.expect("it is put");
    direct.put("elsewhere", "x").await.expect("it is put");
    etcd.etcdctl(&["compact", &(last.version.raw() + 1).to_string()]).await.expect("it is compacted");
    proxies[0].heal();
    match told(&mut watch).await {
        Ok(Event::Snapshot(entries)) => assert_eq!(entries, [last]),
        other => panic!("no snapshot but {other:?}"),
    }
    direct.put("p/third", "3").await.expect("it is put");
    assert!(matches!(told(&mut watch).await, Ok(Event::Put(entry)) if entry.key == key("p/third")));
}

async fn silent(version: Version) {
    let etcd = Options::new(version).members(3).start().await;
    let (proxies, _store, mut watch) = watching(&etcd, "try_timeout=1s").await;
    let direct = connect(&etcd.url("")).await;
    proxies[0].freeze();
    direct.put("p/second", "2").await.expect("it is put");
    // Nobody asks this store for anything else: it must find out by itself.
    assert!(matches!(event(&mut watch).await, Event::Put(entry) if entry.key == key("p/second")));
}

async fn wiped(version: Version) {
    let mut etcd = Options::new(version).start().await;
    let (_proxies, store, mut watch) = watching(&etcd, "").await;
    for _ in 0..20 {
        store.put("elsewhere", "to grow").await.expect("it is put");
    }
    store.put("p/last", "1").await.expect("it is put");
    assert!(matches!(told(&mut watch).await, Ok(Event::Put(_))));
    etcd.wipe().await;
    assert_eq!(event(&mut watch).await, Event::Snapshot(Vec::new()));
    store.put("p/new", "1").await.expect("it is put");
    assert!(matches!(event(&mut watch).await, Event::Put(entry) if entry.key == key("p/new")));
}

async fn shared(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let mut watches = Vec::new();
    for nth in 0..100 {
        let scope = key(&format!("p/{nth}"));
        for scope in [Scope::Key(scope.clone()), Scope::Prefix(scope)] {
            let mut watch = store.watch(scope);
            assert!(matches!(told(&mut watch).await, Ok(Event::Snapshot(_))));
            watches.push(watch);
        }
    }
    let listening = watches.iter_mut().map(|watch| async move { told(watch).await });
    let puts = async {
        until("all watch", super::PATIENCE, async || watchers(&etcd).await.is(200.0)).await;
        assert!((metric(&etcd, "etcd_debugging_mvcc_watch_stream_total").await - 1.0).abs() < 0.5);
        for nth in 0..100 {
            store.put(Key::new(&format!("p/{nth}")).expect("a key"), "1").await.expect("it is put");
            store.put(Key::new(&format!("p/{nth}/below")).expect("a key"), "1").await.expect("it is put");
        }
    };
    let (told, ()) = tokio::join!(futures_util::future::join_all(listening), puts);
    assert!(told.iter().all(|told| matches!(told, Ok(Event::Put(_)))));
    drop(watches);
    until("nobody watches", super::PATIENCE, async || watchers(&etcd).await.is(0.0)).await;
}

struct Count(f64);

impl Count {
    fn is(&self, wanted: f64) -> Result<(), String> {
        if (self.0 - wanted).abs() < 0.5 { Ok(()) } else { Err(format!("{} instead of {wanted}", self.0)) }
    }
}

async fn watchers(etcd: &Etcd) -> Count {
    Count(metric(etcd, "etcd_debugging_mvcc_watcher_total").await)
}
