//! What a session's task takes over from others.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::kv::{Clock, Instant};

pub(crate) type Job = BoxFuture<'static, ()>;

/// How long what is patient waits at most until it is begun.
pub(super) const MOMENT: Duration = Duration::from_millis(10);

/// Jobs on their way to the task.
///
/// Waking the task, which may sleep on a thread of its own, can cost more than what the job is about. So what is patient
/// wakes it only to have it look again a moment later, and as long as more comes, it looks by itself.
pub(super) struct Adoption {
    /// `None` once the task has ended.
    jobs: Mutex<Option<Jobs>>,
    rung: Notify,
}

#[derive(Default)]
struct Jobs {
    urgent: Vec<Job>,
    patient: Vec<Job>,
    /// When the task looks for what is patient; `None` while it would have to be told to.
    look: Option<Instant>,
}

impl Adoption {
    pub(super) fn new() -> Self {
        Self { jobs: Mutex::new(Some(Jobs::default())), rung: Notify::new() }
    }

    /// Has the task begin it at once.
    pub(super) fn add(&self, job: Job) {
        if let Some(jobs) = &mut *self.jobs() {
            jobs.urgent.push(job);
        }
        self.rung.notify_one();
    }

    /// Has the task begin it within a moment.
    pub(super) fn add_patient(&self, job: Job, now: Instant) {
        let mut unlooked = false;
        if let Some(jobs) = &mut *self.jobs() {
            jobs.patient.push(job);
            unlooked = jobs.look.is_none();
            jobs.look.get_or_insert(now + MOMENT);
        }
        if unlooked {
            self.rung.notify_one();
        }
    }

    /// For the task: completes with what is to be begun now, once there is something. Cancel-safe.
    pub(super) async fn due(&self, clock: &dyn Clock) -> Vec<Job> {
        loop {
            let (due, look) = self.take(clock.now());
            if !due.is_empty() {
                return due;
            }
            let Some(look) = look else {
                self.rung.notified().await;
                continue;
            };
            tokio::select! {
                biased;
                () = self.rung.notified() => {}
                () = clock.sleep_until(look) => {}
            }
        }
    }

    fn take(&self, now: Instant) -> (Vec<Job>, Option<Instant>) {
        let mut jobs = self.jobs();
        let Some(jobs) = jobs.as_mut() else {
            return (Vec::new(), None);
        };
        let mut due = std::mem::take(&mut jobs.urgent);
        if jobs.look.is_some_and(|look| look <= now) {
            // A moment in which nothing came is the end of looking: who comes next tells the task again.
            jobs.look = (!jobs.patient.is_empty()).then_some(now + MOMENT);
            due.append(&mut jobs.patient);
        }
        (due, jobs.look)
    }

    /// Drops what has not begun, and what comes from now on.
    pub(super) fn end(&self) {
        // Not under the lock: a job that is dropped may hand over another.
        let left = self.jobs().take();
        drop(left);
    }

    fn jobs(&self) -> MutexGuard<'_, Option<Jobs>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
