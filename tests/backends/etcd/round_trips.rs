//! How many requests things cost, as the server counts them.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use libtest_mimic::Trial;
use quorate::Client;
use quorate::discovery::{Instance, Registrar};
use quorate::kv::{Consistency, StoreExt, Txn};
use quorate::lock::Mutex;
use tokio::task::JoinSet;

use super::metrics::{requests, since};
use super::{PATIENCE, connect, key, sessions, trial};
use crate::servers::Cluster as _;
use crate::servers::etcd::{Etcd, Options, Version};
use crate::servers::until;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "an_operation_costs_one_request", operations),
        trial(version, "a_lock_costs_one_transaction_and_one_to_give_it_back", acquire_and_release),
        trial(version, "a_session_that_is_opened_along_costs_nothing_else", along),
        trial(version, "a_hand_over_costs_the_same_however_many_wait", hand_over),
        trial(version, "registrations_made_together_go_out_together", registrations),
    ]
}

/// How many of a kind; the one read with which the watch on the own place begins may be among them.
fn of(counts: &BTreeMap<String, u64>, kind: &str) -> u64 {
    counts.get(kind).copied().unwrap_or(0)
}

async fn operations(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let before = requests(&etcd).await;
    let spent = async |what: &str, so_far: u64| {
        let spent = since(&before, requests(&etcd).await);
        assert_eq!(spent.values().sum::<u64>(), so_far, "after {what}: {spent:?}");
    };
    let a = key("p/a");
    let made = store.put("p/a", "1").await.expect("it is put");
    spent("a put", 1).await;
    let replace = Txn::new().version(&a, made.version).put(&a, "2").put(&key("p/b"), "2");
    assert!(store.commit(replace).await.expect("it answers").is_applied());
    spent("a conditional write of two", 2).await;
    assert!(store.fetch("p/a").await.expect("it answers").is_some());
    spent("a get", 3).await;
    assert_eq!(store.list(&key("p"), Consistency::Linearizable).await.expect("it answers").len(), 2);
    spent("a list", 4).await;
    store.delete("p/a").await.expect("it is deleted");
    spent("a delete", 5).await;
}

async fn acquire_and_release(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let sessions = sessions(&store);
    sessions.current().await.expect("a session");
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    let before = requests(&etcd).await;
    let guard = mutex.lock().await.expect("it is free");
    let acquired = since(&before, requests(&etcd).await);
    assert!(of(&acquired, "Txn") == 1 && of(&acquired, "Range") <= 1 && acquired.len() <= 2, "{acquired:?}");
    guard.release().await;
    let both = since(&before, requests(&etcd).await);
    let costs = |counts| (of(counts, "Txn"), of(counts, "DeleteRange"));
    assert!(costs(&both) == (1, 1) && of(&both, "Range") <= 1 && both.len() <= 3, "{both:?}");
}

async fn along(version: Version) {
    let etcd = Options::new(version).start().await;
    let before = requests(&etcd).await;
    let client = Client::builder(etcd.url("")).with_session(true).connect().await.expect("it lets us in");
    let once = |kinds: &[&str]| kinds.iter().map(|kind| ((*kind).to_owned(), 1)).collect::<BTreeMap<_, _>>();
    assert_eq!(since(&before, requests(&etcd).await), once(&["LeaseGrant", "Range"]));
    client.close().await;
    assert_eq!(since(&before, requests(&etcd).await), once(&["LeaseGrant", "Range", "LeaseRevoke"]));
}

async fn hand_over(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let sessions = sessions(&store);
    for waiting in [1, 16] {
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
        let quiet = quiet(&etcd).await;
        held.release().await;
        let next = waiters.join_next().await.expect("one waits").expect("it does not panic");
        let cost = since(&quiet, requests(&etcd).await);
        // The release, the look of the next, and perhaps the read with which it begins to watch its place.
        let costs = (of(&cost, "Txn"), of(&cost, "DeleteRange"));
        assert!(costs == (1, 1) && of(&cost, "Range") <= 1 && cost.len() <= 3, "{cost:?}");
        drop(next);
    }
}

/// The counts once all have begun to watch the place ahead of them: nothing more is asked in ten looks.
async fn quiet(etcd: &Etcd) -> BTreeMap<String, u64> {
    let (mut quiet, mut looks) = (requests(etcd).await, 0);
    until("all is quiet", PATIENCE, async || {
        let now = requests(etcd).await;
        let more = since(&std::mem::replace(&mut quiet, now.clone()), now);
        looks = if more.is_empty() { looks + 1 } else { 0 };
        if looks == 10 { Ok(()) } else { Err(format!("{more:?}")) }
    })
    .await;
    quiet
}

async fn registrations(version: Version) {
    const MANY: usize = 1_000;
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let registrar = Registrar::new(&store, &sessions(&store));
    let before = requests(&etcd).await;
    let all = (0..MANY).map(|nth| registrar.register(Instance::new("s", nth.to_string(), "10.0.0.1:80")));
    let registered: Vec<_> = join_all(all).await.into_iter().collect::<Result<_, _>>().expect("all are new");
    let cost = since(&before, requests(&etcd).await);
    assert!(of(&cost, "LeaseGrant") == 1 && of(&cost, "Txn") <= 20 && of(&cost, "Put") == 0, "{cost:?}");
    drop(registered);
}
