//! One file shared by the processes of one host.
//!
//! # Files
//!
//! `PATH` is an SQLite database with a write-ahead log (`PATH-wal`, `PATH-shm`), synced on every commit except those
//! that concern sessions alone. Writers queue at a lock on `PATH-lock`, so that none starves; after a commit they touch
//! `PATH-bell` if anybody listens. The tables are in `schema`; whatever is asked of them goes through one thread of each
//! process (`engine`).
//!
//! # Time
//!
//! A session is a row with a deadline on the host's boot clock. It is over when somebody deletes that row, in a
//! transaction, with all that is bound to it; whoever looks first does so, and nobody judges otherwise. So a renewal
//! finds its session or learns that it is lost, and both sides of the file agree.
//!
//! # Speed
//!
//! What a request costs beyond SQLite's work is two threads waking each other; `pace` spares that where it can.

mod bell;
mod database;
mod engine;
mod error;
#[cfg_attr(not(target_os = "linux"), path = "elsewhere.rs")]
mod host;
mod job;
mod pace;
mod schema;
mod tables;
mod watch;

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};

use self::database::Database;
use self::engine::Engine;
use self::error::{Fault, classify};
use self::job::{CallOff, Claim, Job, Kind};
use self::pace::Pace;
use self::tables::Tables;
use self::watch::Watching;
use crate::kv::{
    Consistency, Entered, Entry, Error, ErrorKind, Event, Fanout, Grant, Key, Limits, Outcome, Place,
    PlaceRef, Queue, QueueStore, Random, Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn,
    WatchStore, Write,
};

const BACKEND: &str = "embedded";

/// How long a request may take unless [`Embedded::open_within`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of a program may wait for the file to be closed.
const CLOSING: Duration = Duration::from_secs(1);

/// A store in one file, shared by the processes of one host. Linux only.
///
/// Clones are handles on the same open file, which one thread owns; the thread ends with the last of them, watches
/// included. Opening the file once for each process is enough, though more does no harm.
///
/// # What it promises
///
/// The whole contract, with fences that grow store-wide and over restarts. A commit is on disk before it is
/// answered: neither a crash nor a power failure takes it back. Sessions do not outlive a boot of the host, so what
/// concerns them alone (grant, renew, revoke) does not wait for the disk; a place in a queue does, for its fence. A change
/// reaches the watches of other processes in about a millisecond. [`Consistency::Local`] is linearizable too.
///
/// Where requests are quick, a request that is alone looks up to 0.15 ms for its answer before its task yields.
///
/// # Where it ends
///
/// * One host: network file systems are refused by name. Containers may share the file, and the files beside it, if
///   they share the host's boot clock; a time namespace that shifts it is refused.
/// * A process that is stopped (`SIGSTOP`, a debugger) in the middle of a write keeps all others from writing until
///   it goes on, and those that try also from reading; they get [`ErrorKind::Unavailable`] when their time is up. One
///   that is killed holds nobody up.
/// * When the file is deleted or replaced, everything fails with [`ErrorKind::Internal`] until it is opened anew:
///   two groups of processes with a file each would elect two leaders. Copy it only while no process has it open,
///   and `PATH-wal` with it.
///
/// ```no_run
/// use quorate::backends::Embedded;
/// use quorate::kv::StoreExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Embedded::open("/var/lib/app/quorate.db").await?;
/// assert!(store.create("migrated", "by me").await?.is_applied(), "somebody was faster");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Embedded(Arc<Handle>);

/// The fields are dropped in this order: first no more jobs can come, then the engine wakes and sees that, and at last
/// it may be waited for.
struct Handle {
    jobs: mpsc::Sender<Job>,
    pace: Ring,
    fanout: Arc<Fanout>,
    path: Arc<Path>,
    server: Arc<str>,
    timeout: Duration,
    random: Random,
    _ending: Ending,
}

