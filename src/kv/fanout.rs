//! For backends: tells many watchers of changes, with bounded memory.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Error, ErrorKind, Event, Key, Scope};

/// How many changes wait for a slow watcher before it is given a fresh snapshot instead.
const MAILBOX: usize = 1024;

/// Hands each change to the watchers whose scope covers it. A watcher that does not keep up loses the changes and
/// is told to take a fresh snapshot.
#[derive(Default)]
pub struct Fanout {
    boxes: Mutex<BTreeMap<Scope, Vec<Arc<Mailbox>>>>,
}

#[derive(Default)]
struct Mailbox {
    inner: Mutex<Waiting>,
    notify: Notify,
}

#[derive(Default)]
struct Waiting {
    changes: VecDeque<(u64, Event)>,
    failed: Option<Error>,
    resync: bool,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// Take a snapshot, and say at which revision with [`Subscription::taken`].
    Resync,
    /// A change after that revision.
    Change(Event),
    /// The watch was disturbed; what follows is a [`Resync`](Signal::Resync).
    Failed(ErrorSignal),
}

/// The error of a disturbed watch; two are never equal.
#[derive(Clone, Debug)]
pub struct ErrorSignal(pub Error);

impl PartialEq for ErrorSignal {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Fanout {
    /// A fanout that nobody listens to yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Listens to `scope`; the first signal is a [`Signal::Resync`].
    pub fn subscribe(self: &Arc<Self>, scope: Scope) -> Subscription {
        let mailbox = Arc::new(Mailbox::default());
        lock(&mailbox.inner).resync = true;
        lock(&self.boxes).entry(scope.clone()).or_default().push(Arc::clone(&mailbox));
        Subscription { fanout: Arc::clone(self), scope, mailbox, since: 0 }
    }

    /// Tells of an entry that was put or deleted by the change of this revision.
    pub fn publish(&self, revision: u64, event: &Event) {
        let key = match event {
            Event::Put(entry) => &entry.key,
            Event::Delete(key) => key,
            Event::Snapshot(_) => return self.resync(),
        };
        let boxes = lock(&self.boxes);
        if boxes.is_empty() {
            return;
        }
        for scope in scopes(key) {
            for mailbox in boxes.get(&scope).into_iter().flatten() {
                mailbox.push(revision, event);
            }
        }
    }

    /// Tells everybody to take a fresh snapshot.
    pub fn resync(&self) {
        self.each(|waiting| {
            waiting.changes.clear();
            waiting.resync = true;
        });
    }

    /// Tells everybody that the watch was disturbed, and to take a fresh snapshot.
    pub fn fail(&self, error: &Error) {
        self.each(|waiting| {
            // That the store lost data must be heard, whatever went wrong after it.
            let untold = waiting.failed.take().filter(|untold| untold.kind() == ErrorKind::FenceRegression);
            waiting.failed = Some(untold.unwrap_or_else(|| error.clone()));
            waiting.changes.clear();
            waiting.resync = true;
        });
    }

    /// Whether nobody listens.
    pub fn is_idle(&self) -> bool {
        lock(&self.boxes).is_empty()
    }

    fn each(&self, change: impl Fn(&mut Waiting)) {
        for mailbox in lock(&self.boxes).values().flatten() {
            change(&mut lock(&mailbox.inner));
            mailbox.notify.notify_one();
        }
    }
}

/// Every scope that covers `key`.
fn scopes(key: &Key) -> impl Iterator<Item = Scope> {
    let prefixes = std::iter::successors(key.parent(), Key::parent);
    let key = key.clone();
    let covering = prefixes.filter({
        let key = key.clone();
        move |prefix| prefix.covers(&key)
    });
    std::iter::once(Scope::Key(key)).chain(covering.map(Scope::Prefix))
}

impl Mailbox {
    fn push(&self, revision: u64, event: &Event) {
        let mut waiting = lock(&self.inner);
        if waiting.changes.len() >= MAILBOX {
            waiting.changes.clear();
            waiting.resync = true;
        } else {
            waiting.changes.push_back((revision, event.clone()));
        }
        drop(waiting);
        self.notify.notify_one();
    }
}

/// One watcher's end. Dropping it ends the subscription.
pub struct Subscription {
    fanout: Arc<Fanout>,
    scope: Scope,
    mailbox: Arc<Mailbox>,
    since: u64,
}

impl Subscription {
    /// What it listens to.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Says that a snapshot of this revision was taken: changes up to it are not told again.
    pub fn taken(&mut self, revision: u64) {
        self.since = revision;
    }

