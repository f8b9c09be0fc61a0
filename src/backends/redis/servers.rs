//! The connections to the primary, and asking there until it answers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::{Cmd, Value};
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::BACKEND;
use super::channel::Channel;
use super::connection::Connection;
use super::error::{Cure, Fault, classify};
use super::find::Finder;
use super::history::History;
use super::options::{RedisOptions, Replicas, Times};
use super::reply::Reply;
use super::scripts::{Script, TICK};
use crate::kv::{Error, ErrorKind, Outcome, Result};

/// How many connections there may be at the same time, over all runtimes.
const CONNECTIONS: usize = 16;

/// The pause after a failure, before it is tried again; it doubles up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Whoever drops a request that was not answered for so long had enough of it: a renewal of a short session has a little
/// more.
const IMPATIENCE: Duration = Duration::from_millis(250);

/// Whether a request may be sent again when it is not known whether it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It may: a read, or a write that is the same twice.
    Repeatable,
    /// It may not.
    Once,
}

/// Which connection a request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// That of all who do not wait there.
    Shared,
    /// That of those who wait for replicas, behind whom nobody else should have to.
    Waiting,
}

pub(super) struct Servers {
    finder: Finder,
    times: Times,
    pub(super) replicas: Option<Replicas>,
    history: Arc<History>,
    state: Mutex<State>,
}

/// Where requests go now.
#[derive(Default)]
struct State {
    /// Grows whenever connections are given up, so that many requests that fail together give them up once.
    generation: u64,
    /// A connection lives on the runtime that opened it. A session that is renewed on a thread of its own has its own, so
    /// that no other runtime can hold it up.
    open: VecDeque<((Id, Lane), Opening)>,
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Connection>, Fault>>>;

impl Servers {
    pub(super) fn new(options: &RedisOptions) -> Result<Self> {
        options.validate()?;
        Ok(Self {
            finder: Finder::new(options)?,
            times: options.times,
            replicas: options.replicas,
            history: Arc::new(History::new(options)),
            state: Mutex::default(),
        })
    }

    pub(super) fn times(&self) -> Times {
        self.times
    }

    /// What we have seen of the store.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// Sees whether the server lets us in and do what we do later. Gives what runs there, where we are told.
    pub(super) async fn probe(&self) -> Result<Option<Arc<str>>> {
        let nonce = self.history.nonce();
        let ask = |connection: Arc<Connection>| {
            let nonce = &nonce;
            async move { connection.probe(self.history.meta(), nonce).await }
        };
        let end = Instant::now() + self.times.attempt;
        let mut moves = 0;
        loop {
            match self.attempt(Instant::now(), end, Lane::Shared, &ask).await {
                Ok(server) => {
                    self.call(Kind::Repeatable, "connect", &TICK, &[]).await?;
                    return Ok(server);
                }
                Err(Fault { cure: Cure::Moved(_), .. }) if moves < 3 => moves += 1,
                // Somebody of less rights than the scripts need; nothing but the probe was touched.
                Err(Fault { error, cure: Cure::None }) if error.kind() == ErrorKind::Unauthorized => {
                    let why = format!("{} lets us in, but not do all that we must", self.finder.name());
                    let refused = Error::new(ErrorKind::Unauthorized, Outcome::NotApplied, why);
                    return Err(refused.because(error).at(BACKEND, "connect"));
                }
                Err(fault) => return Err(fault.error.at(BACKEND, "connect")),
            }
        }
    }

    /// Runs a script until it answers or the time is up.
    pub(super) async fn call(
        &self,
        kind: Kind,
        operation: &'static str,
        script: &Script,
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        let ask = |connection: Arc<Connection>| async move {
            self.history.run(&connection, script, arguments).await
        };
        let value = self.repeat(kind, operation, Lane::Shared, &ask).await?;
        self.history.learn(value).map_err(|fault| fault.error.at(BACKEND, operation))
    }

    /// Runs a plain command that reads, until it answers or the time is up.
    pub(super) async fn query(&self, operation: &'static str, command: &Cmd) -> Result<Value> {
        let ask = |connection: Arc<Connection>| async move { connection.query(command).await };
        self.repeat(Kind::Repeatable, operation, Lane::Shared, &ask).await
    }

    /// Sees whether what we know stands there still; if not, says so.
    pub(super) async fn verify(&self, operation: &'static str) -> Result<()> {
        let ask = |connection: Arc<Connection>| async move { self.history.verify(&connection).await };
        let value = self.repeat(Kind::Repeatable, operation, Lane::Shared, &ask).await?;
        self.history.learn(value).map(drop).map_err(|fault| fault.error.at(BACKEND, operation))
    }

    /// The same on the lane of those who wait; says also how many replicas have what the script wrote.
    pub(super) async fn call_replicated(
        &self,
        operation: &'static str,
        script: &Script,
        arguments: &[&[u8]],
        wanted: Replicas,
    ) -> Result<(Reply, u32)> {
        let ask = |connection: Arc<Connection>| async move {
            let value = self.history.run(&connection, script, arguments).await?;
            Ok((value, connection.replicated(wanted.count, wanted.within).await?))
        };
        let (value, count) = self.repeat(Kind::Once, operation, Lane::Waiting, &ask).await?;
        let reply = self.history.learn(value).map_err(|fault| fault.error.at(BACKEND, operation))?;
        Ok((reply, count))
    }