/// The end of the engine.
struct Ending {
    path: Arc<Path>,
    /// Disconnected when it has ended.
    running: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

/// A program that is about to end would cut the engine off while that closes the file: nothing is lost by it, but who
/// opens the file next has the whole log to read. So whoever drops the last handle outside of a runtime, where blocking
/// harms nobody, waits a little where the engine may have a log to copy.
impl Drop for Ending {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_err()
            && database::has_long_log(&self.path)
            && let Ok(running) = self.running.get_mut()
        {
            // Whether it has ended or the time was up: there is nothing else to do.
            let _ = running.recv_timeout(CLOSING);
        }
    }
}

struct Ring(Arc<Pace>);

impl Drop for Ring {
    fn drop(&mut self) {
        self.0.ring();
    }
}

impl Embedded {
    /// Opens the store at `path`, making the file, but no directory, if there is none.
    ///
    /// Fails with [`ErrorKind::InvalidInput`] for a file that is not a quorate store, which is left as it is, or a
    /// path that cannot be one; with [`ErrorKind::Unsupported`] for a file that a newer version made, a network file
    /// system, or another system than Linux; with [`ErrorKind::Unauthorized`] where it may not be written; with
    /// [`ErrorKind::Unavailable`] when that takes longer than 10 seconds. Dropping the future may leave an empty
    /// store behind, and no thread.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_within(path, TIMEOUT).await
    }

    /// As [`open`](Self::open), with another bound for that and for every later request.
    pub async fn open_within(path: impl AsRef<Path>, timeout: Duration) -> Result<Self> {
        Self::start(Arc::from(path.as_ref()), timeout).await.map_err(|error| error.at(BACKEND, "open"))
    }

    async fn start(path: Arc<Path>, timeout: Duration) -> Result<Self> {
        let told = |error: std::io::Error| classify(error.into(), &path);
        let pace = Arc::new(Pace::new().map_err(told)?);
        let (jobs, received) = mpsc::channel(engine::QUEUE);
        let fanout = Fanout::new();
        let (reply, opened) = oneshot::channel();
        let claim = Arc::<Claim>::default();
        let (running, ending) = std::sync::mpsc::sync_channel(0);
        let engine = {
            let (path, pace, fanout) = (Arc::clone(&path), Arc::clone(&pace), Arc::clone(&fanout));
            let claim = Arc::clone(&claim);
            move || {
                let _running = running;
                let database = match Database::open(&path, || claim.start()) {
                    Ok(Some(database)) => database,
                    Ok(None) => return,
                    Err(fault) => return drop(reply.send(Err(classify(fault, &path)))),
                };
                // If nobody waits for this any more, nobody can send a job either, and the engine ends at once.
                let _ = reply.send(Ok(()));
                Engine {
                    database,
                    jobs: received,
                    pace,
                    fanout,
                    path,
                    listening: None,
                    ear: OnceCell::new(),
                }
                .run();
            }
        };
        let handle = Handle {
            jobs,
            pace: Ring(pace),
            fanout,
            path: Arc::clone(&path),
            server: format!("SQLite {}", rusqlite::version()).into(),
            timeout,
            random: Random::from_os(),
            _ending: Ending { path: Arc::clone(&path), running: std::sync::Mutex::new(ending) },
        };
        std::thread::Builder::new().name("quorate-embedded".into()).spawn(engine).map_err(told)?;
        let call_off = CallOff(Arc::clone(&claim));
        handle.bounded(&call_off.0, async { opened.await.ok() }).await?;
        Ok(Self(Arc::new(handle)))
    }
}

