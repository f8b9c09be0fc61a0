//! What whoever registered holds.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::record::{Handle, Record};
use super::{Health, Instance};
use crate::kv::{Error, ErrorKind, Outcome, Result};

/// How a registration is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The store has not acknowledged it yet.
    Registering,
    /// It stands in the store, as far as is known.
    Registered,
    /// Its session was lost, or somebody deleted its entry; it is on its way back.
    Reconnecting,
    /// Another process has registered the same instance. That is not fought; this one comes back when the other's
    /// entry is gone.
    Displaced,
    /// It was deregistered, or its first try failed. It never comes back.
    Deregistered,
}

/// A desired state: while this lives, the instance is registered, and comes back by itself after any loss.
///
/// Dropping it deregisters in the background: neither blocking nor failing, nor needing a runtime. It is easy to drop
/// by accident: `let _ = registrar.register(…).await?;` deregisters at once.
#[must_use = "a registration that is dropped deregisters"]
pub struct Registration {
    record: Arc<Record>,
    handle: Arc<Handle>,
}

impl Registration {
    /// Asks for `record`; dropped from here on, it leaves nothing behind.
    pub(super) fn submit(record: Arc<Record>, handle: &Arc<Handle>) -> Self {
        handle.desk.submit(&record);
        Self { record, handle: Arc::clone(handle) }
    }

    /// Waits until the store has acknowledged the instance of this number, or failed to.
    pub(super) async fn settled(&self, number: u64) -> Result<()> {
        let ended = &self.handle.desk.ended;
        self.record.wait(ended, |record| record.outcome(number)).await.unwrap_or_else(|| {
            let why = "the runtime that the registrar's task ran on is gone";
            Err(Error::new(ErrorKind::Internal, Outcome::Unknown, why).on(&self.record.key))
        })
    }

    /// The instance as it is wanted now.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.record.instance()
    }

    /// How it is doing, now and after every change. The first value is always there.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.record.watch()
    }

    /// Changes the instance: one put in place, on the same session, so that nobody sees a gap. Nothing is sent when
    /// nothing changes. Waits until the store has acknowledged it, through a loss of the session too.
    ///
    /// Fails with `InvalidInput`, changing nothing, when the result cannot be registered or has another service or id;
    /// with `SessionLost` when another process has [displaced](Status::Displaced) it; and when the put, or opening the
    /// next session, failed without effect. The change stays wanted then, and goes out as soon as the store takes it.
    ///
    /// Cancel-safe: dropped after the first poll, it goes on in the background.
    pub async fn update(&self, change: impl FnOnce(Instance) -> Instance + Send) -> Result<()> {
        let (number, changed) = self.record.change(&self.handle.limits, change)?;
        if changed {
            self.handle.desk.submit(&self.record);
        }
        self.settled(number).await
    }

    /// Says whether it takes new work; see [`update`](Self::update).
    pub async fn set_draining(&self, draining: bool) -> Result<()> {
        self.update(move |instance| instance.draining(draining)).await
    }

    /// Says how it is; see [`update`](Self::update).
    pub async fn set_health(&self, health: Health) -> Result<()> {
        self.update(move |instance| instance.health(health)).await
    }

    /// Deregisters, and waits until the store said so or the session ended. An entry that another process put in its
    /// place stays. Does nothing the second time.
    ///
    /// Cancel-safe: dropped after the first poll, it goes on in the background.
    pub async fn deregister(&self) {
        self.leave();
        let over = |record: &Record| (record.status() == Status::Deregistered).then_some(());
        self.record.wait(&self.handle.desk.ended, over).await;
    }

    fn leave(&self) {
        self.record.leave();
        self.handle.desk.submit(&self.record);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("key", &self.record.key)
            .field("status", &self.record.status())
            .finish_non_exhaustive()
    }
}
