//! What a leader's work is handed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::announcement;
use crate::kv::ext::IntoKey;
use crate::kv::{Coordinator, Entry, Fence, LossReason, Result, Txn, Write};
use crate::lock::{Held, guarded_put};

/// A term, as the work done in it sees it. Clones are handles on the same term; holding one does not prolong it.
pub struct Term<S: Coordinator + ?Sized = dyn Coordinator> {
    held: Arc<Held<S>>,
    id: Arc<str>,
    stop: CancellationToken,
}

impl<S: Coordinator + ?Sized> Term<S> {
    pub(super) fn new(held: &Arc<Held<S>>, id: &Arc<str>) -> Self {
        Self { held: Arc::clone(held), id: Arc::clone(id), stop: CancellationToken::new() }
    }

    /// The number of the term, larger than that of every term before.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.held.fence()
    }

    /// Who leads: the candidate's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it lasts as far as this process can know. No I/O.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.held.loss().is_none()
    }

    /// How long it lasts if no renewal succeeds; zero when it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.is_leading() { self.held.session().remaining() } else { Duration::ZERO }
    }

    /// Completes when the term is lost, and says why. Cancel-safe.
    pub async fn lost(&self) -> LossReason {
        self.held.lost().await
    }

    /// Is cancelled when the work should end: the term was lost or resigned, or the candidate was stopped. Hand it to
    /// tasks the work starts, and wait for them.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Completes when the work should end; see [`stop`](Self::stop).
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Puts `value` at `key` only while this term lasts; see [`Guard::put`](crate::lock::Guard::put).
    pub async fn put<K: IntoKey, V: Into<Bytes> + Send>(&self, key: K, value: V) -> Result<Entry> {
        guarded_put(&self.held, key, value).await
    }

    /// Applies `txn` only while this term lasts; see [`Guard::commit`](crate::lock::Guard::commit).
    pub async fn commit(&self, txn: Txn) -> Result<Write> {
        self.held.commit(txn).await
    }

    /// Tells followers other data, in this term. One round trip.
    pub async fn proclaim(&self, data: impl Into<Bytes>) -> Result<()> {
        self.held.rewrite(announcement::encode(&self.held.place().queue, &self.id, &data.into())).await
    }
}

impl<S: Coordinator + ?Sized> Clone for Term<S> {
    fn clone(&self) -> Self {
        Self { held: Arc::clone(&self.held), id: Arc::clone(&self.id), stop: self.stop.clone() }
    }
}

impl<S: Coordinator + ?Sized> fmt::Debug for Term<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term").field("id", &self.id).field("fence", &self.fence()).finish_non_exhaustive()
    }
}