    /// The next signal. Cancel-safe: a signal is lost only with the whole subscription.
    pub async fn next(&mut self) -> Signal {
        loop {
            let notified = self.mailbox.notify.notified();
            if let Some(signal) = self.take() {
                return signal;
            }
            notified.await;
        }
    }

    fn take(&self) -> Option<Signal> {
        let mut waiting = lock(&self.mailbox.inner);
        if let Some(error) = waiting.failed.take() {
            return Some(Signal::Failed(ErrorSignal(error)));
        }
        if std::mem::take(&mut waiting.resync) {
            waiting.changes.clear();
            return Some(Signal::Resync);
        }
        while let Some((revision, event)) = waiting.changes.pop_front() {
            if revision > self.since {
                return Some(Signal::Change(event));
            }
        }
        None
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut boxes = lock(&self.fanout.boxes);
        if let Some(listening) = boxes.get_mut(&self.scope) {
            listening.retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
            if listening.is_empty() {
                boxes.remove(&self.scope);
            }
        }
    }
}

impl fmt::Debug for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanout").field("scopes", &lock(&self.boxes).len()).finish()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("scope", &self.scope)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Outcome;

    fn delete(key: &str) -> Event {
        Event::Delete(Key::decode(key).unwrap())
    }

    #[tokio::test]
    async fn tells_changes_after_the_snapshot_to_those_they_concern() {
        let fanout = Fanout::new();
        let mut below = fanout.subscribe(Scope::Prefix(Key::new("a").unwrap()));
        let mut exact = fanout.subscribe(Scope::Key(Key::new("a").unwrap()));
        fanout.publish(1, &delete("a/b"));
        assert_eq!(below.next().await, Signal::Resync);
        below.taken(2);
        assert_eq!(exact.next().await, Signal::Resync);
        for (revision, key) in [(2, "a/b"), (3, "a"), (4, "a/_quorate/x"), (5, "a/c/d")] {
            fanout.publish(revision, &delete(key));
        }
        assert_eq!(below.next().await, Signal::Change(delete("a/c/d")));
        assert_eq!(exact.next().await, Signal::Change(delete("a")));
        drop((below, exact));
        assert!(fanout.is_idle());
    }

    #[tokio::test]
    async fn that_data_was_lost_is_told_whatever_else_went_wrong() {
        let (lost, away) = (ErrorKind::FenceRegression, ErrorKind::Unavailable);
        for (kinds, told) in [([away, lost], lost), ([lost, away], lost), ([away, away], away)] {
            let fanout = Fanout::new();
            let mut watcher = fanout.subscribe(Scope::Prefix(Key::root()));
            for kind in kinds {
                fanout.fail(&Error::new(kind, Outcome::NotApplied, "as a test"));
            }
            assert!(matches!(watcher.next().await, Signal::Failed(error) if error.0.kind() == told));
            assert_eq!(watcher.next().await, Signal::Resync);
        }
    }

    #[tokio::test]
    async fn a_slow_watcher_gets_a_snapshot_instead() {
        let fanout = Fanout::new();
        let mut slow = fanout.subscribe(Scope::Prefix(Key::root()));
        assert_eq!(slow.next().await, Signal::Resync);
        for revision in 1..=2 * MAILBOX as u64 {
            fanout.publish(revision, &delete("a"));
        }
        assert_eq!(slow.next().await, Signal::Resync);
    }
}
