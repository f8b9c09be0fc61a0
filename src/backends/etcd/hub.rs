//! The one stream that all watches of a store share.
//!
//! One task owns it. It starts with the first watch and ends with the store, or with the runtime it runs on, in which
//! case the next watch starts another. It connects when somebody wants to watch, tells everybody when the stream breaks,
//! and finds out by asking when it has gone silent.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::BACKEND;
use super::connection::Connection;
use super::endpoints::{Endpoints, Kind};
use super::error::{Cure, classify};
use super::keys::Range;
use crate::kv::{Error, ErrorKind, Outcome, Result};

/// How many messages wait for a slow watcher. One that has more resumes from where it is, and the server waits for it.
const MAILBOX: usize = 64;

/// How many wishes wait for the task.
const WISHES: usize = 256;

/// How long the stream may be silent before it is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(2);

/// What a watcher is told.
#[derive(Debug)]
pub(super) enum Told {
    /// What the server said about it.
    Said(WatchResponse),
    /// The stream broke.
    Broken(Error),
}

/// What the task is asked for.
enum Wish {
    Join(Join),
    Leave(i64),
}

struct Join {
    id: i64,
    range: Range,
    from: i64,
    refused: bool,
    mailbox: mpsc::Sender<Told>,
}

/// Where watches join the stream.
pub(super) struct Hub {
    endpoints: Arc<Endpoints>,
    ids: AtomicI64,
    task: Mutex<Option<mpsc::Sender<Wish>>>,
}

/// One watch on the stream; it leaves when it is dropped.
pub(super) struct Watcher {
    id: i64,
    wishes: mpsc::Sender<Wish>,
    told: mpsc::Receiver<Told>,
}

impl Hub {
    pub(super) fn new(endpoints: &Arc<Endpoints>) -> Self {
        Self { endpoints: Arc::clone(endpoints), ids: AtomicI64::new(1), task: Mutex::default() }
    }

    /// Watches a range for what happens at the revision `from` and later. Says whether that was [refused](refusal)
    /// before: the first time everybody is told to come again on another stream, as this one may only be older than the
    /// token it was opened with.
    pub(super) async fn join(&self, range: Range, from: i64, refused: bool) -> Result<Watcher> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (mailbox, told) = mpsc::channel(MAILBOX);
        let mut join = Join { id, range, from, refused, mailbox };
        loop {
            let wishes = self.task()?;
            match wishes.send(Wish::Join(join)).await {
                Ok(()) => return Ok(Watcher { id, wishes, told }),
                // The task has just ended with its runtime.
                Err(mpsc::error::SendError(Wish::Join(back))) => join = back,
                Err(_) => return Err(Error::invalid("never sent")),
            }
        }
    }

    /// Where to send wishes: to a task that runs.
    fn task(&self) -> Result<mpsc::Sender<Wish>> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wishes) = task.as_ref().filter(|wishes| !wishes.is_closed()) {
            return Ok(wishes.clone());
        }
        let runtime = Handle::try_current().map_err(|error| {
            Error::invalid("watches need a tokio runtime").because(error).at(BACKEND, "watch")
        })?;
        let (wishes, received) = mpsc::channel(WISHES);
        let watching = Task {
            endpoints: Arc::clone(&self.endpoints),
            wishes: received,
            watchers: BTreeMap::new(),
            joining: VecDeque::new(),
        };
        runtime.spawn(watching.run());
        *task = Some(wishes.clone());
        Ok(wishes)
    }
}

impl Watcher {
    /// What it is told next; `None` when it was too slow, or the task has ended. Cancel-safe.
    pub(super) async fn told(&mut self) -> Option<Told> {
        self.told.recv().await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Without room, the task finds out with the next change.
        let _ = self.wishes.try_send(Wish::Leave(self.id));
    }
}

/// The task that owns the stream.
struct Task {
    endpoints: Arc<Endpoints>,
    wishes: mpsc::Receiver<Wish>,
    watchers: BTreeMap<i64, mpsc::Sender<Told>>,
    /// Who asked to join and was not answered yet, in that order, in which the server answers. A watcher that it
    /// refuses at once it calls by no name.
    joining: VecDeque<(i64, bool)>,
}

impl Task {
    /// Ends when nobody can join any more and nobody watches.
    async fn run(mut self) {
        while let Some(wish) = self.wishes.recv().await {
            let Wish::Join(join) = wish else { continue };
            let Err(error) = self.serve(join).await else { return };
            tracing::debug!(%error, "the watch stream ended");
            for mailbox in std::mem::take(&mut self.watchers).into_values() {
                // Without room it is closed for them, which says the same.
                let _ = mailbox.try_send(Told::Broken(error.clone()));
            }
        }
    }

