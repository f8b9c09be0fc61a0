//! Servers that die, stop or fall silent, a store that was wiped, and requests that are lost on their way.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{
    Coordinator, ErrorKind, LossReason, Mode, Outcome, Queue, Random, SessionId, StoreExt, Ticket, Txn,
};
use quorate::lock::{Guard, Mutex};
use tokio::time::{Instant, sleep, timeout};

use super::{PATIENCE, SHORT, TTL, connect, held, key, sessions, soon, through, trial};
use crate::proxy::Proxy;
use crate::servers::zookeeper::{Options, Version};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_killed_leader_costs_no_lock", killed),
        trial(version, "a_stopped_leader_costs_no_requests_for_long", stopped),
        trial(version, "a_silent_server_is_left_in_time_to_renew", silent),
        trial(version, "a_follower_without_its_leader_keeps_nobody_alive", deserted),
        trial(version, "a_holder_that_is_cut_off_lets_go_first", partitioned),
        trial(version, "a_wiped_store_is_noticed", wiped),
        trial(version, "a_lost_reply_leaves_no_place_behind", lost_reply),
        trial(version, "a_lost_request_leaves_no_place_behind", lost_request),
        trial(version, "a_write_without_a_reply_is_unknown", unknown),
        trial(version, "a_create_without_a_reply_is_not_called_lost", uncertain),
        trial(version, "a_follower_that_lags_lets_nobody_be_the_first", lagging),
        trial(version, "what_was_not_sent_is_not_sent_later", unsent),
        trial(version, "who_has_no_patience_gets_another_server", impatient),
    ]
}

/// Whether it is held for longer than a session of this life that nobody renews.
async fn outlives(guard: &Guard, life: Duration) -> bool {
    tokio::select! {
        biased;
        _ = guard.lost() => false,
        () = sleep(life + Duration::from_secs(2)) => guard.is_held(),
    }
}

