//! Servers that die, stop or fall silent, and operators who interfere.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{Coordinator, Error, ErrorKind, LossReason, Outcome, SessionId, Store, StoreExt, Txn};
use quorate::lock::{Guard, Mutex};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{TTL, connect, key, sessions, soon, trial, within};
use crate::proxy::Proxy;
use crate::servers::Cluster as _;
use crate::servers::consul::{Consul, Options, Version};

/// Longer than a session's own patience.
const PATIENT: &str = "try_timeout=30s&timeout=60s";

/// How long the server may let a session stand that nobody renews, and how long whatever follows may take.
const EXPIRY: Duration = Duration::from_secs(2 * TTL.as_secs() + 20);

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_killed_server_costs_no_lock", killed),
        trial(version, "a_stopped_leader_costs_no_requests_for_long", stopped),
        trial(version, "a_silent_agent_is_left_in_time_to_renew", silent),
        trial(version, "a_blocked_runtime_costs_no_session_that_is_renewed_elsewhere", blocked),
        trial(version, "a_holder_that_is_cut_off_lets_go_first", partitioned),
        trial(version, "a_destroyed_session_is_noticed", destroyed),
        trial(version, "a_deregistered_node_is_noticed", deregistered),
        trial(version, "a_deleted_place_is_noticed", deleted),
        trial(version, "a_place_that_others_write_to_stays_ours", overwritten),
        trial(version, "a_wiped_store_is_noticed", wiped),
        trial(version, "a_lost_reply_leaves_no_place_behind", lost_reply),
        trial(version, "a_lost_request_leaves_no_place_behind", lost_request),
        trial(version, "a_write_without_a_reply_is_unknown", unknown),
        trial(version, "what_is_too_large_is_refused_before_it_is_sent", too_large),
        trial(version, "a_native_lock_is_refused", native),
    ]
}

async fn held(store: &Arc<dyn Coordinator>, sessions: &quorate::kv::Sessions) -> Guard {
    Mutex::new(store, sessions, "m").expect("a name").lock().await.expect("it is free")
}

/// Whether it is held for longer than its holder could believe without a renewal.
async fn outlives(guard: &Guard) -> bool {
    tokio::select! {
        biased;
        _ = guard.lost() => false,
        () = sleep(TTL + Duration::from_secs(2)) => guard.is_held(),
    }
}

async fn through(consul: &Consul, options: &str) -> (Vec<Proxy>, Arc<dyn Coordinator>) {
    let proxies = Proxy::to_each(&consul.addresses()).await;
    let addresses: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let store = connect(&format!("{}/?{options}", consul.url_via(&addresses, ""))).await;
    (proxies, store)
}

/// Puts until that succeeds: while the servers have no leader it may fail.
async fn put(store: &Arc<dyn Coordinator>) {
    while let Err(error) = store.put("a", "1").await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

async fn killed(version: Version) {
    let mut consul = Options::new(version).members(3).start().await;
    let leader = consul.leader().await;
    // The session is made through the server that is to die.
    let mut addresses = consul.addresses();
    addresses.rotate_left(leader);
    let store = connect(&consul.url_via(&addresses, "")).await;
    let sessions = sessions(&store);
    let guard = held(&store, &sessions).await;
    consul.kill(leader);
    soon("a put succeeds", put(&store)).await;
    assert!(outlives(&guard).await);
}

async fn stopped(version: Version) {
    let mut consul = Options::new(version).members(3).start().await;
    let store = connect(&consul.url("")).await;
    let leader = consul.leader().await;
    consul.pause(leader);
    let put = async { while store.put("a", "1").await.is_err() {} };
    soon("a put succeeds", put).await;
    consul.resume(leader);
    let found = soon("it is read", async {
        loop {
            if let Ok(found) = store.fetch("a").await {
                return found;
            }
        }
    });
    assert_eq!(found.await.expect("it was put").value, "1");
}

async fn silent(version: Version) {
    let consul = Options::new(version).members(3).start().await;
    // Only the session's own patience is short enough.
    let (proxies, store) = through(&consul, PATIENT).await;
    let sessions = sessions(&store);
    let guard = held(&store, &sessions).await;
    proxies[0].freeze();
    assert!(outlives(&guard).await);
    store.put("a", "1").await.expect("another agent answers");
}

async fn blocked(version: Version) {
    let consul = Options::new(version).start().await;
    let url = format!("{}/?{PATIENT}", consul.url(""));
    let test = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = connect(&url).await;
            let options = quorate::kv::SessionOptions::new(TTL).own_thread(true);
            let sessions = quorate::kv::Sessions::new(&store, options).expect("such sessions are possible");
            let guard = held(&store, &sessions).await;
            // Nothing runs on this runtime for longer than the holder could believe without a renewal.
            let (_silent, never) = std::sync::mpsc::sync_channel::<()>(1);
            never.recv_timeout(TTL + Duration::from_secs(2)).expect_err("nobody sends");
            assert!(guard.is_held());
            guard.put("guarded", "1").await.expect("it holds");
        });
    });
    test.await.expect("it does not panic");
}

