//! etcd, version 3.4 and later.

mod connection;
mod endpoints;
mod error;
mod gathering;
mod hub;
mod keys;
mod lease;
mod options;
mod queue;
mod reads;
mod txn;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use self::endpoints::Endpoints;
use self::hub::Hub;
use self::lease::Lives;
pub use self::options::EtcdOptions;
use self::watch::Watching;
use crate::kv::{
    Consistency, Entered, Entry, Error, ErrorKind, Event, Grant, Key, Limits, Outcome, Place, PlaceRef,
    Queue, QueueStore, Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn, WatchStore,
    Write,
};

const BACKEND: &str = "etcd";

/// The most operations in one transaction, as etcd has it unless it is told otherwise.
const MAX_OPS: usize = 128;

/// The most bytes put by one commit. etcd takes requests of 1.5 MiB, in which every key may stand three times.
const MAX_BYTES: usize = 1200 * 1024;

/// A cluster of etcd, version 3.4 or later. Clones share its connections.
///
/// # What it promises
///
/// The whole contract, with fences that grow store-wide: a fence is the revision that an entry was made at, a version the
/// one it was last written at. [`Consistency::Local`] is what the one member that is asked has; it works without a leader.
/// A prefix is deleted in one step, unless something stands below it that it does not cover.
///
/// A session is a lease, of whole seconds and of 2 s at least with etcd's default settings. An unrenewed one ends up to
/// half a second after its ttl; when the cluster changes its leader its life starts anew. **A leader that was paused,
/// and goes on, may end sessions that were renewed a moment ago.** A holder notices, as it watches its own place, but
/// two may believe for that long that they hold: guard what matters by the fence.
///
/// # How it talks
///
/// Requests go to one member until it fails or does not answer in time, then to the next; each has a deadline. All
/// watches share one stream, which is resumed where it broke off. A connection lives on the runtime of whoever asks, so
/// sessions with [a thread of their own](crate::kv::SessionOptions::own_thread) have their own connection.
///
/// A `native` lock or election keeps the layout of etcd's `concurrency` package, and so shares its queue with `etcdctl
/// lock`, `etcdctl elect` and Go programs. Do not nest native queues: those clients take all that is below for places.
///
/// ```no_run
/// use quorate::backends::{Etcd, EtcdOptions};
/// use quorate::kv::StoreExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Etcd::connect(EtcdOptions::new(["localhost:2379"])).await?;
/// assert!(store.create("migrated", "by me").await?.is_applied(), "somebody was faster");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Etcd {
    endpoints: Arc<Endpoints>,
    hub: Arc<Hub>,
    lives: Arc<Lives>,
    /// What ran where we connected to, if that was told.
    server: Option<Arc<str>>,
}

impl Etcd {
    /// Connects to the first member that lets us in.
    ///
    /// Fails with [`ErrorKind::InvalidInput`] when the options are not usable, with [`ErrorKind::Unauthorized`] when user
    /// and password are refused, with [`ErrorKind::Unavailable`] when no member can be reached or trusted; each names the
    /// member and the cause. Cancel-safe.
    pub async fn connect(options: EtcdOptions) -> Result<Self> {
        let endpoints = Endpoints::new(&options).map_err(|error| error.at(BACKEND, "connect"))?;
        let server = endpoints.probe().await?;
        Ok(Self { server, ..Self::with(endpoints) })
    }

    /// The same, but nothing is sent yet: what is asked first shows whether any member lets us in, and fails as
    /// [`connect`](Self::connect) does if none does. That must be a session.
    pub(crate) fn with_session(options: &EtcdOptions) -> Result<Self> {
        Ok(Self::with(Endpoints::new(options).map_err(|error| error.at(BACKEND, "connect"))?))
    }

    /// The store that this client is connected to. Nothing is sent.
    ///
    /// Its connections are its own affair: it is asked, with the default deadlines, and no other member is; let it have
    /// [`with_auto_token_refresh`](etcd_client::ConnectOptions::with_auto_token_refresh) where there are users. It
    /// belongs to the runtime it was made on.
    #[must_use]
    pub fn from_client(client: etcd_client::Client) -> Self {
        Self::with(Endpoints::given(client))
    }

    fn with(endpoints: Endpoints) -> Self {
        let endpoints = Arc::new(endpoints);
        Self { hub: Arc::new(Hub::new(&endpoints)), endpoints, lives: Arc::default(), server: None }
    }
}

/// A write that hangs on a session which is gone.
fn lost(session: &SessionId) -> Error {
    Error::new(ErrorKind::SessionLost, Outcome::NotApplied, format!("session {session} is gone"))
}

#[async_trait]
impl Store for Etcd {
    fn limits(&self) -> Limits {
        let mut limits = Limits::new(BACKEND);
        limits.server.clone_from(&self.server);
        limits.max_txn_ops = MAX_OPS;
        limits.max_txn_bytes = MAX_BYTES;
        limits.ttl = Duration::from_secs(1)..=Duration::from_hours(24);
        limits.slack = Duration::from_millis(1500);
        limits
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        reads::get(&self.endpoints, key, read).await.map_err(|error| error.on(key))
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        let scope = Scope::Prefix(prefix.clone());
        let listed = reads::covered(&self.endpoints, "list", &scope, read).await;
        listed.map(|(_, entries)| entries).map_err(|error| error.on(prefix))
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        txn::commit(&self.endpoints, &txn).await.map_err(|error| {
            let error = error.at(BACKEND, "commit");
            match txn.subject() {
                Some(key) => error.on(key),
                None => error,
            }
        })
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        txn::delete_prefix(&self.endpoints, prefix).await.map_err(|error| error.on(prefix))
    }
}

#[async_trait]
impl SessionStore for Etcd {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.limits().check_ttl(ttl)?;
        lease::grant(&self.endpoints, ttl).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        lease::renew(&self.endpoints, &self.lives, session).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        lease::revoke(&self.endpoints, &self.lives, session).await
    }
}

impl WatchStore for Etcd {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let watching = Watching::new(Arc::clone(&self.endpoints), Arc::clone(&self.hub), scope);
        futures_util::stream::unfold(watching, Watching::step).boxed()
    }
}

#[async_trait]
impl QueueStore for Etcd {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let key = queue.place_key(session, ticket)?;
        Txn::new().put(&key, value.clone()).validate(&self.limits())?;
        let entered = queue::enter(&self.endpoints, queue, session, ticket, key, value, limit).await;
        entered.map_err(|error| error.at(BACKEND, "enter").on(queue.key()))
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        queue::ahead(&self.endpoints, place, limit).await.map_err(|error| error.on(place.queue.key()))
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        queue::leave(&self.endpoints, place).await.map_err(|error| error.on(place.queue.key()))
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        queue::read_place(queue, entry)
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
