//! The side of the process that tests.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quorate::kv::{
    Consistency, Coordinator, Entered, Entry, Error, ErrorKind, Event, Grant, Key, Limits, Outcome, Place,
    PlaceRef, Queue, QueueStore, Rejection, Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket,
    Txn, WatchStore, Write,
};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::wire::{
    Frame, Reply, Request, WireBytes, WireEntry, WirePlace, WireQueue, garbled, read_entries, read_places,
    receive, send,
};

/// Those that wait for an answer; `None` once there will be no more.
type Waiting = Option<BTreeMap<u64, oneshot::Sender<Reply>>>;

/// A worker process, which is killed with the last of its clients.
#[derive(Debug)]
pub(crate) struct Process {
    requests: mpsc::Sender<Frame<Request>>,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU64,
    child: Mutex<Child>,
    _tasks: JoinSet<()>,
}

impl Process {
    /// Starts this very program as a worker for the store at `url`.
    pub(crate) fn start(url: &str) -> Result<Arc<Self>> {
        let child = std::env::current_exe().and_then(|program| {
            let mut worker = Command::new(program);
            worker
                .args(["serve", url])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
        });
        let mut child = child.map_err(|error| unavailable("the worker did not start").because(error))?;
        let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unavailable("the worker has no pipes"));
        };
        let (requests, mut unsent) = mpsc::channel(16);
        let waiting = Arc::new(Mutex::new(Some(BTreeMap::new())));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(frame) = unsent.recv().await {
                if send(&mut stdin, &frame).await.is_err() {
                    return;
                }
            }
        });
        let answered = Arc::clone(&waiting);
        tasks.spawn(async move {
            while let Ok(Frame { id, body }) = receive(&mut stdout).await {
                let waiter = lock(&answered).as_mut().and_then(|waiting| waiting.remove(&id));
                if let Some(waiter) = waiter {
                    // Whoever dropped the request needs no answer.
                    let _ = waiter.send(body);
                }
            }
            // The worker is gone: so are its answers.
            lock(&answered).take();
        });
        let next = AtomicU64::new(0);
        Ok(Arc::new(Self { requests, waiting, next, child: Mutex::new(child), _tasks: tasks }))
    }

    /// A client of the store that the worker has open.
    pub(crate) async fn client(self: &Arc<Self>) -> Result<Arc<dyn Coordinator>> {
        match self.ask(Request::Limits).await? {
            Reply::Limits(limits) => {
                Ok(Arc::new(Remote { process: Arc::clone(self), limits: limits.read() }))
            }
            reply => Err(unexpected(&reply)),
        }
    }

    /// Kills the worker where it stands.
    pub(crate) fn kill(&self) -> std::io::Result<()> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).start_kill()
    }

    fn id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn ask(&self, body: Request) -> Result<Reply> {
        let id = self.id();
        let (waiter, answer) = oneshot::channel();
        match &mut *lock(&self.waiting) {
            Some(waiting) => waiting.insert(id, waiter),
            None => return Err(unavailable("the worker is gone")),
        };
        let sent = self.requests.send(Frame { id, body }).await;
        sent.map_err(|_| unavailable("the worker takes no requests"))?;
        match answer.await {
            Ok(Reply::Failed(error)) => Err(error.read()),
            Ok(reply) => Ok(reply),
            Err(_) => Err(unavailable("the worker is gone").unsettled()),
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why).at("remote", "")
}

fn unexpected(reply: &Reply) -> Error {
    garbled(&format!("the answer {reply:?}"))
}

/// A store in a worker process.
#[derive(Debug)]
struct Remote {
    process: Arc<Process>,
    limits: Limits,
}

