//! One who stands for election, again and again.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::standing::Standing;
use super::{Leadership, Status, Term, announcement};
use crate::kv::backoff::Backoff;
use crate::kv::clock::until;
use crate::kv::{
    BoxError, Clock, Coordinator, Error, ErrorKind, Key, LossReason, Queue, Result, Sessions, bad,
};
use crate::lock::{Held, acquire};

/// How long work may take to stop when the term is resigned.
const GRACE: Duration = Duration::from_secs(5);
/// How long a candidate whose work ended lets others go first: at least, and after many such ends.
const HOLD_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What came of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Led<T> {
    /// The work ended by itself, or in time after the term was resigned.
    Finished(T),
    /// The term was lost. The work was told, waited for, and dropped if it had not ended in time.
    Lost(LossReason),
    /// The term was resigned, and the work did not end in time and was dropped.
    Resigned,
}

/// One who stands for election. Clones are the same candidate.
///
/// ```
/// use std::sync::Arc;
/// use quorate::backends::Memory;
/// use quorate::election::{Candidate, Follower, Led};
/// use quorate::kv::{SessionOptions, Sessions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Arc::new(Memory::new());
/// let sessions = Sessions::new(&store, SessionOptions::default())?;
/// let candidate = Candidate::new(&store, &sessions, "scheduler", "replica-1")?;
/// let follower = Follower::new(&store, "scheduler")?;
///
/// let led = candidate.lead(|term| async move {
///     let leader = follower.leader().await.expect("the store answers").expect("we lead");
///     assert_eq!((leader.id.as_str(), leader.fence), ("replica-1", term.fence()));
///     "done"
/// });
/// assert_eq!(led.await?, Led::Finished("done"));
/// # Ok(()) }
/// ```
pub struct Candidate<S: Coordinator + ?Sized = dyn Coordinator> {
    pub(super) standing: Arc<Standing<S>>,
    grace: Duration,
    hold_off: (Duration, Duration),
}

impl<S: Coordinator + ?Sized> Candidate<S> {
    /// A candidate of this id in the election of this name. Nothing is sent. Candidates of the same id still exclude
    /// each other: the id is for others to see.
    pub fn new(store: &Arc<S>, sessions: &Sessions, name: &str, id: &str) -> Result<Self> {
        Self::on(store, sessions, Queue::election(name)?, id)
    }

    /// A candidate at a key of the user's, in the layout of the server's native clients, to stand against them too.
    pub fn native(store: &Arc<S>, sessions: &Sessions, path: Key, id: &str) -> Result<Self> {
        Self::on(store, sessions, Queue::native(path), id)
    }

    fn on(store: &Arc<S>, sessions: &Sessions, queue: Queue, id: &str) -> Result<Self> {
        announcement::check_id(id)?;
        let standing = Arc::new(Standing::new(store, sessions, queue, id, Bytes::new()));
        Ok(Self { standing, grace: GRACE, hold_off: HOLD_OFF })
    }

    /// What followers are told besides the id, from the next term on; see [`proclaim`](Self::proclaim).
    #[must_use]
    pub fn data(self, data: impl Into<Bytes>) -> Self {
        self.standing.set_data(data.into());
        self
    }

    /// How long work may take to stop when a term is resigned or the candidate stopped, before it is dropped. 5 s by
    /// default. When a term is *lost*, work has half of the session's margin at most.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long [`run`](Self::run) lets others go first after its work ended by itself: `first`, and twice as long each
    /// time up to `most`, until a term lasts longer than `most`. 1 s and 60 s by default.
    #[must_use]
    pub fn hold_off(mut self, first: Duration, most: Duration) -> Self {
        self.hold_off = (first, most);
        self
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.standing.id
    }

