//! Sessions: each is one of the server's, on a connection of its own.
//!
//! The client's heartbeat keeps the server's session alive for as long as this process runs. A session of ours lives only
//! while it is renewed, so each has a watchdog that closes it when its time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_io::Timer;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zookeeper_client::{Client, Error as Zk, StateWatcher};

use super::connection::{self, Kind, ask, barrier, is_over};
use super::ensemble::{Ensemble, PAUSES};
use super::error::{Cure, Fault};
use super::host::{Host, Running};
use super::options::Times;
use super::{BACKEND, keys, lost};
use crate::kv::{Error, ErrorKind, Grant, Outcome, Renewal, Result, SessionId, Ticket};

/// A server that is silent for this part of a session's life is left for another: there is time for three of them before
/// the session counts as lost.
const SILENCES: u32 = 5;

/// How many sessions are remembered before those that ended are forgotten.
const REMEMBERED: usize = 1024;

/// The sessions that were granted here.
#[derive(Default)]
pub(super) struct Lives(Mutex<BTreeMap<SessionId, Arc<Live>>>);

/// One session.
pub(super) struct Live {
    pub(super) id: SessionId,
    ttl: Duration,
    times: Times,
    life: Mutex<Life>,
    states: StateWatcher,
    /// How many places it has tried to enter, so that none is named like another.
    attempts: AtomicU64,
    /// The tickets that may stand in a queue.
    tickets: Mutex<BTreeSet<Ticket>>,
    watchdog: Mutex<Option<Running<()>>>,
}

/// What a renewal and the watchdog must agree on.
struct Life {
    /// Dropped to close the session.
    client: Option<Arc<Client>>,
    /// When the last renewal was answered.
    renewed: Instant,
}

