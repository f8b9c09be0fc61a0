//! What a registration promises.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::store::{Trouble, Wrapped};
use super::*;
use crate::discovery::{Health, State};
use crate::kv::{ErrorKind, Event, Scope, SessionId, SessionStore, StoreExt, Txn, WatchStore};

async fn stands_with(store: &Wrapped, id: &str, session: &SessionId) {
    let entry = standing(store, id).await.expect("it is registered");
    assert_eq!(entry.session.as_ref(), Some(session));
    assert_eq!(entry.key.name(), id);
}

#[tokio::test(start_paused = true)]
async fn registers_updates_in_place_and_deregisters() {
    let process = Process::on(fresh());
    let registration = process.register("a").await;
    assert_eq!(*registration.status().borrow(), Status::Registered);
    stands_with(&process.store, "a", &process.session()).await;

    let mut events = process.store.memory.watch(Scope::Key(key("a")));
    events.next().await.unwrap().unwrap();
    registration.set_draining(true).await.unwrap();
    registration.set_health(Health::Warning).await.unwrap();
    registration.update(|instance| instance.tag("blue")).await.unwrap();
    let changed = instance("a").draining(true).health(Health::Warning).tag("blue");
    assert_eq!(decoded(&standing(&process.store, "a").await.unwrap()), changed);
    assert_eq!(registration.instance(), changed);
    for _ in 0..3 {
        let event = events.next().await.unwrap().unwrap();
        assert!(matches!(event, Event::Put(_)), "a change is seen as a put, and not as {event:?}");
    }
    assert_eq!(process.store.counts.puts.load(Ordering::Relaxed), 4, "one put each");

    registration.deregister().await;
    assert_eq!(standing(&process.store, "a").await, None);
    assert_eq!(*registration.status().borrow(), Status::Deregistered);
    within(registration.deregister()).await;
    let error = registration.set_draining(false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionLost);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_registered_is_refused_and_changes_nothing() {
    let process = Process::on(fresh());
    let refused = |error: crate::kv::Error| assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    refused(process.registrar.register(Instance::new("web", "", "x")).await.unwrap_err());
    let registration = process.register("a").await;
    refused(process.registrar.register(instance("a")).await.unwrap_err());
    refused(registration.update(|_| instance("b")).await.unwrap_err());
    refused(registration.update(|instance| instance.address("")).await.unwrap_err());
    assert_eq!(registration.instance(), instance("a"));
    stands_with(&process.store, "a", &process.session()).await;
    assert_eq!(*registration.status().borrow(), Status::Registered);
}

#[tokio::test(start_paused = true)]
async fn comes_back_after_its_session_was_ended() {
    let process = Process::on(fresh());
    let registration = process.register("a").await;
    registration.set_draining(true).await.unwrap();
    let first = process.session();
    process.store.memory.end_session(&first);
    status_is(&registration, Status::Reconnecting).await;
    status_is(&registration, Status::Registered).await;
    assert_ne!(process.session(), first);
    stands_with(&process.store, "a", &process.session()).await;
    let back = decoded(&standing(&process.store, "a").await.unwrap());
    assert_eq!(back.state, State::Draining, "it comes back as it was last wanted");
    assert_eq!(process.store.memory.sessions(), [process.session()]);
}

#[tokio::test(start_paused = true)]
async fn comes_back_after_an_operator_deleted_it_or_wiped_the_store() {
    let process = Process::on(fresh());
    let (a, b) = (process.register("a").await, process.register("b").await);
    assert!(process.store.memory.commit(Txn::new().delete(&key("a"))).await.unwrap().is_applied());
    becomes(&process.store, "a", |entry| entry.is_some()).await;
    process.store.memory.delete_prefix(&Instance::prefix("web").unwrap()).await.unwrap();
    becomes(&process.store, "a", |entry| entry.is_some()).await;
    becomes(&process.store, "b", |entry| entry.is_some()).await;
    status_is(&a, Status::Registered).await;
    status_is(&b, Status::Registered).await;
    stands_with(&process.store, "b", &process.session()).await;
    assert_eq!(process.store.counts.grants.load(Ordering::Relaxed), 1, "the session was not to blame");
}

#[tokio::test(start_paused = true)]
async fn what_only_a_snapshot_tells_is_seen() {
    let process = Process::on(fresh());
    let memory = process.store.memory.client();
    let ids = ["a", "c", "e", "g"];
    let registrations = join_all(ids.map(|id| process.register(id))).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for stranger in ["b", "d", "f", "h"] {
        memory.put(key(stranger), "somebody else's").await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reads = process.store.counts.reads.load(Ordering::Relaxed);
    memory.cut_watches();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(process.store.counts.reads.load(Ordering::Relaxed), reads, "all stands as it was");
    for id in ids {
        let before = standing(&process.store, id).await.unwrap();
        // Nothing else runs in between, so that the watch tells nothing of it.
        assert!(memory.commit(Txn::new().delete(&key(id))).now_or_never().unwrap().unwrap().is_applied());
        memory.cut_watches();
        becomes(&process.store, id, |entry| entry.is_some_and(|entry| entry.fence > before.fence)).await;
    }
    for registration in &registrations {
        status_is(registration, Status::Registered).await;
    }
}

#[tokio::test(start_paused = true)]
async fn comes_back_after_a_freeze_past_the_ttl() {
    let process = Process::on(fresh());
    let registration = process.register("a").await;
    let other = process.store.client();
    process.store.memory.freeze();
    status_is(&registration, Status::Reconnecting).await;
    // The store ends the session of a client that it no longer hears.
    becomes(&other, "a", |entry| entry.is_none()).await;
    process.store.memory.thaw();
    status_is(&registration, Status::Registered).await;
    stands_with(&other, "a", &process.session()).await;
}

#[tokio::test(start_paused = true)]
async fn moves_to_the_next_session_without_a_gap() {
    let process = Process::on(fresh());
    let registration = process.register("a").await;
    let first = process.session();
    let other = process.store.client();
    let mut events = other.memory.watch(Scope::Key(key("a")));
    events.next().await.unwrap().unwrap();
    // The process loses its session by its own reckoning while it still stands in the store.
    process.store.keeps_sessions.store(true, Ordering::Relaxed);
    process.store.memory.freeze();
    status_is(&registration, Status::Reconnecting).await;
    assert!(other.memory.sessions().contains(&first), "it has not expired yet");
    process.store.memory.thaw();
    status_is(&registration, Status::Registered).await;
    assert_eq!(other.memory.sessions(), [first.clone(), process.session()], "both stand");
    let event = within(events.next()).await.unwrap().unwrap();
    assert!(matches!(&event, Event::Put(entry) if entry.session == Some(process.session())), "{event:?}");

    // The old one's end is no business of the new registration.
    other.memory.end_session(&first);
    other.memory.put("marker", "").await.unwrap();
    stands_with(&other, "a", &process.session()).await;
    registration.set_draining(true).await.unwrap();
    let event = within(events.next()).await.unwrap().unwrap();
    assert!(matches!(event, Event::Put(_)), "nothing happened in between, such as {event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quick_restart_takes_over() {
    let memory = fresh();
    let before = Process::on(memory.client());
    let left = before.register("a").await;
    let after = Process::on(memory.client());
    let registration = after.register("a").await;
    stands_with(&memory, "a", &after.session()).await;
    memory.memory.end_session(&before.session());
    stands_with(&memory, "a", &after.session()).await;
    status_is(&registration, Status::Registered).await;
    drop(left);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_displaced_does_not_fight() {
    let memory = fresh();
    let (mine, theirs) = (Process::on(memory.client()), Process::on(memory.client()));
    let displaced = mine.register("a").await;
    let standing_theirs = theirs.register("a").await;
    status_is(&displaced, Status::Displaced).await;
    let commits = mine.store.counts.commits.load(Ordering::Relaxed);
    let error = displaced.set_draining(true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionLost);
    tokio::time::sleep(TTL).await;
    assert_eq!(mine.store.counts.commits.load(Ordering::Relaxed), commits, "it does not even try");

    // Not even after a loss of its own session.
    mine.store.memory.end_session(&mine.session());
    within(mine.sessions.peek().unwrap().lost()).await;
    standing_theirs.update(|instance| instance.tag("theirs")).await.unwrap();
    tokio::time::sleep(TTL).await;
    stands_with(&memory, "a", &theirs.session()).await;
    assert_eq!(*displaced.status().borrow(), Status::Displaced);
    assert_eq!(*standing_theirs.status().borrow(), Status::Registered);

    within(displaced.deregister()).await;
    stands_with(&memory, "a", &theirs.session()).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_over_a_moment_ago_is_neither_overwritten_nor_deleted() {
    let process = Process::on(fresh());
    let (updated, deregistered) = (process.register("a").await, process.register("b").await);
    let other = process.store.client().memory;
    let theirs = other.grant(TTL * 100).await.unwrap().id;
    // Nothing is awaited that would let the registrar hear of it first.
    let txn = Txn::new().put_bound(&key("a"), "theirs", &theirs).put_bound(&key("b"), "theirs", &theirs);
    assert!(other.commit(txn).now_or_never().unwrap().unwrap().is_applied());
    let (update, ()) = tokio::join!(updated.set_draining(true), deregistered.deregister());
    assert_eq!(update.unwrap_err().kind(), ErrorKind::SessionLost);
    stands_with(&process.store, "a", &theirs).await;
    stands_with(&process.store, "b", &theirs).await;
    assert_eq!(*updated.status().borrow(), Status::Displaced);
}

#[tokio::test(start_paused = true)]
async fn whoever_took_over_during_an_outage_keeps_it() {
    let memory = fresh();
    let (mine, theirs) = (Process::on(memory.client()), Process::on(memory.client()));
    let displaced = mine.register("a").await;
    mine.store.memory.freeze();
    status_is(&displaced, Status::Reconnecting).await;
    let _theirs = theirs.register("a").await;
    mine.store.memory.thaw();
    status_is(&displaced, Status::Displaced).await;
    stands_with(&memory, "a", &theirs.session()).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_displaced_comes_back_when_the_other_is_gone() {
    let memory = fresh();
    let (mine, theirs) = (Process::on(memory.client()), Process::on(memory.client()));
    let displaced = mine.register("a").await;
    let other = theirs.register("a").await;
    status_is(&displaced, Status::Displaced).await;
    other.deregister().await;
    status_is(&displaced, Status::Registered).await;
    stands_with(&memory, "a", &mine.session()).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_it_deregisters_without_a_runtime() {
    let process = Process::on(fresh());
    let (kept, dropped) = (process.register("a").await, process.register("b").await);
    std::thread::spawn(move || drop(dropped)).join().unwrap();
    becomes(&process.store, "b", |entry| entry.is_none()).await;
    assert!(standing(&process.store, "a").await.is_some());
    // The last handle of all: the session's task finishes it.
    let Process { store, sessions, registrar } = process;
    drop((kept, registrar));
    becomes(&store, "a", |entry| entry.is_none()).await;
    assert!(sessions.peek().unwrap().is_live(), "the session is not ours to end");
}

#[tokio::test(start_paused = true)]
async fn its_name_is_free_at_once() {
    let process = Process::on(fresh());
    drop(process.register("a").await);
    let again = process.registrar.register(instance("a").tag("again")).await.unwrap();
    tokio::time::sleep(TTL).await;
    let entry = standing(&process.store, "a").await.unwrap();
    assert!(decoded(&entry).tags.contains("again"));
    assert_eq!(*again.status().borrow(), Status::Registered);
}

/// Polls `future` at most `polls` times, then drops it; what it gave, if it was done by then.
async fn dropped_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    for poll in 0..polls {
        let done = poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(done) = done.await {
            return Some(done);
        }
        if poll < 20 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await; // Only time ends a pause.
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn register_dropped_at_any_await_leaves_nothing() {
    for trouble in [None, Some(Trouble::Refused), Some(Trouble::ReplyLost), Some(Trouble::RequestLost)] {
        let mut polls = 0;
        loop {
            let process = Process::on(fresh());
            process.store.troubles.lock().unwrap().extend(trouble);
            let registered = dropped_after(polls, process.registrar.register(instance("a"))).await;
            if let Some(registered) = registered {
                assert_eq!(registered.is_ok(), !matches!(trouble, Some(Trouble::Refused)));
                break;
            }
            tokio::time::sleep(2 * TTL).await;
            assert_eq!(standing(&process.store, "a").await, None, "{trouble:?}, after {polls} polls");
            assert!(process.sessions.peek().is_none_or(|session| session.is_live()));
            polls += 1;
            assert!(polls < 200, "it is never done");
        }
        assert!(polls > 4, "there were awaits to be dropped at");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_put_that_had_no_effect_fails_and_one_that_may_have_had_does_not() {
    let process = Process::on(fresh());
    process.store.next_fails(Trouble::Refused);
    let error = process.registrar.register(instance("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    tokio::time::sleep(TTL).await;
    assert_eq!(standing(&process.store, "a").await, None, "what has failed does not come later");

    for trouble in [Trouble::ReplyLost, Trouble::RequestLost] {
        process.store.next_fails(trouble);
        let registration = within(process.registrar.register(instance("a"))).await.unwrap();
        stands_with(&process.store, "a", &process.session()).await;
        registration.deregister().await;
        assert_eq!(standing(&process.store, "a").await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_lands_after_it_was_deregistered_is_removed() {
    let process = Process::on(fresh());
    process.store.next_fails(Trouble::RequestLost);
    let registration = process.register("a").await;
    registration.deregister().await;
    let (_, value) = instance("a").encode(&process.store.limits()).unwrap();
    let late = Txn::new().put_bound(&key("a"), value, &process.session());
    // However late, and more than once, while its session lives.
    for _ in 0..3 {
        assert!(process.store.memory.commit(late.clone()).await.unwrap().is_applied());
        becomes(&process.store, "a", |entry| entry.is_none()).await;
        tokio::time::sleep(2 * TTL).await;
    }
    assert!(process.sessions.peek().unwrap().is_live());
}

#[tokio::test(start_paused = true)]
async fn an_update_that_failed_stays_wanted() {
    let process = Process::on(fresh());
    let registration = process.register("a").await;
    process.store.next_fails(Trouble::Refused);
    let error = registration.set_draining(true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    becomes(&process.store, "a", |entry| entry.is_some_and(|entry| decoded(entry).state == State::Draining))
        .await;
    process.store.next_fails(Trouble::ReplyLost);
    within(registration.set_draining(false)).await.unwrap();
    assert_eq!(decoded(&standing(&process.store, "a").await.unwrap()).state, State::Ready);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_for_good_does_not_hold_up_the_others() {
    let process = Process::on(fresh());
    *process.store.forbidden.lock().unwrap() = Some("7");
    let names: Vec<_> = (0..40).map(|n| n.to_string()).collect();
    let all = join_all(names.iter().map(|id| process.registrar.register(instance(id)))).await;
    for (id, registered) in names.iter().zip(&all) {
        match registered {
            Ok(_) => assert_ne!(id, "7"),
            Err(error) => assert_eq!((id.as_str(), error.kind()), ("7", ErrorKind::Unauthorized)),
        }
    }
    assert_eq!(everything(&process.store).await.len(), 39);
}

#[tokio::test(start_paused = true)]
async fn fails_when_no_session_can_be_opened_and_tries_on_for_the_others() {
    let process = Process::on(fresh());
    let registration = process.register("a").await;
    process.store.memory.freeze();
    status_is(&registration, Status::Reconnecting).await;
    let error = within(process.registrar.register(instance("b"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    within(registration.deregister()).await; // Its session has ended.
    process.store.memory.thaw();
    tokio::time::sleep(TTL).await;
    assert!(everything(&process.store).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn those_who_come_while_the_session_is_opened_share_it() {
    let process = Process::on(fresh());
    let names: Vec<_> = (0..50).map(|n| format!("n{n}")).collect();
    let one_by_one = names.iter().enumerate().map(|(nth, id)| {
        let process = &process;
        async move {
            for _ in 0..nth {
                tokio::task::yield_now().await;
            }
            process.register(id).await
        }
    });
    let registrations = join_all(one_by_one).await;
    assert_eq!(process.store.counts.grants.load(Ordering::Relaxed), 1);
    drop(registrations);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle() {
    let runtime = tokio::runtime::Handle::current();
    let before = runtime.metrics().num_alive_tasks();
    let process = Process::on(fresh());
    let registration = process.register("a").await;
    let store = process.store.client();
    drop(process);
    assert!(standing(&store, "a").await.is_some(), "the registration alone keeps it");
    tokio::time::sleep(10 * TTL).await;
    assert!(standing(&store, "a").await.is_some());
    drop(registration);
    becomes(&store, "a", |entry| entry.is_none()).await;
    within(async {
        while runtime.metrics().num_alive_tasks() > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(store.memory.sessions().is_empty(), "nobody else needs the session");
}
