//! The thread that owns the file: it answers requests, and tells the watchers.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::bell::Listener;
use super::database::{Database, Lasting};
use super::error::{Fault, classify};
use super::host::{self, Ear};
use super::job::{Job, Kind};
use super::pace::Pace;
use super::tables::Tables;
use crate::kv::{Error, ErrorKind, Fanout, Outcome};

/// How many requests may wait; further callers wait to send theirs.
pub(super) const QUEUE: usize = 1024;
/// How many requests share one commit, and so one sync of the disk.
const BATCH: usize = 64;
/// How many changes are read at once.
const PAGE: usize = 256;
/// How often listeners look by themselves: a writer may die between its commit and the ring.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often they look at first, and for how long until they get an ear, which is costly to get rid of: most locks are
/// not held, and so watched, that long.
const LOOK_AT_FIRST: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(16));

/// What the thread works on, and ends with when all who could send jobs are gone.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) database: Database,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) pace: Arc<Pace>,
    pub(super) fanout: Arc<Fanout>,
    pub(super) path: Arc<Path>,
    pub(super) listening: Option<Listening>,
    /// Empty until it is worth while, and then for as long as the thread; `None` if the host has none to give.
    pub(super) ear: OnceCell<Option<Ear>>,
}

/// Set while anybody watches.
#[derive(Debug)]
pub(super) struct Listening {
    _listener: Listener,
    since: i64,
    seen: i64,
    next_deadline: Option<i64>,
}

impl Engine {
    /// Works until there is nobody left to work for.
    pub(super) fn run(mut self) {
        let _farewell = Farewell(Arc::clone(&self.fanout), Arc::clone(&self.path));
        // Whoever has opened it has something to ask.
        self.pace.linger(|| self.is_idle());
        loop {
            let (batch, open) = self.batch();
            if batch.is_empty() && !open {
                return self.database.close();
            }
            let (some, all) = (!batch.is_empty(), batch.len() < BATCH);
            self.serve(batch);
            self.tell();
            if all && open {
                if some {
                    self.pace.linger(|| self.is_idle());
                }
                self.wait();
            }
        }
    }

