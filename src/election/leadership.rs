//! What the winner of a campaign has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Term;
use super::standing::Standing;
use crate::kv::ext::IntoKey;
use crate::kv::{Coordinator, Entry, Fence, LossReason, Result, Txn, Write};
use crate::lock::{Guard, Release};

/// One term as leader, until it is resigned, dropped or lost. Dropping it resigns in the background.
///
/// What [`Guard`] says of holding is true of leading: it is never proof. Hand the [`fence`](Self::fence) to what only the
/// leader may touch, or write with [`put`](Self::put).
#[must_use = "a leadership that is dropped is resigned"]
pub struct Leadership<S: Coordinator + ?Sized = dyn Coordinator> {
    guard: Guard<S>,
    standing: Arc<Standing<S>>,
}

impl<S: Coordinator + ?Sized> Leadership<S> {
    pub(super) fn new(guard: Guard<S>, standing: &Arc<Standing<S>>) -> Self {
        standing.elected(&guard);
        Self { guard, standing: Arc::clone(standing) }
    }

    pub(super) fn guard(&self) -> &Guard<S> {
        &self.guard
    }

    /// The number of the term, larger than that of every term before.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.guard.fence()
    }

    /// Whether it lasts as far as this process can know. No I/O.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.guard.is_held()
    }

    /// How long it lasts if no renewal succeeds.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.guard.remaining()
    }

    /// How long work may still take to stop once it is lost; see [`Guard::grace`].
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.guard.grace()
    }

    /// Completes when it is lost, and says why. Cancel-safe.
    pub async fn lost(&self) -> LossReason {
        self.guard.lost().await
    }

    /// Puts `value` at `key` only while this term lasts; see [`Guard::put`].
    pub async fn put<K: IntoKey, V: Into<Bytes> + Send>(&self, key: K, value: V) -> Result<Entry> {
        self.guard.put(key, value).await
    }

    /// Applies `txn` only while this term lasts; see [`Guard::commit`].
    pub async fn commit(&self, txn: Txn) -> Result<Write> {
        self.guard.commit(txn).await
    }

    /// Tells followers other data, in this term. One round trip.
    pub async fn proclaim(&self, data: impl Into<Bytes>) -> Result<()> {
        self.term().proclaim(data).await
    }

    /// A handle on the term that work can take along.
    #[must_use]
    pub fn term(&self) -> Term<S> {
        Term::new(self.guard.held(), &self.standing.id)
    }

    /// Gives it up, and waits until the store said so or the session ended. Stop what only the leader may do first.
    /// Cancel-safe: dropped, it goes on in the background.
    pub async fn resign(self) -> Release {
        // The place may be gone long before the store's answer is here, and somebody else lead.
        self.standing.leaving(self.fence());
        self.guard.leave().await
    }
}

impl<S: Coordinator + ?Sized> Drop for Leadership<S> {
    fn drop(&mut self) {
        self.standing.deposed(self.fence());
    }
}

impl<S: Coordinator + ?Sized> fmt::Debug for Leadership<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership").field("guard", &self.guard).finish_non_exhaustive()
    }
}
