//! What the watches of a store share: one connection on which the server tells what happens, and the task that listens there.
//!
//! The task starts with the first watch and ends once nobody watches any more, a moment later where single keys are watched, or with
//! the runtime it runs on; then the next watch starts another.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::BACKEND;
use super::history::regressed;
use super::listener::Listener;
use super::servers::Servers;
use crate::kv::{Error, Fanout, Result, Scope, Subscription};

/// Where watches hear of changes.
pub(super) struct Hub(Arc<Shared>);

/// What the task shares with those who watch.
pub(super) struct Shared {
    pub(super) servers: Arc<Servers>,
    pub(super) fanout: Arc<Fanout>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// The life of the store that those who watch know of, and a revision of it.
    life: Mutex<Option<(u64, u64)>>,
    /// What somebody waits to hear of, each once.
    wanted: Mutex<BTreeSet<Scope>>,
    /// Rung when something is wanted.
    pub(super) rung: Notify,
}

impl Hub {
    pub(super) fn new(servers: &Arc<Servers>) -> Self {
        Self(Arc::new(Shared {
            servers: Arc::clone(servers),
            fanout: Fanout::new(),
            task: Mutex::default(),
            life: Mutex::default(),
            wanted: Mutex::default(),
            rung: Notify::new(),
        }))
    }

    /// Listens to `scope`. The first signal comes once whatever happens there is heard, so that nothing falls between that and
    /// a snapshot that is taken then.
    pub(super) fn subscribe(&self, scope: &Scope) -> Subscription {
        let subscription = self.0.fanout.subscribe_later(scope.clone());
        lock(&self.0.wanted).insert(scope.clone());
        self.0.rung.notify_one();
        subscription
    }

    /// Tells all who watch, if by now we know of another life of the store than they do.
    pub(super) fn notice(&self) {
        self.0.notice_what_is_known();
    }

    /// Sees to it that somebody listens for those who have subscribed.
    pub(super) fn wake(&self) -> Result<()> {
        let mut task = lock(&self.0.task);
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        let runtime = Handle::try_current().map_err(|error| {
            Error::invalid("watches need a tokio runtime").because(error).at(BACKEND, "watch")
        })?;
        *task = Some(runtime.spawn(Listener::new(&self.0).run()));
        Ok(())
    }
}

impl Shared {
    /// What is wanted that was not asked for before.
    pub(super) fn wanted(&self) -> Vec<Scope> {
        std::mem::take(&mut *lock(&self.wanted)).into_iter().collect()
    }

    /// The same as [`notice`](Self::notice), of the life that answers told of.
    pub(super) fn notice_what_is_known(&self) {
        if let Some(seen) = self.servers.history().seen() {
            self.notice(seen.epoch, seen.revision);
        }
    }

    /// Somebody saw this revision of this life of the store, who listens or who takes a snapshot. If those who watch know of one
    /// before it, it is over, and they are told so before a snapshot of the next is shown: once, whoever sees it first. Says whether
    /// that was now.
    pub(super) fn notice(&self, epoch: u64, revision: u64) -> bool {
        let mut life = lock(&self.life);
        // What is said late of a life that is over does not bring it back.
        if life.is_some_and(|(_, known)| revision < known) {
            return false;
        }
        let began = life.replace((epoch, revision)).is_some_and(|(known, _)| known != epoch);
        if began {
            self.fanout.fail(&regressed().at(BACKEND, "watch"));
        }
        began
    }

    /// The task that asks is about to end, whoever watches.
    pub(super) fn forsake(&self) {
        *lock(&self.task) = None;
    }

    /// Whether nobody watches. Then the task that asks is not the one that the next watch will find.
    pub(super) fn is_idle(&self) -> bool {
        let mut task = lock(&self.task);
        let idle = self.fanout.is_idle();
        if idle {
            *task = None;
            *lock(&self.life) = None;
        }
        idle
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.0.task).take() {
            task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("fanout", &self.0.fanout).finish_non_exhaustive()
    }
}
