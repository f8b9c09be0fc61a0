//! The live session, and the next one after a loss.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::{Session, SessionOptions, SessionState};
use crate::kv::{Clock, Error, Random, Result, SessionStore};

/// Hands out the live session, and opens the next one after a loss. Clones share it.
///
/// Locks, candidates and registrations of one process take the same `Sessions`, and so cost one renewal together.
/// Nothing is sent before the first use.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    store: Arc<dyn SessionStore>,
    options: SessionOptions,
    slot: Mutex<Slot>,
}

type Granting = BoxFuture<'static, Result<Session>>;

enum Slot {
    Empty,
    /// Several callers wait for one grant. When all of them are dropped so is the request, and the next caller makes
    /// another: one that nobody waited for may be old.
    Opening(WeakShared<Granting>),
    Open(Session),
    Closed,
}

impl Sessions {
    /// Sessions of `store`. Refuses what the store cannot do before anything is sent.
    pub fn new<S: SessionStore + ?Sized>(store: &Arc<S>, options: SessionOptions) -> Result<Self> {
        options.validate(&store.limits())?;
        let store = Arc::new(Arc::clone(store));
        Ok(Self(Arc::new(Inner { store, options, slot: Mutex::new(Slot::Empty) })))
    }

    /// The live session; a new one, in one round trip, if there is none. Callers at the same time share one grant.
    ///
    /// Fails when it cannot be opened, and after [`close`](Self::close). Cancel-safe: dropped by all who wait for it, a
    /// request leaves at most a session that nobody renews.
    pub async fn current(&self) -> Result<Session> {
        loop {
            let opening = match self.attempt()? {
                Attempt::Live(session) => return Ok(session),
                Attempt::Opening(opening) => opening,
            };
            let opened = opening.clone().await;
            let mut slot = self.slot();
            match &*slot {
                Slot::Closed => return Err(closed()),
                Slot::Opening(now) if now.upgrade().is_some_and(|now| now.ptr_eq(&opening)) => {
                    *slot = opened.clone().map_or(Slot::Empty, Slot::Open);
                }
                _ => {}
            }
            drop(slot);
            let session = opened?;
            if session.is_live() {
                return Ok(session);
            }
        }
    }

    /// The session now, live or lost, if one was ever opened.
    #[must_use]
    pub fn peek(&self) -> Option<Session> {
        match &*self.slot() {
            Slot::Open(session) => Some(session.clone()),
            Slot::Empty | Slot::Opening(_) | Slot::Closed => None,
        }
    }

    /// How the session is doing; `None` while there is none.
    #[must_use]
    pub fn state(&self) -> Option<SessionState> {
        self.peek().map(|session| session.state())
    }

    /// Who holds what is held with these sessions, as others see it.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.0.options.owner
    }

    /// Ends the session, and everything that hangs on it, and opens no other. Bounded as [`Session::close`] is.
    pub async fn close(&self) {
        let was = std::mem::replace(&mut *self.slot(), Slot::Closed);
        match was {
            Slot::Open(session) => session.close().await,
            Slot::Opening(opening) => {
                if let Some(opening) = opening.upgrade()
                    && let Ok(session) = opening.await
                {
                    session.close().await;
                }
            }
            Slot::Empty | Slot::Closed => {}
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.options.clock
    }

    pub(crate) fn random(&self) -> &Random {
        &self.0.options.random
    }

    fn attempt(&self) -> Result<Attempt> {
        let mut slot = self.slot();
        match &*slot {
            Slot::Closed => return Err(closed()),
            Slot::Open(session) if session.is_live() => return Ok(Attempt::Live(session.clone())),
            Slot::Opening(opening) => {
                if let Some(opening) = opening.upgrade() {
                    return Ok(Attempt::Opening(opening));
                }
            }
            Slot::Open(_) | Slot::Empty => {}
        }
        let opening = Session::open_dyn(Arc::clone(&self.0.store), self.0.options.clone()).boxed().shared();
        // It has not been polled yet, so there is something to point to.
        *slot = opening.downgrade().map_or(Slot::Empty, Slot::Opening);
        Ok(Attempt::Opening(opening))
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Attempt {
    Live(Session),
    Opening(Shared<Granting>),
}

fn closed() -> Error {
    Error::session_lost("it was closed")
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("owner", &self.0.options.owner)
            .field("current", &self.peek())
            .finish()
    }
}
