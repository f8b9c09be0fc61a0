//! What the holder of a lock has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Held;
use crate::kv::ext::{IntoKey, one};
use crate::kv::{
    Coordinator, Entry, Error, ErrorKind, Fence, LossReason, Outcome, Result, SessionId, Txn, Write,
};

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It was held until now, and is free for the next.
    Released,
    /// It was no longer held.
    AlreadyLost(LossReason),
}

/// A lock that is held, until it is released, dropped or lost.
///
/// Dropping it releases it too, in the background: neither blocking nor failing, nor needing a runtime. It is easy to
/// drop by accident: `let _ = mutex.lock().await?;` releases at once, `let _guard = …` holds to the end of the block.
///
/// **Holding is never proof.** This process can be paused between asking [`is_held`](Self::is_held) and the write that
/// depended on the answer. What must not go wrong either takes the [`fence`](Self::fence) and refuses smaller ones, or
/// is written with [`put`](Self::put), which the store applies only while the lock is held.
#[derive(Debug)]
#[must_use = "a guard that is dropped releases the lock"]
pub struct Guard<S: Coordinator + ?Sized = dyn Coordinator>(pub(super) Arc<Held<S>>);

impl<S: Coordinator + ?Sized> Guard<S> {
    /// The number of this holding, larger than that of every holder before. Hand it to what the lock protects.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.0.fence()
    }

    /// The session it hangs on.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        self.0.session().id()
    }

    /// Whether it is held as far as this process can know. No I/O; false as soon as the session's deadline has passed
    /// on this process's clock, also right after waking from a pause.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.loss().is_none()
    }

    /// How long it is held if no renewal succeeds; zero when it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.is_held() { self.0.session().remaining() } else { Duration::ZERO }
    }

    /// How long work may still take to stop once it is [lost](Self::lost), so that it has stopped before anybody else
    /// can hold: half of the session's margin at most, since the other half is for a clock that is slower than the
    /// store's; less when the loss was noticed late, zero when others may hold already.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.0.grace()
    }

    /// Completes once it is held for at least `least` more, renewing early if need be: ask before a step that takes a
    /// while. Fails with `SessionLost` when it is lost first. Cancel-safe.
    pub async fn ensure(&self, least: Duration) -> Result<()> {
        tokio::select! {
            biased;
            reason = self.0.lost() => Err(Error::session_lost(reason.to_string()).on(&self.0.place().key)),
            ensured = self.0.session().ensure(least) => ensured,
        }
    }

    /// Completes when it is lost, and says why. Cancel-safe; at once when it is lost already.
    pub async fn lost(&self) -> LossReason {
        self.0.lost().await
    }

    /// Puts `value` at `key`, in one transaction with the check that the lock is still held. Fails with `SessionLost`,
    /// not applied, when it is not: whatever this process believes, no write of an older holder follows one of a newer.
    pub async fn put<K: IntoKey, V: Into<Bytes> + Send>(&self, key: K, value: V) -> Result<Entry> {
        put(&self.0, key, value).await
    }

    /// Applies `txn` only while the lock is held. Fails with `SessionLost` when it is not; checks of `txn` itself that
    /// do not hold show as [`Write::Rejected`].
    pub async fn commit(&self, txn: Txn) -> Result<Write> {
        self.0.commit(txn).await
    }

    /// Gives it back, and waits until the store said so or the session ended, whichever comes first.
    ///
    /// Cancel-safe: dropped, it goes on in the background.
    pub async fn release(self) -> Release {
        self.leave().await
    }

    pub(crate) async fn leave(&self) -> Release {
        match self.0.leave().await {
            Ok(()) => Release::Released,
            Err(reason) => Release::AlreadyLost(reason),
        }
    }

    pub(crate) fn held(&self) -> &Arc<Held<S>> {
        &self.0
    }
}

/// The one guarded put, for guards and terms alike.
pub(crate) async fn put<S, K, V>(held: &Held<S>, key: K, value: V) -> Result<Entry>
where
    S: Coordinator + ?Sized,
    K: IntoKey,
    V: Into<Bytes> + Send,
{
    let key = key.into_key()?;
    let write = held.commit(Txn::new().put(&key, value)).await?;
    let odd = || {
        Error::new(ErrorKind::Internal, Outcome::Unknown, "a guarded put was rejected without cause")
            .at(held.store().limits().backend, "put")
    };
    one(held.store(), "put", &key, write)?.applied().ok_or_else(|| odd().on(&key))
}

impl<S: Coordinator + ?Sized> Drop for Guard<S> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
