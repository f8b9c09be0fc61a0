//! Consul, version 1.8 and later.

mod catalog;
mod endpoints;
mod error;
mod feed;
mod http;
mod hub;
mod keys;
mod ops;
mod options;
mod parts;
mod queue;
mod reads;
mod session;
mod tls;
mod txn;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use self::catalog::announce::Announcer;
pub use self::catalog::provider::ConsulCatalog;
use self::endpoints::Endpoints;
use self::hub::Hub;
pub use self::options::ConsulOptions;
use self::txn::Rewritten;
use self::watch::Watching;
use crate::kv::{
    Consistency, Entered, Entry, Error, ErrorKind, Event, Grant, Key, Limits, Outcome, Place, PlaceRef,
    Queue, QueueStore, Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn, WatchStore,
    Write,
};

const BACKEND: &str = "consul";

/// The longest value. The server takes 512 KiB in one transaction, in which three bytes of a value take four, and the
/// longest key may stand three times.
const MAX_VALUE: usize = 360 * 1024;

/// The lives of sessions that the server grants unless it is told otherwise.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);

/// A cluster of Consul, version 1.8 or later, through its agents. Clones share its connections.
///
/// # What it promises
///
/// The whole contract, with fences that grow store-wide: a fence is the index that an entry was made at, a version the
/// one it was last written at. [`Consistency::Local`] is what any one server has; it works without a leader. What a watch
/// tells are states: values that were soon overwritten may be left out, the last never is. A prefix is deleted in steps of
/// 64 entries.
///
/// A session lives 10 s at least, and **the server may let an unrenewed one stand for twice its ttl**; when the servers
/// change their leader its life starts anew. So somebody who died is noticed after 20 s with the shortest ttl. Who gives
/// up what they hold, or ends, is noticed at once.
///
/// A write takes one round trip. Two or three more where an entry is taken over that another session holds, or that was
/// held and is not to be any more, and where a check does not hold.
///
/// # How it talks
///
/// Requests go to one agent until it fails or does not answer in time, then to the next; each has a deadline. Watches are
/// blocking queries, of which those that are many below one key share one. A connection lives on the runtime of whoever
/// asks, so sessions with [a thread of their own](crate::kv::SessionOptions::own_thread) have their own connections.
///
/// Sessions hang on a node of the catalog that stands for no machine, `quorate` unless it is [named](ConsulOptions::node)
/// otherwise, so that they outlive every server. Whoever deregisters that node ends all of them.
///
/// There are no `native` locks: see [`layouts`](crate::docs::layouts).
///
/// ```no_run
/// use quorate::backends::{Consul, ConsulOptions};
/// use quorate::kv::StoreExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Consul::connect(ConsulOptions::new(["localhost:8500"])).await?;
/// assert!(store.create("migrated", "by me").await?.is_applied(), "somebody was faster");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Consul {
    endpoints: Arc<Endpoints>,
    hub: Arc<Hub>,
    rewritten: Arc<Rewritten>,
    node: Arc<str>,
    /// Tells Consul's own catalog of registrations, where that was asked for.
    announcer: Option<Arc<Announcer>>,
    /// What runs there, if that was told.
    server: Option<Arc<str>>,
}

impl Consul {
    /// Connects to the first agent that lets us in.
    ///
    /// Fails with [`ErrorKind::InvalidInput`] when the options are not usable, with [`ErrorKind::Unauthorized`] when the
    /// token is refused, with [`ErrorKind::Unavailable`] when no agent can be reached or trusted; each names the agent and
    /// the cause. Cancel-safe.
    pub async fn connect(options: ConsulOptions) -> Result<Self> {
        let endpoints = Arc::new(Endpoints::new(&options).map_err(|error| error.at(BACKEND, "connect"))?);
        let server = endpoints.probe().await?;
        Ok(Self {
            hub: Arc::new(Hub::new(&endpoints)),
            announcer: options.native.then(|| Arc::new(Announcer::new(&endpoints))),
            endpoints,
            rewritten: Arc::default(),
            node: options.node.into(),
            server,
        })
    }

    /// The instances of a service in Consul's own catalog, whoever registered them. Nothing is sent.
    #[must_use]
    pub fn catalog(&self, service: &str) -> ConsulCatalog {
        ConsulCatalog::new(&self.endpoints, service)
    }
}

/// A write that hangs on a session which is gone.
fn lost(session: &SessionId) -> Error {
    Error::new(ErrorKind::SessionLost, Outcome::NotApplied, format!("session {session} is gone"))
}

#[async_trait]
impl Store for Consul {
    fn limits(&self) -> Limits {
        let mut limits = Limits::new(BACKEND);
        limits.server.clone_from(&self.server);
        limits.max_value = MAX_VALUE;
        limits.max_txn_bytes = MAX_VALUE + limits.max_key;
        // A put may take two.
        limits.max_txn_ops = ops::MAX_OPS / 2;
        limits.ttl = TTL;
        limits.slack = Duration::from_secs(2);
        limits.slack_percent = 100;
        limits.coalesces = true;
        limits
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        reads::get(&self.endpoints, "get", key, read).await.map_err(|error| error.on(key))
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        reads::list(&self.endpoints, "list", prefix, read).await.map_err(|error| error.on(prefix))
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        let write = txn::commit(&self.endpoints, &self.rewritten, &txn).await.map_err(|error| {
            let error = error.at(BACKEND, "commit");
            match txn.subject() {
                Some(key) => error.on(key),
                None => error,
            }
        })?;
        if let Some(announcer) = self.announcer.as_ref().filter(|_| write.is_applied()) {
            announcer.applied(&txn).await;
        }
        Ok(write)
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        txn::delete_prefix(&self.endpoints, prefix).await.map_err(|error| error.on(prefix))
    }
}

#[async_trait]
impl SessionStore for Consul {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.limits().check_ttl(ttl)?;
        session::grant(&self.endpoints, &self.node, ttl).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        session::renew(&self.endpoints, session).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        session::revoke(&self.endpoints, session).await?;
        if let Some(announcer) = &self.announcer {
            announcer.ended(session).await;
        }
        Ok(())
    }
}

impl WatchStore for Consul {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let nothing = matches!(&scope, Scope::Key(key) if key.is_root());
        if nothing {
            let empty = futures_util::stream::iter([Ok(Event::Snapshot(Vec::new()))]);
            return empty.chain(futures_util::stream::pending()).boxed();
        }
        let watching = Watching::new(Arc::clone(&self.hub), scope);
        futures_util::stream::unfold(watching, Watching::step).boxed()
    }
}

#[async_trait]
impl QueueStore for Consul {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        queue::check(queue)?;
        let key = queue.place_key(session, ticket)?;
        Txn::new().put(&key, value.clone()).validate(&self.limits())?;
        let entered = queue::enter(&self.endpoints, queue, session, ticket, key, value, limit).await;
        entered.map_err(|error| error.at(BACKEND, "enter").on(queue.key()))
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        queue::ahead(&self.endpoints, place, limit).await.map_err(|error| error.on(place.queue.key()))
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        let left = txn::commit(&self.endpoints, &self.rewritten, &place.removal()).await;
        left.map(|left| left.is_applied()).map_err(|error| error.on(place.queue.key()))
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        queue.read_place(entry)
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
