//! Locks under dropped futures and lost replies, and what they cost.
#![cfg(feature = "testing")]
#![expect(clippy::async_yields_async, reason = "the future is made here, and polled and dropped elsewhere")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::backends::Memory;
use crate::kv::chaos::{Chaos, ChaosControl, Fault};
use crate::kv::counting::{Counting, Operation};
use crate::kv::dropping::{at_every_await, empties};
use crate::kv::{Consistency, Fence, Queue, SessionOptions, SessionState, Sessions, Store, Txn};

const TTL: Duration = Duration::from_secs(10);
/// Well inside the ttl: what is left is removed, not expired.
const SOON: Duration = Duration::from_secs(1);

struct Fixture {
    memory: Memory,
    control: ChaosControl,
    sessions: Sessions,
    mutex: Mutex<Chaos<Memory>>,
    /// Another client, without trouble.
    other: Mutex<Memory>,
    queue: Queue,
}

fn fixture() -> Fixture {
    let memory = Memory::new();
    let (chaos, control) = Chaos::new(memory.client());
    let chaos = Arc::new(chaos);
    let sessions = Sessions::new(&chaos, SessionOptions::new(TTL)).unwrap();
    let mutex = Mutex::new(&chaos, &sessions, "m").unwrap();
    let calm = Arc::new(memory.client());
    let other = Mutex::new(&calm, &Sessions::new(&calm, SessionOptions::new(TTL)).unwrap(), "m").unwrap();
    Fixture { memory, control, sessions, mutex, other, queue: Queue::lock("m").unwrap() }
}

impl Fixture {
    /// An operator deletes all places, and the next gets the lock: whoever is still on its word must not be granted it.
    async fn pass_by(&self, granted: &AtomicBool) -> Fence {
        for place in self.memory.list(self.queue.key(), Consistency::Linearizable).await.unwrap() {
            assert!(self.memory.commit(Txn::new().delete(&place.key)).await.unwrap().is_applied());
        }
        let guard = self.mutex.clone().lock().await.unwrap();
        tokio::time::sleep(2 * SOON).await;
        assert!(!granted.load(Ordering::Relaxed), "granted on the word of an answer that was out of date");
        let fence = guard.fence();
        guard.release().await;
        fence
    }

    async fn nothing_left(&self, what: &str) {
        empties(&self.memory, self.queue.key(), SOON, what).await;
        let state = self.sessions.state();
        assert!(state.is_none_or(|state| state == SessionState::Live), "{what}: the session was sacrificed");
    }
}

