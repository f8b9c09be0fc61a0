//! A place of ours in a queue, from entering to removal.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::kv::settle::{self, Removal, Settled};
use crate::kv::{
    Coordinator, Entry, Error, ErrorKind, Event, Fence, LossReason, Place, Renewal, Result, Scope, Session,
    Txn, Write, bad, observe,
};

/// How long a place must be held to be watched, at least: most locks are not, and a watch costs the store more than they
/// do.
const BRIEF: Duration = Duration::from_millis(10);

/// A place of ours: what it is worth, and how it is left. Whoever owns it must leave or abandon it.
#[derive(Debug)]
pub(crate) struct Held<S: Coordinator + ?Sized> {
    store: Arc<S>,
    session: Session,
    place: Place,
    /// Whether a request to make it may still be under way.
    doubtful: bool,
    lost: OnceLock<LossReason>,
    lost_rung: Notify,
    /// Ends the watch on the own place. Once it has gone, and not before: taking back a watch is a request of its own on some
    /// stores, which the next in the queue would have to wait for.
    left: CancellationToken,
    removed: AtomicBool,
    /// How many were about to ask for the removal.
    asked: AtomicUsize,
}

impl<S: Coordinator + ?Sized> Held<S> {
    pub(crate) fn new(store: &Arc<S>, session: &Session, settled: Settled) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            session: session.clone(),
            place: settled.entered.place,
            doubtful: settled.doubtful,
            lost: OnceLock::new(),
            lost_rung: Notify::new(),
            left: CancellationToken::new(),
            removed: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        })
    }

    pub(crate) fn store(&self) -> &Arc<S> {
        &self.store
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn fence(&self) -> Fence {
        self.place.fence
    }

    /// Why it is no longer held, if so. No I/O.
    pub(crate) fn loss(&self) -> Option<LossReason> {
        self.session.core().loss().or_else(|| self.lost.get().copied())
    }

    pub(crate) async fn lost(&self) -> LossReason {
        let place = async {
            loop {
                let rung = self.lost_rung.notified();
                if let Some(reason) = self.lost.get() {
                    return *reason;
                }
                rung.await;
            }
        };
        tokio::select! {
            biased;
            reason = self.session.lost() => reason,
            reason = place => reason,
        }
    }

    /// How long work may still take to stop once it is lost: half of the margin, since the other half is for a clock
    /// that is slower than the store's.
    pub(crate) fn grace(&self) -> Duration {
        let core = self.session.core();
        let half = core.margin() / 2;
        (core.end() - half).since(core.clock().now()).min(half)
    }

    fn lose(&self, reason: LossReason) {
        if self.lost.set(reason).is_ok() && !bad("loss_not_told") {
            tracing::warn!(place = %self.place.key, fence = %self.place.fence, %reason, "the place was lost");
            self.lost_rung.notify_waiters();
        }
    }

    /// Applies a write only while the place stands, in the same transaction.
    pub(crate) async fn commit(&self, txn: Txn) -> Result<Write> {
        if let Some(reason) = self.loss() {
            return Err(self.not_held(reason));
        }
        let guarded =
            if bad("unguarded_write") { txn } else { txn.guarded_by(&self.place.key, self.place.fence) };
        let write = self.store.commit(guarded).await.inspect_err(|error| {
            if error.kind() == ErrorKind::SessionLost {
                self.session.core().lose(LossReason::Revoked);
            }
        })?;
        match &write {
            Write::Rejected(rejection) if rejection.key == self.place.key => {
                self.lose(LossReason::Deleted);
                Err(self.not_held(LossReason::Deleted))
            }
            _ => Ok(write),
        }
    }

    fn not_held(&self, reason: LossReason) -> Error {
        Error::session_lost(format!("no longer held: {reason}")).on(&self.place.key)
    }

    /// Gives the place another value, for those who look.
    pub(crate) async fn rewrite(&self, value: Bytes) -> Result<()> {
        self.commit(Txn::new().put_bound(&self.place.key, value, &self.place.session)).await.map(drop)
    }

    /// Removes the place, and waits until the store said so or the session ended. Cancel-safe: what is dropped goes on
    /// in the session's task.
    pub(crate) async fn leave(self: &Arc<Self>) -> Result<(), LossReason> {
        let lost = self.loss();
        if bad("ticket_used_too_early") {
            self.session.core().give_back(self.place.ticket);
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.removed.load(Ordering::SeqCst) {
            return lost.map_or(Ok(()), Err);
        }
        let unfinished = Abandon(self);
        let (store, core) = (Arc::clone(&self.store), Arc::clone(self.session.core()));
        let removal = settle::remove(store, core, self.place.clone(), self.doubtful);
        let left = tokio::select! {
            biased;
            removal = removal => Ok(removal),
            reason = self.session.lost() => Err(reason),
        };
        self.removed.store(true, Ordering::SeqCst);
        drop(unfinished);
        let removal = left?;
        // Whoever asks from now on sees that it is removed, and sends nothing.
        if removal == Removal::Clean && self.asked.load(Ordering::SeqCst) == 1 {
            self.session.core().give_back(self.place.ticket);
        }
        match removal {
            Removal::Clean | Removal::Removed => lost.map_or(Ok(()), Err),
            Removal::Gone => Err(lost.unwrap_or(LossReason::Deleted)),
        }
    }

    /// Leaves the removal to the session's task. Neither blocks nor fails, nor needs a runtime.
    pub(crate) fn abandon(&self) {
        if self.removed.swap(true, Ordering::SeqCst) || bad("drop_forgets_guard") {
            return self.left.cancel();
        }
        let first = self.asked.fetch_add(1, Ordering::SeqCst) == 0;
        let core = Arc::clone(self.session.core());
        let (place, keeper) = (self.place.clone(), Arc::clone(&core));
        let removal = settle::remove(Arc::clone(&self.store), Arc::clone(&core), place, self.doubtful);
        let (ticket, left) = (self.place.ticket, self.left.clone());
        let job = async move {
            if removal.await == Removal::Clean && first {
                keeper.give_back(ticket);
            }
            left.cancel();
        };
        core.adopt(job.boxed());
    }

    /// Has the session's task watch the place, so that a deletion by somebody else is told.
    pub(crate) fn watch_place(self: &Arc<Self>) {
        if bad("no_own_place_watch") {
            return;
        }
        let held = Arc::downgrade(self);
        let left = self.left.clone();
        let clock = Arc::clone(self.session.core().clock());
        let watch = async move {
            clock.sleep_until(clock.now() + BRIEF).await;
            // What is told of a place that is about to be removed is no news.
            let stays = || held.upgrade().filter(|held| held.asked.load(Ordering::SeqCst) == 0);
            let Some(mut events) = stays().map(|held| held.watched()) else { return };
            while let Some(event) = events.next().await {
                let Some(held) = stays() else { return };
                if event.is_ok_and(|event| held.is_gone_by(&event)) {
                    held.explain_loss().await;
                    return;
                }
            }
        };
        let watch = async move {
            tokio::select! {
                biased;
                () = left.cancelled() => {}
                () = watch => {}
            }
        };
        self.session.core().adopt_in_a_moment(watch.boxed());
    }

    fn watched(&self) -> BoxStream<'static, Result<Event>> {
        let core = self.session.core();
        observe(&self.store, Scope::Key(self.place.key.clone()), core.clock(), core.random())
    }

    fn is_gone_by(&self, event: &Event) -> bool {
        let stands = |entry: &Entry| {
            entry.fence == self.place.fence && entry.session.as_ref() == Some(&self.place.session)
        };
        match event {
            Event::Snapshot(entries) => {
                !entries.iter().any(|entry| entry.key == self.place.key && stands(entry))
            }
            Event::Put(entry) => !stands(entry),
            Event::Delete(_) => true,
        }
    }

    /// The place is gone: with the session, or by somebody's hand? If with the session, all that hangs on it hears at
    /// once.
    async fn explain_loss(&self) {
        let core = self.session.core();
        match self.store.renew(core.id()).await {
            Ok(Renewal::Lost) => core.lose(LossReason::Revoked),
            Err(error) if error.kind() == ErrorKind::FenceRegression => {
                core.lose(LossReason::FenceRegression);
            }
            _ => {}
        }
        self.lose(LossReason::Deleted);
    }
}

/// Abandons what was not removed.
struct Abandon<'a, S: Coordinator + ?Sized>(&'a Held<S>);

impl<S: Coordinator + ?Sized> Drop for Abandon<'_, S> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