    /// Opens the stream for somebody and serves everybody until it breaks; `Ok` when nobody is left to serve.
    async fn serve(&mut self, first: Join) -> Result<()> {
        let generation = self.endpoints.generation();
        self.watchers.insert(first.id, first.mailbox.clone());
        self.joining = VecDeque::from([(first.id, first.refused)]);
        let asked = self.endpoints.call(Kind::Repeatable, "watch", |connection: Arc<Connection>| {
            let (start, options) = (first.range.start.clone(), options(&first));
            async move {
                let stream = connection.watch().watch(start, Some(options)).await?;
                Ok((stream, connection.member.clone()))
            }
        });
        let (mut stream, member) = asked.await?;
        drop(first);
        let within = self.endpoints.times().attempt;
        let mut silence = Silence::new();
        loop {
            let now = tokio::select! {
                biased;
                wish = self.wishes.recv() => match wish {
                    Some(wish) => self.grant(&mut stream, wish, within).await,
                    None => return Ok(()),
                },
                message = stream.message() => {
                    silence.end();
                    match message {
                        Ok(Some(message)) => self.tell(&mut stream, message, within).await,
                        Ok(None) => Err(broken("the server ended the stream")),
                        Err(error) => Err(classify(error, &member).error),
                    }
                }
                () = sleep_until(silence.until(within)), if !self.watchers.is_empty() => {
                    if silence.asked {
                        self.endpoints.give_up(generation, Cure::Elsewhere);
                        Err(broken("the stream went silent"))
                    } else {
                        silence.asked = true;
                        silence.since = Instant::now();
                        sent(within, stream.request_progress()).await
                    }
                }
            };
            now.map_err(|error| error.at(BACKEND, "watch"))?;
        }
    }

    async fn grant(&mut self, stream: &mut WatchStream, wish: Wish, within: Duration) -> Result<()> {
        match wish {
            Wish::Join(join) => {
                let (start, options) = (join.range.start.clone(), options(&join));
                self.watchers.insert(join.id, join.mailbox);
                self.joining.push_back((join.id, join.refused));
                sent(within, stream.watch(start, Some(options))).await
            }
            Wish::Leave(id) => self.dismiss(stream, id, within).await,
        }
    }

    /// Hands a message to whom it is for.
    async fn tell(
        &mut self,
        stream: &mut WatchStream,
        message: WatchResponse,
        within: Duration,
    ) -> Result<()> {
        let joining = if message.created() { self.joining.pop_front() } else { None };
        let (id, refused_before) = joining.unwrap_or((message.watch_id(), false));
        let (over, refused) = (message.canceled(), refusal(&message).is_some());
        let Some(mailbox) = self.watchers.get(&id) else { return Ok(()) };
        if mailbox.try_send(Told::Said(message)).is_err() {
            return self.dismiss(stream, id, within).await;
        }
        if over {
            self.watchers.remove(&id);
        }
        if refused && !refused_before {
            self.endpoints.give_up(self.endpoints.generation(), Cure::Anew);
            return Err(broken("the server wants to be told anew who we are"));
        }
        Ok(())
    }

    async fn dismiss(&mut self, stream: &mut WatchStream, id: i64, within: Duration) -> Result<()> {
        match self.watchers.remove(&id) {
            Some(_) => sent(within, stream.cancel(id)).await,
            None => Ok(()),
        }
    }
}

/// Why the server does not let us watch, if that is what it says.
pub(super) fn refusal(message: &WatchResponse) -> Option<&str> {
    // What etcd says may come with what gRPC says around it.
    let reason = message.cancel_reason().rsplit("etcdserver: ").next().unwrap_or_default();
    let refused = ["permission denied", "auth", "user"].iter().any(|word| reason.contains(word));
    (message.canceled() && refused).then_some(reason)
}

/// How long nothing was heard, and whether that was asked about.
struct Silence {
    since: Instant,
    asked: bool,
}

impl Silence {
    fn new() -> Self {
        Self { since: Instant::now(), asked: false }
    }

    fn end(&mut self) {
        *self = Self::new();
    }

    fn until(&self, within: Duration) -> Instant {
        self.since + if self.asked { within } else { SILENCE }
    }
}

fn options(join: &Join) -> WatchOptions {
    let options = WatchOptions::new().with_watch_id(join.id).with_start_revision(join.from);
    if join.range.end.is_empty() { options } else { options.with_range(join.range.end.clone()) }
}

/// Requests go through a queue, which is only full when the connection takes nothing any more.
async fn sent(within: Duration, sending: impl Future<Output = Result<(), etcd_client::Error>>) -> Result<()> {
    match timeout(within, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(broken("the stream is closed")),
        Err(_) => Err(broken("the stream takes no requests any more")),
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::WatchLost, Outcome::NotApplied, what)
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}