async fn partitioned(version: Version) {
    let consul = Options::new(version).start().await;
    let (proxies, store) = through(&consul, "timeout=2s").await;
    let ours = sessions(&store);
    let guard = held(&store, &ours).await;
    let direct = connect(&consul.url("")).await;
    let theirs = sessions(&direct);
    proxies[0].freeze();
    let lost = async {
        let reason = guard.lost().await;
        (reason, Instant::now())
    };
    let taken = async {
        let taken = held(&direct, &theirs).await;
        (taken, Instant::now())
    };
    let both = async { tokio::join!(lost, taken) };
    let ((reason, lost), (taken, got)) = within("it changes hands", EXPIRY, both).await;
    assert_eq!(reason, LossReason::StoreUnavailable);
    assert!(lost < got, "held by two for {:?}", lost - got);
    assert!(taken.fence() > guard.fence());
    proxies[0].heal();
    let late = guard.put("guarded", "late").await.expect_err("it holds no longer");
    assert_eq!(late.kind(), ErrorKind::SessionLost, "{late}");
}

/// Noticed by the place, and not by the next renewal.
async fn noticed(guard: &Guard) {
    let began = Instant::now();
    let reason = soon("the loss is noticed", guard.lost()).await;
    assert!(matches!(reason, LossReason::Revoked | LossReason::Deleted), "{reason:?}");
    assert!(began.elapsed() < TTL / 3, "before the next renewal, but {:?}", began.elapsed());
    assert!(!guard.is_held());
}

async fn destroyed(version: Version) {
    let consul = Options::new(version).start().await;
    let store = connect(&consul.url("")).await;
    let sessions = sessions(&store);
    let guard = held(&store, &sessions).await;
    let session = guard.session().to_string();
    consul.api("PUT", &format!("/v1/session/destroy/{session}"), "").await;
    noticed(&guard).await;
}

