//! What a registration and its registrar's task share.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Instance, Status};
use crate::kv::{Error, Key, Limits, Result};

/// How many are taken from the desk at once: when thousands come together, the store works on the first while the others are
/// put on the books.
const TAKEN_AT_ONCE: usize = 256;

/// One registration as it is wanted, and as far as it has come. A process may have tens of thousands, so that each counts.
pub(super) struct Record {
    pub(super) key: Key,
    /// Rung after every change that somebody may wait for.
    rung: Notify,
    /// Made when somebody first asks: most registrations are never watched.
    status: OnceLock<watch::Sender<Status>>,
    wish: Mutex<Wish>,
}

struct Wish {
    /// The instance as it is stored, which takes a third of what it takes in memory: and read when it is asked for.
    value: Box<[u8]>,
    /// Counts the instances that were wanted, from 1.
    number: u64,
    /// The last of them that the store has acknowledged.
    acknowledged: u64,
    /// Why the last try for the one that is wanted failed.
    failure: Option<Error>,
    leaving: bool,
    /// Whether it waits at the desk.
    queued: bool,
    status: Status,
}

/// What is to stand in the store now.
pub(super) enum Wanted {
    Nothing,
    Value(u64, Bytes),
}

impl Record {
    pub(super) fn new(key: Key, value: Box<[u8]>) -> Arc<Self> {
        let wish = Wish {
            value,
            number: 1,
            acknowledged: 0,
            failure: None,
            leaving: false,
            queued: false,
            status: Status::Registering,
        };
        Arc::new(Self { key, rung: Notify::new(), status: OnceLock::new(), wish: Mutex::new(wish) })
    }

    pub(super) fn instance(&self) -> Instance {
        let read = Instance::decode(&self.key, &self.wish().value);
        // It reads what it wrote itself. If it could not, it would still know of whom that was.
        read.unwrap_or_else(|_| Instance::named_by(&self.key))
    }

