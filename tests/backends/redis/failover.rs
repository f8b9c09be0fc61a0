//! What a failover loses and what it keeps, whoever sees to it. Servers whose replicas copy what they write.

use std::time::Duration;

use futures_util::StreamExt;
use quorate::kv::{Consistency, ErrorKind, Event, LossReason, Outcome, Scope, Store, StoreExt, WatchStore};
use quorate::lock::{Guard, Mutex};

use super::{connect, held, key, sessions};
use crate::common::within;
use crate::proxy::Proxy;
use crate::servers::redis::{Copied, Redis};
use crate::servers::until;

/// How long a session lives that is meant to live through a failover, on however busy a machine.
const LONG: Duration = Duration::from_secs(40);

/// How long a failover and what follows may take: no longer than that, or the session would be over anyhow.
async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    within(what, LONG, future).await
}

async fn locked(mutex: &Mutex) -> Guard {
    in_time("it is locked", async {
        loop {
            if let Ok(guard) = mutex.lock().await {
                return guard;
            }
        }
    })
    .await
}

/// Everything that a client sees of a failover that loses the last it was told is done.
pub(super) async fn loses<C: Copied>(mut cluster: C, primary: usize) {
    let store = connect(&cluster.url("")).await;
    let ours = sessions(&store, LONG);
    ours.current().await.expect("a session that the replicas have");
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert!(matches!(watch.next().await, Some(Ok(Event::Snapshot(_)))));
    let replicas = Redis::cut_off(&mut cluster, primary).await;
    let mutex = Mutex::new(&store, &ours, "m").expect("a name");
    let guard = mutex.lock().await.expect("it is free");
    store.put("p/lost", "1").await.expect("it is acknowledged");
    assert!(matches!(watch.next().await, Some(Ok(Event::Put(_)))));
    cluster.kill(primary);
    for replica in &replicas {
        cluster.resume(*replica);
    }

    assert_eq!(in_time("the loss is told", guard.lost()).await, LossReason::FenceRegression);
    let mut regressed = false;
    let snapshot = in_time("the watch begins anew", async {
        loop {
            match watch.next().await.expect("it goes on") {
                Ok(Event::Snapshot(entries)) if entries.is_empty() => return,
                Err(error) => regressed |= error.kind() == ErrorKind::FenceRegression,
                Ok(_) => {}
            }
        }
    });
    snapshot.await;
    assert!(regressed, "what was lost is not lost in silence");
    let late = guard.put("guarded", "late").await.expect_err("it holds no longer");
    assert_eq!(late.outcome(), Outcome::NotApplied, "{late}");
    let found = until("it answers", LONG, async || {
        store.get(&key("p/lost"), Consistency::Linearizable).await.map_err(|error| error.to_string())
    });
    assert_eq!(found.await, None);
    assert!(locked(&mutex).await.fence() > guard.fence(), "fences grow for who saw one that was lost");
}

/// The same, when others have written more than was lost by the time that the holder finds the new primary.
pub(super) async fn overtaken<C: Copied>(mut cluster: C, primary: usize) {
    let proxies = Proxy::to_each(&cluster.addresses()).await;
    let addresses: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let store = connect(&cluster.url_via(&addresses, "")).await;
    let ours = sessions(&store, LONG);
    ours.current().await.expect("a session that the replicas have");
    let replicas = Redis::cut_off(&mut cluster, primary).await;
    let guard = held(&store, &ours).await;
    store.put("p/lost", "1").await.expect("it is acknowledged");
    proxies.iter().for_each(Proxy::refuse);
    cluster.kill(primary);
    for replica in &replicas {
        cluster.resume(*replica);
    }

    let other = until("somebody else gets there", LONG, async || {
        quorate::connect::Schemes::default()
            .connect(&cluster.url(""))
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    let theirs = sessions(&other, LONG);
    let mutex = Mutex::new(&other, &theirs, "m").expect("a name");
    let taken = locked(&mutex).await;
    while other.put("p/more", "1").await.expect("it is put").version.raw() <= guard.fence().get().into() {}
    other.put("p/more", "2").await.expect("it is put");
    // So far two hold it. That ends when one of them hears of the other.
    proxies.iter().for_each(Proxy::heal);
    assert_eq!(in_time("the loss is told", guard.lost()).await, LossReason::FenceRegression);
    assert_eq!(in_time("all are told", taken.lost()).await, LossReason::FenceRegression);
    assert!(locked(&mutex).await.fence() > guard.fence());
}

/// A failover to a replica that has everything costs nothing.
pub(super) async fn keeps<C: Copied>(mut cluster: C, primary: usize, fail: fn(&mut C, usize)) -> C {
    let store = connect(&cluster.url("")).await;
    let guard = held(&store, &sessions(&store, LONG)).await;
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert!(matches!(watch.next().await, Some(Ok(Event::Snapshot(_)))));
    // Whoever is promoted has what was written before.
    let replicas = Redis::cut_off(&mut cluster, primary).await;
    fail(&mut cluster, primary);
    for replica in &replicas {
        cluster.resume(*replica);
    }
    until("it is written elsewhere", LONG, async || {
        guard.put("p/a", "1").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert!(guard.is_held());
    let told = in_time("the watch goes on", async {
        loop {
            if let Some(Ok(event)) = watch.next().await {
                return event;
            }
        }
    });
    match told.await {
        Event::Put(entry) => assert_eq!(entry.key, key("p/a")),
        Event::Snapshot(entries) => assert!(entries.iter().all(|entry| entry.key == key("p/a"))),
        gone @ Event::Delete(_) => panic!("{gone:?}"),
    }
    cluster
}

/// A place that replicas do not confirm is given back.
pub(super) async fn confirms<C: Copied>(mut cluster: C, primary: usize, count: usize) {
    let store = connect(&format!("{}&wait_replicas={count}&wait_timeout=1s", cluster.url(""))).await;
    let ours = sessions(&store, LONG);
    let mutex = Mutex::new(&store, &ours, "m").expect("a name");
    in_time("all confirm", mutex.lock()).await.expect("it is free").release().await;
    let replicas = cluster.redis().replicas_of(primary).await;
    assert_eq!(replicas.len(), count);
    cluster.pause(replicas[0]);
    let error = mutex.try_lock().await.expect_err("one does not confirm");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let named = format!("{} of {count} replicas had the place within 1s; it was given back", count - 1);
    assert!(error.to_string().contains(&named), "{error}");
    let other = connect(&cluster.url("")).await;
    let theirs = sessions(&other, LONG);
    let seen = Mutex::new(&other, &theirs, "m").expect("a name");
    assert!(seen.holders().await.expect("it answers").is_empty(), "it was given back");
    cluster.resume(replicas[0]);
    until("it is confirmed again", LONG, async || match mutex.try_lock().await {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
