//! A server that dies, stops or falls silent.

use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{
    ErrorKind, LossReason, Outcome, SessionOptions, SessionStore, Sessions, Store, StoreExt, Txn,
};
use quorate::lock::{Guard, Mutex};
use tokio::time::{Instant, sleep};

use super::{SHORT, TTL, connect, held, key, sessions, soon, start, through, trial};
use crate::servers::Cluster as _;
use crate::servers::redis::Version;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_restart_with_its_data_costs_no_lock", restarted),
        trial(version, "a_wiped_store_is_noticed", wiped),
        trial(version, "an_older_copy_is_noticed", restored),
        trial(version, "what_an_older_copy_holds_is_void", void),
        trial(version, "a_stopped_server_costs_no_lock_that_it_wakes_in_time_for", stopped),
        trial(version, "a_blocked_runtime_costs_no_lease_that_is_renewed_elsewhere", blocked),
        trial(version, "a_holder_that_is_cut_off_lets_go_first", partitioned),
        trial(version, "a_lost_request_or_reply_leaves_no_place_behind", lost),
        trial(version, "a_write_without_a_reply_is_unknown", unknown),
        trial(version, "a_connection_that_broke_while_idle_costs_nothing", idle),
    ]
}

/// Whether it is held for longer than a session lives that nobody renews.
async fn outlives(guard: &Guard, ttl: Duration) -> bool {
    tokio::select! {
        biased;
        _ = guard.lost() => false,
        () = sleep(ttl + Duration::from_secs(1)) => guard.is_held(),
    }
}

async fn restarted(version: Version) {
    let mut redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let ttl = SHORT * 2;
    let guard = held(&store, &sessions(&store, ttl)).await;
    redis.restart(0).await;
    assert!(outlives(&guard, ttl).await);
    guard.put("guarded", "1").await.expect("it holds");
}

async fn wiped(version: Version) {
    let mut redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let ours = sessions(&store, SHORT * 2);
    let mutex = Mutex::new(&store, &ours, "m").expect("a name");
    let guard = mutex.lock().await.expect("it is free");
    redis.wipe().await;
    assert_eq!(soon("the loss is noticed", guard.lost()).await, LossReason::FenceRegression);
    let late = guard.put("guarded", "late").await.expect_err("it holds no longer");
    assert_eq!(late.outcome(), Outcome::NotApplied, "{late}");
    // Another session of this client is of the new life, and so are its fences, which grow all the same.
    let again = soon("it is locked again", async {
        loop {
            if let Ok(guard) = mutex.lock().await {
                return guard;
            }
        }
    });
    assert!(again.await.fence() > guard.fence());
}

async fn restored(version: Version) {
    let mut redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let ours = sessions(&store, SHORT * 3);
    ours.current().await.expect("a session that stands in the copy");
    let (logs, copy) = (redis.log_directory(), redis.log_directory().with_extension("copy"));
    redis.kill(0);
    copy_files(&logs, &copy);
    redis.restart(0).await;
    let mutex = Mutex::new(&store, &ours, "m").expect("a name");
    let guard = mutex.lock().await.expect("it is free");
    redis.kill(0);
    // As after a failover to a replica that had not heard of the lock.
    copy_files(&copy, &logs);
    redis.restart(0).await;
    assert_eq!(soon("the loss is noticed", guard.lost()).await, LossReason::FenceRegression);
    let again = soon("it is locked again", async {
        loop {
            if let Ok(guard) = mutex.lock().await {
                return guard;
            }
        }
    });
    assert!(again.await.fence() > guard.fence());
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("the directory is made");
    for file in std::fs::read_dir(from).expect("it is read") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("it is copied");
    }
}

