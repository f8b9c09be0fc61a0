//! How many requests things cost, counted on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use libtest_mimic::Trial;
use quorate::kv::{Coordinator, StoreExt, Txn, Write};
use quorate::lock::Mutex;
use tokio::task::JoinSet;

use super::counted::{Counted, since};
use super::{PATIENCE, connect, key, sessions, trial};
use crate::servers::Cluster as _;
use crate::servers::consul::{Consul, Options, Version};
use crate::servers::until;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_lock_costs_one_request_and_one_to_give_it_back", acquire_and_release),
        trial(version, "a_write_costs_one_request_wherever_nobody_is_in_the_way", writes),
        trial(version, "a_hand_over_costs_the_same_however_many_wait", hand_over),
    ]
}

async fn counted(consul: &Consul) -> (Counted, Arc<dyn Coordinator>) {
    let counted = Counted::to(consul.addresses()[0]).await;
    let store = connect(&consul.url_via(&[counted.address()], "")).await;
    (counted, store)
}

fn of(counts: &BTreeMap<String, u64>, kind: &str) -> u64 {
    counts.get(kind).copied().unwrap_or(0)
}

/// Fails unless these were the writes, and nothing was read but what a watch on the own place begins with. What waits for
/// changes is asked anew every few seconds, and sessions are renewed; neither is counted.
fn costs(what: &str, counts: &BTreeMap<String, u64>, writes: u64) {
    assert!(of(counts, "PUT txn") == writes && of(counts, "GET kv") <= 1, "{what}: {counts:?}");
    let known = ["PUT txn", "GET kv", "GET kv until changed", "PUT session"];
    assert!(counts.keys().all(|kind| known.contains(&&**kind)), "{what}: {counts:?}");
}

async fn acquire_and_release(version: Version) {
    let consul = Options::new(version).start().await;
    let (counted, store) = counted(&consul).await;
    let sessions = sessions(&store);
    sessions.current().await.expect("a session");
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    let before = counted.requests();
    let guard = mutex.lock().await.expect("it is free");
    costs("to acquire", &since(&before, counted.requests()), 1);
    guard.put("guarded", "1").await.expect("it is held");
    costs("and a guarded write", &since(&before, counted.requests()), 2);
    guard.release().await;
    costs("and to release", &since(&before, counted.requests()), 3);
}

async fn writes(version: Version) {
    let consul = Options::new(version).start().await;
    let (counted, store) = counted(&consul).await;
    let session = store.grant(super::TTL).await.expect("it grants").id;
    let before = counted.requests();
    let applied = async |what: &str, txn: Txn, cost: u64| {
        let before = counted.requests();
        let write = store.commit(txn).await.expect("it answers");
        let Write::Applied(entries) = write else { panic!("{what}: {write:?}") };
        let counts = since(&before, counted.requests());
        assert!(of(&counts, "PUT txn") == cost && of(&counts, "GET kv") < cost.max(2), "{what}: {counts:?}");
        entries.into_iter().next()
    };
    let (a, b) = (key("a"), key("b"));
    applied("a new entry", Txn::new().put(&a, "1"), 1).await;
    let made = applied("an old entry", Txn::new().put(&a, "2"), 1).await.expect("it was put");
    let made = applied("a conditional write", Txn::new().version(&a, made.version).put(&a, "3"), 1).await;
    let made = made.expect("it was put");
    applied("a write of what stands", Txn::new().stands(&a, made.fence).put(&b, "1"), 1).await;
    applied("a new binding", Txn::new().put_bound(&a, "4", &session), 1).await;
    applied("an old binding", Txn::new().put_bound(&a, "5", &session), 1).await;
    applied("several", Txn::new().put(&b, "2").put_bound(&key("c"), "1", &session).delete(&a), 1).await;
    // What is bound has to be taken from its session, which has to be known.
    let counts = since(&before, counted.requests());
    assert_eq!(of(&counts, "GET kv"), 0, "{counts:?}");
    applied("a binding that ends", Txn::new().put(&key("c"), "2"), 2).await;
    assert!(store.create("c", "3").await.is_ok_and(|write| !write.is_applied()));
}

async fn hand_over(version: Version) {
    let consul = Options::new(version).start().await;
    let (counted, store) = counted(&consul).await;
    let sessions = sessions(&store);
    for waiting in [1, 3, 12] {
        let mutex = Mutex::new(&store, &sessions, &format!("m{waiting}")).expect("a name");
        let held = mutex.lock().await.expect("it is free");
        let mut waiters = JoinSet::new();
        for _ in 0..waiting {
            let mutex = mutex.clone();
            waiters.spawn(async move { mutex.lock().await.expect("the session lives") });
        }
        until("all wait", PATIENCE, async || match mutex.waiters().await.expect("it answers").len() {
            all if all == waiting => Ok(()),
            some => Err(format!("{some} of {waiting}")),
        })
        .await;
        quiet(&counted).await;
        let quiet = counted.requests();
        held.release().await;
        let next = waiters.join_next().await.expect("one waits").expect("it does not panic");
        let cost = since(&quiet, counted.requests());
        // The release; the look of the next, and perhaps the read with which it begins to watch its place.
        assert!(of(&cost, "PUT txn") == 1 && of(&cost, "GET kv") <= 2, "{waiting} waiting: {cost:?}");
        drop(next);
    }
}

/// Waits until all have begun to watch the place ahead of them: nothing is read or written in ten looks.
async fn quiet(counted: &Counted) {
    let asked = || of(&counted.requests(), "PUT txn") + of(&counted.requests(), "GET kv");
    let (mut quiet, mut looks) = (asked(), 0);
    until("all is quiet", PATIENCE, async || {
        let now = asked();
        looks = if now == std::mem::replace(&mut quiet, now) { looks + 1 } else { 0 };
        if looks == 10 { Ok(()) } else { Err(format!("{now} requests")) }
    })
    .await;
}