impl Handle {
    /// Has the engine do `work`. Once that has started it is done, though the future be dropped.
    async fn call<T, F>(&self, kind: Kind, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tables<'_>) -> std::result::Result<T, Fault> + Send + 'static,
    {
        let (job, claim, answer) = Job::new(kind, work);
        let call_off = CallOff(claim);
        let answered = async {
            let asking = self.pace.0.ask(kind);
            self.jobs.send(job).await.ok()?;
            self.pace.0.ring();
            asking.answer(answer).await
        };
        let result = self.bounded(&call_off.0, answered).await;
        result.map_err(|error| error.at(BACKEND, operation))
    }

    async fn bounded<T>(
        &self,
        claim: &Claim,
        answered: impl Future<Output = Option<Result<T>>>,
    ) -> Result<T> {
        let timeout = self.timeout;
        let answer = tokio::time::timeout(timeout, answered).await;
        if let Ok(Some(result)) = answer {
            return result;
        }
        let outcome = if claim.call_off() { Outcome::NotApplied } else { Outcome::Unknown };
        Err(if answer.is_ok() {
            engine::died(&self.path, outcome)
        } else {
            let path = self.path.display();
            let why = format!("no answer within {timeout:?}; another process may be stopped while writing");
            Error::new(ErrorKind::Unavailable, outcome, format!("{path}: {why}"))
        })
    }
}

#[async_trait]
impl Store for Embedded {
    fn limits(&self) -> Limits {
        let mut limits = Limits::new(BACKEND);
        limits.server = Some(Arc::clone(&self.0.server));
        limits.coalesces = true;
        limits
    }

    async fn get(&self, key: &Key, _: Consistency) -> Result<Option<Entry>> {
        let own = key.clone();
        self.0.call(Kind::Read, "get", move |tables| tables.get(&own)).await.map_err(|error| error.on(key))
    }

    async fn list(&self, prefix: &Key, _: Consistency) -> Result<Vec<Entry>> {
        let scope = Scope::Prefix(prefix.clone());
        self.0
            .call(Kind::Read, "list", move |tables| tables.covered(&scope))
            .await
            .map_err(|error| error.on(prefix))
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        let subject = txn.subject().cloned();
        let written = self.0.call(Kind::Write, "commit", move |tables| tables.commit(&txn)).await;
        written.map_err(|error| match &subject {
            Some(key) => error.on(key),
            None => error,
        })
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        let own = prefix.clone();
        let deleted =
            self.0.call(Kind::Write, "delete_prefix", move |tables| tables.delete_prefix(&own)).await;
        deleted.map_err(|error| error.on(prefix))
    }
}

#[async_trait]
impl SessionStore for Embedded {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.limits().check_ttl(ttl)?;
        let nonce = self.0.random.nonce();
        let id = self.0.call(Kind::Session, "grant", move |tables| tables.grant(nonce, ttl)).await?;
        Ok(Grant { id, ttl })
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        let session = session.clone();
        self.0.call(Kind::Session, "renew", move |tables| tables.renew(&session)).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        let session = session.clone();
        self.0.call(Kind::Session, "revoke", move |tables| tables.revoke(&session)).await
    }
}

impl WatchStore for Embedded {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let watching = Watching::new(self.clone(), self.0.fanout.subscribe(scope));
        futures_util::stream::unfold(watching, Watching::step).boxed()
    }
}

#[async_trait]
impl QueueStore for Embedded {
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
        let place = (queue.clone(), key.clone(), session.clone());
        let entered = self.0.call(Kind::Write, "enter", move |tables| {
            let (queue, key, session) = place;
            let fence = tables.enter(&key, &value, &session)?;
            Ok((fence, tables.ahead(&queue, fence, limit)?))
        });
        let (fence, ahead) = entered.await.map_err(|error| error.on(queue.key()))?;
        let (queue, session) = (queue.clone(), session.clone());
        Ok(Entered { place: Place { queue, key, fence, session, ticket: *ticket }, ahead })
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        let own = place.clone();
        let ahead = self.0.call(Kind::Read, "ahead", move |tables| {
            if tables.stands(&own)? { tables.ahead(&own.queue, own.fence, limit).map(Some) } else { Ok(None) }
        });
        ahead.await.map_err(|error| error.on(place.queue.key()))
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        let own = place.clone();
        let left = self.0.call(Kind::Write, "leave", move |tables| tables.leave(&own));
        left.await.map_err(|error| error.on(place.queue.key()))
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        queue.read_place(entry)
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.0.path).finish_non_exhaustive()
    }
}
