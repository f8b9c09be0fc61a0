//! One agent at a time: all requests go to the same one until it fails, then to the next.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep, timeout_at};

use super::BACKEND;
use super::error::{Cure, Fault, classify};
use super::http::{Answer, Ask, Lane, Pool};
use super::options::{ConsulOptions, Times};
use super::tls::{self, Trust};
use crate::kv::{Error, ErrorKind, Outcome, Random, Result, Watched};

/// How many runtimes may have connections of their own at the same time.
const RUNTIMES: usize = 8;

/// The pause after all agents have failed, before the first is asked again; it doubles up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Whoever drops a request that was not answered for so long had enough of it, and did not only change their mind.
const IMPATIENCE: Duration = Duration::from_millis(500);

/// Whether a request may be sent again when it is not known whether it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It may: a read, or a write that is the same twice.
    Repeatable,
    /// It may not.
    Once,
}

/// The agents, and the connections to them.
pub(super) struct Endpoints {
    agents: Vec<String>,
    token: Option<HeaderValue>,
    datacenter: Option<String>,
    tls: ClientConfig,
    server_name: Option<String>,
    /// What it may be when an agent closes a new connection without a word, as it does over certificates.
    hint: &'static str,
    times: Times,
    random: Random,
    /// Grows whenever an agent is given up, so that many requests that fail together give it up once; which one is asked
    /// follows from it.
    turn: Watched<usize>,
    /// A connection lives on the runtime that opened it. A session that is renewed on a thread of its own has its own, so
    /// that no other runtime can hold it up.
    pools: Mutex<VecDeque<(Id, Arc<Pool>)>>,
}

impl Endpoints {
    pub(super) fn new(options: &ConsulOptions) -> Result<Self> {
        let token = options.token.as_deref().map(|token| {
            let mut token = HeaderValue::from_str(token)
                .map_err(|_| Error::invalid("the token has characters that no token has"))?;
            token.set_sensitive(true);
            Ok::<_, Error>(token)
        });
        let trust = options.trust.as_ref();
        let hint = match trust.map(|trust| &trust.identity) {
            None => "perhaps it wants TLS",
            Some(None) => "perhaps it wants a client certificate",
            Some(Some(_)) => "perhaps it does not trust the client certificate",
        };
        let tls = trust.map_or_else(tls::none, Trust::config)?;
        let endpoints = Self {
            agents: options.agents()?,
            token: token.transpose()?,
            datacenter: options
                .datacenter
                .as_deref()
                .map(|name| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()),
            tls,
            server_name: trust.and_then(|trust| trust.server_name.clone()),
            hint,
            times: options.times,
            random: Random::from_os(),
            turn: Watched::new(0),
            pools: Mutex::default(),
        };
        // Refuses a server name that is none.
        endpoints.open().map(|_| endpoints)
    }

    /// Sees whether any agent lets us in; each is asked once. Gives what runs there, where we are told.
    pub(super) async fn probe(&self) -> Result<Option<Arc<str>>> {
        let mut tries = self.agents.len();
        loop {
            let agent = self.agent(self.turn.get()).to_owned();
            let fault = match self.introduce().await {
                Ok(server) => return Ok(server),
                Err(fault) => fault,
            };
            tries -= 1;
            if tries == 0 || fault.cure == Cure::None {
                return Err(self.explain(&agent, fault.error).at(BACKEND, "connect"));
            }
        }
    }

    /// Sees who is there, and whether they know our token; and what runs there, which not everybody may be told.
    async fn introduce(&self) -> Result<Option<Arc<str>>, Fault> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct About {
            config: Config,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Config {
            version: String,
        }
        let ask = |path: &str| self.ask(Ask::get(path.to_owned(), ""));
        let (leader, token, about) =
            (ask("/v1/status/leader"), ask("/v1/acl/token/self"), ask("/v1/agent/self"));
        let end = Instant::now() + self.times.attempt;
        let leader = self.attempt(end, &leader).await?;
        if leader.status != StatusCode::OK || leader.read::<String>().is_err() {
            return Err(self.classify(&leader));
        }
        let (token, about) =
            futures_util::future::join(self.attempt(end, &token), self.attempt(end, &about)).await;
        // Without a token, or where there are none, there is nothing to know.
        let refused =
            self.token.is_some().then_some(token?).filter(|answer| answer.status == StatusCode::FORBIDDEN);
        if let Some(answer) = refused {
            return Err(self.classify(&answer));
        }
        let about = about.ok().and_then(|answer| answer.read::<About>().ok());
        Ok(about.map(|about| format!("Consul {}", about.config.version).into()))
    }

