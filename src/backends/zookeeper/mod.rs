//! ZooKeeper, version 3.6 and later.

mod connection;
mod ensemble;
mod error;
mod facts;
mod flight;
mod grouped;
mod host;
mod keys;
mod knock;
mod lease;
mod nodes;
mod options;
mod plan;
mod queue;
mod reads;
mod subjects;
mod tls;
mod together;
mod txn;
mod user;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use zookeeper_client::{Client, Error as Zk};

use self::connection::Kind;
use self::ensemble::Ensemble;
use self::facts::Facts;
use self::grouped::Grouped;
use self::host::Host;
use self::lease::{Live, Lives};
use self::nodes::Nodes;
pub use self::options::ZookeeperOptions;
use self::queue::Calm;
use crate::kv::{
    self, Consistency, Entered, Entry, Error, ErrorKind, Event, Grant, Key, Limits, Outcome, Place, PlaceRef,
    Queue, QueueStore, Renewal, Result, Scope, SessionId, SessionStore, Ticket, Txn, WatchStore, Write,
};

const BACKEND: &str = "zookeeper";

/// The most operations in one commit; each may take four of the server's.
const MAX_OPS: usize = 64;

/// The most bytes of one commit. Servers take requests of 1 MiB by default, in which a key may stand three times, encoded.
const MAX_BYTES: usize = 700 * 1024;

/// The longest key, which may become three times as long.
const MAX_KEY: usize = 512;

/// An ensemble of ZooKeeper, version 3.6 or later. Clones share its connections.
///
/// # What it promises
///
/// The whole contract, with fences that grow store-wide: a fence is the transaction (`czxid`) that an entry was made in.
/// [`Consistency::Local`] is what the one server that is asked has; it may be behind the others. A list is read level by
/// level, not at one instant, and a prefix is deleted one entry after another.
///
/// A session is one of ZooKeeper's, on a connection of its own. Its ttl is what the servers make of what was asked:
/// between 2 and 20 times their `tickTime` (4 s to 40 s) unless they are told otherwise. **A server that loses its leader
/// may have renewed a session in vain by half a tick**, so a holder stops a quarter of the ttl before its end. After a
/// process died, its sessions end a ttl and up to two ticks after the last that was heard of it; that may be up to a ttl
/// after the last renewal.
///
/// [Versions](crate::kv::Version) and guards are never valid again after an entry was made anew **by this crate**.
/// ZooKeeper itself cannot tell a node from another of the same name; what other programs delete and make again may be
/// taken for what stood there before.
///
/// # How it talks
///
/// What is received, and each heartbeat, is the business of one thread for all stores of a process, that of `async-io`, and
/// of no runtime of the caller's, so none that is busy holds up a heartbeat. Whoever asks sends himself. A connection that
/// breaks, or is silent, goes on at another server. Nothing is sent while there is none, and each request has a deadline.
/// A write is one request as long as what this client knows of its keys is true; otherwise it looks, and writes again. Puts
/// that overwrite what it knows, and set off while others are under way, are one request for all of one turn; should one of
/// them fail, the others are sent again, each by itself.
///
/// A `native` lock or election queues under the node of its name as Curator does, and so shares its queue with Curator's
/// `InterProcessMutex` and `LeaderSelector`, and with kazoo's `Lock(…, extra_lock_patterns=["-lock-"])`.
///
/// ```no_run
/// use quorate::backends::{Zookeeper, ZookeeperOptions};
/// use quorate::kv::StoreExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Zookeeper::connect(ZookeeperOptions::new(["localhost:2181"])).await?;
/// assert!(store.create("migrated", "by me").await?.is_applied(), "somebody was faster");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Zookeeper {
    store: Arc<Store>,
}

/// What the clones of a store share.
struct Store {
    lives: Lives,
    nodes: Nodes,
    facts: Facts,
    grouped: Grouped,
    places: Generation,
    calm: Calm,
    ensemble: Arc<Ensemble>,
    /// What runs there, if that was told.
    server: Option<Arc<str>>,
}

/// What the counter of places was when it was last asked for; it is hardly ever raised.
struct Generation(AtomicI64);

impl Generation {
    fn unknown() -> Self {
        Self(AtomicI64::new(-1))
    }

    fn get(&self) -> Option<i32> {
        let generation = self.0.load(Ordering::Relaxed);
        i32::try_from(generation).ok().filter(|generation| *generation >= 0)
    }

    fn set(&self, generation: i32) {
        self.0.store(generation.into(), Ordering::Relaxed);
    }
}

