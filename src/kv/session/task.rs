//! The one task of a session: it renews, and finishes what drops leave.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::super::backoff::Backoff;
use super::super::clock::until;
use super::{Core, LossReason};
use crate::kv::{Error, ErrorKind, Instant, Outcome, Renewal, Result, bad};

/// Where the task of a session is to run. Dropped, nothing is left of it.
pub(super) enum Runner {
    /// On the runtime of whoever starts it.
    Here,
    /// On a thread of its own, which waits for it.
    Thread(oneshot::Sender<Arc<Core>>),
}

impl Runner {
    /// Makes it: a thread takes a tenth of a millisecond, in which the store can grant the session.
    pub(super) fn new(own_thread: bool) -> Result<Self> {
        if !own_thread {
            return Ok(Self::Here);
        }
        let failed = |error: std::io::Error| {
            let why = "the thread that renews could not be started";
            Error::new(ErrorKind::Internal, Outcome::Unknown, why).because(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (sender, core) = oneshot::channel();
        let task = async {
            if let Ok(core) = core.await {
                run(core).await;
            }
        };
        let thread = std::thread::Builder::new().name("quorate-session".into());
        thread.spawn(move || runtime.block_on(task)).map_err(failed)?;
        Ok(Self::Thread(sender))
    }

    /// Starts the task there. It ends with the session.
    pub(super) fn start(self, core: &Arc<Core>) -> Result<()> {
        let core = Arc::clone(core);
        match self {
            Self::Here => {
                let runtime = Handle::try_current();
                let runtime = runtime
                    .map_err(|error| Error::invalid("sessions need a tokio runtime").because(error))?;
                runtime.spawn(run(core));
            }
            // The thread ends only after this, or with its process.
            Self::Thread(thread) => drop(thread.send(core)),
        }
        Ok(())
    }
}

async fn run(core: Arc<Core>) {
    // Whatever becomes of the task, nobody waits for it in vain, or believes in the session.
    let _ended = core.ended.clone().drop_guard();
    let _retired = Retire(&core);
    let reason = live(&core).await;
    core.lose(reason);
    // A session that was lost is left to end in the store by itself: until then work has its margin to stop, and
    // registrations the time to be bound to the next session.
    let patience = core.patience();
    if reason == LossReason::Closed {
        // Whoever closes it may be about to tell the store, and leaves it to this task if that comes to nothing.
        until(&**core.clock(), patience, core.closing.cancelled()).await;
    }
    if reason == LossReason::Closed && !core.farewell.load(Ordering::Acquire) || bad("revoke_on_loss") {
        farewell(&core, patience).await;
    }
}

struct Retire<'a>(&'a Core);

impl Drop for Retire<'_> {
    fn drop(&mut self) {
        self.0.retire();
    }
}

/// Keeps the session and drives what it adopted, until it ends. What is unfinished then is dropped: the store removes
/// whatever is bound to the session.
async fn live(core: &Core) -> LossReason {
    let mut adopted = FuturesUnordered::new();
    let mut closing = pin!(core.closing.cancelled());
    let mut lost = pin!(core.overdue());
    let mut kept = pin!(keep(core));
    let mut due = pin!(core.adoption.due(&**core.clock()));
    loop {
        tokio::select! {
            biased;
            () = &mut closing => return LossReason::Closed,
            reason = &mut lost => return reason,
            reason = &mut kept => return reason,
            jobs = &mut due => {
                due.set(core.adoption.due(&**core.clock()));
                // A panic in one of them must not cost the lease of all.
                adopted.extend(jobs.into_iter().map(|job| AssertUnwindSafe(job).catch_unwind()));
            }
            Some(done) = adopted.next(), if !adopted.is_empty() => {
                if done.is_err() {
                    tracing::error!(session = %core.id, "a job of the session panicked");
                }
            }
        }
    }
}

/// Renews at every third of the ttl, riding out errors; returns only when the store says that the session is gone,
/// or when a renewal came too late.
async fn keep(core: &Core) -> LossReason {
    let ttl = core.ttl();
    let mut backoff = Backoff::new(core.clock(), core.random(), ttl / 60, ttl / 12);
    loop {
        let due = {
            let life = core.life.get();
            life.renewed + life.ttl / 3
        };
        tokio::select! {
            biased;
            () = core.clock().sleep_until(due) => {}
            () = core.hurry.notified() => {}
        }
        while let Some(wrong) = renew(core).await {
            match wrong {
                Wrong::Gone(reason) => return reason,
                Wrong::Late => return core.loss().unwrap_or(LossReason::Expired),
                Wrong::Failed(error) => core.suspect(&error),
            }
            backoff.pause().await;
        }
        backoff.reset();
    }
}

enum Wrong {
    Gone(LossReason),
    Late,
    Failed(Error),
}

/// One renewal; `None` when it went well. It counts from the moment before it was sent.
async fn renew(core: &Core) -> Option<Wrong> {
    let sent = core.clock().now();
    if core.loss().is_some() && !bad("late_renewal_revives") {
        return Some(Wrong::Late);
    }
    let ttl = core.ttl();
    let renewed = until(&**core.clock(), sent + ttl / 6, core.store.renew(&core.id)).await;
    let sent = if bad("deadline_from_reply") { core.clock().now() } else { sent };
    match renewed {
        Some(Ok(Renewal::Renewed { ttl })) => (!core.renewed(sent, ttl)).then_some(Wrong::Late),
        Some(Ok(Renewal::Lost)) => Some(Wrong::Gone(LossReason::Revoked)),
        Some(Err(error)) if error.kind() == ErrorKind::SessionLost => Some(Wrong::Gone(LossReason::Revoked)),
        Some(Err(error)) if error.kind() == ErrorKind::FenceRegression => {
            Some(Wrong::Gone(LossReason::FenceRegression))
        }
        Some(Err(error)) => Some(Wrong::Failed(error)),
        None => {
            let error =
                Error::new(ErrorKind::Unavailable, Outcome::Unknown, "a renewal was not answered in time");
            Some(Wrong::Failed(error.at(core.store.limits().backend, "renew")))
        }
    }
}

/// Tells the store that the session was closed, so that others need not wait for its end; gives up when it has ended
/// by itself.
async fn farewell(core: &Core, patience: Instant) {
    let clock = core.clock();
    let mut backoff = Backoff::new(clock, core.random(), Duration::from_millis(20), Duration::from_secs(1));
    let revoked = until(&**clock, patience, async {
        while let Err(error) = core.store.revoke(&core.id).await {
            tracing::debug!(session = %core.id, %error, "the session could not be revoked yet");
            backoff.pause().await;
        }
    });
    if revoked.await.is_none() {
        tracing::warn!(session = %core.id, "the session could not be revoked, and is left to expire");
    }
}
