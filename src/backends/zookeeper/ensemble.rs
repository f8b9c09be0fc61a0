//! The connection that all requests share but those bound to a session: opened when it is needed, replaced when it fails.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::{Instant, sleep, timeout_at};
use zookeeper_client::{Client, Error as Zk};

use super::connection::{self, Kind, ask, is_over};
use super::error::{Cure, Fault};
use super::host::Host;
use super::options::Settled;
use super::together::Together;
use super::{BACKEND, knock, user};
use crate::kv::{Error, ErrorKind, Outcome, Result};

/// How long the servers remember this connection's session, to which nothing is bound.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The pause before something is asked again; it doubles up to the last.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Whoever drops a request that was not answered for so long had enough of it.
const IMPATIENCE: Duration = Duration::from_millis(250);

pub(super) struct Ensemble {
    pub(super) host: Arc<Host>,
    pub(super) settled: Arc<Settled>,
    pub(super) together: Together,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Grows whenever a connection is given up, so that many requests that fail together give it up once.
    generation: u64,
    open: Option<Opening>,
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Client>, Fault>>>;

impl Ensemble {
    pub(super) fn new(host: Arc<Host>, settled: Arc<Settled>) -> Self {
        Self { host, settled, together: Together::default(), state: Mutex::default() }
    }

    /// Sees whether any server lets us in. Each is tried once, and again only if nothing is wrong with it that shows.
    pub(super) async fn probe(&self) -> Result<()> {
        let end = Instant::now() + self.settled.times.request;
        let sasl = self.settled.is_sasl();
        let look = |client: Arc<Client>| async move {
            match client.check_stat("/").await {
                // Since version 3.9 only who may read the root is told. An answer it is.
                Ok(_) | Err(Zk::NoAuth) => {}
                Err(error) => return Err(error),
            }
            Ok(!sasl || user::is_known(&client).await?)
        };
        loop {
            let fault = match self.attempt(end, &look).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    let why = "the server does not know the user by SASL; is it set up for that?";
                    return Err(Error::new(ErrorKind::Unauthorized, Outcome::NotApplied, why));
                }
                Err(fault) => fault,
            };
            let (error, hope) = knock::explain(self, fault.error).await;
            if !hope || Instant::now() + PAUSES.0 >= end {
                return Err(error);
            }
            sleep(PAUSES.0).await;
        }
    }

    /// Asks until there is an answer or the time is up.
    pub(super) async fn call<T, F, Fut>(&self, kind: Kind, operation: &'static str, ask: F) -> Result<T>
    where
        F: Fn(Arc<Client>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, Zk>> + Send,
        T: Send,
    {
        let end = Instant::now() + self.settled.times.request;
        let (mut pause, longest) = PAUSES;
        loop {
            let fault = match self.attempt(end.min(Instant::now() + self.settled.times.attempt), &ask).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let harmless = kind == Kind::Repeatable || fault.error.outcome() == Outcome::NotApplied;
            if fault.cure == Cure::None || !harmless || Instant::now() + pause >= end {
                return Err(fault.error.at(BACKEND, operation));
            }
            tracing::debug!(operation, error = %fault.error, "asking again");
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn attempt<T, F, Fut>(&self, end: Instant, asking: &F) -> Result<T, Fault>
    where
        F: Fn(Arc<Client>) -> Fut + Sync,
        Fut: Future<Output = Result<T, Zk>>,
    {
        let (generation, opening) = self.current();
        let mut attempt = Attempt { ensemble: self, generation, since: Instant::now(), open: true };
        let opened = timeout_at(end, opening).await;
        let tried = match opened {
            Ok(Ok(client)) => {
                let asked = ask(&client, end, asking).await;
                if is_over(client.state()) {
                    self.give_up(generation);
                }
                asked.map_err(ours_is_nobodys)
            }
            // A connection that failed to open must not be what later requests get.
            Ok(Err(fault)) => {
                self.give_up(generation);
                Err(fault)
            }
            Err(_) => Err(Fault::disconnected()),
        };
        attempt.open = false;
        if let Err(fault) = &tried
            && fault.cure == Cure::Anew
        {
            self.give_up(generation);
        }
        tried
    }

    /// The connection that requests go to now, open or opening, and how often one was given up before.
    pub(super) fn current(&self) -> (u64, Opening) {
        let mut state = self.state();
        let generation = state.generation;
        let opening = state.open.get_or_insert_with(|| {
            let (host, settled) = (Arc::clone(&self.host), Arc::clone(&self.settled));
            let silence = settled.times.attempt;
            async move { connection::open(&host, &settled, REMEMBERED, silence).await.map(Arc::new) }
                .boxed()
                .shared()
        });
        (generation, opening.clone())
    }

    /// Lets what comes next connect anew, unless another request has seen to that.
    pub(super) fn give_up(&self, generation: u64) {
        let mut state = self.state();
        let given_up = (state.generation == generation).then(|| {
            state.generation += 1;
            state.open.take()
        });
        drop(state);
        // It may be closed here and now.
        drop(given_up);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session of this connection is ours alone: that it is gone concerns nobody, and another is soon had.
fn ours_is_nobodys(fault: Fault) -> Fault {
    if fault.error.kind() != ErrorKind::SessionLost {
        return fault;
    }
    let error = Error::new(ErrorKind::Unavailable, fault.error.outcome(), "the connection was replaced");
    Fault { error: error.because(fault.error), ..fault }
}

/// A try under way. Whoever has less patience than we drops it: that a server was silent must count then too, or a dead
/// one would be asked for ever.
struct Attempt<'a> {
    ensemble: &'a Ensemble,
    generation: u64,
    since: Instant,
    open: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.open && self.since.elapsed() >= IMPATIENCE {
            self.ensemble.give_up(self.generation);
        }
    }
}

impl fmt::Debug for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ensemble").field("servers", &self.settled.cluster()).finish_non_exhaustive()
    }
}
