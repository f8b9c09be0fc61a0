//! The one task of a session: it renews, and finishes what drops leave.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::CatchUnwind;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::super::backoff::Backoff;
use super::super::clock::until;
use super::adoption::Job;
use super::{Core, LossReason, SessionOptions};
use crate::kv::{Error, ErrorKind, Instant, Outcome, Renewal, Result, bad};

/// Where the task of a session is to run. Dropped, nothing is left of it.
pub(super) enum Runner {
    /// On the runtime of whoever starts it, and on a thread of its own from then on, if ever.
    Here(Option<Instant>),
    /// On a thread of its own, which waits for it.
    Thread(oneshot::Sender<Task>),
}

impl Runner {
    /// Makes it: a thread takes a tenth of a millisecond, in which the store can grant the session.
    pub(super) fn new(options: &SessionOptions) -> Result<Self> {
        match options.own_thread {
            None => Ok(Self::Here(None)),
            Some(Duration::ZERO) => thread().map(Self::Thread),
            Some(later) => Ok(Self::Here(Some(options.clock.now() + later))),
        }
    }

    /// Starts the task there. It ends with the session.
    pub(super) fn start(self, task: Task) -> Result<()> {
        match self {
            Self::Here(later) => {
                let runtime = Handle::try_current();
                let runtime = runtime
                    .map_err(|error| Error::invalid("sessions need a tokio runtime").because(error))?;
                runtime.spawn(task.run(later));
            }
            // The thread ends only after this, or with its process.
            Self::Thread(thread) => drop(thread.send(task)),
        }
        Ok(())
    }
}

/// Starts a thread, which waits for the task it is to run.
fn thread() -> Result<oneshot::Sender<Task>> {
    let failed = |error: std::io::Error| {
        let why = "the thread that renews could not be started";
        Error::new(ErrorKind::Internal, Outcome::Unknown, why).because(error)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (sender, task) = oneshot::channel::<Task>();
    let waiting = async {
        if let Ok(task) = task.await {
            task.run(None).await;
        }
    };
    let thread = std::thread::Builder::new().name("quorate-session".into());
    thread.spawn(move || runtime.block_on(waiting)).map_err(failed)?;
    Ok(sender)
}

/// The task, wherever it runs. Whatever becomes of it, nobody waits for it in vain, or believes in the session.
pub(super) struct Task(Arc<Core>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.retire();
        self.0.ended.cancel();
    }
}

impl Task {
    pub(super) fn of(core: &Arc<Core>) -> Self {
        Self(Arc::clone(core))
    }

    /// Runs until the session ends; on a thread of its own from `later` on.
    async fn run(self, mut later: Option<Instant>) {
        let core = &self.0;
        let mut adopted = Adopted::new();
        let reason = loop {
            match live(core, &mut adopted, later.take()).await {
                Left::Session(reason) => break reason,
                Left::Runtime => {}
            }
            match thread() {
                Ok(thread) => return self.move_to(thread, adopted).await,
                Err(error) => {
                    tracing::warn!(session = %core.id, %error, "the session is kept without a thread of its own");
                }
            }
        };
        // What is unfinished is dropped: the store removes whatever is bound to the session.
        drop(adopted);
        core.lose(reason);
        // A session that was lost is left to end in the store by itself: until then work has its margin to stop, and
        // registrations the time to be bound to the next session.
        let patience = core.patience();
        if reason == LossReason::Closed {
            // Whoever closes it may be about to tell the store, and leaves it to this task if that comes to nothing.
            until(&**core.clock(), patience, core.closing.cancelled()).await;
        }
        if reason == LossReason::Closed && !core.farewell.load(Ordering::Acquire) || bad("revoke_on_loss") {
            farewell(core, patience).await;
        }
    }

    /// Leaves the session to a thread. What was adopted before may need this runtime, and is finished here.
    async fn move_to(self, thread: oneshot::Sender<Self>, mut adopted: Adopted) {
        let core = Arc::clone(&self.0);
        drop(thread.send(self));
        tokio::select! {
            biased;
            () = core.ended.cancelled() => {}
            () = async { while let Some(done) = adopted.next().await { finished(&core, &done) } } => {}
        }
    }
}

/// What is under way of what it adopted. A panic in one of them must not cost the lease of all.
type Adopted = FuturesUnordered<CatchUnwind<AssertUnwindSafe<Job>>>;

fn finished(core: &Core, done: &std::thread::Result<()>) {
    if done.is_err() {
        tracing::error!(session = %core.id, "a job of the session panicked");
    }
}

/// What the task has left.
enum Left {
    /// The session is over.
    Session(LossReason),
    /// The session is to be kept elsewhere.
    Runtime,
}

/// Keeps the session and drives what it adopted, until it ends, or is to be kept elsewhere.
async fn live(core: &Core, adopted: &mut Adopted, later: Option<Instant>) -> Left {
    let mut closing = pin!(core.closing.cancelled());
    let mut lost = pin!(core.overdue());
    let mut kept = pin!(keep(core, later));
    let mut due = pin!(core.adoption.due(&**core.clock()));
    loop {
        tokio::select! {
            biased;
            () = &mut closing => return Left::Session(LossReason::Closed),
            reason = &mut lost => return Left::Session(reason),
            left = &mut kept => return left,
            jobs = &mut due => {
                due.set(core.adoption.due(&**core.clock()));
                adopted.extend(jobs.into_iter().map(|job| AssertUnwindSafe(job).catch_unwind()));
            }
            Some(done) = adopted.next(), if !adopted.is_empty() => finished(core, &done),
        }
    }
}

/// Renews at every third of the ttl, riding out errors; returns only when the store says that the session is gone, when a
/// renewal came too late, or between two renewals once it is `later`.
async fn keep(core: &Core, later: Option<Instant>) -> Left {
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
            () = passed(core, later) => return Left::Runtime,
        }
        while let Some(wrong) = renew(core).await {
            match wrong {
                Wrong::Gone(reason) => return Left::Session(reason),
                Wrong::Late => return Left::Session(core.loss().unwrap_or(LossReason::Expired)),
                Wrong::Failed(error) => core.suspect(&error),
            }
            backoff.pause().await;
        }
        backoff.reset();
    }
}

async fn passed(core: &Core, moment: Option<Instant>) {
    match moment {
        Some(moment) => core.clock().sleep_until(moment).await,
        None => pending().await,
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
