//! The memory store with real await points, counters and a few switches for trouble.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::task::yield_now;

use crate::backends::Memory;
use crate::kv::{
    Consistency, Entered, Entry, Error, ErrorKind, Event, Grant, Key, Limits, Outcome, Place, PlaceRef,
    Queue, QueueStore, Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn, WatchStore,
    Write,
};

/// What becomes of a commit that is to fail.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// It is never sent.
    Refused,
    /// It takes effect, and the reply is lost.
    ReplyLost,
    /// It is lost, but nobody can know.
    RequestLost,
    /// The store refuses it for good if it puts an instance of this id.
    Forbidden(&'static str),
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) grants: AtomicU64,
    pub(super) renewals: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) puts: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) watches: AtomicU64,
    /// The most commits that were under way at once.
    pub(super) most_abreast: AtomicU64,
}

/// Yields before and after every request, so that each can be dropped before, between and after.
#[derive(Clone, Debug)]
pub(super) struct Wrapped {
    pub(super) memory: Memory,
    pub(super) counts: Arc<Counts>,
    /// What becomes of the next commits, first to last.
    pub(super) troubles: Arc<Mutex<Vec<Trouble>>>,
    /// What becomes of every commit it concerns.
    pub(super) forbidden: Arc<Mutex<Option<&'static str>>>,
    /// Revoking a session does nothing.
    pub(super) keeps_sessions: Arc<AtomicBool>,
    /// What each commit under way writes.
    under_way: Arc<Mutex<Vec<BTreeSet<Key>>>>,
}

impl Wrapped {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory,
            counts: Arc::default(),
            troubles: Arc::default(),
            forbidden: Arc::default(),
            keeps_sessions: Arc::default(),
            under_way: Arc::default(),
        }
    }

    /// Notes a commit until what is returned is dropped. No client may write a key twice at once: which write would be
    /// the last is anybody's guess.
    fn commits(&self, txn: &Txn) -> UnderWay {
        let keys: BTreeSet<_> = txn.puts().iter().map(|put| &put.key).chain(txn.deletes()).cloned().collect();
        let mut under_way = self.under_way.lock().unwrap();
        assert!(under_way.iter().all(|other| other.is_disjoint(&keys)), "a key is written twice at once");
        under_way.push(keys.clone());
        self.counts.most_abreast.fetch_max(under_way.len() as u64, Ordering::Relaxed);
        UnderWay { keys, all: Arc::clone(&self.under_way) }
    }

    pub(super) fn commits_under_way(&self) -> usize {
        self.under_way.lock().unwrap().len()
    }

    /// Another client of the same data.
    pub(super) fn client(&self) -> Self {
        Self::new(self.memory.client())
    }

    pub(super) fn next_fails(&self, trouble: Trouble) {
        self.troubles.lock().unwrap().push(trouble);
    }

    fn trouble(&self, txn: &Txn) -> Option<Trouble> {
        let mut troubles = self.troubles.lock().unwrap();
        if !troubles.is_empty() {
            return Some(troubles.remove(0));
        }
        let forbidden = (*self.forbidden.lock().unwrap())?;
        txn.puts().iter().any(|put| put.key.name() == forbidden).then_some(Trouble::Forbidden(forbidden))
    }
}

/// A commit, until it was answered or dropped.
struct UnderWay {
    keys: BTreeSet<Key>,
    all: Arc<Mutex<Vec<BTreeSet<Key>>>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.lock().unwrap().retain(|other| *other != self.keys);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[async_trait]
impl Store for Wrapped {
    fn limits(&self) -> Limits {
        self.memory.limits()
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        count(&self.counts.reads);
        yield_now().await;
        let found = self.memory.get(key, read).await;
        yield_now().await;
        found
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        count(&self.counts.reads);
        yield_now().await;
        let found = self.memory.list(prefix, read).await;
        yield_now().await;
        found
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        count(&self.counts.commits);
        let _under_way = self.commits(&txn);
        self.counts.puts.fetch_add(txn.puts().len() as u64, Ordering::Relaxed);
        let lost = |outcome| Err(Error::new(ErrorKind::Unavailable, outcome, "provoked"));
        yield_now().await;
        let answer = match self.trouble(&txn) {
            None => self.memory.commit(txn).await,
            Some(Trouble::Refused) => lost(Outcome::NotApplied),
            Some(Trouble::RequestLost) => lost(Outcome::Unknown),
            Some(Trouble::ReplyLost) => {
                let _ = self.memory.commit(txn).await?;
                lost(Outcome::Unknown)
            }
            Some(Trouble::Forbidden(id)) => {
                Err(Error::new(ErrorKind::Unauthorized, Outcome::NotApplied, format!("{id} is forbidden")))
            }
        };
        yield_now().await;
        answer
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        self.memory.delete_prefix(prefix).await
    }
}

#[async_trait]
impl SessionStore for Wrapped {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        count(&self.counts.grants);
        yield_now().await;
        let grant = self.memory.grant(ttl).await;
        yield_now().await;
        grant
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        count(&self.counts.renewals);
        self.memory.renew(session).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        if self.keeps_sessions.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.memory.revoke(session).await
    }
}

#[async_trait]
impl WatchStore for Wrapped {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        self.counts.watches.fetch_add(1, Ordering::Relaxed);
        self.memory.watch(scope)
    }
}

#[async_trait]
impl QueueStore for Wrapped {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        self.memory.enter(queue, session, ticket, value, limit).await
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        self.memory.ahead(place, limit).await
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        self.memory.leave(place).await
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        self.memory.read_place(queue, entry)
    }
}