fn with<T, R>(mutex: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    work(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Lives {
    /// The session of this name, if it was granted here and was not closed since.
    pub(super) fn live(&self, session: &SessionId) -> Result<Arc<Live>> {
        self.find(session).filter(|live| live.client().is_some()).ok_or_else(|| lost(session))
    }

    fn find(&self, session: &SessionId) -> Option<Arc<Live>> {
        with(&self.0, |lives| lives.get(session).cloned())
    }

    fn add(&self, live: Arc<Live>) {
        with(&self.0, |lives| {
            // Those that ended are remembered for a while: ending them again is no error.
            if lives.len() >= REMEMBERED {
                lives.retain(|_, live| !live.is_over());
            }
            lives.insert(live.id.clone(), live);
        });
    }

    /// Forgets that a ticket may stand: its place was deleted.
    pub(super) fn left(&self, session: &SessionId, ticket: &Ticket) {
        if let Some(live) = self.find(session) {
            live.forget(ticket);
        }
    }
}

impl Live {
    fn client(&self) -> Option<Arc<Client>> {
        with(&self.life, |life| life.client.clone())
    }

    /// Closes it, and all that is bound to it goes. The server is told in the background.
    fn close(&self) {
        let client = with(&self.life, |life| life.client.take());
        drop(client);
    }

    fn is_over(&self) -> bool {
        is_over(self.states.peek_state())
    }

    /// When it is closed unless it is renewed.
    fn end(&self) -> Instant {
        with(&self.life, |life| life.renewed) + self.ttl
    }

    /// Takes a renewal into account; `false` if it came too late.
    fn renewed(&self) -> bool {
        with(&self.life, |life| {
            life.renewed = Instant::now();
            life.client.is_some()
        })
    }

    /// Closes it if it was not renewed for a whole life, and says whether it did.
    fn expire(&self) -> bool {
        let over = |life: &Life| life.renewed + self.ttl <= Instant::now();
        let client = with(&self.life, |life| if over(life) { Some(life.client.take()) } else { None });
        client.is_some()
    }

    /// A number that no place of this session had.
    pub(super) fn attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// Remembers that a place of this ticket may stand from now on; whether one might before.
    pub(super) fn remember(&self, ticket: &Ticket) -> bool {
        with(&self.tickets, |tickets| !tickets.insert(*ticket))
    }

    pub(super) fn forget(&self, ticket: &Ticket) {
        with(&self.tickets, |tickets| tickets.remove(ticket));
    }

    /// Asks on the session's own connection until there is an answer or the time is up.
    pub(super) async fn call<T, F, Fut>(&self, kind: Kind, operation: &'static str, asking: F) -> Result<T>
    where
        F: Fn(Arc<Client>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, Zk>> + Send,
        T: Send,
    {
        let end = Instant::now() + self.times.request;
        let (mut pause, longest) = PAUSES;
        loop {
            let Some(client) = self.client() else { return Err(lost(&self.id).at(BACKEND, operation)) };
            let fault = match ask(&client, end.min(Instant::now() + self.times.attempt), &asking).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            drop(client);
            if fault.error.kind() == ErrorKind::SessionLost {
                return Err(lost(&self.id).because(fault.error).at(BACKEND, operation));
            }
            let harmless = kind == Kind::Repeatable || fault.error.outcome() == Outcome::NotApplied;
            if fault.cure == Cure::None || !harmless || Instant::now() + pause >= end {
                return Err(fault.error.at(BACKEND, operation));
            }
            tracing::debug!(operation, session = %self.id, error = %fault.error, "asking again");
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

impl Drop for Live {
    /// A session that nobody has ended lives out its ttl, whatever becomes of the store, as something may be bound to it
    /// that nobody means to renew. The client would close it at its own end; its task ends with the store.
    fn drop(&mut self) {
        std::mem::forget(with(&self.life, |life| life.client.take()));
    }
}

pub(super) async fn grant(ensemble: &Ensemble, lives: &Lives, ttl: Duration) -> Result<Grant> {
    let times = ensemble.settled.times;
    let client = open(ensemble, ttl).await.map_err(|fault| fault.error.at(BACKEND, "grant"))?;
    let id = keys::session(client.session_id().0).ok_or_else(|| {
        Error::new(ErrorKind::Internal, Outcome::Unknown, "a session without a name was granted")
    })?;
    let ttl = client.session_timeout();
    let live = Arc::new(Live {
        id: id.clone(),
        ttl,
        times,
        states: client.state_watcher(),
        life: Mutex::new(Life { client: Some(Arc::new(client)), renewed: Instant::now() }),
        attempts: AtomicU64::new(0),
        tickets: Mutex::default(),
        watchdog: Mutex::default(),
    });
    live.guard(&ensemble.host);
    lives.add(live);
    Ok(Grant { id, ttl })
}

/// Opens a session, again while none is granted and there is time. One that was granted and not heard of ends by itself.
async fn open(ensemble: &Ensemble, ttl: Duration) -> Result<Client, Fault> {
    let times = ensemble.settled.times;
    let silence = (ttl / SILENCES).min(times.attempt);
    let end = Instant::now() + times.request;
    let (mut pause, longest) = PAUSES;
    loop {
        let opening = connection::open(&ensemble.host, &ensemble.settled, ttl, silence);
        let fault = match timeout_at(end, opening).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(fault)) => fault,
            Err(_) => return Err(Fault::silent()),
        };
        if fault.cure == Cure::None || Instant::now() + pause >= end {
            return Err(fault);
        }
        tracing::debug!(error = %fault.error, "a session is asked for again");
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

impl Live {
    fn guard(self: &Arc<Self>, host: &Host) {
        let watchdog = host.run(watch_over(Arc::downgrade(self)));
        with(&self.watchdog, |place| *place = Some(watchdog));
    }
}

/// Closes the session once it was not renewed for a whole life.
async fn watch_over(live: Weak<Live>) {
    loop {
        let Some(end) = live.upgrade().map(|live| live.end()) else { return };
        // Of this clock, as no runtime may be held up.
        Timer::at(end.into_std()).await;
        let Some(live) = live.upgrade() else { return };
        if live.expire() {
            tracing::debug!(session = %live.id, "the session was not renewed, and is closed");
            return;
        }
    }
}

pub(super) async fn renew(lives: &Lives, session: &SessionId) -> Result<Renewal> {
    let Ok(live) = lives.live(session) else { return Ok(Renewal::Lost) };
    match live
        .call(Kind::Repeatable, "renew", |client: Arc<Client>| async move { barrier(&client).await })
        .await
    {
        Ok(()) if live.renewed() => Ok(Renewal::Renewed { ttl: live.ttl }),
        Ok(()) => Ok(Renewal::Lost),
        Err(error) if error.kind() == ErrorKind::SessionLost => Ok(Renewal::Lost),
        Err(error) => Err(error),
    }
}

/// Closes the session and waits until the server has said so.
pub(super) async fn revoke(lives: &Lives, session: &SessionId) -> Result<()> {
    let Some(live) = lives.find(session) else {
        let why = format!("session {session} was not opened by this client, and only that can end it");
        return Err(Error::new(ErrorKind::Unsupported, Outcome::NotApplied, why).at(BACKEND, "revoke"));
    };
    live.close();
    let mut states = live.states.clone();
    let over = async {
        while !is_over(states.peek_state()) {
            states.changed().await;
        }
    };
    timeout(live.times.request, over).await.map_err(|_| {
        let why = "the session's end was not acknowledged in time";
        Error::new(ErrorKind::Unavailable, Outcome::Unknown, why).at(BACKEND, "revoke")
    })
}