async fn deregistered(version: Version) {
    let consul = Options::new(version).start().await;
    let store = connect(&consul.url("")).await;
    let sessions = sessions(&store);
    let guard = held(&store, &sessions).await;
    consul.api("PUT", "/v1/catalog/deregister", r#"{"Node":"quorate"}"#).await;
    noticed(&guard).await;
    // The node is registered again.
    held(&store, &sessions).await.release().await;
}

async fn deleted(version: Version) {
    let consul = Options::new(version).start().await;
    let store = connect(&consul.url("")).await;
    let sessions = sessions(&store);
    let guard = held(&store, &sessions).await;
    consul.consul(0, &["kv", "delete", "-recurse", "_quorate/lock/m/"]).await.expect("it is deleted");
    noticed(&guard).await;
}

/// A plain write keeps the session, but resets the index that Consul offers as a fence.
async fn overwritten(version: Version) {
    let consul = Options::new(version).start().await;
    let store = connect(&consul.url("")).await;
    let sessions = sessions(&store);
    let guard = held(&store, &sessions).await;
    let places = consul.api("GET", "/v1/kv/_quorate/lock/m/?keys", "").await;
    let place = places[0].as_str().expect("a place").to_owned();
    consul.consul(0, &["kv", "put", &place, "theirs"]).await.expect("it is put");
    let found = consul.api("GET", &format!("/v1/kv/{place}"), "").await;
    assert_eq!(found[0]["LockIndex"], Value::from(0));
    guard.put("guarded", "1").await.expect("it is held");
    guard.put("guarded", "2").await.expect("it is held");
    let before = guard.fence();
    assert!(guard.is_held());
    guard.release().await;
    assert!(held(&store, &sessions).await.fence() > before);
}

async fn wiped(version: Version) {
    let mut consul = Options::new(version).start().await;
    let store = connect(&consul.url("")).await;
    for _ in 0..100 {
        store.put("a", "to grow").await.expect("it is put");
    }
    let sessions = sessions(&store);
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    let guard = mutex.lock().await.expect("it is free");
    consul.wipe().await;
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
    one_is_lost(version, Proxy::cut_before_reply).await;
}

async fn lost_request(version: Version) {
    one_is_lost(version, Proxy::cut_before_request).await;
}

async fn one_is_lost(version: Version, cut: fn(&Proxy, usize)) {
    let consul = Options::new(version).start().await;
    let (proxies, store) = through(&consul, "").await;
    let sessions = sessions(&store);
    sessions.current().await.expect("a session");
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    for nth in 1..=4 {
        cut(&proxies[0], nth);
        let guard = soon("it is locked", mutex.lock()).await.expect("it is free");
        proxies[0].heal();
        let claims = mutex.holders().await.expect("it answers").len()
            + mutex.waiters().await.expect("it answers").len();
        assert_eq!(claims, 1, "no place but ours, with number {nth} lost");
        guard.release().await;
        assert!(mutex.holders().await.expect("it answers").is_empty());
    }
}

fn is(error: &Error, kind: ErrorKind, outcome: Outcome) {
    assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{error}");
}

async fn unknown(version: Version) {
    let consul = Options::new(version).start().await;
    let (proxies, store) = through(&consul, "timeout=2s&try_timeout=500ms").await;
    proxies[0].swallow_replies();
    let error = store.put("a", "1").await.expect_err("nobody answers");
    is(&error, ErrorKind::Unavailable, Outcome::Unknown);
    proxies[0].heal();
    let found = soon("it is read", store.fetch("a")).await.expect("it answers");
    assert_eq!(found.expect("it took effect").value, "1");
    proxies[0].refuse();
    // The first may have been on its way when the connection broke.
    store.fetch("a").await.expect_err("nobody is there");
    let error = store.put("b", "1").await.expect_err("nobody is there");
    is(&error, ErrorKind::Unavailable, Outcome::NotApplied);
}

async fn too_large(version: Version) {
    let consul = Options::new(version).start().await;
    let (proxies, store) = through(&consul, "").await;
    proxies[0].refuse();
    let limits = store.limits();
    let error = store.put("a", vec![b'x'; limits.max_value + 1]).await.expect_err("it is too large");
    is(&error, ErrorKind::InvalidInput, Outcome::NotApplied);
    let many = (0..=limits.max_txn_ops).fold(Txn::new(), |txn, nth| txn.put(&key(&format!("k{nth}")), "x"));
    is(&store.commit(many).await.expect_err("it is too much"), ErrorKind::InvalidInput, Outcome::NotApplied);
    // Each byte of such a key takes three on the server.
    let long = |nth| key(&format!("{}{nth}", "ü".repeat(limits.max_key / 2 - 2)));
    let wide = (0..15).fold(Txn::new(), |txn, nth| txn.absent(&long(nth)).delete(&long(nth)));
    let wide = wide.put(&key("a"), vec![b'x'; limits.max_value]);
    is(&store.commit(wide).await.expect_err("it is too much"), ErrorKind::InvalidInput, Outcome::NotApplied);
    let error = store.grant(Duration::from_secs(9)).await.expect_err("it is too short");
    is(&error, ErrorKind::InvalidInput, Outcome::NotApplied);
}

async fn native(version: Version) {
    let consul = Options::new(version).start().await;
    let store = connect(&consul.url("")).await;
    let sessions = sessions(&store);
    let mutex = Mutex::native(&store, &sessions, key("jobs"));
    let error = mutex.lock().await.expect_err("there is none");
    is(&error, ErrorKind::Unsupported, Outcome::NotApplied);
    assert!(error.to_string().contains("no queue of its own"), "{error}");
    // A session of another kind of store is none here.
    let bound = Txn::new().put_bound(&key("a"), "1", &SessionId::new("694d8f2a77b01c05"));
    is(&store.commit(bound).await.expect_err("it is none"), ErrorKind::SessionLost, Outcome::NotApplied);
}
