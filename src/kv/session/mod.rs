//! Sessions: one life of a claim, kept by one task, judged by a local deadline that asks nobody.

mod adoption;
mod options;
mod sessions;
mod task;
mod tickets;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::clock::until;
use super::{
    Clock, Error, ErrorKind, Instant, Mode, Outcome, Random, Result, SessionId, SessionStore, Ticket,
    Watched, bad,
};

use adoption::{Adoption, Job};
pub use options::SessionOptions;
pub use sessions::Sessions;
use task::{Runner, Task};
use tickets::Tickets;

/// Why a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// Its time ran out unrenewed, although nothing was wrong with the store: this process was paused, suspended or
    /// too busy to renew.
    #[error("it was not renewed in time")]
    Expired,
    /// The store said that the session is gone: somebody ended it, or the store forgot it.
    #[error("the store ended the session")]
    Revoked,
    /// Somebody else deleted or overwrote the place that was held.
    #[error("somebody deleted or overwrote the place")]
    Deleted,
    /// The store could not be reached until the time ran out.
    #[error("the store could not be reached in time")]
    StoreUnavailable,
    /// The store went back in time: a fence below the highest seen.
    #[error("the store lost data: a fence below the highest seen")]
    FenceRegression,
    /// This process closed the session.
    #[error("it was closed")]
    Closed,
}

/// How a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Renewed on time.
    Live,
    /// A renewal failed or is overdue; still held, and it may yet recover.
    Suspect,
    /// Over, for good. A late renewal never revives it.
    Lost(LossReason),
}

/// How long a session that ends here tries to tell the store.
const FAREWELL: Duration = Duration::from_secs(5);

/// One life of a claim: everything held hangs on one, and many things hang on the same one.
///
/// One task renews it every third of its ttl, whatever hangs on it, and finishes what dropped futures and guards
/// leave behind. It counts as lost once (the instant before the last good renewal was sent) + ttl − margin has
/// passed on its clock, without asking anybody. Clones are handles on the same session; dropping the last one ends it.
///
/// Most programs do not open sessions but hold a [`Sessions`], or a [`Client`](crate::Client), which does.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use quorate::backends::Memory;
/// use quorate::kv::{LossReason, Session, SessionOptions, StoreExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Arc::new(Memory::new());
/// let session = Session::open(&store, SessionOptions::new(Duration::from_secs(5))).await?;
/// store.put_ephemeral("here", "yes", &session).await?;
/// store.end_session(session.id());
/// assert!(!store.exists("here").await?);
/// assert_eq!(session.lost().await, LossReason::Revoked); // noticed at the next renewal
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Session(Arc<Handle>);

/// What the users' handles share; the task does not hold it, so dropping the last handle ends the session.
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.closing.cancel();
    }
}

/// What the handles and the task share.
pub(crate) struct Core {
    store: Arc<dyn SessionStore>,
    id: SessionId,
    options: SessionOptions,
    life: Watched<Life>,
    /// What the task is to take over.
    adoption: Adoption,
    tickets: Tickets,
    /// Rung when a renewal is wanted before its time.
    hurry: Notify,
    /// Rung after every good renewal.
    renewal: Notify,
    /// The task is to end it, and to tell the store unless somebody has.
    closing: CancellationToken,
    /// The store was told.
    farewell: AtomicBool,
    ended: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
struct Life {
    state: SessionState,
    /// When the last good renewal was sent.
    renewed: Instant,
    ttl: Duration,
    margin: Duration,
    /// Whether a renewal failed since.
    failing: bool,
}

impl Life {
    /// How long it is held after a renewal was sent.
    fn span(&self) -> Duration {
        self.ttl.saturating_sub(self.margin)
    }

    fn deadline(&self) -> Instant {
        self.renewed + self.span()
    }
}

impl Session {
    /// Opens a session. One round trip; dropped, it leaves at most a session that nobody renews and nothing hangs on.
    pub async fn open<S: SessionStore + ?Sized>(store: &Arc<S>, options: SessionOptions) -> Result<Self> {
        Self::open_dyn(Arc::new(Arc::clone(store)), options).await
    }

