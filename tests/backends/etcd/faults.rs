//! Members that die, stop or fall silent, and operators who interfere.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{
    Coordinator, ErrorKind, LossReason, Outcome, SessionOptions, Sessions, Store, StoreExt, Txn,
};
use quorate::lock::{Guard, Mutex};
use tokio::time::{Instant, sleep};

use super::{TTL, connect, key, sessions, soon, trial};
use crate::proxy::Proxy;
use crate::servers::Cluster as _;
use crate::servers::etcd::{Etcd, Options, Version};

/// A short life: etcd grants none below 2 s.
const SHORT: Duration = Duration::from_secs(3);

/// Longer than such a session lives.
const PATIENT: &str = "try_timeout=10s&timeout=20s";

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_killed_member_costs_no_lock", killed),
        trial(version, "a_stopped_leader_costs_no_requests_for_long", stopped),
        trial(version, "a_silent_member_is_left_in_time_to_renew", silent),
        trial(version, "a_blocked_runtime_costs_no_lease_that_is_renewed_elsewhere", blocked),
        trial(version, "a_holder_that_is_cut_off_lets_go_first", partitioned),
        trial(version, "a_revoked_lease_is_noticed", revoked),
        trial(version, "a_deleted_place_is_noticed", deleted),
        trial(version, "a_wiped_store_is_noticed", wiped),
        trial(version, "a_lost_reply_leaves_no_place_behind", lost_reply),
        trial(version, "a_write_without_a_reply_is_unknown", unknown),
        trial(version, "what_the_server_finds_too_large_is_invalid", too_large),
    ]
}

fn short(store: &Arc<dyn Coordinator>) -> Sessions {
    Sessions::new(store, SessionOptions::new(SHORT)).expect("such sessions are possible")
}

async fn held(store: &Arc<dyn Coordinator>, sessions: &Sessions) -> Guard {
    Mutex::new(store, sessions, "m").expect("a name").lock().await.expect("it is free")
}

/// Whether it is held for longer than a session of this life that nobody renews.
async fn outlives(guard: &Guard, life: Duration) -> bool {
    tokio::select! {
        biased;
        _ = guard.lost() => false,
        () = sleep(life + Duration::from_secs(2)) => guard.is_held(),
    }
}

async fn through(etcd: &Etcd, options: &str) -> (Vec<Proxy>, Arc<dyn Coordinator>) {
    let proxies = Proxy::to_each(&etcd.addresses()).await;
    let addresses: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let store = connect(&format!("{}/?{options}", etcd.url_via(&addresses, ""))).await;
    (proxies, store)
}

/// Puts until that succeeds: while the cluster has no leader it may fail, with an unknown outcome.
async fn put(store: &Arc<dyn Coordinator>) {
    while let Err(error) = store.put("a", "1").await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

async fn killed(version: Version) {
    let mut etcd = Options::new(version).members(3).start().await;
    let leader = etcd.leader().await;
    // The first is the one that is asked.
    let mut addresses = etcd.addresses();
    addresses.rotate_left(leader);
    let store = connect(&etcd.url_via(&addresses, "")).await;
    // Nothing is renewed before there is another leader: for one to two seconds, and as long again with each vote that is
    // split.
    let sessions = sessions(&store);
    let guard = held(&store, &sessions).await;
    etcd.kill(leader);
    soon("a put succeeds", put(&store)).await;
    assert!(outlives(&guard, TTL).await);
}

async fn stopped(version: Version) {
    let mut etcd = Options::new(version).members(3).start().await;
    let store = connect(&etcd.url("")).await;
    let leader = etcd.leader().await;
    etcd.pause(leader);
    let put = async { while store.put("a", "1").await.is_err() {} };
    soon("a put succeeds", put).await;
    etcd.resume(leader);
    assert_eq!(store.fetch("a").await.expect("it answers").expect("it was put").value, "1");
}

async fn silent(version: Version) {
    let etcd = Options::new(version).members(3).start().await;
    // Only the session's own patience is short enough.
    let (proxies, store) = through(&etcd, PATIENT).await;
    let sessions = short(&store);
    let guard = held(&store, &sessions).await;
    proxies[0].freeze();
    assert!(outlives(&guard, SHORT).await);
    store.put("a", "1").await.expect("another member answers");
}

async fn blocked(version: Version) {
    let etcd = Options::new(version).start().await;
    let url = format!("{}/?{PATIENT}", etcd.url(""));
    let test = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = connect(&url).await;
            let options = SessionOptions::new(SHORT).own_thread(true);
            let sessions = Sessions::new(&store, options).expect("such sessions are possible");
            let guard = held(&store, &sessions).await;
            // Nothing runs on this runtime for longer than the session lives unrenewed.
            let (_silent, never) = std::sync::mpsc::sync_channel::<()>(1);
            never.recv_timeout(SHORT + Duration::from_secs(2)).expect_err("nobody sends");
            assert!(guard.is_held());
            guard.put("guarded", "1").await.expect("it holds");
        });
    });
    test.await.expect("it does not panic");
}

