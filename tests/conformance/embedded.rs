//! The embedded store as a subject: clients in this process, and each in a process of its own.
#![expect(clippy::expect_used, reason = "without a directory there is nothing to ask")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use quorate::backends::Embedded;
use quorate::kv::conformance::{self, Subject};
use quorate::kv::{
    Consistency, Coordinator, Entered, Entry, Event, Grant, Key, Limits, Place, PlaceRef, Queue, QueueStore,
    Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn, WatchStore, Write,
};
use tempfile::TempDir;

use crate::remote::Process;

/// A file that goes with its directory.
#[derive(Debug)]
struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store.db")
    }
}

/// Every client is a handle of its own in this process. A restart closes them all, and opens the file again.
#[derive(Debug)]
pub(crate) struct OneProcess {
    file: File,
    open: Mutex<Vec<Arc<Reopened>>>,
}

impl OneProcess {
    pub(crate) fn new() -> Self {
        Self { file: File::new(), open: Mutex::default() }
    }
}

#[async_trait]
impl Subject for OneProcess {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        let handle = Arc::new(Reopened(Mutex::new(Some(Embedded::open(self.file.path()).await?))));
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&handle));
        Ok(handle)
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }

    async fn restart(&self) -> Result<bool> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for handle in &open {
            handle.put(None);
        }
        for handle in &open {
            handle.put(Some(Embedded::open(self.file.path()).await?));
        }
        Ok(true)
    }
}

/// Every client is a process of its own.
#[derive(Debug)]
pub(crate) struct ManyProcesses(File);

impl ManyProcesses {
    pub(crate) fn new() -> Self {
        Self(File::new())
    }
}

#[async_trait]
impl Subject for ManyProcesses {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        Process::start(&format!("embedded:{}", self.0.path().display()))?.client().await
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }
}

/// A handle that can be closed and opened again under its users.
#[derive(Debug)]
struct Reopened(Mutex<Option<Embedded>>);

impl Reopened {
    fn put(&self, store: Option<Embedded>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = store;
    }

    fn now(&self) -> Embedded {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        now.expect("no case asks while its store restarts")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Reopened {
    fn limits(&self) -> Limits {
        self.now().limits()
    }
    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        self.now().get(key, read).await
    }
    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        self.now().list(prefix, read).await
    }
    async fn commit(&self, txn: Txn) -> Result<Write> {
        self.now().commit(txn).await
    }
    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        self.now().delete_prefix(prefix).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SessionStore for Reopened {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.now().grant(ttl).await
    }
    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        self.now().renew(session).await
    }
    async fn revoke(&self, session: &SessionId) -> Result<()> {
        self.now().revoke(session).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl WatchStore for Reopened {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        self.now().watch(scope)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl QueueStore for Reopened {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: bytes::Bytes,
        limit: usize,
    ) -> Result<Entered> {
        self.now().enter(queue, session, ticket, value, limit).await
    }
    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        self.now().ahead(place, limit).await
    }
    async fn leave(&self, place: &Place) -> Result<bool> {
        self.now().leave(place).await
    }
    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        self.now().read_place(queue, entry)
    }
}
