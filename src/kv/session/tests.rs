use std::sync::Mutex as StdMutex;
use std::thread::{self, ThreadId};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use super::adoption::MOMENT;
use super::*;
use crate::backends::Memory;
use crate::kv::{
    Consistency, Entry, ErrorKind, Grant, Key, Limits, Outcome, Renewal, Store, StoreExt, SystemClock, Txn,
    Write,
};

const TTL: Duration = Duration::from_secs(10);

async fn open(store: &Memory) -> Session {
    Session::open(&Arc::new(store.clone()), SessionOptions::new(TTL)).await.unwrap()
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn is_renewed_as_long_as_a_handle_lives() {
    let store = Memory::new();
    let session = open(&store).await;
    store.put_ephemeral("a", "1", &session).await.unwrap();
    pass(10 * TTL).await;
    assert_eq!(session.state(), SessionState::Live);
    assert!(session.age() <= TTL / 3 + Duration::from_secs(1));
    assert!(store.exists("a").await.unwrap());
    let last = session.clone();
    drop(session);
    pass(2 * TTL).await;
    assert!(last.is_live() && store.exists("a").await.unwrap());
    drop(last);
    pass(Duration::from_millis(1)).await;
    assert!(!store.exists("a").await.unwrap(), "the last handle ends it at once");
    assert_eq!(store.sessions(), []);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_it_is_suspect_then_lost_a_margin_before_its_end() {
    let store = Memory::new();
    let other = store.client();
    let session = open(&store).await;
    other.put("a", "1").await.unwrap();
    let clock = Arc::clone(session.core().clock());
    let opened = clock.now();
    store.freeze();
    pass(TTL * 6 / 10).await;
    assert_eq!(session.state(), SessionState::Suspect, "a renewal is overdue");
    assert_eq!(session.lost().await, LossReason::StoreUnavailable);
    let lost_after = clock.now().since(opened);
    assert!(lost_after >= TTL * 9 / 10 && lost_after < TTL, "after {lost_after:?}");
    assert_eq!(session.remaining(), Duration::ZERO);
    assert!(
        other.sessions().contains(session.id()),
        "the store still has it: the loss was told before it was real"
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_renewal_never_revives_it() {
    let store = Memory::new();
    let session = open(&store).await;
    store.freeze();
    session.lost().await;
    store.thaw();
    pass(TTL * 2).await;
    assert_eq!(session.state(), SessionState::Lost(LossReason::StoreUnavailable));
    assert_eq!(store.sessions(), []);
}

#[tokio::test(start_paused = true)]
async fn once_lost_it_is_left_to_its_end_so_that_work_has_its_margin() {
    let store = Memory::new();
    let session = open(&store).await;
    store.freeze();
    session.lost().await;
    store.thaw();
    pass(TTL / 20).await;
    assert_eq!(store.sessions(), [session.id().clone()], "it was ended while work may still be stopping");
}

#[tokio::test(start_paused = true)]
async fn errors_are_ridden_out_until_the_deadline() {
    let store = Memory::new();
    let session = open(&store).await;
    store.freeze();
    pass(TTL * 7 / 10).await;
    assert_eq!(session.state(), SessionState::Suspect);
    store.thaw();
    pass(TTL / 10).await;
    assert_eq!(session.state(), SessionState::Live);
    pass(3 * TTL).await;
    assert!(session.is_live());
}

#[tokio::test(start_paused = true)]
async fn what_the_store_ended_is_revoked() {
    let store = Memory::new();
    let session = open(&store).await;
    store.end_session(session.id());
    assert_eq!(session.lost().await, LossReason::Revoked);
}

/// A store that came back without what it knew, and says so to whoever renews. It takes down who ends sessions, and refuses
/// so many times before it does.
#[derive(Debug)]
struct Forgetful {
    store: Memory,
    refusals: usize,
    revoked: StdMutex<Vec<ThreadId>>,
}

impl Forgetful {
    fn new(refusals: usize) -> Self {
        Self { store: Memory::new(), refusals, revoked: StdMutex::default() }
    }
}

#[async_trait]
impl Store for Forgetful {
    fn limits(&self) -> Limits {
        self.store.limits()
    }
    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        self.store.get(key, read).await
    }
    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        self.store.list(prefix, read).await
    }
    async fn commit(&self, txn: Txn) -> Result<Write> {
        self.store.commit(txn).await
    }
    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        self.store.delete_prefix(prefix).await
    }
}

#[async_trait]
impl SessionStore for Forgetful {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.store.grant(ttl).await
    }
    async fn renew(&self, _: &SessionId) -> Result<Renewal> {
        Err(Error::new(ErrorKind::FenceRegression, Outcome::NotApplied, "another life"))
    }
    async fn revoke(&self, session: &SessionId) -> Result<()> {
        let tries = {
            let mut revoked = self.revoked.lock().unwrap();
            revoked.push(thread::current().id());
            revoked.len()
        };
        if tries <= self.refusals {
            return Err(Error::new(ErrorKind::Unavailable, Outcome::Unknown, "not now"));
        }
        self.store.revoke(session).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_its_data_ends_it_at_once() {
    let store = Arc::new(Forgetful::new(0));
    let session = Session::open(&store, SessionOptions::new(TTL)).await.unwrap();
    let before = session.core().clock().now();
    assert_eq!(session.lost().await, LossReason::FenceRegression);
    assert!(session.core().clock().now().since(before) < TTL / 2, "with the first renewal");
}

#[tokio::test(start_paused = true)]
async fn closing_ends_it_in_the_store() {
    let store = Memory::new();
    let session = open(&store).await;
    session.close().await;
    assert_eq!(store.sessions(), []);
    assert_eq!(session.state(), SessionState::Lost(LossReason::Closed));
    session.close().await;
}

#[tokio::test(start_paused = true)]
async fn closing_is_bounded_when_the_store_is_gone() {
    let store = Memory::new();
    let session = open(&store).await;
    store.freeze();
    let before = session.core().clock().now();
    session.close().await;
    assert!(session.core().clock().now().since(before) <= Duration::from_secs(6));
}

/// A clock that a test moves by hand, as a suspended machine does.
#[derive(Debug)]
struct Jumping(SystemClock, StdMutex<Duration>);

#[async_trait]
impl Clock for Jumping {
    fn now(&self) -> Instant {
        self.0.now() + *self.1.lock().unwrap()
    }

    async fn sleep_until(&self, deadline: Instant) {
        while self.now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waking_from_a_pause_past_the_deadline_it_is_lost_before_anything_is_asked() {
    let store = Memory::new();
    let clock = Arc::new(Jumping(SystemClock::new(), StdMutex::default()));
    let options = SessionOptions::new(TTL).clock(Arc::<Jumping>::clone(&clock));
    let session = Session::open(&Arc::new(store.clone()), options).await.unwrap();
    store.freeze();
    *clock.1.lock().unwrap() = TTL * 2;
    assert_eq!(session.state(), SessionState::Lost(LossReason::Expired));
}

#[tokio::test(start_paused = true)]
async fn ensure_renews_early() {
    let store = Memory::new();
    let session = open(&store).await;
    pass(TTL / 4).await;
    assert!(session.remaining() < TTL * 8 / 10);
    session.ensure(TTL * 8 / 10).await.unwrap();
    assert!(session.remaining() >= TTL * 8 / 10);
    let never = session.ensure(TTL).await.unwrap_err();
    assert_eq!(never.kind(), ErrorKind::InvalidInput);
    pass(TTL / 5).await;
    store.end_session(session.id());
    assert_eq!(session.ensure(TTL * 8 / 10).await.unwrap_err().kind(), ErrorKind::SessionLost);
}

#[tokio::test(start_paused = true)]
async fn what_is_adopted_is_finished_and_dropped_with_the_session() {
    let store = Memory::new();
    let session = open(&store).await;
    let token = CancellationToken::new();
    let done = token.clone();
    session.core().adopt(Box::pin(async move { done.cancel() }));
    token.cancelled().await;
    let held = Arc::new(());
    let weak = Arc::downgrade(&held);
    let job = async move {
        std::future::pending::<()>().await;
        drop(held);
    };
    session.core().adopt(Box::pin(job));
    session.core().adopt(Box::pin(async { panic!("a job must not cost the lease") }));
    pass(3 * TTL).await;
    assert!(session.is_live());
    session.close().await;
    assert_eq!(weak.strong_count(), 0);
    let late = Arc::new(());
    let weak = Arc::downgrade(&late);
    session.core().adopt(Box::pin(async move { drop(late) }));
    assert_eq!(weak.strong_count(), 0, "after the end nothing is kept");
    let late = Arc::new(());
    let weak = Arc::downgrade(&late);
    session.core().adopt_in_a_moment(Box::pin(async move { drop(late) }));
    assert_eq!(weak.strong_count(), 0, "nor what could wait");
}

#[tokio::test(start_paused = true)]
async fn what_is_patient_begins_within_a_moment_and_wakes_the_task_once() {
    let adoption = Arc::new(Adoption::new());
    let clock = SystemClock::new();
    let begun = Arc::new(StdMutex::new(Vec::new()));
    let (taker, time, seen) = (Arc::clone(&adoption), clock.clone(), Arc::clone(&begun));
    let task = tokio::spawn(async move {
        loop {
            let jobs = taker.due(&time).await.len();
            seen.lock().unwrap().push((time.now(), jobs));
        }
    });
    let idle = || Box::pin(std::future::pending());
    for round in 0..3 {
        let (first, before) = (clock.now(), begun.lock().unwrap().len());
        for _ in 0..25 {
            adoption.add_patient(idle(), clock.now());
            pass(MOMENT / 10).await;
        }
        pass(3 * MOMENT).await;
        let looks = begun.lock().unwrap().split_off(before);
        assert_eq!(looks.iter().map(|(_, jobs)| jobs).sum::<usize>(), 25, "in round {round}: {looks:?}");
        assert!(looks.len() <= 4, "it was woken for each: {looks:?}");
        assert!(looks[0].0.since(first) <= MOMENT * 2, "in round {round}: {looks:?}");
    }
    adoption.add_patient(idle(), clock.now());
    adoption.add(idle());
    let before = begun.lock().unwrap().len();
    tokio::task::yield_now().await;
    assert_eq!(begun.lock().unwrap()[before..], [(clock.now(), 1)], "what is urgent waits for nothing");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn callers_at_the_same_time_share_one_session_and_get_the_next_after_a_loss() {
    let store = Arc::new(Memory::new());
    let sessions = Sessions::new(&store, SessionOptions::new(TTL)).unwrap();
    let (a, b) = tokio::join!(sessions.current(), sessions.current());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.id(), b.id());
    assert_eq!(store.sessions(), [a.id().clone()]);
    store.end_session(a.id());
    a.lost().await;
    assert_eq!(sessions.state(), Some(SessionState::Lost(LossReason::Revoked)));
    let next = sessions.current().await.unwrap();
    assert_ne!(next.id(), a.id());
    sessions.close().await;
    assert_eq!(store.sessions(), []);
    assert_eq!(sessions.current().await.unwrap_err().kind(), ErrorKind::SessionLost);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_all_gave_up_is_made_anew() {
    let store = Memory::new();
    store.freeze();
    let sessions = Sessions::new(&Arc::new(store.clone()), SessionOptions::new(TTL)).unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), sessions.current()).await.is_err());
    store.thaw();
    let session = sessions.current().await.unwrap();
    assert_eq!(store.sessions(), [session.id().clone()]);
}

#[tokio::test]
async fn bad_options_are_refused_before_anything_is_sent() {
    let store = Arc::new(Memory::new());
    let day = Duration::from_hours(25);
    for (options, named) in [
        (SessionOptions::new(Duration::ZERO), "ttl 0ns"),
        (SessionOptions::new(day), "ttl 90000s"),
        (SessionOptions::new(TTL).margin(TTL), "margin 10s"),
        (SessionOptions::new(TTL).owner("a\nb"), "owner"),
    ] {
        let error = Sessions::new(&store, options.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(named), "{error}");
        assert!(Session::open(&store, options).await.is_err());
    }
    assert_eq!(store.sessions(), []);
}

#[test]
fn a_thread_of_its_own_renews_while_the_runtime_is_blocked() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Memory::new();
        let options = SessionOptions::new(Duration::from_millis(300)).own_thread(true);
        let session = Session::open(&Arc::new(store), options).await.unwrap();
        let clock = SystemClock::new();
        let blocked = clock.now();
        while clock.now().since(blocked) < Duration::from_millis(900) {
            std::hint::spin_loop(); // The runtime cannot run anything else meanwhile.
        }
        assert!(session.is_live(), "{:?}", session.state());
        session.close().await;
    });
}

