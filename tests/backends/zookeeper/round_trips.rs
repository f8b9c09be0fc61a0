//! How many requests and flights things cost, as they pass by.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use libtest_mimic::Trial;
use quorate::kv::{Consistency, Coordinator, Key, StoreExt, Txn};
use quorate::lock::Mutex;
use tokio::task::JoinSet;

use super::tap::{Counts, Tap};
use super::{PATIENCE, TTL, connect, key, sessions, soon, trial};
use crate::servers::zookeeper::{Options, Version, ZooKeeper};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_lock_costs_one_flight_and_one_request_to_give_it_back", acquire_and_release),
        trial(version, "who_knows_nothing_yet_supposes_that_most_stands", first_lock),
        trial(version, "a_hand_over_costs_the_same_however_many_wait", hand_over),
        trial(version, "what_is_known_is_written_in_one_request", writes),
        trial(version, "a_thousand_keys_are_listed_in_a_few_requests", lists),
        trial(version, "reads_at_the_same_time_are_one_request", reads),
        trial(version, "overwrites_at_the_same_time_are_one_request", overwrites),
        trial(version, "many_directories_are_made_in_one_request", directories),
    ]
}

async fn tapped(version: Version) -> (ZooKeeper, Tap, Arc<dyn Coordinator>) {
    let zookeeper = Options::new(version).start().await;
    let tap = Tap::to(zookeeper.addresses()[0]).await;
    let store = connect(&zookeeper.url_via(&[tap.address], "")).await;
    (zookeeper, tap, store)
}

/// The counts without what it costs to watch something.
fn but_watches(mut counts: Counts) -> Counts {
    // A read behind a `sync` sets it, which is taken back unless it has told what it was for. A deletion is not looked at.
    for kind in ["unwatch", "sync", "get"] {
        counts.remove(kind);
    }
    counts
}

/// Waits until nothing more is asked in ten looks.
async fn quiet(tap: &Tap) -> Counts {
    let (mut quiet, mut looks) = (tap.counts(), 0);
    until("all is quiet", PATIENCE, async || {
        let more = tap.since(&quiet);
        quiet = tap.counts();
        looks = if more.is_empty() { looks + 1 } else { 0 };
        if looks == 10 { Ok(()) } else { Err(format!("{more:?}")) }
    })
    .await;
    quiet
}

async fn acquire_and_release(version: Version) {
    let (_zookeeper, tap, store) = tapped(version).await;
    let sessions = sessions(&store, TTL);
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    // The first makes the directory, and does not know whether anybody stands there.
    mutex.lock().await.expect("it is free").release().await;
    let before = quiet(&tap).await;
    mutex.lock().await.expect("it is free").release().await;
    quiet(&tap).await;
    let pair = Counts::from([("multi", 1), ("delete", 1)]);
    assert_eq!(but_watches(tap.since(&before)), pair, "nobody else was there");

    // Somebody waits, so the next to enter asks who stands there along with its entering.
    let held = mutex.lock().await.expect("it is free");
    let waiter = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.lock().await.expect("it is free").release().await }
    });
    until("it waits", PATIENCE, async || match mutex.waiters().await.expect("it answers").len() {
        1 => Ok(()),
        some => Err(format!("{some} wait")),
    })
    .await;
    held.release().await;
    soon("it has its turn", waiter).await.expect("it does not panic");
    let before = quiet(&tap).await;
    tap.hold(true);
    let locking = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.lock().await.expect("it is free") }
    });
    // Nobody has an answer until both were asked.
    let both = Counts::from([("multi", 1), ("children", 1)]);
    until("both are asked in one flight", PATIENCE, async || match tap.since(&before) {
        asked if asked == both => Ok(()),
        asked => Err(format!("{asked:?}")),
    })
    .await;
    tap.hold(false);
    let guard = soon("it is locked", locking).await.expect("it does not panic");
    let before = quiet(&tap).await;
    tap.hold(true);
    let releasing = tokio::spawn(guard.release());
    // What watches its place is not taken back in front of that.
    let alone = Counts::from([("delete", 1)]);
    until("it is given back", PATIENCE, async || match tap.since(&before) {
        asked if asked == alone => Ok(()),
        asked => Err(format!("{asked:?}")),
    })
    .await;
    tap.hold(false);
    soon("it is released", releasing).await.expect("it does not panic");
    quiet(&tap).await;
    assert_eq!(but_watches(tap.since(&before)), alone);
}

