//! The one contention algorithm: enter, wait on what stands ahead, look again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;

use super::{Guard, Held};
use crate::kv::backoff::Backoff;
use crate::kv::settle;
use crate::kv::{
    Coordinator, Error, ErrorKind, Event, LossReason, Mode, Outcome, PlaceRef, Queue, Result, Scope, Session,
    bad,
};

/// What came of a try.
pub(crate) enum Acquired<S: Coordinator + ?Sized> {
    /// It is ours.
    Held(Guard<S>),
    /// Somebody stands ahead.
    Contended,
}

/// Enters the queue and waits until nothing stands ahead. One round trip when nothing does.
///
/// Fails with `SessionLost` as soon as the session is lost. Dropped, it leaves nothing behind while the session lives.
pub(crate) async fn acquire<S: Coordinator + ?Sized>(
    store: &Arc<S>,
    session: &Session,
    queue: &Queue,
    value: &Bytes,
    highest: &AtomicU64,
) -> Result<Guard<S>> {
    loop {
        let before = highest.load(Ordering::Acquire);
        let (guard, mut ahead) = enter(store, session, queue, value).await?;
        let mut asked = before;
        loop {
            match ahead.first() {
                Some(nearest) => wait(session, queue, &guard.0, nearest).await?,
                None if is_overtaken(&guard, asked, highest) => {}
                None => return confirm(guard, before, highest),
            }
            if bad("no_look_after_wait") {
                return confirm(guard, before, highest);
            }
            asked = highest.load(Ordering::Acquire);
            match look(&guard.0).await? {
                Some(now) => ahead = now,
                // Somebody deleted our place. The session lives, so stand in the queue again, at its end.
                None => break,
            }
        }
        tracing::warn!(queue = %queue.key(), "the place in the queue was deleted; entering it again");
    }
}

/// Takes the lock if nothing stands ahead: one round trip, or two to leave the queue again.
pub(crate) async fn try_acquire<S: Coordinator + ?Sized>(
    store: &Arc<S>,
    session: &Session,
    queue: &Queue,
    value: &Bytes,
    highest: &AtomicU64,
) -> Result<Acquired<S>> {
    let before = highest.load(Ordering::Acquire);
    let (guard, ahead) = enter(store, session, queue, value).await?;
    if ahead.is_empty() && !is_overtaken(&guard, before, highest) {
        return confirm(guard, before, highest).map(Acquired::Held);
    }
    match guard.0.leave().await {
        // The place is gone either way; a dead session removes it too.
        Ok(()) | Err(LossReason::Deleted) => Ok(Acquired::Contended),
        Err(reason) => Err(settle::lost(reason, queue)),
    }
}

async fn enter<S: Coordinator + ?Sized>(
    store: &Arc<S>,
    session: &Session,
    queue: &Queue,
    value: &Bytes,
) -> Result<(Guard<S>, Vec<PlaceRef>)> {
    let ticket = session.core().ticket(Mode::Exclusive);
    let mut settled = tokio::select! {
        biased;
        reason = session.lost() => return Err(settle::lost(reason, queue)),
        settled = settle::enter(store, session, queue, ticket, value.clone(), 1) => settled?,
    };
    let ahead = std::mem::take(&mut settled.entered.ahead);
    Ok((Guard(Held::new(store, session, settled)), ahead))
}

/// Hands out the guard, unless the time is up or the store went back in time: a place made after fence `before` was
/// seen has a larger one.
fn confirm<S: Coordinator + ?Sized>(guard: Guard<S>, before: u64, highest: &AtomicU64) -> Result<Guard<S>> {
    let (place, session) = (guard.0.place(), guard.0.session());
    if let Some(reason) = guard.0.loss() {
        return Err(settle::lost(reason, &place.queue));
    }
    let fence = place.fence.get();
    highest.fetch_max(fence, Ordering::AcqRel);
    if fence <= before && !bad("fence_not_checked") {
        session.core().lose(LossReason::FenceRegression);
        let why = format!("the store gave fence {fence}, but {before} was seen before");
        let limits = guard.0.store().limits();
        let error = Error::new(ErrorKind::FenceRegression, Outcome::Unknown, why);
        return Err(error.at(limits.backend, "enter").on(place.queue.key()));
    }
    guard.0.watch_place();
    tracing::debug!(queue = %place.queue.key(), %fence, "acquired");
    Ok(guard)
}

/// Whether a later place was granted while the answer that nothing stands ahead of ours was on its way: ours was removed,
/// then, and the answer is out of date. `asked` is the highest fence that was known when the question was sent.
fn is_overtaken<S: Coordinator + ?Sized>(guard: &Guard<S>, asked: u64, highest: &AtomicU64) -> bool {
    highest.load(Ordering::Acquire) > asked.max(guard.fence().get())
}

/// Waits for the place ahead, but not for longer than the session lives.
async fn wait<S: Coordinator + ?Sized>(
    session: &Session,
    queue: &Queue,
    held: &Held<S>,
    ahead: &PlaceRef,
) -> Result<()> {
    if bad("waiter_deaf_to_session") {
        gone(held, ahead).await;
        return Ok(());
    }
    tokio::select! {
        biased;
        reason = session.lost() => Err(settle::lost(reason, queue)),
        () = gone(held, ahead) => Ok(()),
    }
}

/// Waits until the place ahead is gone, or may be: the caller looks again.
async fn gone<S: Coordinator + ?Sized>(held: &Held<S>, ahead: &PlaceRef) {
    let mut events = held.store().watch(Scope::Key(ahead.key.clone()));
    while let Some(event) = events.next().await {
        let stands = match event {
            Ok(Event::Snapshot(_)) if bad("wait_ignores_snapshot") => true,
            Ok(Event::Snapshot(entries)) => entries.iter().any(|entry| entry.fence == ahead.fence),
            Ok(Event::Put(entry)) => entry.fence == ahead.fence,
            Ok(Event::Delete(_)) => false,
            // A fresh snapshot follows, or the end.
            Err(_) => true,
        };
        if !stands {
            return;
        }
    }
    backoff(held).pause().await;
}

/// What stands nearest ahead now; `None` when our own place is gone. Rides out errors while the session lives.
async fn look<S: Coordinator + ?Sized>(held: &Held<S>) -> Result<Option<Vec<PlaceRef>>> {
    let mut backoff = backoff(held);
    let looking = async {
        loop {
            match held.store().ahead(held.place(), 1).await {
                Ok(ahead) => return Ok(ahead),
                Err(error) if error.is_transient() => backoff.pause().await,
                Err(error) => return Err(error),
            }
        }
    };
    tokio::select! {
        biased;
        reason = held.session().lost() => Err(settle::lost(reason, &held.place().queue)),
        ahead = looking => ahead,
    }
}

fn backoff<S: Coordinator + ?Sized>(held: &Held<S>) -> Backoff {
    let core = held.session().core();
    Backoff::new(core.clock(), core.random(), Duration::from_millis(20), Duration::from_secs(2))
}
