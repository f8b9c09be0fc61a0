//! A store that offers little, slowly: the suite must not ask more of one than its limits say.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quorate::backends::Memory;
use quorate::kv::conformance::{self, Case, Subject};
use quorate::kv::{
    Consistency, Coordinator, Delivery, Entered, Entry, Event, FenceScope, Grant, Key, Limits, Place,
    PlaceRef, Queue, QueueStore, Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn,
    WatchStore, Write,
};

use libtest_mimic::Trial;

use crate::stores::{Time, trial};

const EVERY: Duration = Duration::from_secs(5);

/// How much longer a session stands in the server than it was granted for.
const LINGERS: Duration = Duration::from_secs(8);

/// The cases for stores of each rank, over one of few and small operations, long sessions and polled watches.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    let all =
        conformance::cases().into_iter().map(|case| narrow("narrow", case, Arc::new(Opens(Memory::new()))));
    let watched = conformance::watch_cases()
        .into_iter()
        .map(|case| narrow("watched", case, Arc::new(Opens(Memory::new()))));
    let plain = conformance::store_cases()
        .into_iter()
        .map(|case| narrow("plain", case, Arc::new(Opens(Memory::new()))));
    all.chain(watched).chain(plain)
}

fn narrow<S: ?Sized + Send + Sync + 'static>(
    store: &str,
    case: Case<S>,
    subject: Arc<dyn Subject<S>>,
) -> Trial {
    trial(store, Time::Paused, &[], case, move || subject)
}

#[derive(Debug)]
struct Opens(Memory);

macro_rules! opens {
    ($($store:ident),*) => {$(
        #[async_trait]
        impl Subject<dyn $store> for Opens {
            async fn open(&self) -> Result<Arc<dyn $store>> {
                Ok(Arc::new(Narrow(self.0.client())))
            }

            fn prefix(&self) -> Key {
                conformance::fresh_prefix()
            }
        }
    )*};
}

opens!(Store, WatchStore, Coordinator);

#[derive(Clone, Debug)]
struct Narrow(Memory);

#[async_trait]
impl Store for Narrow {
    fn limits(&self) -> Limits {
        let mut limits = Limits::new("narrow");
        limits.max_key = 200;
        limits.max_value = 100;
        limits.max_txn_ops = 2;
        limits.max_txn_bytes = 500;
        limits.ttl = Duration::from_secs(10)..=Duration::from_secs(40);
        limits.slack = Duration::ZERO;
        limits.slack_percent = 100;
        limits.delivery = Delivery::Polled { every: EVERY };
        limits.coalesces = true;
        limits.fence = FenceScope::Queue;
        limits
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        self.0.get(key, read).await
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        self.0.list(prefix, read).await
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        self.0.commit(txn).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        self.0.delete_prefix(prefix).await
    }
}

#[async_trait]
impl SessionStore for Narrow {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.limits().check_ttl(ttl)?;
        Ok(Grant { ttl, ..self.0.grant(ttl + LINGERS).await? })
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        Ok(match self.0.renew(session).await? {
            Renewal::Renewed { ttl } => Renewal::Renewed { ttl: ttl.saturating_sub(LINGERS) },
            Renewal::Lost => Renewal::Lost,
        })
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        self.0.revoke(session).await
    }
}

/// A watch that looks now and then, and tells the difference.
struct Looking {
    store: Memory,
    scope: Scope,
    seen: Option<BTreeMap<Key, Entry>>,
    untold: VecDeque<Event>,
}

impl Looking {
    async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.untold.pop_front() {
                return Ok(event);
            }
            if self.seen.is_some() {
                tokio::time::sleep(EVERY).await;
            }
            let found = match &self.scope {
                Scope::Key(key) => {
                    self.store.get(key, Consistency::Linearizable).await?.into_iter().collect()
                }
                Scope::Prefix(prefix) => self.store.list(prefix, Consistency::Linearizable).await?,
            };
            let now: BTreeMap<_, _> = found.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
            match self.seen.replace(now.clone()) {
                None => return Ok(Event::Snapshot(now.into_values().collect())),
                Some(before) => {
                    let gone =
                        before.keys().filter(|key| !now.contains_key(*key)).cloned().map(Event::Delete);
                    self.untold.extend(gone);
                    let changed = now.into_values().filter(|entry| before.get(&entry.key) != Some(entry));
                    self.untold.extend(changed.map(Event::Put));
                }
            }
        }
    }
}

impl WatchStore for Narrow {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let looking = Looking { store: self.0.clone(), scope, seen: None, untold: VecDeque::new() };
        futures_util::stream::unfold(looking, |mut looking| async { Some((looking.next().await, looking)) })
            .boxed()
    }
}

#[async_trait]
impl QueueStore for Narrow {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let probe = Txn::new().put(&queue.place_key(session, ticket)?, value.clone());
        probe.validate(&self.limits())?;
        self.0.enter(queue, session, ticket, value, limit).await
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        self.0.ahead(place, limit).await
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        self.0.leave(place).await
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        self.0.read_place(queue, entry)
    }
}