    /// Whether nobody asks for anything, not even for the end.
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && !self.jobs.is_closed()
    }

    /// What waits now, and whether more can come.
    fn batch(&mut self) -> (Vec<Job>, bool) {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            match self.jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return (batch, false),
            }
        }
        (batch, true)
    }

    /// Requests that wait at the same time were made at the same time, so any order will do: who only looks need
    /// not wait for the disk.
    fn serve(&mut self, batch: Vec<Job>) {
        let (mut writes, mut reads): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|job| matches!(job.kind, Kind::Write | Kind::Session));
        let begun = host::now();
        if !reads.is_empty() {
            let heard = if reads.iter().any(|job| job.kind == Kind::Watch) { self.listen() } else { Ok(()) };
            let end = heard.and_then(|()| {
                self.database.read(|tables| reads.iter_mut().try_for_each(|job| job.run(tables)))
            });
            self.answer(reads, begun, end);
        }
        if !writes.is_empty() {
            let lasting = lasting(writes.iter().map(|job| job.kind));
            let work = |tables: &Tables<'_>| writes.iter_mut().try_for_each(|job| job.run(tables));
            let (end, written) = self
                .database
                .write(lasting, work)
                .map_or_else(|fault| (Err(fault), None), |((), written)| (Ok(()), Some(written)));
            self.answer(writes, begun, end);
            drop(written);
        }
    }

    fn answer(&self, jobs: Vec<Job>, begun: i64, end: Result<(), Fault>) {
        let end = end.map_err(|fault| self.told(fault));
        let took = host::now().saturating_sub(begun);
        for job in jobs {
            self.pace.took(job.kind, took);
            job.answer(end.clone());
        }
    }

    /// Starts to listen before the first snapshot is taken.
    fn listen(&mut self) -> Result<(), Fault> {
        if self.listening.is_none() {
            let (listener, seen) = self.database.listen()?;
            let since = host::now();
            self.listening = Some(Listening { _listener: listener, since, seen, next_deadline: None });
        }
        Ok(())
    }

    /// Tells the watchers what changed, whoever changed it.
    fn tell(&mut self) {
        if self.fanout.is_idle() {
            self.listening = None;
        }
        if let Some(mut listening) = self.listening.take() {
            match listening.tell(&self.database, &self.fanout) {
                Ok(()) => self.listening = Some(listening),
                // They take a snapshot next, for which listening starts anew.
                Err(fault) => self.fanout.fail(&self.told(fault).at(super::BACKEND, "watch")),
            }
        }
    }

    fn told(&self, fault: Fault) -> Error {
        classify(fault, &self.path)
    }

    /// Sleeps until there is something to do; not for long while somebody watches.
    fn wait(&self) {
        let now = host::now();
        let (ear, timeout) = match &self.listening {
            Some(listening) if self.ear.get().is_none() && listening.lasts(now) => {
                self.ear.get_or_init(|| self.database.ear());
                // It hears nothing of what came before it, so there is another look first.
                return;
            }
            Some(listening) => {
                let ear = self.ear.get();
                let pause = if ear.is_some() { LOOK_EVERY } else { LOOK_AT_FIRST.0 };
                (ear.and_then(Option::as_ref), Some(pause.min(listening.due(now))))
            }
            None => (None, None),
        };
        if let Err(error) = self.pace.sleep(|| self.is_idle(), ear, timeout) {
            tracing::error!(backend = super::BACKEND, %error, "the host cannot wait");
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
}

/// What is committed together lasts as long as the part that must last longest.
fn lasting(mut kinds: impl Iterator<Item = Kind>) -> Lasting {
    if kinds.all(|kind| kind == Kind::Session) { Lasting::ThisBoot } else { Lasting::Always }
}

/// Should the thread die, those who watch must not wait in silence. When it ends as it should, there are none.
struct Farewell(Arc<Fanout>, Arc<Path>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.fail(&died(&self.1, Outcome::NotApplied).at(super::BACKEND, "watch"));
    }
}

/// What is told once the thread is gone, though somebody still asks.
pub(super) fn died(path: &Path, outcome: Outcome) -> Error {
    let message = format!("{}: the thread that owned the file has died; open it anew", path.display());
    Error::new(ErrorKind::Internal, outcome, message)
}

impl Listening {
    /// Whether somebody has watched for so long that it is worth while to hear.
    fn lasts(&self, now: i64) -> bool {
        Duration::from_nanos(now.abs_diff(self.since)) >= LOOK_AT_FIRST.1
    }

    /// How long until a session may be over.
    fn due(&self, now: i64) -> Duration {
        let due = self.next_deadline.map(|deadline| deadline.saturating_sub(now).max(0));
        due.map_or(Duration::MAX, |due| Duration::from_nanos(due.unsigned_abs()))
    }

    fn tell(&mut self, database: &Database, fanout: &Fanout) -> Result<(), Fault> {
        loop {
            let seen = self.seen;
            let (changes, revision, next_deadline) = database.read(|tables| {
                Ok((tables.changes(seen, PAGE)?, tables.revision()?, tables.next_deadline()?))
            })?;
            self.next_deadline = next_deadline;
            let full = changes.len() == PAGE;
            // Revisions have no gaps, unless the log was trimmed past what was seen last.
            if changes.first().is_some_and(|first| first.revision != seen + 1) {
                self.seen = revision;
                fanout.resync();
                return Ok(());
            }
            for change in changes {
                self.seen = change.revision;
                if let Some(event) = change.event {
                    fanout.publish(change.revision.unsigned_abs(), &event);
                }
            }
            if !full {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_lasts_as_long_as_any_part_of_it_must() {
        assert_eq!(lasting([Kind::Session, Kind::Session].into_iter()), Lasting::ThisBoot);
        assert_eq!(lasting([Kind::Session, Kind::Write].into_iter()), Lasting::Always);
    }
}