async fn first_lock(version: Version) {
    let (zookeeper, tap, store) = tapped(version).await;
    // On a new server nothing does.
    drop(Mutex::new(&store, &sessions(&store, TTL), "m").expect("a name").lock().await.expect("it is free"));
    let other = connect(&zookeeper.url_via(&[tap.address], "")).await;
    let mutex = Mutex::new(&other, &sessions(&other, TTL), "n").expect("a name");
    let before = quiet(&tap).await;
    mutex.lock().await.expect("it is free").release().await;
    quiet(&tap).await;
    // The directory, the count of the places, the place with who stands there, and the release.
    let expected =
        Counts::from([("container", 1), ("exists", 1), ("multi", 1), ("children", 1), ("delete", 1)]);
    assert_eq!(but_watches(tap.since(&before)), expected);
}

async fn hand_over(version: Version) {
    let (_zookeeper, tap, store) = tapped(version).await;
    let sessions = sessions(&store, TTL);
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
        let before = quiet(&tap).await;
        held.release().await;
        let next = waiters.join_next().await.expect("one waits").expect("it does not panic");
        quiet(&tap).await;
        // The release, and the look of the next: that its place stands, and the names of all.
        let expected = Counts::from([("delete", 1), ("multi", 1), ("children", 1)]);
        assert_eq!(but_watches(tap.since(&before)), expected, "with {waiting}");
        drop(next);
    }
}

async fn writes(version: Version) {
    let (_zookeeper, tap, store) = tapped(version).await;
    store.put("k/a", "1").await.expect("it is put");
    store.put("k/b", "1").await.expect("it is put");
    let cost = async |what: &str, txn: Txn, expected: Counts| {
        let before = tap.counts();
        let write = store.commit(txn).await.expect("it is answered");
        assert!(write.is_applied(), "{what}");
        assert_eq!(tap.since(&before), expected, "{what}");
        write.applied().and_then(|mut made| made.pop())
    };
    let one = || Counts::from([("multi", 1)]);
    let (a, c) = (key("k/a"), key("k/c"));
    let made = cost("an overwrite", Txn::new().put(&a, "2"), one()).await.expect("one entry");
    cost("a replacement", Txn::new().version(&a, made.version).put(&a, "3"), one()).await;
    cost("a guarded write", Txn::new().stands(&a, made.fence).put(&key("k/b"), "2"), one()).await;
    // Its directory is made in the same flight.
    let with_directory = Counts::from([("multi", 1), ("container", 1)]);
    let counter = with_directory.clone();
    let before = tap.counts();
    assert!(store.create("k/c", "1").await.expect("it is answered").is_applied());
    let mut made = tap.since(&before);
    // And its counter, if nobody needed that yet.
    made.remove("create");
    assert_eq!(made, counter);
    cost("a delete", Txn::new().delete(&c), one()).await;
}

async fn lists(version: Version) {
    const MANY: usize = 1_000;
    let (_zookeeper, tap, store) = tapped(version).await;
    fill(&store, "p", MANY).await;
    let (before, flown) = (tap.counts(), tap.flights());
    let listed = store.list(&key("p"), Consistency::Linearizable).await.expect("it answers");
    assert_eq!(listed.len(), MANY);
    // One for the prefix, and one for each fifty directories in it; each level behind a write that fails.
    assert_eq!(tap.since(&before), Counts::from([("reads", 21), ("delete", 2)]));
    let flights = tap.flights() - flown;
    // One for each level; on a busy machine a server may catch up with who asks, and it counts as one more.
    assert!((1..=20).contains(&flights), "{flights} flights");
}

/// Puts so many keys below a prefix, fifty in a commit.
async fn fill(store: &Arc<dyn Coordinator>, prefix: &str, count: usize) {
    let keys: Vec<_> = (0..count).map(|nth| key(&format!("{prefix}/k{nth}"))).collect();
    for some in keys.chunks(50) {
        let puts = some.iter().fold(Txn::new(), |txn, key| txn.put(key, "1"));
        assert!(store.commit(puts).await.expect("it is answered").is_applied());
    }
}