#[async_trait]
impl Store for Remote {
    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        let local = read == Consistency::Local;
        match self.process.ask(Request::Get { key: key.to_string(), local }).await? {
            Reply::Entry(found) => found.map(WireEntry::read).transpose(),
            reply => Err(unexpected(&reply)),
        }
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        let local = read == Consistency::Local;
        match self.process.ask(Request::List { prefix: prefix.to_string(), local }).await? {
            Reply::Entries(found) => read_entries(found),
            reply => Err(unexpected(&reply)),
        }
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        match self.process.ask(Request::from(&txn)).await? {
            Reply::Entries(made) => Ok(Write::Applied(read_entries(made)?)),
            Reply::Rejected { key, found } => {
                let found = found.map(WireEntry::read).transpose()?;
                Ok(Write::Rejected(Rejection { key: Key::decode(&key)?, found }))
            }
            reply => Err(unexpected(&reply)),
        }
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        match self.process.ask(Request::DeletePrefix { prefix: prefix.to_string() }).await? {
            Reply::Count(count) => Ok(count),
            reply => Err(unexpected(&reply)),
        }
    }
}

#[async_trait]
impl SessionStore for Remote {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        match self.process.ask(Request::Grant { ttl }).await? {
            Reply::Grant { id, ttl } => Ok(Grant { id: SessionId::new(id), ttl }),
            reply => Err(unexpected(&reply)),
        }
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        match self.process.ask(Request::Renew { session: session.to_string() }).await? {
            Reply::Renewed(ttl) => Ok(ttl.map_or(Renewal::Lost, |ttl| Renewal::Renewed { ttl })),
            reply => Err(unexpected(&reply)),
        }
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        match self.process.ask(Request::Revoke { session: session.to_string() }).await? {
            Reply::Done => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }
}

/// A watch in the worker, which ends with this.
struct Watched {
    process: Arc<Process>,
    id: u64,
}

impl Watched {
    async fn next(&self) -> Option<Result<Event>> {
        let event = match self.process.ask(Request::Told { watch: self.id }).await {
            Ok(Reply::Snapshot(entries)) => read_entries(entries).map(Event::Snapshot),
            Ok(Reply::Put(entry)) => entry.read().map(Event::Put),
            Ok(Reply::Delete(key)) => Key::decode(&key).map(Event::Delete),
            Ok(Reply::End) => return None,
            Ok(reply) => Err(unexpected(&reply)),
            Err(error) => Err(error),
        };
        Some(event)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // If there is no room, the watch stays until the worker ends; it is asked for no more events.
        let _ =
            self.process.requests.try_send(Frame { id: self.id, body: Request::Unwatch { watch: self.id } });
    }
}

impl WatchStore for Remote {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let process = Arc::clone(&self.process);
        let made = async move {
            let watched = Watched { id: process.id(), process };
            let frame = Frame { id: watched.id, body: Request::from(&scope) };
            // If it cannot be sent, asking for the first event tells.
            let _ = watched.process.requests.send(frame).await;
            futures_util::stream::unfold(watched, |watched| async {
                watched.next().await.map(|told| (told, watched))
            })
        };
        futures_util::stream::once(made).flatten().boxed()
    }
}

#[async_trait]
impl QueueStore for Remote {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let (session, ticket) = (session.to_string(), ticket.to_string());
        let queue = WireQueue::from(queue);
        let request = Request::Enter { queue, session, ticket, value: WireBytes::from(&value), limit };
        match self.process.ask(request).await? {
            Reply::Entered { place, ahead } => {
                Ok(Entered { place: place.read()?, ahead: read_places(ahead)? })
            }
            reply => Err(unexpected(&reply)),
        }
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        match self.process.ask(Request::Ahead { place: WirePlace::from(place), limit }).await? {
            Reply::Ahead(ahead) => ahead.map(read_places).transpose(),
            reply => Err(unexpected(&reply)),
        }
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        match self.process.ask(Request::Leave { place: WirePlace::from(place) }).await? {
            Reply::Left(stood) => Ok(stood),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Judged here, where the worker cannot be asked: right for all stores that name their places as
    /// [`Queue::place_key`] does.
    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        queue.read_place(entry)
    }
}