    async fn open_dyn(store: Arc<dyn SessionStore>, options: SessionOptions) -> Result<Self> {
        let limits = store.limits();
        options.validate(&limits)?;
        let sent = options.clock.now();
        let patience = sent + options.ttl;
        let late = || {
            Error::new(ErrorKind::Unavailable, Outcome::Unknown, "no session was granted within its own ttl")
                .at(limits.backend, "grant")
        };
        let granting = until(&*options.clock, patience, store.grant(options.ttl));
        let (granted, runner) = join(granting, async { Runner::new(&options) }).await;
        let grant = granted.ok_or_else(late)??;
        let margin = options.margin_of(grant.ttl, &limits);
        let life = Life { state: SessionState::Live, renewed: sent, ttl: grant.ttl, margin, failing: false };
        if options.clock.now() >= life.deadline() {
            return Err(late());
        }
        tracing::info!(backend = limits.backend, session = %grant.id, ttl = ?grant.ttl, "session opened");
        let core = Arc::new(Core {
            store,
            id: grant.id,
            options,
            life: Watched::new(life),
            adoption: Adoption::new(),
            tickets: Tickets::default(),
            hurry: Notify::new(),
            renewal: Notify::new(),
            closing: CancellationToken::new(),
            farewell: AtomicBool::new(false),
            ended: CancellationToken::new(),
        });
        let started = runner.and_then(|runner| runner.start(Task::of(&core)));
        started.map_err(|error| error.at(limits.backend, "grant"))?;
        Ok(Self(Arc::new(Handle { core })))
    }

    /// Its name in the store.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.0.core.id
    }

    /// Who holds what hangs on it, as others see it.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.0.core.options.owner
    }

    /// Its life as the store granted it.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.0.core.ttl()
    }

    /// How long before its end in the store it counts as lost; see [`SessionOptions::margin`].
    #[must_use]
    pub fn margin(&self) -> Duration {
        self.0.core.margin()
    }

    /// How it is doing now. No I/O.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.0.core.state()
    }

    /// Whether it is not lost. No I/O; false at once when this process wakes from a pause past the deadline.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !matches!(self.state(), SessionState::Lost(_))
    }

    /// How long it is still held if no renewal succeeds; zero once it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        match self.state() {
            SessionState::Lost(_) => Duration::ZERO,
            _ => self.0.core.life.get().deadline().since(self.0.core.clock().now()),
        }
    }

    /// How long ago the last good renewal was sent.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.0.core.clock().now().since(self.0.core.life.get().renewed)
    }

    /// Completes when the session is lost, and says why. Cancel-safe; at once when it is lost already.
    pub async fn lost(&self) -> LossReason {
        self.0.core.lost().await
    }

    /// Completes once at least `least` of it remains, renewing early if need be. Fails when the session is lost
    /// first, and when it never lives that long. Cancel-safe.
    pub async fn ensure(&self, least: Duration) -> Result<()> {
        self.0.core.ensure(least).await
    }

    /// Ends it, and all that hangs on it, and waits until the store said so, or for as long as the session could have
    /// lived (5 s at most).
    pub async fn close(&self) {
        let core = &self.0.core;
        if core.options.own_thread.is_some() {
            core.say_farewell().await;
        }
        core.closing.cancel();
        core.ended.cancelled().await;
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }
}

