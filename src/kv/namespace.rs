//! A part of a store as a store of its own.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::{
    Consistency, Entered, Entry, Error, ErrorKind, Event, Grant, Key, Limits, Outcome, Place, PlaceRef,
    Queue, QueueStore, Rejection, Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn,
    WatchStore, Write,
};

/// A chroot: everything this store does happens below `namespace` of another, locks and elections too.
///
/// ```
/// use quorate::backends::Memory;
/// use quorate::kv::{Key, Namespaced, StoreExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let whole = Memory::new();
/// let mine = Namespaced::new(whole.clone(), Key::new("team/app")?);
/// mine.put("motd", "hello").await?;
/// assert!(whole.exists("team/app/motd").await?);
/// assert!(!whole.exists("motd").await?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Namespaced<S> {
    store: S,
    namespace: Key,
}

impl<S: Store> Namespaced<S> {
    /// The part of `store` below `namespace`.
    pub fn new(store: S, namespace: Key) -> Self {
        Self { store, namespace }
    }

    /// The whole store.
    pub fn inner(&self) -> &S {
        &self.store
    }

    fn outer(&self, key: &Key) -> Result<Key> {
        self.namespace.join(key)
    }

    fn entry(&self, entry: Entry) -> Result<Entry> {
        inner_entry(&self.namespace, entry)
    }

    fn queue(&self, queue: &Queue) -> Result<Queue> {
        Ok(queue.at(self.outer(queue.key())?))
    }

    fn place(&self, place: &Place) -> Result<Place> {
        Ok(Place { queue: self.queue(&place.queue)?, key: self.outer(&place.key)?, ..place.clone() })
    }

    fn places(&self, places: Vec<PlaceRef>) -> Result<Vec<PlaceRef>> {
        let strip = |place: PlaceRef| Ok(PlaceRef { key: inner_key(&self.namespace, place.key)?, ..place });
        places.into_iter().map(strip).collect()
    }
}

fn inner_key(namespace: &Key, key: Key) -> Result<Key> {
    key.into_stripped(namespace).map_err(|key| {
        let why = format!("the store answered with a key outside the namespace {namespace:?}");
        Error::new(ErrorKind::Internal, Outcome::Unknown, why).on(&key)
    })
}

fn inner_entry(namespace: &Key, entry: Entry) -> Result<Entry> {
    Ok(Entry { key: inner_key(namespace, entry.key)?, ..entry })
}

fn inner_event(namespace: &Key, event: Event) -> Result<Event> {
    Ok(match event {
        Event::Snapshot(entries) => Event::Snapshot(
            entries.into_iter().map(|entry| inner_entry(namespace, entry)).collect::<Result<_>>()?,
        ),
        Event::Put(entry) => Event::Put(inner_entry(namespace, entry)?),
        Event::Delete(key) => Event::Delete(inner_key(namespace, key)?),
    })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for Namespaced<S> {
    fn limits(&self) -> Limits {
        let mut limits = self.store.limits();
        limits.max_key = limits.max_key.saturating_sub(self.namespace.as_str().len() + 1);
        limits
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        if key.is_root() {
            return Ok(None); // The namespace itself may be an entry of the outer store; inside it is the root.
        }
        let outer = self.outer(key)?;
        let found = self.store.get(&outer, read).await?;
        // Usually it is the key that was asked for, which need not be made once more.
        let inner = |entry: Entry| {
            if entry.key == outer { Ok(Entry { key: key.clone(), ..entry }) } else { self.entry(entry) }
        };
        found.map(inner).transpose()
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        let found = self.store.list(&self.outer(prefix)?, read).await?;
        found.into_iter().map(|entry| self.entry(entry)).collect()
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        match self.store.commit(txn.map_keys(|key| self.outer(key))?).await? {
            Write::Applied(entries) => {
                let entries: Result<_> = entries.into_iter().map(|entry| self.entry(entry)).collect();
                Ok(Write::Applied(entries?))
            }
            Write::Rejected(Rejection { key, found }) => Ok(Write::Rejected(Rejection {
                key: inner_key(&self.namespace, key)?,
                found: found.map(|entry| self.entry(entry)).transpose()?,
            })),
        }
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        self.store.delete_prefix(&self.outer(prefix)?).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SessionStore> SessionStore for Namespaced<S> {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.store.grant(ttl).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        self.store.renew(session).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        self.store.revoke(session).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: WatchStore> WatchStore for Namespaced<S> {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let outer = self.outer(scope.key()).map(|key| match scope {
            Scope::Key(_) => Scope::Key(key),
            Scope::Prefix(_) => Scope::Prefix(key),
        });
        let namespace = self.namespace.clone();
        match outer {
            Ok(scope) => {
                let inner = move |event| inner_event(&namespace, event);
                self.store.watch(scope).map(move |event| event.and_then(&inner)).boxed()
            }
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: QueueStore> QueueStore for Namespaced<S> {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let entered = self.store.enter(&self.queue(queue)?, session, ticket, value, limit).await?;
        let key = inner_key(&self.namespace, entered.place.key)?;
        let place = Place { queue: queue.clone(), key, ..entered.place };
        Ok(Entered { place, ahead: self.places(entered.ahead)? })
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        let ahead = self.store.ahead(&self.place(place)?, limit).await?;
        ahead.map(|places| self.places(places)).transpose()
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        self.store.leave(&self.place(place)?).await
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        let outer = Entry { key: self.outer(&entry.key).ok()?, ..entry.clone() };
        let place = self.store.read_place(&self.queue(queue).ok()?, &outer)?;
        Some(PlaceRef { key: place.key.into_stripped(&self.namespace).ok()?, ..place })
    }
}
