//! A memory store with a flaw.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quorate::backends::Memory;
use quorate::kv::conformance::{self, Subject};
use quorate::kv::{
    Consistency, Coordinator, Entered, Entry, Event, Grant, Key, Limits, Place, PlaceRef, Queue, QueueStore,
    Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn, WatchStore, Write,
};

pub(super) const READ: Consistency = Consistency::Linearizable;

pub(super) type Told = BoxStream<'static, Result<Event>>;

/// What is wrong with a store: each method stands in for the memory store's own.
#[async_trait]
pub(super) trait Flaw: Send + Sync + 'static {
    /// The key that is really used.
    fn key(&self, key: &Key) -> Key {
        key.clone()
    }

    /// An entry as it is told.
    fn show(&self, entry: Entry) -> Entry {
        entry
    }

    async fn get(&self, memory: &Memory, key: &Key) -> Result<Option<Entry>> {
        memory.get(key, READ).await
    }

    /// A read that may be stale.
    async fn get_local(&self, memory: &Memory, key: &Key) -> Result<Option<Entry>> {
        self.get(memory, key).await
    }

    async fn list(&self, memory: &Memory, prefix: &Key) -> Result<Vec<Entry>> {
        memory.list(prefix, READ).await
    }

    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        memory.commit(txn).await
    }

    async fn delete_prefix(&self, memory: &Memory, prefix: &Key) -> Result<u64> {
        memory.delete_prefix(prefix).await
    }

    async fn grant(&self, memory: &Memory, ttl: Duration) -> Result<Grant> {
        memory.grant(ttl).await
    }

    async fn renew(&self, memory: &Memory, session: &SessionId) -> Result<Renewal> {
        memory.renew(session).await
    }

    async fn revoke(&self, memory: &Memory, session: &SessionId) -> Result<()> {
        memory.revoke(session).await
    }

    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        memory.watch(scope)
    }

    async fn enter(&self, memory: &Memory, place: Enter) -> Result<Entered> {
        place.send(memory).await
    }

    async fn ahead(&self, memory: &Memory, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        memory.ahead(place, limit).await
    }

    async fn leave(&self, memory: &Memory, place: &Place) -> Result<bool> {
        memory.leave(place).await
    }

    /// Makes trouble; the memory store's own is to cut every watch.
    fn disturb(&self, memory: &Memory) {
        memory.cut_watches();
    }

    /// Stops and starts again; the memory store keeps all but its watches.
    async fn restart(&self, memory: &Memory) -> Result<()> {
        memory.cut_watches();
        Ok(())
    }
}

/// What `enter` is asked.
#[derive(Clone)]
pub(super) struct Enter {
    pub(super) queue: Queue,
    pub(super) session: SessionId,
    pub(super) ticket: Ticket,
    pub(super) value: Bytes,
    pub(super) limit: usize,
}

impl Enter {
    pub(super) async fn send(self, memory: &Memory) -> Result<Entered> {
        memory.enter(&self.queue, &self.session, &self.ticket, self.value, self.limit).await
    }
}

/// A memory store with a flaw.
#[derive(Clone)]
pub(super) struct Broken {
    memory: Memory,
    flaw: Arc<dyn Flaw>,
}

impl Broken {
    pub(super) fn new(flaw: Arc<dyn Flaw>) -> Self {
        Self { memory: Memory::new(), flaw }
    }

    fn told(&self, write: Write) -> Write {
        write.map(|entries| entries.into_iter().map(|entry| self.flaw.show(entry)).collect())
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Broken").field(&self.memory).finish()
    }
}

#[async_trait]
impl Store for Broken {
    fn limits(&self) -> Limits {
        self.memory.limits()
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        let key = self.flaw.key(key);
        let found = match read {
            Consistency::Linearizable => self.flaw.get(&self.memory, &key).await?,
            Consistency::Local => self.flaw.get_local(&self.memory, &key).await?,
        };
        Ok(found.map(|entry| self.flaw.show(entry)))
    }

    async fn list(&self, prefix: &Key, _: Consistency) -> Result<Vec<Entry>> {
        let found = self.flaw.list(&self.memory, &self.flaw.key(prefix)).await?;
        Ok(found.into_iter().map(|entry| self.flaw.show(entry)).collect())
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        let txn = txn.map_keys(|key| Ok(self.flaw.key(key)))?;
        Ok(self.told(self.flaw.commit(&self.memory, txn).await?))
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        self.flaw.delete_prefix(&self.memory, &self.flaw.key(prefix)).await
    }
}

#[async_trait]
impl SessionStore for Broken {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.flaw.grant(&self.memory, ttl).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        self.flaw.renew(&self.memory, session).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        self.flaw.revoke(&self.memory, session).await
    }
}

impl WatchStore for Broken {
    fn watch(&self, scope: Scope) -> Told {
        let scope = match scope {
            Scope::Key(key) => Scope::Key(self.flaw.key(&key)),
            Scope::Prefix(key) => Scope::Prefix(self.flaw.key(&key)),
        };
        let flaw = Arc::clone(&self.flaw);
        let show = move |event| match event {
            Event::Snapshot(entries) => {
                Event::Snapshot(entries.into_iter().map(|entry| flaw.show(entry)).collect())
            }
            Event::Put(entry) => Event::Put(flaw.show(entry)),
            Event::Delete(key) => Event::Delete(key),
        };
        self.flaw.watch(&self.memory, scope).map(move |told| told.map(&show)).boxed()
    }
}

#[async_trait]
impl QueueStore for Broken {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let enter = Enter { queue: queue.clone(), session: session.clone(), ticket: *ticket, value, limit };
        self.flaw.enter(&self.memory, enter).await
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        self.flaw.ahead(&self.memory, place, limit).await
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        self.flaw.leave(&self.memory, place).await
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        self.memory.read_place(queue, entry)
    }
}

#[async_trait]
impl Subject for Broken {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        Ok(Arc::new(self.clone()))
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }

    async fn restart(&self) -> Result<bool> {
        self.flaw.restart(&self.memory).await.map(|()| true)
    }

    async fn disturb(&self) -> Result<bool> {
        self.flaw.disturb(&self.memory);
        Ok(true)
    }
}