#[tokio::test]
async fn who_closes_it_tells_the_store_and_its_thread_only_if_that_fails() {
    let here = thread::current().id();
    for refusals in [0, 1] {
        let store = Arc::new(Forgetful::new(refusals));
        let options = SessionOptions::new(Duration::from_mins(1)).own_thread(true);
        let session = Session::open(&store, options).await.unwrap();
        session.close().await;
        assert_eq!(session.state(), SessionState::Lost(LossReason::Closed));
        assert_eq!(store.store.sessions(), []);
        let told: Vec<_> = store.revoked.lock().unwrap().iter().map(|thread| *thread == here).collect();
        assert_eq!(told, [true, false][..=refusals]);
    }
}

#[tokio::test]
async fn who_is_about_to_close_it_and_is_dropped_leaves_that_to_its_thread() {
    let store = Memory::new();
    let options = SessionOptions::new(Duration::from_mins(1)).own_thread(true);
    let session = Session::open(&Arc::new(store.clone()), options).await.unwrap();
    store.freeze();
    assert!(tokio::time::timeout(Duration::from_millis(50), session.close()).await.is_err());
    assert_eq!(session.state(), SessionState::Lost(LossReason::Closed));
    store.thaw();
    session.close().await;
    assert_eq!(store.sessions(), []);
}