    async fn repeat<T, F, Fut>(&self, kind: Kind, operation: &'static str, lane: Lane, ask: &F) -> Result<T>
    where
        F: Fn(Arc<Connection>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, redis::RedisError>> + Send,
        T: Send,
    {
        let now = Instant::now();
        let end = now + self.times.request;
        match self.attempt(now, end.min(now + self.times.attempt), lane, ask).await {
            Ok(answer) => Ok(answer),
            // Seldom, and so much that it need not weigh upon every request.
            Err(fault) => self.again(kind, operation, lane, ask, end, fault).boxed().await,
        }
    }

    /// Tries again what failed, if that may be and while there is time.
    async fn again<T, F, Fut>(
        &self,
        kind: Kind,
        operation: &'static str,
        lane: Lane,
        ask: &F,
        end: Instant,
        mut fault: Fault,
    ) -> Result<T>
    where
        F: Fn(Arc<Connection>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, redis::RedisError>> + Send,
        T: Send,
    {
        let (mut pause, last_pause) = PAUSES;
        let (mut moves, mut renewed) = (0, false);
        loop {
            let harmless = kind == Kind::Repeatable || fault.error.outcome() == Outcome::NotApplied;
            let unauthorized = fault.error.kind() == ErrorKind::Unauthorized;
            if matches!(fault.cure, Cure::Moved(_)) && moves < 3 {
                moves += 1;
            } else {
                // Who we are is said once more: the password may have been changed and changed back meanwhile.
                let again = fault.cure != Cure::None
                    && harmless
                    && !(unauthorized && std::mem::replace(&mut renewed, true));
                if !again || Instant::now() + pause >= end {
                    return Err(fault.error.at(BACKEND, operation));
                }
                tracing::debug!(operation, error = %fault.error, "asking again");
                sleep(pause).await;
                pause = (pause * 2).min(last_pause);
            }
            let now = Instant::now();
            match self.attempt(now, end.min(now + self.times.attempt), lane, ask).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => fault = failed,
            }
        }
    }

    /// One try on the current connection.
    async fn attempt<T, F, Fut>(&self, since: Instant, end: Instant, lane: Lane, ask: &F) -> Result<T, Fault>
    where
        F: Fn(Arc<Connection>) -> Fut + Sync,
        Fut: Future<Output = Result<T, redis::RedisError>>,
    {
        let (generation, opening) = self.current(lane)?;
        let mut attempt = Attempt { servers: self, generation, since, open: true };
        let asked = AtomicBool::new(false);
        let tried = timeout_at(end, async {
            let connection = opening.await?;
            asked.store(true, Ordering::Relaxed);
            ask(Arc::clone(&connection)).await.map_err(|error| classify(error, &connection.address))
        })
        .await;
        attempt.open = false;
        let fault = match tried {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::silent(&self.finder.name(), asked.load(Ordering::Relaxed)),
        };
        // A connection that failed to open must not be what later requests get.
        let failed_to_open = fault.cure == Cure::None && !asked.load(Ordering::Relaxed);
        self.give_up(generation, if failed_to_open { &Cure::Anew } else { &fault.cure });
        Err(fault)
    }

    /// The connection that requests from this runtime go to now, open or opening.
    fn current(&self, lane: Lane) -> Result<(u64, Opening), Fault> {
        let runtime = Handle::try_current().map_err(|error| Fault {
            error: Error::invalid("Redis needs a tokio runtime").because(error),
            cure: Cure::None,
        })?;
        let at = (runtime.id(), lane);
        let mut state = self.state();
        let is_over = |opening: &Opening| {
            opening.peek().is_some_and(|opened| opened.as_ref().map_or(true, |open| open.is_over()))
        };
        // One that broke while nobody used it has lost nothing.
        state.open.retain(|(_, opening)| !is_over(opening));
        if let Some((_, opening)) = state.open.iter().find(|(key, _)| *key == at) {
            return Ok((state.generation, opening.clone()));
        }
        let (finder, history) = (self.finder.clone(), Arc::clone(&self.history));
        let opening = async move { dial(&finder, &history).await.map(Arc::new) }.boxed().shared();
        state.open.truncate(CONNECTIONS - 1);
        state.open.push_front((at, opening.clone()));
        Ok((state.generation, opening))
    }

    /// A connection of its own for what the scripts publish as `name`, and where it leads.
    pub(super) async fn listen(&self, name: &str) -> Result<(Channel, String), Fault> {
        let dialled = dial(&self.finder, &self.history).await;
        if let Err(Fault { cure: cure @ Cure::Moved(_), .. }) = &dialled {
            self.finder.give_up(cure);
        }
        let connection = dialled?;
        let address = connection.address.clone();
        let opening = timeout(self.times.attempt, connection.listen(name));
        let channel = opening.await.unwrap_or_else(|_| Err(Fault::silent(&address, true)))?;
        Ok((channel, address))
    }

    /// Lets what comes next connect anew, unless another request has seen to that.
    fn give_up(&self, generation: u64, cure: &Cure) {
        let mut state = self.state();
        if state.generation != generation || matches!(cure, Cure::None | Cure::Later) {
            return;
        }
        state.generation += 1;
        state.open.clear();
        self.finder.give_up(cure);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to the primary, where what we have seen stands.
async fn dial(finder: &Finder, history: &History) -> Result<Connection, Fault> {
    let connection = finder.connect().await?;
    if history.seen().is_some() {
        history.verify(&connection).await.map_err(|error| classify(error, &connection.address))?;
    }
    Ok(connection)
}

/// A try under way. Whoever has less patience than we drops it: that the server was silent must count then too, or a dead
/// connection would be used for ever.
struct Attempt<'a> {
    servers: &'a Servers,
    generation: u64,
    since: Instant,
    open: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.open && self.since.elapsed() >= IMPATIENCE {
            self.servers.give_up(self.generation, &Cure::Anew);
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("at", &self.finder.name())
            .field("meta", &self.history.meta())
            .finish_non_exhaustive()
    }
}