/// Puts until that succeeds: while the ensemble has no leader it may fail, with an unknown outcome.
async fn put(store: &Arc<dyn Coordinator>) {
    while let Err(error) = store.put("a", "1").await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

async fn killed(version: Version) {
    let mut zookeeper = Options::new(version).members(3).start().await;
    let store = connect(&zookeeper.url("")).await;
    // Longer than an election takes, during which nothing is renewed.
    let guard = held(&store, &sessions(&store, TTL)).await;
    let leader = zookeeper.leader().await;
    zookeeper.kill(leader);
    soon("a put succeeds", put(&store)).await;
    assert!(outlives(&guard, TTL).await);
}

async fn stopped(version: Version) {
    let mut zookeeper = Options::new(version).members(3).start().await;
    let store = connect(&zookeeper.url("")).await;
    let leader = zookeeper.leader().await;
    zookeeper.pause(leader);
    let put = async { while store.put("a", "1").await.is_err() {} };
    soon("a put succeeds", put).await;
    zookeeper.resume(leader);
    assert_eq!(store.fetch("a").await.expect("it answers").expect("it was put").value, "1");
}

async fn silent(version: Version) {
    let zookeeper = Options::new(version).members(3).start().await;
    // Only the session's own patience is short enough.
    let (proxies, store) = through(&zookeeper, "try_timeout=10s&timeout=20s").await;
    let guard = held(&store, &sessions(&store, SHORT)).await;
    // Whichever server it is at.
    for proxy in &proxies {
        proxy.freeze();
        assert!(outlives(&guard, SHORT).await);
        proxy.heal();
    }
}

/// What a session writes goes to the leader here, and what is read to a follower that has not seen it yet.
async fn lagging(version: Version) {
    let zookeeper = Options::new(version).members(3).lines().start().await;
    let (leader, addresses) = (zookeeper.leader().await, zookeeper.addresses());
    let follower = (leader + 1) % 3;
    let proxies = Proxy::to_each(&[addresses[follower], addresses[leader]]).await;
    proxies[1].refuse();
    let each: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let store = connect(&zookeeper.url_via(&each, "")).await;
    let others = connect(&zookeeper.url_via(&[addresses[leader]], "")).await;
    proxies[0].turn_away();
    proxies[1].heal();
    let (ours, theirs) =
        (store.grant(TTL).await.expect("a session"), others.grant(TTL).await.expect("a session"));
    let (queue, random) = (Queue::lock("m").expect("a name"), Random::from_os());
    let enter = async |store: &Arc<dyn Coordinator>, session: &SessionId| {
        let ticket = Ticket::new(Mode::Exclusive, &random);
        store.enter(&queue, session, &ticket, "".into(), 1).await.expect("it enters")
    };
    let former = enter(&others, &theirs.id).await.place;
    assert!(others.leave(&former).await.expect("it leaves"));
    // Whoever answers this has seen that.
    assert!(!store.exists("m").await.expect("it answers"));
    let lines = zookeeper.lines().expect("it has some");
    lines.cut_off(follower);
    let held = enter(&others, &theirs.id).await.place;
    let waits = enter(&store, &ours.id).await;
    assert_eq!(waits.ahead.iter().map(|place| place.fence).collect::<Vec<_>>(), [held.fence]);
    let look = async {
        loop {
            // It may be that nobody can be asked until the follower gives up.
            if let Ok(ahead) = store.ahead(&waits.place, 1).await {
                return ahead.expect("it stands");
            }
        }
    };
    let ahead = soon("it is seen who is ahead", look).await;
    assert_eq!(ahead.iter().map(|place| place.fence).collect::<Vec<_>>(), [held.fence]);
    lines.mend();
}

/// A follower that was cut off from its leader answers heartbeats for a while, and by then others hold.
async fn deserted(version: Version) {
    const LIFE: Duration = Duration::from_secs(2);
    let zookeeper = Options::new(version).members(3).lines().start().await;
    let (leader, addresses) = (zookeeper.leader().await, zookeeper.addresses());
    let follower = (leader + 1) % 3;
    let store = connect(&zookeeper.url_via(&[addresses[follower]], "")).await;
    let others = connect(&zookeeper.url_via(&[addresses[leader]], "")).await;
    let (ours, theirs) = (sessions(&store, LIFE), sessions(&others, LIFE));
    // A server without a leader hangs up after 3 s.
    let guard = held(&store, &ours).await;
    theirs.current().await.expect("a session");
    let lines = zookeeper.lines().expect("it has some");
    lines.cut_off(follower);
    let began = Instant::now();
    let lost = async {
        assert_eq!(guard.lost().await, LossReason::StoreUnavailable);
        Instant::now()
    };
    let taken = async {
        let taken = held(&others, &theirs).await;
        (taken, Instant::now())
    };
    let (lost, (taken, got)) = soon("it changes hands", async { tokio::join!(lost, taken) }).await;
    assert!(lost < got, "held by two for {:?}", lost - got);
    assert!(lost - began < LIFE, "within the session's life, not {:?}", lost - began);
    assert!(taken.fence() > guard.fence());
    let gives_up = async || zookeeper.is_deserted(addresses[follower]).await;
    until("the follower has noticed, too", PATIENCE, gives_up).await;
    lines.mend();
    let late = guard.put("guarded", "late").await.expect_err("it holds no longer");
    assert_eq!(late.kind(), ErrorKind::SessionLost, "{late}");
}

async fn partitioned(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let (proxies, store) = through(&zookeeper, "timeout=2s").await;
    let guard = held(&store, &sessions(&store, SHORT)).await;
    let direct = connect(&zookeeper.url("")).await;
    let theirs = sessions(&direct, SHORT);
    proxies[0].freeze();
    let lost = async {
        let reason = guard.lost().await;
        (reason, Instant::now())
    };
    let taken = async {
        let taken = held(&direct, &theirs).await;
        (taken, Instant::now())
    };
    let ((reason, lost), (taken, got)) = soon("it changes hands", async { tokio::join!(lost, taken) }).await;
    assert_eq!(reason, LossReason::StoreUnavailable);
    assert!(lost < got, "held by two for {:?}", lost - got);
    assert!(taken.fence() > guard.fence());
    proxies[0].heal();
    let late = guard.put("guarded", "late").await.expect_err("it holds no longer");
    assert_eq!(late.kind(), ErrorKind::SessionLost, "{late}");
}

async fn wiped(version: Version) {
    let mut zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    for _ in 0..50 {
        store.put("a", "to grow").await.expect("it is put");
    }
    let sessions = sessions(&store, SHORT);
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    let guard = mutex.lock().await.expect("it is free");
    zookeeper.wipe().await;
    soon("the loss is noticed", guard.lost()).await;
    drop(guard);
    let refused = soon("the lock is refused", async {
        loop {
            match mutex.lock().await {
                Ok(guard) => panic!("held with the fence {:?}", guard.fence()),
                Err(error) if error.kind() == ErrorKind::FenceRegression => return error,
                Err(_) => {}
            }
        }
    });
    refused.await;
}

async fn lost_reply(version: Version) {
    cut_off(version, Proxy::cut_before_reply).await;
}

async fn lost_request(version: Version) {
    cut_off(version, Proxy::cut_before_request).await;
}

/// Locks while the connections are cut at one moment after another: among them are those around the making of the place.
async fn cut_off(version: Version, cut: fn(&Proxy, usize)) {
    let zookeeper = Options::new(version).start().await;
    let (proxies, store) = through(&zookeeper, "").await;
    let sessions = sessions(&store, TTL);
    sessions.current().await.expect("a session");
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    for nth in 1..=6 {
        cut(&proxies[0], nth);
        let guard = soon("it is locked", mutex.lock()).await.expect("it is free");
        proxies[0].heal();
        let claims = mutex.holders().await.expect("it answers").len()
            + mutex.waiters().await.expect("it answers").len();
        assert_eq!(claims, 1, "no place but ours, with the connections cut at {nth}");
        guard.release().await;
        assert!(mutex.holders().await.expect("it answers").is_empty());
    }
}

async fn unknown(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let (proxies, store) = through(&zookeeper, "timeout=2s&try_timeout=500ms").await;
    store.fetch("a").await.expect("it answers");
    proxies[0].swallow_replies();
    let error = store.put("a", "1").await.expect_err("nobody answers");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    proxies[0].heal();
    let found = soon("it is read", store.fetch("a")).await.expect("it answers").expect("it took effect");
    assert_eq!(found.value, "1");
    proxies[0].refuse();
    // The first may have been on its way when the connection broke.
    store.fetch("a").await.expect_err("nobody is there");
    let error = store.put("b", "1").await.expect_err("nobody is there");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
}

/// Asked again in silence, it would meet what it made itself.
async fn uncertain(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let (proxies, store) = through(&zookeeper, "").await;
    store.put("k/first", "makes the directories").await.expect("it is put");
    for nth in 1..=4 {
        proxies[0].cut_before_reply(nth);
        match soon("it is answered", store.create(format!("k/{nth}"), "1")).await {
            Ok(write) => assert!(write.is_applied(), "the {nth}th reply was lost: {write:?}"),
            Err(error) => assert_eq!(error.outcome(), Outcome::Unknown, "{error}"),
        }
        proxies[0].heal();
    }
}

/// The client would keep what it cannot send, and send it when it is connected again.
async fn unsent(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let (proxies, store) = through(&zookeeper, "timeout=1s").await;
    let granted = store.grant(2 * TTL).await.expect("it grants");
    let bound = |name: &str| Txn::new().put_bound(&key(name), "1", &granted.id);
    proxies[0].refuse();
    // The first may have been on its way when the connection broke.
    store.commit(bound("a")).await.expect_err("nobody is there");
    let error = store.commit(bound("b")).await.expect_err("nobody is there");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
    proxies[0].heal();
    soon("it is connected", async { while store.renew(&granted.id).await.is_err() {} }).await;
    assert!(!store.exists("b").await.expect("it answers"), "it was sent after all");
}

/// Whoever drops what is not answered for long enough does not meet the same silence again.
async fn impatient(version: Version) {
    // A follower without its leader answers heartbeats all the time.
    let zookeeper = Options::new(version).members(3).lines().flag("syncLimit=200").start().await;
    let follower = (zookeeper.leader().await + 1) % 3;
    let (mut proxies, store) = through(&zookeeper, "try_timeout=60s&timeout=60s").await;
    let _theirs = proxies.remove(follower);
    // There is nobody else to connect to as yet.
    proxies.iter().for_each(Proxy::refuse);
    soon("it is put", async { while store.put("a", "1").await.is_err() {} }).await;
    proxies.iter().for_each(Proxy::heal);
    zookeeper.lines().expect("it has some").cut_off(follower);
    until("it is answered", PATIENCE, async || {
        match timeout(Duration::from_secs(1), store.fetch("a")).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(late) => Err(late.to_string()),
        }
    })
    .await;
}
