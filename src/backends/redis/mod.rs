//! Redis, and what speaks its protocol.

mod changes;
mod channel;
mod connection;
mod error;
mod find;
mod hearing;
mod history;
mod hub;
mod line;
mod link;
mod listener;
mod options;
mod queue;
mod read;
mod replies;
mod reply;
mod scripts;
mod servers;
mod session;
mod tls;
mod txn;
mod url;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use self::hub::Hub;
pub use self::options::RedisOptions;
use self::servers::Servers;
use self::watch::Watching;
use crate::kv::{
    Consistency, Entered, Entry, Error, ErrorKind, Event, Grant, Key, Limits, Outcome, Place, PlaceRef,
    Queue, QueueStore, Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn, WatchStore,
    Write,
};

const BACKEND: &str = "redis";

/// A server of Redis, version 6.2 or later, or of Valkey. Clones share its connections.
///
/// # What it promises
///
/// With **one server** that has a sane clock and keeps what it acknowledges (`appendonly yes`, `appendfsync always`): the
/// whole contract, with fences that grow store-wide. Every write is one script, which checks, writes and numbers in one
/// step, and a get is one plain command. A list is one script, and beyond 64 entries up to two rounds of plain commands
/// besides; it is of one moment either way. A fence is the revision that an entry was made at, a version the one it was
/// last written at.
/// [`Consistency::Local`] is no weaker, and no cheaper.
///
/// With `appendfsync everysec` a crash of the machine loses the last second, and without persistence a restart loses
/// everything. With **replicas**, under sentinels or in a cluster, **a failover loses what the new primary had not heard
/// of**: two may hold the same lock. That must be accepted by name, with
/// [`unsafe_failover`](RedisOptions::unsafe_failover); [`wait_replicas`](RedisOptions::wait_replicas) makes it less
/// likely. A client that finds a revision below the highest it has seen, or the store emptied, fails what it was doing
/// with [`ErrorKind::FenceRegression`], once; all sessions from before are void then, and revisions go on above all that
/// this client had seen. So is one that finds another write at that revision: what was lost was overtaken. Guard what
/// matters by the fence.
///
/// A session is one key with a life, exact to the millisecond; what is bound to it lives only while that key does. The
/// end of a session is told to those who watch by whichever client keeps a session, and by one that watches within half a second.
/// A server whose clock jumps ends sessions early, or late.
///
/// # How it talks
///
/// Requests share one connection, and each has a deadline; all watches share another, on which the server tells
/// what the scripts publish; what was missed when that breaks is read from a stream that they write, or seen at the keys. Nothing
/// is listed by `KEYS` or `SCAN`, or set by `CONFIG`, and keyspace events are not needed. A connection lives on the runtime of
/// whoever asks, so sessions with [a thread of their own](crate::kv::SessionOptions::own_thread) have their own connection.
///
/// A client that watches a prefix, or many hundreds of keys, is told of every change of the store: a message for each such client
/// ([what that takes](crate::docs::performance)). So share a client within a process. One that watches but single keys, as those who
/// wait for a lock do, is told of these only, and asks every 2 s whether it was told all.
///
/// There are no `native` queues: what other clients call a lock has neither order nor fence.
///
/// ```no_run
/// use quorate::backends::{Redis, RedisOptions};
/// use quorate::kv::StoreExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Redis::connect(RedisOptions::new("localhost:6379")).await?;
/// assert!(store.create("migrated", "by me").await?.is_applied(), "somebody was faster");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Redis {
    servers: Arc<Servers>,
    hub: Arc<Hub>,
    /// What ran where we connected to, if that was told.
    server: Option<Arc<str>>,
}

impl Redis {
    /// Connects, and sees whether we may do there what we must.
    ///
    /// Fails with [`ErrorKind::InvalidInput`] when the options are not usable, with [`ErrorKind::Unauthorized`] when user
    /// and password are refused or may not do enough, with [`ErrorKind::Unavailable`] when the server cannot be reached or
    /// trusted; each names the server and the cause. Cancel-safe.
    pub async fn connect(options: RedisOptions) -> Result<Self> {
        let servers = Arc::new(Servers::new(&options).map_err(|error| error.at(BACKEND, "connect"))?);
        let server = servers.probe().await?;
        Ok(Self { hub: Arc::new(Hub::new(&servers)), servers, server })
    }
}

/// A write that hangs on a session which is gone.
fn lost(session: &SessionId) -> Error {
    Error::new(ErrorKind::SessionLost, Outcome::NotApplied, format!("session {session} is gone"))
}

#[async_trait]
impl Store for Redis {
    fn limits(&self) -> Limits {
        let mut limits = Limits::new(BACKEND);
        limits.server.clone_from(&self.server);
        limits
    }

    async fn get(&self, key: &Key, _: Consistency) -> Result<Option<Entry>> {
        let found = read::get(&self.servers, "get", key).await;
        found.map(|(_, entry)| entry).map_err(|error| error.on(key))
    }

    async fn list(&self, prefix: &Key, _: Consistency) -> Result<Vec<Entry>> {
        let listed = read::list(&self.servers, "list", prefix).await;
        listed.map(|(_, entries)| entries).map_err(|error| error.on(prefix))
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        txn::commit(&self.servers, &txn).await.map_err(|error| match txn.subject() {
            Some(key) => error.on(key),
            None => error,
        })
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        txn::delete_prefix(&self.servers, prefix).await.map_err(|error| error.on(prefix))
    }
}

#[async_trait]
impl SessionStore for Redis {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.limits().check_ttl(ttl)?;
        session::grant(&self.servers, ttl).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        session::renew(&self.servers, session).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        session::revoke(&self.servers, session).await
    }
}

impl WatchStore for Redis {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let watching = Watching::new(Arc::clone(&self.servers), Arc::clone(&self.hub), scope);
        futures_util::stream::unfold(watching, Watching::step).boxed()
    }
}

#[async_trait]
impl QueueStore for Redis {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        queue::refuse_native(queue).map_err(|error| error.at(BACKEND, "enter").on(queue.key()))?;
        let key = queue.place_key(session, ticket)?;
        Txn::new().put(&key, value.clone()).validate(&self.limits())?;
        let entered = queue::enter(&self.servers, queue, session, ticket, key, value, limit).await;
        entered.map_err(|error| error.at(BACKEND, "enter").on(queue.key()))
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        queue::ahead(&self.servers, place, limit).await.map_err(|error| error.on(place.queue.key()))
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        queue::leave(&self.servers, place).await.map_err(|error| error.on(place.queue.key()))
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        if queue.is_native() { None } else { queue.read_place(entry) }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("servers", &self.servers).finish_non_exhaustive()
    }
}