    pub(super) fn wanted(&self) -> Wanted {
        let wish = self.wish();
        if wish.leaving {
            Wanted::Nothing
        } else {
            Wanted::Value(wish.number, Bytes::copy_from_slice(&wish.value))
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.wish().leaving
    }

    /// The status now and later.
    pub(super) fn watch(&self) -> watch::Receiver<Status> {
        let wish = self.wish();
        self.status.get_or_init(|| watch::Sender::new(wish.status)).subscribe()
    }

    pub(super) fn status(&self) -> Status {
        self.wish().status
    }

    /// Wants another instance: its number, and whether it is another at all.
    pub(super) fn change(
        &self,
        limits: &Limits,
        change: impl FnOnce(Instance) -> Instance,
    ) -> Result<(u64, bool)> {
        let mut wish = self.wish();
        let (key, value) = change(Instance::decode(&self.key, &wish.value)?).encode(limits)?;
        if key != self.key {
            return Err(Error::invalid("an update cannot change the service or the id").on(&self.key));
        }
        // Whoever asks again waits for the next try, not for the last failure.
        wish.failure = None;
        let changed = value != wish.value;
        if changed {
            wish.value = value;
            wish.number += 1;
        }
        Ok((wish.number, changed))
    }

    /// Wants it gone.
    pub(super) fn leave(&self) {
        self.wish().leaving = true;
    }

    /// The store holds the instance of this number.
    pub(super) fn acknowledge(&self, number: u64) {
        self.turn(Status::Registered, |wish| wish.acknowledged = wish.acknowledged.max(number));
    }

    /// What was tried failed, and had no effect; whoever waits for it is told.
    pub(super) fn fail(&self, error: &Error) {
        let mut wish = self.wish();
        if wish.acknowledged < wish.number {
            wish.failure = Some(error.clone());
        }
        drop(wish);
        self.rung.notify_waiters();
    }

    pub(super) fn set_status(&self, status: Status) {
        self.turn(status, |_| {});
    }

    fn turn(&self, status: Status, change: impl FnOnce(&mut Wish)) {
        let mut wish = self.wish();
        change(&mut wish);
        // What is over stays over.
        if wish.status != Status::Deregistered {
            wish.status = status;
        }
        let status = wish.status;
        if let Some(watched) = self.status.get() {
            watched.send_if_modified(|known| std::mem::replace(known, status) != status);
        }
        drop(wish);
        self.rung.notify_waiters();
    }

    /// Waits until `done` has an answer, or until the registrar's task has ended.
    pub(super) async fn wait<T>(
        &self,
        ended: &CancellationToken,
        done: impl Fn(&Self) -> Option<T>,
    ) -> Option<T> {
        loop {
            let rung = self.rung.notified();
            if let Some(answer) = done(self) {
                return Some(answer);
            }
            tokio::select! {
                biased;
                () = rung => {}
                () = ended.cancelled() => return None,
            }
        }
    }

    /// What became of the instance of this number, once that is known.
    pub(super) fn outcome(&self, number: u64) -> Option<Result<()>> {
        let wish = self.wish();
        if wish.acknowledged >= number {
            return Some(Ok(()));
        }
        if let Some(error) = &wish.failure {
            return Some(Err(error.clone()));
        }
        match wish.status {
            Status::Displaced => {
                Some(Err(Error::session_lost("another process has registered this instance").on(&self.key)))
            }
            Status::Deregistered => Some(Err(Error::session_lost("it was deregistered").on(&self.key))),
            Status::Registering | Status::Registered | Status::Reconnecting => None,
        }
    }

    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where handles leave what they want for the registrar's task. Neither blocks nor fails, nor needs a runtime.
pub(super) struct Desk {
    inbox: Mutex<Inbox>,
    /// How many registrations have begun.
    begun: AtomicUsize,
    pub(super) rung: Notify,
    /// The last handle is gone.
    pub(super) closing: CancellationToken,
    /// The task is gone.
    pub(super) ended: CancellationToken,
}

#[derive(Default)]
struct Inbox {
    started: bool,
    /// Each record at most once, so it holds no more than there are registrations.
    waiting: VecDeque<Arc<Record>>,
}

impl Desk {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            inbox: Mutex::default(),
            begun: AtomicUsize::new(0),
            rung: Notify::new(),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Lets others go on when as many registrations have begun as fill a commit, so that of thousands that one task waits for
    /// the first are sent before the last are made. What polls many futures pauses once two of them wake themselves, as
    /// `FuturesUnordered` does and what is made of it.
    pub(super) async fn pause(&self, limits: &Limits) {
        let commit = limits.max_txn_ops;
        let mut goes_on = self.begun.fetch_add(1, Ordering::Relaxed) % (commit + 2) < commit;
        poll_fn(|context| {
            if std::mem::replace(&mut goes_on, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Leaves word that something about this record changed.
    pub(super) fn submit(&self, record: &Arc<Record>) {
        if !std::mem::replace(&mut record.wish().queued, true) {
            self.inbox().waiting.push_back(Arc::clone(record));
        }
        self.rung.notify_one();
    }

    /// What has changed and was not taken yet, in the order it came. There may be more, and then it is rung again.
    pub(super) fn take(&self) -> Vec<Arc<Record>> {
        let mut inbox = self.inbox();
        let some = inbox.waiting.len().min(TAKEN_AT_ONCE);
        let taken: Vec<_> = inbox.waiting.drain(..some).collect();
        if !inbox.waiting.is_empty() {
            self.rung.notify_one();
        }
        drop(inbox);
        for record in &taken {
            record.wish().queued = false;
        }
        taken
    }

    /// Starts the task with `start` unless it was started before.
    pub(super) fn start_once(&self, start: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut inbox = self.inbox();
        if !inbox.started {
            start()?;
            inbox.started = true;
        }
        Ok(())
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the users' handles share; the task does not hold it, so dropping the last handle ends the task.
pub(super) struct Handle {
    pub(super) desk: Arc<Desk>,
    pub(super) limits: Limits,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.desk.closing.cancel();
    }
}