    /// How it is doing, now and after every change. The first value is always there.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.standing.status.subscribe()
    }

    /// Stands once, and waits until it leads. The caller must watch [`Leadership::lost`]; [`lead`](Self::lead) and
    /// [`run`](Self::run) do so themselves.
    ///
    /// One round trip when nobody stands. Fails as [`Mutex::lock`](crate::lock::Mutex::lock) does. Cancel-safe.
    pub async fn campaign(&self) -> Result<Leadership<S>> {
        let standing = &self.standing;
        let _campaigning = Passing::start(&standing.status, Status::Campaigning);
        let announced = standing.announcement();
        let session = standing.sessions.current().await?;
        let guard =
            acquire(&standing.store, &session, &standing.queue, &announced, &standing.highest).await?;
        let leadership = Leadership::new(guard, standing);
        let now = standing.announcement();
        if now != announced {
            let held = leadership.guard().held();
            tokio::select! {
                biased;
                reason = held.lost() => return Err(Error::session_lost(reason.to_string())),
                rewritten = held.rewrite(now) => rewritten?,
            }
        }
        Ok(leadership)
    }

    /// Stands, and does `work` as leader for one term. Returns when the work has ended, or was stopped because the term
    /// was lost or [resigned](Self::resign), and the leadership is given up.
    ///
    /// The end of the term is told to the work by [`Term::stop`]; work that goes on is dropped: when the term was lost,
    /// before the session ends in the store, so that it has stopped before anyone else leads. **What was spawned, or
    /// blocks a thread, is not stopped by dropping**: it must watch the token, and carry the [fence](Term::fence). A
    /// panic of the work goes on in the caller, once the leadership is given up.
    ///
    /// Cancel-safe: dropped, it drops the work, then resigns in the background.
    pub async fn lead<F, Fut, T>(&self, work: F) -> Result<Led<T>>
    where
        F: FnOnce(Term<S>) -> Fut,
        Fut: Future<Output = T>,
    {
        let leadership = self.campaign().await?;
        match self.serve(leadership, &CancellationToken::new(), work).await {
            End::Worked(Ok(output)) | End::Resigned(Some(Ok(output)), _) => Ok(Led::Finished(output)),
            End::Worked(Err(panic)) | End::Resigned(Some(Err(panic)), _) => std::panic::resume_unwind(panic),
            End::Lost(reason) => Ok(Led::Lost(reason)),
            End::Resigned(None, _) | End::Stopped => Ok(Led::Resigned),
        }
    }

    /// Stands and leads, term after term, until `stop` is cancelled, through errors, losses and panics.
    ///
    /// A term ends as with [`lead`](Self::lead). When the work ended by itself, well or not, the candidate gives up the
    /// term and lets others go first for a [hold-off](Self::hold_off). Returns `Ok` once stopped and handed over, and
    /// fails only when standing can never succeed: `InvalidInput` or `Unsupported`.
    pub async fn run<F, Fut>(&self, stop: CancellationToken, mut work: F) -> Result<()>
    where
        F: FnMut(Term<S>) -> Fut,
        Fut: Future<Output = Result<(), BoxError>>,
    {
        let (clock, random) = (self.clock(), self.standing.sessions.random());
        let mut errors = Backoff::new(clock, random, Duration::from_millis(50), Duration::from_secs(5));
        let mut ends = Backoff::new(clock, random, self.hold_off.0, self.hold_off.1);
        while !stop.is_cancelled() {
            let campaign = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                campaign = self.campaign() => campaign,
            };
            let pause = match campaign {
                Ok(leadership) => {
                    errors.reset();
                    let began = clock.now();
                    let end = self.serve(leadership, &stop, &mut work).await;
                    if clock.now().since(began) > self.hold_off.1 {
                        ends.reset();
                    }
                    self.pause_after(&end, &mut errors, &mut ends)
                }
                Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(id = %self.id(), %error, "the campaign failed; standing again soon");
                    errors.next()
                }
            };
            self.let_others(pause, &stop).await;
        }
        Ok(())
    }

    /// Gives up the term that [`lead`](Self::lead) or [`run`](Self::run) is serving: the work is stopped and waited for,
    /// then others may lead, and `run` does not stand again for `hold_off`. Returns once that is done; false when no
    /// term is being served.
    pub async fn resign(&self, hold_off: Duration) -> bool {
        self.standing.resign(hold_off).await
    }

    /// Tells followers other data: at once when it leads, and in later terms. One round trip when it leads, else none.
    pub async fn proclaim(&self, data: impl Into<Bytes>) -> Result<()> {
        match self.standing.set_data(data.into()) {
            Some(held) => held.rewrite(self.standing.announcement()).await,
            None => Ok(()),
        }
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.standing.sessions.clock()
    }

    async fn serve<F, Fut, T>(&self, leadership: Leadership<S>, stop: &CancellationToken, work: F) -> End<T>
    where
        F: FnOnce(Term<S>) -> Fut,
        Fut: Future<Output = T>,
    {
        let (standing, held) = (&self.standing, leadership.guard().held());
        // What is over before it began, as after a pause of the process, must not even begin: others may lead.
        if let Some(reason) = held.loss().filter(|_| !bad("work_begins_when_lost")) {
            leadership.resign().await;
            return End::Lost(reason);
        }
        let _serving = standing.serve(leadership.fence());
        let term = leadership.term();
        let token = term.stop().clone();
        // Calling `work` is part of the work: it may panic too.
        let mut work = Box::pin(AssertUnwindSafe(async { work(term).await }).catch_unwind());
        let end = tokio::select! {
            biased;
            reason = held.lost() => End::Lost(reason),
            hold_off = standing.resignation() => End::Resigned(None, hold_off),
            () = stop.cancelled() => End::Stopped,
            output = &mut work => End::Worked(output),
        };
        let end = if matches!(end, End::Worked(_)) {
            end
        } else {
            standing.leaving(leadership.fence());
            token.cancel();
            if bad("released_before_work_stopped") {
                leadership.guard().leave().await;
            }
            let output = self.wind_down(held, matches!(end, End::Lost(_)), &mut work).await;
            match end {
                End::Resigned(_, hold_off) => End::Resigned(output, hold_off),
                end => end,
            }
        };
        // Whatever the work held is gone before anyone else can lead.
        drop(work);
        let release = leadership.resign().await;
        tracing::debug!(id = %self.id(), ?release, "term ended");
        end
    }

    /// Waits for work that was told to stop: while nobody else can lead if the term is lost, within the grace if it is
    /// not.
    async fn wind_down<F: Future + Unpin>(
        &self,
        held: &Held<S>,
        lost: bool,
        work: &mut F,
    ) -> Option<F::Output> {
        let clock = self.clock();
        if !lost {
            tokio::select! {
                biased;
                output = &mut *work => return Some(output),
                () = clock.sleep_until(clock.now() + self.grace) => return None,
                _ = held.lost() => {}
            }
        }
        until(&**clock, clock.now() + held.grace(), work).await
    }

    /// How long to let others go first after a term.
    fn pause_after(
        &self,
        end: &End<Result<(), BoxError>>,
        errors: &mut Backoff,
        ends: &mut Backoff,
    ) -> Duration {
        let id = self.id();
        match end {
            End::Worked(Ok(Ok(()))) => ends.next(),
            End::Worked(Ok(Err(error))) => {
                tracing::error!(%id, %error, "the leader's work failed");
                ends.next()
            }
            End::Worked(Err(_)) => {
                tracing::error!(%id, "the leader's work panicked");
                ends.next()
            }
            End::Lost(_) => errors.next(),
            End::Resigned(_, hold_off) => *hold_off,
            End::Stopped => Duration::ZERO,
        }
    }

    async fn let_others(&self, pause: Duration, stop: &CancellationToken) {
        let _holding = Passing::start(&self.standing.status, Status::HoldingOff);
        let clock = self.clock();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = clock.sleep_until(clock.now() + pause) => {}
        }
    }
}

type Output<T> = std::thread::Result<T>;

/// How a term ended, and what its work returned, if it did.
enum End<T> {
    Worked(Output<T>),
    Lost(LossReason),
    Resigned(Option<Output<T>>, Duration),
    Stopped,
}

/// A status that lasts until this is dropped, unless it became another.
struct Passing<'a> {
    status: &'a watch::Sender<Status>,
    during: Status,
}

impl<'a> Passing<'a> {
    fn start(status: &'a watch::Sender<Status>, during: Status) -> Self {
        status.send_replace(during);
        Self { status, during }
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.status.send_if_modified(|status| {
            let still = *status == self.during;
            if still {
                *status = Status::Idle;
            }
            still
        });
    }
}

impl<S: Coordinator + ?Sized> Clone for Candidate<S> {
    fn clone(&self) -> Self {
        Self { standing: Arc::clone(&self.standing), ..*self }
    }
}

impl<S: Coordinator + ?Sized> fmt::Debug for Candidate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("id", &self.id())
            .field("queue", &self.standing.queue)
            .field("status", &*self.standing.status.borrow())
            .finish_non_exhaustive()
    }
}