async fn void(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let session = store.grant(TTL).await.expect("it grants").id;
    let bound = |at: &str| Txn::new().put_bound(&key(at), "1", &session);
    let made = store.commit(bound("a")).await.expect("it is put").applied().expect("nothing is checked");
    // As if a copy had been taken when the session was there, and less had been written.
    let meta = redis.cli(&["GET", "{quorate}:meta"]).await.expect("it answers");
    let (_, life) = meta.split_once('-').expect("a revision and what comes behind it");
    redis.cli(&["SET", "{quorate}:meta", &format!("1-{life}")]).await.expect("it is set");
    let told = store.put("b", "1").await.expect_err("the store went back");
    assert_eq!((told.kind(), told.outcome()), (ErrorKind::FenceRegression, Outcome::NotApplied), "{told}");
    assert!(store.put("b", "2").await.expect("it was told once").fence > made[0].fence);
    assert_eq!(store.fetch("a").await.expect("it answers"), None);
    let late = store.commit(bound("a")).await.expect_err("the session is of another life");
    assert_eq!(late.kind(), ErrorKind::SessionLost, "{late}");
}

async fn stopped(version: Version) {
    let mut redis = start(version).await;
    let store = connect(&format!("{}/?timeout=1s&try_timeout=500ms", redis.url(""))).await;
    let guard = held(&store, &sessions(&store, TTL)).await;
    redis.pause(0);
    let error = store.put("a", "1").await.expect_err("nobody answers");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    redis.resume(0);
    soon("a put succeeds", async { while store.put("a", "2").await.is_err() {} }).await;
    assert!(guard.is_held());
    guard.put("guarded", "1").await.expect("it holds");
}

async fn blocked(version: Version) {
    let redis = start(version).await;
    let url = redis.url("");
    let test = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = connect(&url).await;
            let options = SessionOptions::new(SHORT).own_thread(true);
            let guard =
                held(&store, &Sessions::new(&store, options).expect("such sessions are possible")).await;
            // Nothing runs on this runtime for longer than the session lives unrenewed.
            let (_silent, never) = std::sync::mpsc::sync_channel::<()>(1);
            never.recv_timeout(SHORT * 2).expect_err("nobody sends");
            assert!(guard.is_held());
            guard.put("guarded", "1").await.expect("it holds");
        });
    });
    test.await.expect("it does not panic");
}

async fn partitioned(version: Version) {
    let redis = start(version).await;
    let (proxy, store) = through(&redis, "timeout=2s").await;
    let guard = held(&store, &sessions(&store, SHORT)).await;
    let direct = connect(&redis.url("")).await;
    let theirs = sessions(&direct, SHORT);
    proxy.freeze();
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
    proxy.heal();
    let late = guard.put("guarded", "late").await.expect_err("it holds no longer");
    assert_eq!(late.kind(), ErrorKind::SessionLost, "{late}");
}

async fn lost(version: Version) {
    let redis = start(version).await;
    let (proxy, store) = through(&redis, "").await;
    let sessions = sessions(&store, TTL);
    sessions.current().await.expect("a session");
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    for nth in 1..=4 {
        for reply in [false, true] {
            if reply {
                proxy.cut_before_reply(nth);
            } else {
                proxy.cut_before_request(nth);
            }
            let guard = soon("it is locked", mutex.lock()).await.expect("it is free");
            proxy.heal();
            let claims = mutex.holders().await.expect("it answers").len()
                + mutex.waiters().await.expect("it answers").len();
            assert_eq!(claims, 1, "no place but ours, cut at {nth}");
            guard.release().await;
            assert!(mutex.holders().await.expect("it answers").is_empty());
        }
    }
}

async fn unknown(version: Version) {
    let redis = start(version).await;
    let (proxy, store) = through(&redis, "timeout=2s&try_timeout=500ms").await;
    store.put("a", "0").await.expect("the server knows the script by now");
    proxy.swallow_replies();
    let error = store.put("a", "1").await.expect_err("nobody answers");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    proxy.heal();
    let found = soon("it is read", store.fetch("a")).await.expect("it answers").expect("it took effect");
    assert_eq!(found.value, "1");
    proxy.refuse();
    // The first may have been on its way when the connection broke.
    store.fetch("a").await.expect_err("nobody is there");
    let error = store.put("b", "1").await.expect_err("nobody is there");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
}

async fn idle(version: Version) {
    let mut redis = start(version).await;
    let store = connect(&redis.url("")).await;
    store.put("a", "1").await.expect("it is put");
    redis.restart(0).await;
    // A write is not sent twice, so it must not be sent on the broken connection.
    store.put("a", "2").await.expect("it is put on another");
}