/// Which connection a request goes by.
enum Via<'a> {
    /// The one that all share.
    Shared(&'a Ensemble),
    /// That of a session, which alone can bind to it.
    Session(&'a Live),
}

impl Via<'_> {
    async fn call<T, F, Fut>(&self, kind: Kind, operation: &'static str, ask: F) -> Result<T>
    where
        F: Fn(Arc<Client>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, Zk>> + Send,
        T: Send,
    {
        match self {
            Self::Shared(ensemble) => ensemble.call(kind, operation, ask).await,
            Self::Session(live) => live.call(kind, operation, ask).await,
        }
    }
}

impl Zookeeper {
    /// Connects to the first server that lets us in.
    ///
    /// Fails with [`ErrorKind::InvalidInput`] when the options are not usable, with [`ErrorKind::Unauthorized`] when a
    /// server refuses who we are, with [`ErrorKind::Unavailable`] when none can be reached or trusted; each names the
    /// server and the cause. Cancel-safe.
    pub async fn connect(options: ZookeeperOptions) -> Result<Self> {
        let at = |error: Error| error.at(BACKEND, "connect");
        let settled = Arc::new(options.settle().map_err(at)?);
        let host = Arc::new(Host::default());
        let ensemble = Arc::new(Ensemble::new(host, settled));
        let (probed, server) = tokio::join!(ensemble.probe(), knock::version(&ensemble));
        probed.map_err(at)?;
        let store = Store {
            lives: Lives::default(),
            nodes: Nodes::default(),
            facts: Facts::default(),
            grouped: Grouped::default(),
            places: Generation::unknown(),
            calm: Calm::default(),
            ensemble,
            server,
        };
        Ok(Self { store: Arc::new(store) })
    }
}

/// A request that hangs on a session which is gone.
fn lost(session: &SessionId) -> Error {
    Error::new(ErrorKind::SessionLost, Outcome::NotApplied, format!("session {session} is gone"))
}

#[async_trait]
impl kv::Store for Zookeeper {
    fn limits(&self) -> Limits {
        let mut limits = Limits::new(BACKEND);
        limits.server.clone_from(&self.store.server);
        limits.max_key = MAX_KEY;
        limits.max_value = MAX_BYTES - MAX_KEY;
        limits.max_txn_ops = MAX_OPS;
        limits.max_txn_bytes = MAX_BYTES;
        limits.ttl = Duration::from_secs(1)..=Duration::from_hours(1);
        limits.slack = Duration::from_secs(4);
        limits.slack_percent = 100;
        limits.margin_percent = 25;
        limits.coalesces = true;
        limits
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        if key.is_root() {
            return Ok(None);
        }
        reads::entry(&self.store.ensemble, "get", key, read.into()).await.map_err(|error| error.on(key))
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        let scope = Scope::Prefix(prefix.clone());
        reads::covered(&self.store.ensemble, "list", &scope, read.into())
            .await
            .map_err(|error| error.on(prefix))
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        txn::commit(&self.store, &txn).await.map_err(|error| {
            let error = error.at(BACKEND, "commit");
            match txn.subject() {
                Some(key) => error.on(key),
                None => error,
            }
        })
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        txn::delete_prefix(&self.store, prefix).await.map_err(|error| error.on(prefix))
    }
}

#[async_trait]
impl SessionStore for Zookeeper {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        kv::Store::limits(self).check_ttl(ttl)?;
        lease::grant(&self.store.ensemble, &self.store.lives, ttl).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        lease::renew(&self.store.lives, session).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        lease::revoke(&self.store.lives, session).await
    }
}

impl WatchStore for Zookeeper {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        watch::watch(Arc::clone(&self.store.ensemble), scope)
    }
}

#[async_trait]
impl QueueStore for Zookeeper {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let key = queue.key().child(&format!("{}0000000000", keys::place_stem(session, ticket, u64::MAX)))?;
        Txn::new().put(&key, value.clone()).validate(&kv::Store::limits(self))?;
        let entered = queue::enter(&self.store, queue, session, ticket, value, limit).await;
        entered.map_err(|error| error.at(BACKEND, "enter").on(queue.key()))
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        queue::ahead(&self.store, place, limit).await.map_err(|error| error.on(place.queue.key()))
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        queue::leave(&self.store, place).await.map_err(|error| error.on(place.queue.key()))
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        queue::read_place(queue, entry)
    }
}

impl fmt::Debug for Zookeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zookeeper").field("ensemble", &self.store.ensemble).finish_non_exhaustive()
    }
}