/// A clock on which twenty seconds pass in one.
#[derive(Debug)]
struct Fast(SystemClock, Instant);

#[async_trait]
impl Clock for Fast {
    fn now(&self) -> Instant {
        self.1 + self.0.now().since(self.1) * 20
    }

    async fn sleep_until(&self, deadline: Instant) {
        while self.now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn closing_is_bounded_with_a_thread_of_its_own_too() {
    let store = Memory::new();
    let real = SystemClock::new();
    let began = real.now();
    let clock = Arc::new(Fast(real, began));
    let options =
        SessionOptions::new(Duration::from_mins(10)).own_thread(true).clock(Arc::<Fast>::clone(&clock));
    let session = Session::open(&Arc::new(store.clone()), options).await.unwrap();
    store.freeze();
    let before = clock.now();
    session.close().await;
    let took = clock.now().since(before);
    assert!(took < Duration::from_secs(9), "{took:?}, where 5 s and what a busy machine adds are enough");
}

/// Where a job of the session runs.
async fn thread_of(session: &Session) -> ThreadId {
    let (told, thread) = oneshot::channel();
    session.core().adopt(async move { told.send(thread::current().id()).unwrap() }.boxed());
    thread.await.unwrap()
}

/// Goes on until the session is kept on a thread of its own.
async fn moved(session: &Session) {
    let here = thread::current().id();
    for _ in 0..1_000_000 {
        if thread_of(session).await != here {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it has no thread of its own");
}

#[test]
fn a_thread_that_comes_later_renews_while_the_runtime_is_blocked() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let life = Duration::from_millis(20);
        let clock = SystemClock::new();
        let options = SessionOptions::new(Duration::from_millis(300))
            .own_thread_after(life)
            .clock(Arc::new(clock.clone()));
        let opened = clock.now();
        let session = Session::open(&Arc::new(Memory::new()), options).await.unwrap();
        moved(&session).await;
        assert!(clock.now().since(opened) >= life, "not at once");
        let blocked = clock.now();
        while clock.now().since(blocked) < Duration::from_millis(900) {
            std::hint::spin_loop();
        }
        assert!(session.is_live(), "{:?}", session.state());
        session.close().await;
    });
}

#[tokio::test]
async fn what_ends_before_its_thread_comes_has_none() {
    let here = thread::current().id();
    let store = Arc::new(Forgetful::new(1));
    let options = SessionOptions::new(Duration::from_mins(1)).own_thread_after(Duration::from_secs(30));
    let session = Session::open(&store, options).await.unwrap();
    assert_eq!(thread_of(&session).await, here);
    session.close().await;
    assert_eq!(store.store.sessions(), []);
    assert_eq!(*store.revoked.lock().unwrap(), [here, here], "the second time by the task");
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_before_its_thread_came_is_finished_where_it_began_or_dropped() {
    let here = thread::current().id();
    let life = Duration::from_millis(20);
    let options = SessionOptions::new(Duration::from_mins(1)).own_thread_after(life);
    let session = Session::open(&Arc::new(Memory::new()), options).await.unwrap();
    let job = || {
        let (go, gone) = oneshot::channel::<()>();
        let (told, thread) = oneshot::channel();
        let job = async move {
            gone.await.unwrap();
            told.send(thread::current().id()).unwrap();
        };
        session.core().adopt(job.boxed());
        (go, thread)
    };
    let (finished, left) = (job(), job());
    assert_eq!(thread_of(&session).await, here);
    tokio::time::advance(life).await;
    moved(&session).await;
    finished.0.send(()).unwrap();
    assert_eq!(finished.1.await, Ok(here));
    session.close().await;
    let left = tokio::time::timeout(life, left.1).await;
    assert!(left.expect("it is dropped").is_err(), "its session is over");
}