    /// An agent that takes the connection and then says nothing may have a reason.
    fn explain(&self, agent: &str, error: Error) -> Error {
        if error.outcome() != Outcome::Unknown {
            return error;
        }
        let why = format!("{agent} closed the connection, or kept silent; {}", self.hint);
        Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why).because(error)
    }

    /// Asks one agent after another until one answers or the time is up. What has the status 200 is an answer, and what
    /// `other` says is one.
    pub(super) async fn call(
        &self,
        kind: Kind,
        operation: &'static str,
        ask: Ask,
        other: fn(&Answer) -> bool,
    ) -> Result<Answer> {
        let ask = self.ask(ask);
        let longer = match ask.lane {
            Lane::Long(wait) => wait,
            Lane::Usual | Lane::Vital => Duration::ZERO,
        };
        let end = Instant::now() + self.times.request + longer;
        let (mut pause, last_pause) = PAUSES;
        let mut tries = 0;
        loop {
            let until = end.min(Instant::now() + self.times.attempt + longer);
            let fault = match self.attempt(until, &ask).await {
                Ok(answer) if answer.status == StatusCode::OK || other(&answer) => return Ok(answer),
                Ok(answer) => self.classify(&answer),
                Err(fault) => fault,
            };
            let harmless = kind == Kind::Repeatable || fault.error.outcome() == Outcome::NotApplied;
            tries += 1;
            let round = tries % self.agents.len() == 0;
            let late = Instant::now() + if round { pause } else { Duration::ZERO } >= end;
            if fault.cure == Cure::None || !harmless || late {
                return Err(fault.error.at(BACKEND, operation));
            }
            tracing::debug!(operation, error = %fault.error, "asking again");
            if round {
                sleep(pause).await;
                pause = (pause * 2).min(last_pause);
            }
        }
    }

    fn ask(&self, ask: Ask) -> Ask {
        match &self.datacenter {
            Some(datacenter) => ask.with("dc", datacenter),
            None => ask,
        }
    }

    /// One try at the current agent. One that waits for changes is given up with the agent.
    async fn attempt(&self, end: Instant, ask: &Ask) -> Result<Answer, Fault> {
        let turn = self.turn.get();
        let agent = self.agent(turn);
        let pool = self.open().map_err(|error| Fault { error, cure: Cure::None })?;
        let long = matches!(ask.lane, Lane::Long(_));
        let mut attempt = Attempt { endpoints: self, turn, since: Instant::now(), open: !long };
        let sent = AtomicBool::new(false);
        let asked = timeout_at(end, async {
            let asked = pool.ask(agent, self.token.as_ref(), ask, || sent.store(true, Ordering::Relaxed));
            if !long {
                return asked.await;
            }
            tokio::select! {
                answer = asked => answer,
                () = self.turn.find(|now| (now != turn).then_some(())) => Err(Fault::silent(agent, true)),
            }
        });
        let asked = asked.await;
        attempt.open = false;
        let fault = match asked {
            Ok(Ok(answer)) => {
                let is_trouble =
                    answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS;
                if is_trouble && self.classify(&answer).cure == Cure::Elsewhere {
                    self.give_up(turn);
                }
                return Ok(answer);
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::silent(agent, sent.load(Ordering::Relaxed)),
        };
        // What never left our own queue says nothing about the agent.
        if fault.cure == Cure::Elsewhere && sent.load(Ordering::Relaxed) {
            self.give_up(turn);
        }
        Err(fault)
    }

    fn classify(&self, answer: &Answer) -> Fault {
        classify(answer.status, answer.body(), self.agent(self.turn.get()))
    }

    fn agent(&self, turn: usize) -> &str {
        // There is one at least.
        self.agents.get(turn % self.agents.len().max(1)).map_or("", String::as_str)
    }

    /// The connections of this runtime.
    fn open(&self) -> Result<Arc<Pool>> {
        let runtime = Handle::try_current()
            .map_err(|error| Error::invalid("requests need a tokio runtime").because(error))?
            .id();
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pool)) = pools.iter().find(|(id, _)| *id == runtime) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Pool::new(&self.tls, self.server_name.as_deref(), self.times)?);
        pools.truncate(RUNTIMES - 1);
        pools.push_front((runtime, Arc::clone(&pool)));
        Ok(pool)
    }

    /// A number that is hardly ever drawn twice.
    pub(super) fn draw(&self) -> u64 {
        u64::try_from(self.random.nonce() >> u64::BITS).unwrap_or_default()
    }

    /// Lets what comes next go elsewhere, unless another request has seen to that.
    fn give_up(&self, turn: usize) {
        self.turn.modify(|now| {
            let ours = *now == turn;
            *now = now.wrapping_add(usize::from(ours));
            ours
        });
    }
}

/// Only what has the status 200 is an answer.
pub(super) fn no_other(_: &Answer) -> bool {
    false
}

/// A try under way. Whoever has less patience than we drops it: that an agent was silent must count then too, or a dead
/// one would be asked for ever.
struct Attempt<'a> {
    endpoints: &'a Endpoints,
    turn: usize,
    since: Instant,
    open: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.open && self.since.elapsed() >= IMPATIENCE {
            self.endpoints.give_up(self.turn);
        }
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints")
            .field("agents", &self.agents)
            .field("at", &self.agent(self.turn.get()))
            .finish_non_exhaustive()
    }
}
