//! What a candidate knows of itself, shared by its clones, its leadership and its term.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::announcement;
use crate::kv::{Coordinator, Fence, Queue, Sessions, Watched, bad};
use crate::lock::{Guard, Held};

/// How a candidate is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does not stand.
    Idle,
    /// It stands, and somebody else leads, or nobody yet.
    Campaigning,
    /// It leads, in the term of this fence.
    Leading(Fence),
    /// Its term of this fence is over, lost or resigned: its work is stopping, or its place is being given up.
    Leaving(Fence),
    /// It lets others go first for a while.
    HoldingOff,
}

pub(super) struct Standing<S: Coordinator + ?Sized> {
    pub(super) store: Arc<S>,
    pub(super) sessions: Sessions,
    pub(super) queue: Queue,
    pub(super) id: Arc<str>,
    /// The highest fence seen, against a store that loses data.
    pub(super) highest: AtomicU64,
    pub(super) status: watch::Sender<Status>,
    data: Mutex<Bytes>,
    leading: Mutex<Option<Arc<Held<S>>>>,
    /// The term that work is being done in, and whether somebody asked to resign it.
    served: Watched<Option<Served>>,
}

#[derive(Clone, Copy)]
struct Served {
    fence: Fence,
    resign: Option<Duration>,
}

impl<S: Coordinator + ?Sized> Standing<S> {
    pub(super) fn new(store: &Arc<S>, sessions: &Sessions, queue: Queue, id: &str, data: Bytes) -> Self {
        Self {
            store: Arc::clone(store),
            sessions: sessions.clone(),
            queue,
            id: id.into(),
            highest: AtomicU64::new(0),
            status: watch::Sender::new(Status::Idle),
            data: Mutex::new(data),
            leading: Mutex::new(None),
            served: Watched::new(None),
        }
    }

    /// What its place says now.
    pub(super) fn announcement(&self) -> Bytes {
        announcement::encode(&self.queue, &self.id, &lock(&self.data))
    }

    /// Changes what its place says from now on; the place it leads with, to be rewritten.
    pub(super) fn set_data(&self, data: Bytes) -> Option<Arc<Held<S>>> {
        *lock(&self.data) = data;
        lock(&self.leading).clone()
    }

    #[cfg(test)]
    pub(super) fn leading_place(&self) -> Option<crate::kv::Key> {
        lock(&self.leading).as_ref().map(|held| held.place().key.clone())
    }

    pub(super) fn elected(&self, guard: &Guard<S>) {
        tracing::info!(election = %self.queue.name(), id = %self.id, fence = %guard.fence(), "elected");
        *lock(&self.leading) = Some(Arc::clone(guard.held()));
        if !bad("election_not_told") {
            self.status.send_replace(Status::Leading(guard.fence()));
        }
    }

    pub(super) fn leaving(&self, fence: Fence) {
        self.status.send_if_modified(|status| {
            let leading = *status == Status::Leading(fence);
            if leading {
                *status = Status::Leaving(fence);
            }
            leading
        });
    }

    pub(super) fn deposed(&self, fence: Fence) {
        tracing::info!(election = %self.queue.name(), id = %self.id, %fence, "no longer leading");
        lock(&self.leading).take_if(|held| held.fence() == fence);
        if bad("loss_not_paired") {
            return;
        }
        self.status.send_if_modified(|status| {
            let ours = matches!(*status, Status::Leading(now) | Status::Leaving(now) if now == fence);
            if ours {
                *status = Status::Idle;
            }
            ours
        });
    }

    /// Says that work is being done in this term, until what it returns is dropped.
    pub(super) fn serve(&self, fence: Fence) -> Serving<'_, S> {
        self.served.set(Some(Served { fence, resign: None }));
        Serving(self)
    }

    /// Completes when somebody asks to resign the term being served.
    pub(super) async fn resignation(&self) -> Duration {
        self.served.find(|served| served?.resign).await
    }

    /// Asks to resign the term being served and waits until it is over; false when none is.
    pub(super) async fn resign(&self, hold_off: Duration) -> bool {
        let mut term = None;
        self.served.modify(|served| {
            let Some(served) = served else { return false };
            served.resign = Some(hold_off);
            term = Some(served.fence);
            true
        });
        if term.is_some() {
            self.served.find(|served| (served.map(|served| served.fence) != term).then_some(())).await;
        }
        term.is_some()
    }
}

pub(super) struct Serving<'a, S: Coordinator + ?Sized>(&'a Standing<S>);

impl<S: Coordinator + ?Sized> Drop for Serving<'_, S> {
    fn drop(&mut self) {
        self.0.served.set(None);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