async fn reads(version: Version) {
    let (_zookeeper, tap, store) = tapped(version).await;
    fill(&store, "p", 50).await;
    let keys: Vec<_> = (0..50).map(|nth| key(&format!("p/k{nth}"))).collect();
    let read = async |key: &Key| store.get(key, Consistency::Linearizable).await.expect("it answers");
    let before = tap.counts();
    assert!(read(&keys[0]).await.is_some());
    assert_eq!(tap.since(&before), Counts::from([("delete", 1), ("get", 1)]), "alone");
    let before = tap.counts();
    let found = join_all(keys.iter().map(read)).await;
    assert!(
        found.iter().zip(&keys).all(|(found, key)| found.as_ref().is_some_and(|entry| entry.key == *key))
    );
    assert_eq!(tap.since(&before), Counts::from([("delete", 1), ("reads", 1)]), "fifty at once");
}

async fn overwrites(version: Version) {
    let (zookeeper, tap, store) = tapped(version).await;
    fill(&store, "p", 50).await;
    let keys: Vec<_> = (0..50).map(|nth| key(&format!("p/k{nth}"))).collect();
    let put = async |key: &Key, value: &'static str| store.put(key.clone(), value).await.expect("it is put");
    let before = tap.counts();
    let made = join_all(keys.iter().map(|key| put(key, "2"))).await;
    assert_eq!(tap.since(&before), Counts::from([("multi", 2)]), "who came first, and all others");
    let read = async |key: &Key| store.get(key, Consistency::Linearizable).await.expect("it answers");
    assert_eq!(join_all(keys.iter().map(read)).await, made.into_iter().map(Some).collect::<Vec<_>>());

    // Of one key, each is a state of its own, and the last to set off is what stands there.
    let made = join_all((0..3).map(|_| put(&keys[0], "3"))).await;
    assert!(
        made.is_sorted_by(|one, next| one.version != next.version && one.fence == next.fence),
        "{made:?}"
    );
    assert_eq!(read(&keys[0]).await.as_ref(), made.last());

    // Who gives up before all others have had their turn has written nothing.
    let gives_up = async { assert!(put(&keys[1], "given up").now_or_never().is_none()) };
    tokio::join!(put(&keys[0], "5"), put(&keys[2], "5"), gives_up);
    assert_eq!(read(&keys[1]).await.expect("it stands").value, "2");
    assert_eq!(read(&keys[2]).await.expect("it stands").value, "5");

    // Another makes one of them anew, which this client does not know: all others are put nevertheless, and it too.
    let other = connect(&zookeeper.url_via(&[tap.address], "")).await;
    assert!(other.commit(Txn::new().delete(&keys[7])).await.expect("it is answered").is_applied());
    other.put(keys[7].clone(), "other").await.expect("it is put");
    let before = tap.counts();
    let made = join_all(keys.iter().map(|key| put(key, "4"))).await;
    assert_eq!(join_all(keys.iter().map(read)).await, made.into_iter().map(Some).collect::<Vec<_>>());
    let asked = tap.since(&before);
    assert!(
        asked.get("multi").is_some_and(|multi| (50..=60).contains(multi)),
        "each again by itself: {asked:?}"
    );
}

async fn directories(version: Version) {
    let (zookeeper, tap, store) = tapped(version).await;
    // The directories that these are in, and what counters they need.
    fill(&store, "p", 1).await;
    let puts =
        |from: usize| (from..from + 50).fold(Txn::new(), |txn, nth| txn.put(&key(&format!("p/n{nth}")), "1"));
    let before = tap.counts();
    assert!(store.commit(puts(0)).await.expect("it is answered").is_applied());
    // Which counters stand, all that is missing, and the write.
    assert_eq!(tap.since(&before), Counts::from([("children", 1), ("multi", 2)]));

    // Another client does not know what stands. Half of these directories do, so none is made with the others.
    let tap = Tap::to(zookeeper.addresses()[0]).await;
    let other = connect(&zookeeper.url_via(&[tap.address], "")).await;
    let deletes = (25..50).fold(Txn::new(), |txn, nth| txn.delete(&key(&format!("p/n{nth}"))));
    assert!(store.commit(deletes).await.expect("it is answered").is_applied());
    let before = tap.counts();
    assert!(other.commit(puts(25)).await.expect("it is answered").is_applied());
    let asked = tap.since(&before);
    assert_eq!(asked.get("multi"), Some(&3), "refused, and again: {asked:?}");
    let listed = store.list(&key("p"), Consistency::Linearizable).await.expect("it answers");
    assert_eq!(listed.len(), 1 + 75);
}
