//! Counts the requests a store is sent, so that tests can hold an algorithm to its round trips.
//!
//! ```
//! use quorate::backends::Memory;
//! use quorate::kv::counting::{Counting, Operation};
//! use quorate::kv::StoreExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> quorate::kv::Result<()> {
//! let store = Counting::new(Memory::new());
//! store.put("a", "1").await?;
//! let before = store.counts();
//! store.update("a", |_| Some("2".into())).await?;
//! let spent = store.counts() - before;
//! assert_eq!((spent.of(Operation::Get), spent.of(Operation::Commit), spent.total()), (1, 1, 2));
//! # Ok(()) }
//! ```

use std::fmt;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::{
    Consistency, Entered, Entry, Event, Grant, Key, Limits, Place, PlaceRef, Queue, QueueStore, Renewal,
    Result, Scope, SessionId, SessionStore, Store, Ticket, Txn, WatchStore, Write,
};

/// A kind of request to a store: each is one method of its traits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Store::get`].
    Get,
    /// [`Store::list`].
    List,
    /// [`Store::commit`].
    Commit,
    /// [`Store::delete_prefix`].
    DeletePrefix,
    /// [`SessionStore::grant`].
    Grant,
    /// [`SessionStore::renew`].
    Renew,
    /// [`SessionStore::revoke`].
    Revoke,
    /// [`WatchStore::watch`].
    Watch,
    /// [`QueueStore::enter`].
    Enter,
    /// [`QueueStore::ahead`].
    Ahead,
    /// [`QueueStore::leave`].
    Leave,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Get,
        Self::List,
        Self::Commit,
        Self::DeletePrefix,
        Self::Grant,
        Self::Renew,
        Self::Revoke,
        Self::Watch,
        Self::Enter,
        Self::Ahead,
        Self::Leave,
    ];

    /// Its name, as in errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Commit => "commit",
            Self::DeletePrefix => "delete_prefix",
            Self::Grant => "grant",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::Watch => "watch",
            Self::Enter => "enter",
            Self::Ahead => "ahead",
            Self::Leave => "leave",
        }
    }
}

/// How many requests of each kind there were.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts([u64; Operation::ALL.len()]);

impl Counts {
    /// How many of this kind.
    #[must_use]
    pub const fn of(&self, operation: Operation) -> u64 {
        self.0[operation as usize]
    }

    /// How many of any kind.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What came in between; never below zero.
impl Sub for Counts {
    type Output = Self;

    fn sub(mut self, earlier: Self) -> Self {
        for (now, then) in self.0.iter_mut().zip(earlier.0) {
            *now = now.saturating_sub(then);
        }
        self
    }
}

/// Shows what was counted at all: `{get: 1, commit: 2}`.
impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = Operation::ALL.into_iter().filter(|operation| self.of(*operation) > 0);
        f.debug_map().entries(counted.map(|operation| (operation.name(), self.of(operation)))).finish()
    }
}

/// A store that counts what it is asked, when it is asked, and passes it on. Clones count together.
///
/// A request counts also if it fails or is dropped, but not before its first poll; a watch counts when it is made.
#[derive(Clone, Debug)]
pub struct Counting<S> {
    store: S,
    counters: Arc<[AtomicU64; Operation::ALL.len()]>,
}

impl<S: Store> Counting<S> {
    /// Counts what `store` is asked from now on.
    pub fn new(store: S) -> Self {
        Self { store, counters: Arc::default() }
    }

    /// The store that does the work.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts(Operation::ALL.map(|operation| self.counters[operation as usize].load(Ordering::Relaxed)))
    }

    /// What was counted so far, and starts at zero again.
    pub fn reset(&self) -> Counts {
        Counts(Operation::ALL.map(|operation| self.counters[operation as usize].swap(0, Ordering::Relaxed)))
    }

    fn count(&self, operation: Operation) -> &S {
        self.counters[operation as usize].fetch_add(1, Ordering::Relaxed);
        &self.store
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for Counting<S> {
    fn limits(&self) -> Limits {
        self.store.limits()
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        self.count(Operation::Get).get(key, read).await
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        self.count(Operation::List).list(prefix, read).await
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        self.count(Operation::Commit).commit(txn).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        self.count(Operation::DeletePrefix).delete_prefix(prefix).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SessionStore> SessionStore for Counting<S> {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.count(Operation::Grant).grant(ttl).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        self.count(Operation::Renew).renew(session).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        self.count(Operation::Revoke).revoke(session).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: WatchStore> WatchStore for Counting<S> {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        self.count(Operation::Watch).watch(scope)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: QueueStore> QueueStore for Counting<S> {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        self.count(Operation::Enter).enter(queue, session, ticket, value, limit).await
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        self.count(Operation::Ahead).ahead(place, limit).await
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        self.count(Operation::Leave).leave(place).await
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        self.store.read_place(queue, entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::Memory;
    use crate::kv::{Mode, Random};

    #[tokio::test]
    async fn counts_each_request_once_and_clones_together() -> Result<()> {
        let store = Counting::new(Memory::new());
        let other = store.clone();
        let key = Key::new("a")?;
        store.get(&key, Consistency::Local).await?;
        store.list(&key, Consistency::Local).await?;
        let _ = other.commit(Txn::new().put(&key, "1")).await?;
        store.delete_prefix(&key).await?;
        let session = store.grant(Duration::from_secs(9)).await?.id;
        other.renew(&session).await?;
        let (queue, ticket) = (Queue::lock("q")?, Ticket::new(Mode::Exclusive, &Random::seeded(1)));
        let place = store.enter(&queue, &session, &ticket, Bytes::new(), 1).await?.place;
        store.ahead(&place, 1).await?;
        other.leave(&place).await?;
        store.revoke(&session).await?;
        drop(store.watch(Scope::Key(key.clone())));
        assert_eq!(Operation::ALL.map(|operation| store.counts().of(operation)), [1; 11]);
        assert_eq!(other.reset().total(), 11);
        drop(store.get(&key, Consistency::Local));
        assert_eq!(store.counts(), Counts::default());
        store.get(&key, Consistency::Local).await?;
        assert_eq!(format!("{:?}", store.counts()), r#"{"get": 1}"#);
        Ok(())
    }
}
