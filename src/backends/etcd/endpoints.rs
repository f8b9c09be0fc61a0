//! One member at a time: all requests go to the same one until it fails, then to the next.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep, timeout_at};

use super::BACKEND;
use super::connection::{Connection, Credentials, Member};
use super::error::{Cure, Fault, classify};
use super::options::{EtcdOptions, Times};
use crate::kv::{Error, ErrorKind, Outcome, Result};

/// How many runtimes may have a connection of their own at the same time.
const RUNTIMES: usize = 8;

/// The pause after all members have failed, before the first is asked again; it doubles up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Whoever drops a request that was not answered for so long had enough of it: a renewal of the shortest session has a
/// little more.
const IMPATIENCE: Duration = Duration::from_millis(250);

/// Whether a request may be sent again when it is not known whether it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It may: a read, or a write that is the same twice.
    Repeatable,
    /// It may not.
    Once,
}

/// The members, and the connections to one of them.
pub(super) struct Endpoints {
    members: Vec<Member>,
    credentials: Option<Credentials>,
    given: Option<Arc<Connection>>,
    times: Times,
    /// Whether any member ever let us in.
    entered: AtomicBool,
    state: Mutex<State>,
}

/// Where requests go now.
#[derive(Default)]
struct State {
    at: usize,
    /// Grows whenever a member is given up, so that many requests that fail together give it up once.
    generation: u64,
    /// A connection lives on the runtime that opened it. A session that is renewed on a thread of its own has its own, so
    /// that no other runtime can hold it up.
    open: VecDeque<(Id, Opening)>,
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Connection>, Fault>>>;

impl Endpoints {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self> {
        Ok(Self {
            members: options.members()?,
            credentials: options.credentials().cloned(),
            given: None,
            times: options.times(),
            entered: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    pub(super) fn given(client: etcd_client::Client) -> Self {
        Self {
            members: Vec::new(),
            credentials: None,
            given: Some(Arc::new(Connection::given(client))),
            times: Times::default(),
            entered: AtomicBool::new(true),
            state: Mutex::default(),
        }
    }

    pub(super) fn times(&self) -> Times {
        self.times
    }

    /// Sees whether any member lets us in. Gives what runs there, where we are told.
    pub(super) async fn probe(&self) -> Result<Option<Arc<str>>> {
        self.enter(|connection: Arc<Connection>| async move { connection.probe().await }).await
    }

    /// Whether any member ever let us in.
    pub(super) fn have_been_entered(&self) -> bool {
        self.entered.load(Ordering::Relaxed)
    }

    /// Asks for the first time. Each member is asked once, and who is let in nowhere is told why, rather than kept waiting.
    pub(super) async fn enter<T, F, Fut>(&self, ask: F) -> Result<T>
    where
        F: Fn(Arc<Connection>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        let mut tries = self.members.len().max(1);
        loop {
            let at = self.state().at;
            let fault = match self.attempt(Instant::now() + self.times.attempt, &ask).await {
                Ok(answer) => {
                    self.entered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            tries -= 1;
            if tries == 0 || fault.cure != Cure::Elsewhere {
                return Err(self.explain(at, fault.error).at(BACKEND, "connect"));
            }
        }
    }

    /// A member that takes the connection and then says nothing may have a reason.
    fn explain(&self, at: usize, error: Error) -> Error {
        let Some(Member { name, hint, .. }) =
            self.members.get(at).filter(|_| error.outcome() == Outcome::Unknown)
        else {
            return error;
        };
        let why = format!("{name} closed the connection, or kept silent; {hint}");
        Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why).because(error)
    }

    /// Asks one member after another until one answers or the time is up.
    pub(super) async fn call<T, F, Fut>(&self, kind: Kind, operation: &'static str, ask: F) -> Result<T>
    where
        F: Fn(Arc<Connection>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, etcd_client::Error>> + Send,
        T: Send,
    {
        let end = Instant::now() + self.times.request;
        let (mut pause, last_pause) = PAUSES;
        let mut tries = 0;
        let mut renewed = false;
        loop {
            let fault = match self.attempt(end.min(Instant::now() + self.times.attempt), &ask).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let harmless = kind == Kind::Repeatable || fault.error.outcome() == Outcome::NotApplied;
            let again = match fault.cure {
                Cure::None => false,
                Cure::Elsewhere => harmless,
                Cure::Anew => harmless && !std::mem::replace(&mut renewed, true),
            };
            tries += 1;
            let round = tries % self.members.len().max(1) == 0;
            if !again || Instant::now() + if round { pause } else { Duration::ZERO } >= end {
                return Err(fault.error.at(BACKEND, operation));
            }
            tracing::debug!(operation, error = %fault.error, "asking again");
            if round {
                sleep(pause).await;
                pause = (pause * 2).min(last_pause);
            }
        }
    }

    /// One try at the current member.
    async fn attempt<T, F, Fut>(&self, end: Instant, ask: &F) -> Result<T, Fault>
    where
        F: Fn(Arc<Connection>) -> Fut + Sync,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let (generation, member, opening) = self.current();
        let mut attempt = Attempt { endpoints: self, generation, since: Instant::now(), open: true };
        let asked = AtomicBool::new(false);
        let tried = timeout_at(end, async {
            let connection = opening.await?;
            asked.store(true, Ordering::Relaxed);
            ask(connection).await.map_err(|error| classify(error, &member))
        });
        let tried = tried.await;
        attempt.open = false;
        let fault = match tried {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::silent(&member, asked.load(Ordering::Relaxed)),
        };
        // A connection that failed to open must not be what later requests get.
        let failed_to_open = fault.cure == Cure::None && !asked.load(Ordering::Relaxed);
        self.give_up(generation, if failed_to_open { Cure::Anew } else { fault.cure });
        Err(fault)
    }

    /// The connection that requests from this runtime go to now, open or opening.
    fn current(&self) -> (u64, String, Opening) {
        let mut state = self.state();
        let generation = state.generation;
        let Some(member) = self.members.get(state.at) else {
            let given = self.given.clone();
            let ready = async move { given.ok_or_else(no_member) };
            return (generation, "the given client".to_owned(), ready.boxed().shared());
        };
        let runtime = Handle::try_current().ok().map(|handle| handle.id());
        if let Some((_, opening)) = state.open.iter().find(|(id, _)| Some(*id) == runtime) {
            return (generation, member.name.clone(), opening.clone());
        }
        let (to, credentials) = (member.clone(), self.credentials.clone());
        let opening = async move { Connection::open(&to, credentials).await.map(Arc::new) }.boxed().shared();
        if let Some(runtime) = runtime {
            state.open.truncate(RUNTIMES - 1);
            state.open.push_front((runtime, opening.clone()));
        }
        (generation, member.name.clone(), opening)
    }

    /// Lets what comes next go elsewhere, unless another request has seen to that.
    pub(super) fn give_up(&self, generation: u64, cure: Cure) {
        let mut state = self.state();
        if state.generation != generation || cure == Cure::None || self.members.is_empty() {
            return;
        }
        state.generation += 1;
        state.open.clear();
        if cure == Cure::Elsewhere {
            state.at = (state.at + 1) % self.members.len();
        }
    }

    /// Which life of the connections this is, for [`give_up`](Self::give_up).
    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_member() -> Fault {
    Fault { error: Error::invalid("no member is named"), cure: Cure::None }
}

/// A try under way. Whoever has less patience than we drops it: that a member was silent must count then too, or a dead
/// one would be asked for ever.
struct Attempt<'a> {
    endpoints: &'a Endpoints,
    generation: u64,
    since: Instant,
    open: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.open && self.since.elapsed() >= IMPATIENCE {
            self.endpoints.give_up(self.generation, Cure::Elsewhere);
        }
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let names: Vec<_> = self.members.iter().map(|member| &member.name).collect();
        f.debug_struct("Endpoints").field("members", &names).field("at", &state.at).finish_non_exhaustive()
    }
}
