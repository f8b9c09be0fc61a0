//! How sessions are kept.

use std::sync::Arc;
use std::time::Duration;

use crate::kv::{Clock, Error, Limits, Random, Result, SystemClock, bad};

/// How a session is kept: its life, its safety margin, its clock.
#[derive(Clone, Debug)]
#[must_use]
pub struct SessionOptions {
    pub(crate) ttl: Duration,
    pub(crate) margin: Option<Duration>,
    pub(crate) owner: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    /// From when on a session has a thread of its own, after it was opened.
    pub(crate) own_thread: Option<Duration>,
}

impl SessionOptions {
    /// Sessions that live for `ttl` without a renewal. A crashed holder is replaced about that long after its last
    /// renewal, and a holder that cannot reach the store gives up a margin before.
    pub fn new(ttl: Duration) -> Self {
        let random = Random::from_os();
        Self {
            ttl,
            margin: None,
            owner: default_owner(&random),
            clock: Arc::new(SystemClock::new()),
            random,
            own_thread: None,
        }
    }

    /// How long before the session ends in the store its holder considers it lost. It covers the drift between this
    /// clock and the store's over one ttl, and is the time work gets to stop. A tenth of the ttl by default, more on
    /// stores whose [limits](Limits::margin_percent) say so; at most half of it.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }

    /// Who holds what is held with these sessions, as others see it: an address, a host name. By default host,
    /// process id and a random number. It identifies nobody to the store: equal owners still exclude each other.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// The clock that deadlines go by.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where tickets and jitter come from.
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Whether each session is renewed on a thread of its own, so that a blocked runtime does not cost the lease.
    /// Off by default; the store's client must not depend on that runtime either.
    pub fn own_thread(mut self, own_thread: bool) -> Self {
        self.own_thread = own_thread.then_some(Duration::ZERO);
        self
    }

    /// The same, with a thread that is started only when the session has lived for so long: for programs that hold
    /// something for a moment, and would rather not wait for a thread to start and to end (some 0.3 ms). Until then it is as
    /// without one: the runtime on which the session was opened must not be blocked, and the session ends with it. That
    /// stays so if no thread can be started then.
    pub fn own_thread_after(mut self, life: Duration) -> Self {
        self.own_thread = Some(life);
        self
    }

    /// Refuses a ttl, margin or owner that the store cannot do.
    pub(crate) fn validate(&self, limits: &Limits) -> Result<()> {
        limits.check_ttl(self.ttl)?;
        if self.margin.is_some_and(|margin| margin > self.ttl / 2) {
            let (margin, ttl) = (self.margin.unwrap_or_default(), self.ttl);
            return Err(Error::invalid(format!("margin {margin:?} is more than half of the ttl {ttl:?}")));
        }
        if self.owner.is_empty() || self.owner.contains(['\n', '\0']) {
            let owner = &self.owner;
            return Err(Error::invalid(format!("owner {owner:?} is empty or contains a line break or NUL")));
        }
        Ok(())
    }

    /// The margin of a session that was granted `ttl`.
    pub(crate) fn margin_of(&self, ttl: Duration, limits: &Limits) -> Duration {
        if bad("no_margin") {
            return Duration::ZERO;
        }
        self.margin.unwrap_or(ttl * limits.margin_percent / 100).min(ttl / 2)
    }
}

/// Sessions of 15 seconds.
impl Default for SessionOptions {
    fn default() -> Self {
        Self::new(Duration::from_secs(15))
    }
}

fn default_owner(random: &Random) -> String {
    format!("{}-{}-{:08x}", host(), std::process::id(), random.nonce() >> 96)
}

#[cfg(target_os = "linux")]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(target_os = "linux"))]
fn host() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| "host".into())
}