async fn partitioned(version: Version) {
    let etcd = Options::new(version).start().await;
    let (proxies, store) = through(&etcd, "timeout=2s").await;
    let ours = short(&store);
    let guard = held(&store, &ours).await;
    let direct = connect(&etcd.url("")).await;
    let theirs = short(&direct);
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

async fn revoked(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let sessions = sessions(&store);
    let guard = held(&store, &sessions).await;
    let lease = guard.session().to_string();
    etcd.etcdctl(&["lease", "revoke", &lease]).await.expect("it is revoked");
    let began = Instant::now();
    let reason = soon("the loss is noticed", guard.lost()).await;
    assert!(matches!(reason, LossReason::Revoked | LossReason::Deleted), "{reason:?}");
    assert!(began.elapsed() < TTL / 3, "before the next renewal, but {:?}", began.elapsed());
}

async fn deleted(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let sessions = sessions(&store);
    let guard = held(&store, &sessions).await;
    etcd.etcdctl(&["del", "--prefix", "_quorate/lock/m/"]).await.expect("it is deleted");
    assert_eq!(soon("the loss is noticed", guard.lost()).await, LossReason::Deleted);
    assert!(!guard.is_held());
}

async fn wiped(version: Version) {
    let mut etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    for _ in 0..20 {
        store.put("a", "to grow").await.expect("it is put");
    }
    let sessions = short(&store);
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    let guard = mutex.lock().await.expect("it is free");
    etcd.wipe().await;
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
    let etcd = Options::new(version).start().await;
    let (proxies, store) = through(&etcd, "").await;
    let sessions = sessions(&store);
    sessions.current().await.expect("a session");
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    for nth in 1..=4 {
        proxies[0].cut_before_reply(nth);
        let guard = soon("it is locked", mutex.lock()).await.expect("it is free");
        proxies[0].heal();
        let claims = mutex.holders().await.expect("it answers").len()
            + mutex.waiters().await.expect("it answers").len();
        assert_eq!(claims, 1, "no place but ours, with reply {nth} lost");
        guard.release().await;
        assert!(mutex.holders().await.expect("it answers").is_empty());
    }
}

async fn unknown(version: Version) {
    let etcd = Options::new(version).start().await;
    let (proxies, store) = through(&etcd, "timeout=2s&try_timeout=500ms").await;
    proxies[0].swallow_replies();
    let error = store.put("a", "1").await.expect_err("nobody answers");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    proxies[0].heal();
    assert_eq!(
        soon("it is read", store.fetch("a")).await.expect("it answers").expect("it took effect").value,
        "1"
    );
    proxies[0].refuse();
    // The first may have been on its way when the connection broke.
    store.fetch("a").await.expect_err("nobody is there");
    let error = store.put("b", "1").await.expect_err("nobody is there");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
}

async fn too_large(version: Version) {
    let etcd = Options::new(version).flag("--max-request-bytes=2000").flag("--max-txn-ops=4").start().await;
    let store = connect(&etcd.url("")).await;
    let error = store.put("a", vec![b'x'; 3000]).await.expect_err("it is too large");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotApplied), "{error}");
    let many = (0..5).fold(Txn::new(), |txn, nth| txn.put(&key(&format!("k{nth}")), "x"));
    let error = store.commit(many).await.expect_err("it is too much");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotApplied), "{error}");
    let far = vec![b'x'; store.limits().max_value + 1];
    assert_eq!(store.put("a", far).await.expect_err("it is too large").kind(), ErrorKind::InvalidInput);
}
