//! Many at once on one client: Consul takes 200 connections from one address, and resets more.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use libtest_mimic::Trial;
use quorate::discovery::{Instance, Registrar};
use quorate::kv::{Coordinator, Event, Key, Scope, StoreExt, WatchStore};
use quorate::lock::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::counted::{Counted, since};
use super::{PATIENCE, connect, key, sessions, soon, trial};
use crate::servers::Cluster as _;
use crate::servers::consul::{Consul, Options, Version};
use crate::servers::until;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_thousand_registrations_go_out_together", registrations),
        trial(version, "a_thousand_watches_share_a_few_connections", watches),
        trial(version, "watches_far_apart_share_a_few_connections_too", far_apart),
        trial(version, "a_hundred_waiters_hold_in_turn_without_a_herd", waiters),
    ]
}

const MANY: usize = 1_000;

/// How many connections one client may have: well below what Consul takes from one address.
const CONNECTIONS: usize = 100;

async fn counted(consul: &Consul) -> (Counted, Arc<dyn Coordinator>) {
    let counted = Counted::to(consul.addresses()[0]).await;
    let store = connect(&consul.url_via(&[counted.address()], "")).await;
    (counted, store)
}

fn of(counted: &Counted, before: &std::collections::BTreeMap<String, u64>, kind: &str) -> u64 {
    since(before, counted.requests()).get(kind).copied().unwrap_or(0)
}

async fn registrations(version: Version) {
    let consul = Options::new(version).start().await;
    let (counted, store) = counted(&consul).await;
    let registrar = Registrar::new(&store, &sessions(&store));
    let before = counted.requests();
    let all = (0..MANY).map(|nth| registrar.register(Instance::new("s", nth.to_string(), "10.0.0.1:80")));
    let registered: Vec<_> = join_all(all).await.into_iter().collect::<Result<_, _>>().expect("all are new");
    let commits = of(&counted, &before, "PUT txn");
    assert!(commits <= 40, "{:?}", since(&before, counted.requests()));
    assert!(counted.most_open() <= CONNECTIONS, "{} connections", counted.most_open());
    drop(registered);
}

/// Watches each of these, hears of one change of each, and leaves.
async fn hears_of_all(version: Version, scopes: Vec<(Scope, Key)>) {
    let consul = Options::new(version).start().await;
    let (counted, store) = counted(&consul).await;
    let started = scopes.iter().map(|(scope, _)| {
        let mut watch = store.watch(scope.clone());
        async move {
            let first = watch.next().await;
            assert!(matches!(&first, Some(Ok(Event::Snapshot(entries))) if entries.is_empty()), "{first:?}");
            watch
        }
    });
    let mut watches = soon("all begin", join_all(started)).await;
    let listening = watches.iter_mut().zip(&scopes).map(|(watch, (_, key))| async move {
        let told = watch.next().await;
        assert!(matches!(&told, Some(Ok(Event::Put(entry))) if entry.key == *key), "{told:?}");
    });
    let puts = async {
        for (_, key) in &scopes {
            store.put(key, "1").await.expect("it is put");
        }
    };
    soon("all are told", async { tokio::join!(join_all(listening), puts) }).await;
    assert!(counted.most_open() <= CONNECTIONS, "{} connections", counted.most_open());
}

async fn watches(version: Version) {
    let below = |nth| key(&format!("p/{nth}"));
    hears_of_all(version, (0..MANY).map(|nth| (Scope::Key(below(nth)), below(nth))).collect()).await;
}

async fn far_apart(version: Version) {
    let scopes = (0..300).map(|nth| {
        let service = key(&format!("far{nth}/services"));
        (Scope::Prefix(service.clone()), service.child("a").expect("a key"))
    });
    hears_of_all(version, scopes.collect()).await;
}

async fn waiters(version: Version) {
    const WAITING: usize = 100;
    let consul = Options::new(version).start().await;
    let (counted, store) = counted(&consul).await;
    let sessions = sessions(&store);
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    let held = mutex.lock().await.expect("it is free");
    let mut waiters = JoinSet::new();
    for _ in 0..WAITING {
        let mutex = mutex.clone();
        waiters.spawn(async move {
            let guard = mutex.lock().await.expect("the session lives");
            let fence = guard.fence();
            guard.release().await;
            fence
        });
    }
    until("all wait", PATIENCE, async || match mutex.waiters().await.expect("it answers").len() {
        WAITING => Ok(()),
        some => Err(format!("{some} wait")),
    })
    .await;
    let (before, began) = (counted.requests(), Instant::now());
    held.release().await;
    let fences: Vec<_> = soon("all hold in turn", waiters.join_all()).await;
    println!("{WAITING} waiters held in turn within {:?}", began.elapsed());
    assert_eq!(fences.iter().collect::<BTreeSet<_>>().len(), WAITING);
    let cost = since(&before, counted.requests());
    let requests: u64 = cost.values().sum();
    // Each releases, looks, and watches its place; what all share is asked anew after each change.
    assert!(requests <= 6 * WAITING as u64, "{cost:?}");
}