impl Core {
    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.options.clock
    }

    pub(crate) fn random(&self) -> &Random {
        &self.options.random
    }

    /// The state as of now: a deadline that has passed counts, whoever looks first.
    pub(crate) fn state(&self) -> SessionState {
        let life = self.life.get();
        let over = !matches!(life.state, SessionState::Lost(_)) && self.clock().now() >= life.deadline();
        if over && bad("late_renewal_revives") {
            return SessionState::Lost(LossReason::Expired);
        }
        if over {
            self.lose(if life.failing { LossReason::StoreUnavailable } else { LossReason::Expired });
            return self.life.get().state;
        }
        life.state
    }

    pub(crate) fn loss(&self) -> Option<LossReason> {
        match self.state() {
            SessionState::Lost(reason) => Some(reason),
            SessionState::Live | SessionState::Suspect => None,
        }
    }

    /// Ends the session here; the first reason stays.
    pub(crate) fn lose(&self, reason: LossReason) {
        let lost = self.life.modify(|life| {
            let live = !matches!(life.state, SessionState::Lost(_));
            if live {
                life.state = SessionState::Lost(reason);
            }
            live
        });
        if lost && reason == LossReason::Closed {
            tracing::info!(session = %self.id, "session closed");
        } else if lost {
            tracing::warn!(session = %self.id, %reason, "session lost");
        }
    }

    /// Completes when the session is lost. Only the task waits with a timer, so that ten thousand who wait for the loss
    /// cost nothing.
    pub(crate) async fn lost(&self) -> LossReason {
        self.life.find(|_| self.loss()).await
    }

    /// For the task: completes when the session is lost, by its deadline at the latest.
    async fn overdue(&self) -> LossReason {
        if bad("late_renewal_revives") {
            return std::future::pending().await;
        }
        loop {
            let deadline = self.life.get().deadline();
            tokio::select! {
                biased;
                reason = self.lost() => return reason,
                () = self.clock().sleep_until(deadline) => {}
            }
        }
    }

    /// When the session ends in the store if it is not renewed: the last moment for work to have stopped.
    pub(crate) fn end(&self) -> Instant {
        let life = self.life.get();
        life.renewed + life.ttl
    }

    pub(crate) async fn ensure(&self, least: Duration) -> Result<()> {
        loop {
            let renewal = self.renewal.notified();
            if let Some(reason) = self.loss() {
                return Err(Error::session_lost(reason.to_string()));
            }
            let now = self.life.get();
            if now.deadline().since(self.clock().now()) >= least {
                return Ok(());
            }
            let most = now.span();
            if least >= most {
                let why =
                    format!("{least:?} can never remain of a session that is held for {most:?} at a time");
                return Err(Error::invalid(why));
            }
            self.hurry.notify_one();
            tokio::select! {
                biased;
                _ = self.lost() => {}
                () = renewal => {}
            }
        }
    }

    pub(crate) fn margin(&self) -> Duration {
        self.life.get().margin
    }

    /// Its life as the store granted it.
    pub(crate) fn ttl(&self) -> Duration {
        self.life.get().ttl
    }

    /// A ticket that no request under way has.
    pub(crate) fn ticket(&self, mode: Mode) -> Ticket {
        let spare = self.tickets.take().map(|ticket| ticket.with_mode(mode));
        spare.unwrap_or_else(|| Ticket::new(mode, self.random()))
    }

    /// Takes a ticket back whose place is gone, and of whose requests every one was answered.
    pub(crate) fn give_back(&self, ticket: Ticket) {
        self.tickets.give_back(ticket);
    }

    /// Hands the session's task something to finish. Never fails and never blocks; it is dropped with the session,
    /// and then the store removes whatever it was about.
    pub(crate) fn adopt(&self, job: Job) {
        self.adoption.add(job);
    }

    /// The same for what may as well begin [a moment](adoption::MOMENT) later: of many in that time, one wakes the task.
    pub(crate) fn adopt_in_a_moment(&self, job: Job) {
        self.adoption.add_patient(job, self.clock().now());
    }

    /// Tells the store from here that it is closed: whoever closes it has a connection, where a thread of its own may have to
    /// open one first. If that fails, or is dropped, the task does so.
    async fn say_farewell(&self) {
        if self.loss().is_some() {
            return;
        }
        self.lose(LossReason::Closed);
        let _left_to_the_task = self.closing.clone().drop_guard();
        let told = until(&**self.clock(), self.patience(), self.store.revoke(&self.id)).await;
        self.farewell.store(matches!(told, Some(Ok(()))), Ordering::Release);
    }

    /// Until when the store is told that it is closed: until it has ended by itself, or for as long as anybody may wait.
    fn patience(&self) -> Instant {
        self.end().min(self.clock().now() + FAREWELL)
    }

    /// Ends what only the task kept going: jobs hold this, so those left behind would never be freed.
    fn retire(&self) {
        self.lose(LossReason::Closed);
        self.adoption.end();
    }

    /// Takes a good renewal into account. A late one never revives a lost session.
    fn renewed(&self, sent: Instant, ttl: Duration) -> bool {
        if self.loss().is_some() && !bad("late_renewal_revives") {
            return false;
        }
        let margin = self.options.margin_of(ttl, &self.store.limits());
        // Only a change of state wakes those who wait for the loss.
        let recovered = self.life.modify(|life| {
            let was = std::mem::replace(
                life,
                Life { state: SessionState::Live, renewed: sent, ttl, margin, failing: false },
            );
            was.state == SessionState::Suspect
        });
        if recovered {
            tracing::info!(session = %self.id, "session recovered");
        }
        self.renewal.notify_waiters();
        true
    }

    fn suspect(&self, why: &dyn fmt::Display) {
        let changed = self.life.modify(|life| {
            life.failing = true;
            let live = life.state == SessionState::Live;
            if live {
                life.state = SessionState::Suspect;
            }
            live
        });
        if changed {
            tracing::warn!(session = %self.id, error = %why, "session suspect: a renewal failed");
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", self.id()).field("state", &self.state()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
