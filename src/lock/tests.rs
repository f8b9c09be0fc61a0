use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::backends::Memory;
use crate::kv::{ErrorKind, Fence, LossReason, Outcome, SessionOptions, Sessions, StoreExt, Txn, Write};

const TTL: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(10);

fn sessions(store: &Memory) -> Sessions {
    Sessions::new(&Arc::new(store.clone()), SessionOptions::new(TTL)).unwrap()
}

fn mutex(store: &Memory, name: &str) -> Mutex<Memory> {
    Mutex::new(&Arc::new(store.clone()), &sessions(store), name).unwrap()
}

async fn waiters(mutex: &Mutex<Memory>, count: usize) {
    while mutex.waiters().await.unwrap().len() != count {
        tokio::time::sleep(SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_holds_at_a_time_and_fences_grow() {
    let store = Memory::new();
    let inside = Arc::new(AtomicUsize::new(0));
    let last = Arc::new(std::sync::Mutex::new(Fence::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        // Every other pair of tasks shares a session: equal owners exclude each other too.
        let mutex = mutex(&store, "m");
        for _ in 0..2 {
            let (mutex, inside, last) = (mutex.clone(), Arc::clone(&inside), Arc::clone(&last));
            tasks.spawn(async move {
                for _ in 0..5 {
                    let guard = mutex.lock().await.unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two inside");
                    let before = std::mem::replace(&mut *last.lock().unwrap(), guard.fence());
                    assert!(before < guard.fence());
                    tokio::time::sleep(SOON).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert_eq!(guard.release().await, Release::Released);
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_come_in_turn() {
    let store = Memory::new();
    let first = mutex(&store, "m").lock().await.unwrap();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0..10 {
        let (mutex, order) = (mutex(&store, "m"), Arc::clone(&order));
        let probe = mutex.clone();
        tasks.spawn(async move {
            let _guard = mutex.lock().await.unwrap();
            order.lock().unwrap().push(turn);
        });
        waiters(&probe, turn + 1).await;
    }
    drop(first);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn try_and_timeout_leave_nothing_behind() {
    let store = Memory::new();
    let mutex = mutex(&store, "m");
    let guard = mutex.try_lock().await.unwrap().unwrap();
    assert!(mutex.try_lock().await.unwrap().is_none());
    assert!(mutex.lock_timeout(TTL * 3).await.unwrap().is_none());
    waiters(&mutex, 0).await;
    assert_eq!(mutex.holders().await.unwrap()[0].fence, guard.fence());
    drop(guard);
    assert!(mutex.lock_timeout(TTL).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_session_ends_never_gets_the_lock() {
    let store = Memory::new();
    let holder = mutex(&store, "m");
    let guard = holder.lock().await.unwrap();
    let own = sessions(&store);
    let waiter = Mutex::new(&Arc::new(store.clone()), &own, "m").unwrap();
    let waiting = tokio::spawn(async move { waiter.lock().await.map(drop) });
    waiters(&holder, 1).await;
    store.end_session(own.peek().unwrap().id());
    guard.release().await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::SessionLost, Outcome::NotApplied));
    assert!(holder.try_lock().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_holder_cut_off_knows_before_the_next_one_holds() {
    let store = Memory::new();
    let cut = store.client();
    let guard = mutex(&cut, "m").lock().await.unwrap();
    let next = mutex(&store, "m");
    let next = tokio::spawn(async move {
        let guard = next.lock().await.unwrap();
        (guard.fence(), guard)
    });
    cut.freeze();
    assert_eq!(guard.lost().await, LossReason::StoreUnavailable);
    assert!(!next.is_finished());
    let (fence, _next) = next.await.unwrap();
    assert!(fence > guard.fence());
    cut.thaw();
    assert!(!guard.is_held());
    let late = guard.put("data", "old").await.unwrap_err();
    assert_eq!((late.kind(), late.outcome()), (ErrorKind::SessionLost, Outcome::NotApplied));
    assert!(matches!(guard.release().await, Release::AlreadyLost(LossReason::StoreUnavailable)));
}

#[tokio::test(start_paused = true)]
async fn a_place_deleted_or_overwritten_by_hand_is_lost() {
    for overwrite in [false, true] {
        let store = Memory::new();
        let mutex = mutex(&store, "m");
        let guard = mutex.lock().await.unwrap();
        let place = guard.held().place().key.clone();
        if overwrite {
            store.put(&place, "mine now").await.unwrap();
        } else {
            store.delete(&place).await.unwrap();
        }
        assert_eq!(guard.lost().await, LossReason::Deleted);
        assert!(!guard.is_held());
        assert!(mutex.try_lock().await.unwrap().is_some(), "the session lives on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_place_deleted_by_hand_is_taken_again() {
    let store = Memory::new();
    let holder = mutex(&store, "m");
    let guard = holder.lock().await.unwrap();
    let waiter = mutex(&store, "m");
    let probe = waiter.clone();
    let waiting = tokio::spawn(async move { waiter.lock().await });
    waiters(&probe, 1).await;
    let queue = crate::kv::Queue::lock("m").unwrap();
    let entries =
        crate::kv::Store::list(&store, queue.key(), crate::kv::Consistency::Linearizable).await.unwrap();
    let place = entries.iter().max_by_key(|entry| entry.fence).unwrap();
    store.delete(&place.key).await.unwrap();
    guard.release().await;
    assert!(waiting.await.unwrap().unwrap().is_held());
}

#[tokio::test(start_paused = true)]
async fn a_guarded_write_is_decided_by_the_store() {
    let store = Memory::new();
    let guard = mutex(&store, "m").lock().await.unwrap();
    guard.put("data", "1").await.unwrap();
    let lost_race =
        guard.commit(Txn::new().absent(&"data".parse().unwrap()).put(&"x".parse().unwrap(), "1")).await;
    assert!(matches!(lost_race.unwrap(), Write::Rejected(_)), "a check of one's own is no loss");
    assert!(guard.is_held());
    // Deleted behind our back, and nobody has told us yet: the store refuses all the same.
    store.cut_watches();
    store.delete(&guard.held().place().key).await.unwrap();
    assert!(guard.is_held());
    let error = guard.put("data", "2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionLost);
    assert!(!guard.is_held());
    assert_eq!(store.fetch("data").await.unwrap().unwrap().value, "1");
}

#[tokio::test(start_paused = true)]
async fn a_guard_dropped_outside_a_runtime_is_released() {
    let store = Memory::new();
    let mutex = mutex(&store, "m");
    let guard = mutex.lock().await.unwrap();
    std::thread::spawn(move || drop(guard)).join().unwrap();
    assert!(mutex.lock_timeout(SOON).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_its_data_is_noticed() {
    let store = Memory::new();
    let sessions = sessions(&store);
    let mutex = Mutex::new(&Arc::new(store.clone()), &sessions, "m").unwrap();
    for _ in 0..3 {
        mutex.lock().await.unwrap().release().await;
    }
    store.wipe();
    sessions.peek().unwrap().lost().await;
    let error = mutex.lock().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FenceRegression, "{error}");
    assert_eq!(
        sessions.state(),
        Some(crate::kv::SessionState::Lost(LossReason::FenceRegression)),
        "nothing held with it is believed any more"
    );
}

#[tokio::test(start_paused = true)]
async fn similar_names_are_different_locks() {
    let store = Memory::new();
    let names = ["a", "a/b", "A", "a%2Fb", " a", "../a", "_quorate"];
    let mut held = Vec::new();
    for name in names {
        let mutex = mutex(&store, name);
        assert_eq!(mutex.name(), name);
        held.push(mutex.try_lock().await.unwrap().expect(name));
    }
    for name in ["", "a\0b"] {
        let error = Mutex::new(&Arc::new(store.clone()), &sessions(&store), name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    for (name, guard) in names.iter().zip(held) {
        assert_eq!(guard.release().await, Release::Released, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn works_through_a_trait_object() {
    let store: Arc<dyn crate::kv::Coordinator> = Arc::new(Memory::new());
    let sessions = Sessions::new(&store, SessionOptions::new(TTL)).unwrap();
    let mutex: Mutex = Mutex::new(&store, &sessions, "m").unwrap();
    let guard: Guard = mutex.lock().await.unwrap();
    assert!(guard.is_held());
}