#[tokio::test(start_paused = true)]
async fn lock_dropped_at_any_await_leaves_nothing() {
    for fault in [None, Some(Fault::Before), Some(Fault::After), Some(Fault::Lost), Some(Fault::Late)] {
        let fixture = fixture();
        fixture.control.yields(2);
        let awaits = at_every_await(
            async |_| {
                if let Some(fault) = fault {
                    fixture.control.next(Operation::Enter, fault);
                }
                async { fixture.mutex.lock().await.map(drop) }
            },
            async |polls| fixture.nothing_left(&format!("{fault:?}, dropped after {polls} polls")).await,
        )
        .await;
        assert!(awaits > 3, "only {awaits} awaits");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_lock_dropped_at_any_await_leaves_nothing_and_delays_nobody() {
    for fault in [None, Some(Fault::After)] {
        let fixture = fixture();
        fixture.control.yields(2);
        let awaits = at_every_await(
            async |_| {
                let held = fixture.other.lock().await.unwrap();
                tokio::spawn(async move {
                    tokio::time::sleep(SOON).await;
                    held.release().await;
                });
                if let Some(fault) = fault {
                    fixture.control.next(Operation::Enter, fault);
                    fixture.control.next(Operation::Ahead, fault);
                }
                async { fixture.mutex.lock().await.map(drop) }
            },
            async |polls| {
                let next = fixture.other.lock_timeout(2 * SOON).await.unwrap();
                assert!(next.is_some(), "dropped after {polls} polls, it stood in the way");
                drop(next);
                fixture.nothing_left(&format!("dropped after {polls} polls")).await;
            },
        )
        .await;
        assert!(awaits > 6, "only {awaits} awaits");
    }
}

#[tokio::test(start_paused = true)]
async fn release_and_try_lock_dropped_at_any_await_leave_nothing() {
    let fixture = fixture();
    fixture.control.yields(2);
    at_every_await(
        async |_| {
            let guard = fixture.mutex.lock().await.unwrap();
            fixture.control.next(Operation::Leave, Fault::After);
            async move { guard.release().await }
        },
        async |polls| fixture.nothing_left(&format!("release, dropped after {polls} polls")).await,
    )
    .await;
    at_every_await(
        async |_| {
            let held = fixture.other.lock().await.unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(SOON / 2).await;
                drop(held);
            });
            async { fixture.mutex.try_lock().await.map(drop) }
        },
        async |polls| fixture.nothing_left(&format!("try_lock, dropped after {polls} polls")).await,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_neither_loses_the_lock_nor_leaves_an_orphan() {
    for fault in [Fault::After, Fault::Lost, Fault::Late, Fault::Twice] {
        let fixture = fixture();
        fixture.control.next(Operation::Enter, fault);
        let guard = fixture.mutex.lock().await.unwrap();
        assert_eq!(fixture.mutex.waiters().await.unwrap(), [], "{fault:?}: it stands there twice");
        assert_eq!(fixture.mutex.holders().await.unwrap()[0].fence, guard.fence());
        fixture.control.next(Operation::Leave, fault);
        assert_eq!(guard.release().await, Release::Released, "{fault:?}");
        fixture.nothing_left(&format!("{fault:?}")).await;
        assert_eq!(fixture.control.struck().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_after_the_release_is_swept_up() {
    let fixture = fixture();
    // The first try is held up on its way, the second is answered, and the guard is long released when the first arrives.
    let guard = {
        fixture.control.next(Operation::Enter, Fault::Lost);
        fixture.mutex.lock().await.unwrap()
    };
    let place = guard.held().place().clone();
    guard.release().await;
    let late = fixture.memory.client();
    crate::kv::QueueStore::enter(&late, &place.queue, &place.session, &place.ticket, "".into(), 0)
        .await
        .unwrap();
    fixture.nothing_left("a late request").await;
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_used_again_once_all_that_was_sent_with_it_was_answered() {
    let fixture = fixture();
    let lock = async || fixture.mutex.lock().await.unwrap();
    let ticket = |guard: &Guard<_>| guard.held().place().ticket;
    let first = lock().await;
    let (used, fence) = (ticket(&first), first.fence());
    assert_eq!(first.release().await, Release::Released);
    let again = lock().await;
    assert_eq!(ticket(&again), used, "in some stores a lock gets slower with every name");
    assert!(again.fence() > fence);
    let waiting = async {
        let guard = lock().await;
        let theirs = ticket(&guard);
        drop(guard);
        theirs
    };
    let release = async {
        tokio::time::sleep(SOON).await;
        again.release().await;
    };
    let (other, ()) = tokio::join!(waiting, release);
    assert_ne!(other, used, "two places at once");
    fixture.nothing_left("a lock and one that waited").await;
    let last = lock().await;
    assert_eq!(ticket(&last), other, "a guard that was dropped gives its ticket back too");
    last.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_not_used_again_while_a_request_with_it_may_be_under_way() {
    let fixture = fixture();
    fixture.control.yields(2);
    let mut seen = std::collections::HashSet::new();
    let mut is_new = async |what: &str| {
        let guard = fixture.mutex.lock().await.unwrap();
        assert!(seen.insert(guard.held().place().ticket), "used again after {what}");
        guard
    };
    for fault in [Fault::After, Fault::Lost, Fault::Late] {
        fixture.control.next(Operation::Leave, fault);
        is_new("nothing").await.release().await;
        fixture.control.next(Operation::Enter, fault);
        is_new("a release without an answer").await.release().await;
    }
    let guard = is_new("an entering without an answer").await;
    // Two ask for the removal at once, and only one of them is answered first.
    tokio::join!(guard.leave(), guard.leave());
    drop(guard);
    let guard = is_new("two releases at once").await;
    assert!(tokio::time::timeout(Duration::ZERO, guard.release()).await.is_err());
    fixture.nothing_left("a release that was dropped").await;
    let guard = is_new("a release that was dropped").await;
    let place = guard.held().place().clone();
    assert!(fixture.memory.commit(Txn::new().delete(&place.key)).await.unwrap().is_applied());
    guard.release().await;
    is_new("a place that somebody deleted").await.release().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_overtaken_on_its_way_grants_nothing() {
    let fixture = fixture();
    let delay = Fault::Delay { before: Duration::ZERO, after: SOON };
    fixture.control.next(Operation::Enter, delay);
    fixture.control.pass(Operation::Enter, 2); // The overtaker, and the slow one again.
    fixture.control.next(Operation::Enter, delay);
    let granted = AtomicBool::new(false);
    let overtake = async || {
        while fixture.mutex.holders().await.unwrap().is_empty() {
            tokio::time::sleep(SOON / 10).await;
        }
        fixture.pass_by(&granted).await
    };
    let late = async {
        let guard = fixture.mutex.lock().await.unwrap();
        granted.store(true, Ordering::Relaxed);
        guard
    };
    let (late, fence) = tokio::join!(late, overtake());
    assert!(late.fence() > fence);
    late.release().await;
    granted.store(false, Ordering::Relaxed);
    let (tried, _) = tokio::join!(async { fixture.mutex.try_lock().await.unwrap() }, overtake());
    assert!(tried.is_none());
    assert_eq!(fixture.control.struck().len(), 2);
    fixture.nothing_left("two that were overtaken").await;
}

#[tokio::test(start_paused = true)]
async fn a_look_that_was_overtaken_on_its_way_grants_nothing() {
    let fixture = fixture();
    let held = fixture.other.lock().await.unwrap();
    fixture.control.next(Operation::Ahead, Fault::Delay { before: Duration::ZERO, after: SOON });
    let granted = AtomicBool::new(false);
    let waiter = async {
        let guard = fixture.mutex.lock().await.unwrap();
        granted.store(true, Ordering::Relaxed);
        guard
    };
    let overtake = async {
        while fixture.other.waiters().await.unwrap().is_empty() {
            tokio::time::sleep(SOON / 10).await;
        }
        held.release().await;
        // The waiter has looked, and its answer is on its way.
        tokio::time::sleep(SOON / 10).await;
        fixture.pass_by(&granted).await
    };
    let (late, fence) = tokio::join!(waiter, overtake);
    assert!(late.fence() > fence);
    assert_eq!(fixture.control.struck().len(), 1);
    late.release().await;
    fixture.nothing_left("one that was overtaken").await;
}

#[tokio::test(start_paused = true)]
async fn a_place_made_twice_is_swept_up_though_its_removal_was_not_answered() {
    let fixture = fixture();
    let guard = fixture.mutex.lock().await.unwrap();
    let place = guard.held().place().clone();
    // An operator deletes it, and the request that made it arrives once more.
    assert!(fixture.memory.commit(Txn::new().delete(&place.key)).await.unwrap().is_applied());
    let late = fixture.memory.client();
    crate::kv::QueueStore::enter(&late, &place.queue, &place.session, &place.ticket, "".into(), 0)
        .await
        .unwrap();
    fixture.control.next(Operation::Leave, Fault::After);
    guard.release().await;
    fixture.nothing_left("a place that was made twice").await;
    assert_eq!(fixture.control.struck().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn acquire_and_release_cost_one_request_each() {
    let store = Arc::new(Counting::new(Memory::new()));
    let sessions = Sessions::new(&store, SessionOptions::new(TTL)).unwrap();
    sessions.current().await.unwrap();
    let mutex = Mutex::new(&store, &sessions, "m").unwrap();
    store.reset();
    let guard = mutex.lock().await.unwrap();
    let counts = store.reset();
    assert_eq!((counts.total(), counts.of(Operation::Enter)), (1, 1), "{counts:?}");
    guard.release().await;
    let counts = store.counts();
    // The watch on the own place starts after the acquire, and nobody waits for it.
    assert_eq!(
        (counts.total() - counts.of(Operation::Watch), counts.of(Operation::Leave)),
        (1, 1),
        "{counts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_costs_the_same_however_many_wait() {
    for waiting in [2, 16, 64] {
        let store = Arc::new(Counting::new(Memory::new()));
        let sessions = Sessions::new(&store, SessionOptions::new(TTL)).unwrap();
        let mutex = Mutex::new(&store, &sessions, "m").unwrap();
        let first = mutex.lock().await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..waiting {
            let mutex = mutex.clone();
            tasks.spawn(async move { mutex.lock().await.unwrap().release().await });
        }
        while mutex.waiters().await.unwrap().len() < waiting {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        store.reset();
        first.release().await;
        while let Some(done) = tasks.join_next().await {
            assert_eq!(done.unwrap(), Release::Released);
        }
        let counts = store.counts();
        // A release and the one look of the next; and perhaps a watch on the place, which nobody waits for.
        let (n, watches) = (waiting as u64, counts.of(Operation::Watch));
        assert_eq!((counts.of(Operation::Leave), counts.of(Operation::Ahead)), (n + 1, n), "{counts:?}");
        assert!(watches <= n && counts.total() == 2 * n + 1 + watches, "{counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_locks_cost_one_renewal_a_period() {
    let store = Arc::new(Counting::new(Memory::new()));
    let sessions = Sessions::new(&store, SessionOptions::new(TTL)).unwrap();
    let mut guards = Vec::new();
    for nth in 0..10_000 {
        guards.push(Mutex::new(&store, &sessions, &nth.to_string()).unwrap().lock().await.unwrap());
    }
    tokio::time::sleep(SOON).await; // Lets the watches on the places start.
    store.reset();
    tokio::time::sleep(2 * TTL).await;
    let counts = store.counts();
    assert_eq!(counts.total(), counts.of(Operation::Renew), "{counts:?}");
    assert!((5..=7).contains(&counts.total()), "two ttls are six periods: {counts:?}");
    assert!(guards.iter().all(Guard::is_held));
    drop(guards);
    empties(&*store, &crate::kv::Key::decode("_quorate/lock").unwrap(), SOON, "dropped guards").await;
}
