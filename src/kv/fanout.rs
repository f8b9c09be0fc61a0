//! For backends: tells many watchers of changes, with bounded memory.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Entry, Error, ErrorKind, Event, Key, Scope, Version};

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
    told: VecDeque<(u64, Told)>,
    failed: Option<Error>,
    resync: bool,
    /// Whether it is told of changes by now.
    begun: bool,
    /// Whether it was told why it is not.
    excused: bool,
}

/// What is told of a revision.
#[derive(Clone)]
enum Told {
    Change(Event),
    /// This stood there, which is no change.
    Stands(Option<Version>),
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
        let subscription = self.subscribe_later(scope);
        subscription.mailbox.begin();
        subscription
    }

    /// Listens to `scope` once changes of it are heard, as [`begin`](Self::begin) says. Until then it is told what fails, and
    /// nothing else.
    pub fn subscribe_later(self: &Arc<Self>, scope: Scope) -> Subscription {
        let mailbox = Arc::new(Mailbox::default());
        lock(&self.boxes).entry(scope.clone()).or_default().push(Arc::clone(&mailbox));
        Subscription { fanout: Arc::clone(self), scope, mailbox, since: 0, known: Known::default() }
    }

    /// Changes of `scope` are heard from now on: those who waited for that are told to take their first snapshot.
    pub fn begin(&self, scope: &Scope) {
        for mailbox in lock(&self.boxes).get(scope).into_iter().flatten() {
            mailbox.begin();
        }
    }

    /// Tells those who watch just `key` that this version stood there at that revision, or nothing, which is no change. Whoever
    /// was told otherwise missed something, and is told to take a fresh snapshot.
    pub fn confirm(&self, revision: u64, key: &Key, stands: Option<Version>) {
        for mailbox in lock(&self.boxes).get(&Scope::Key(key.clone())).into_iter().flatten() {
            mailbox.push(revision, Told::Stands(stands));
        }
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
                mailbox.push(revision, Told::Change(event.clone()));
            }
        }
    }

    /// Tells everybody to take a fresh snapshot.
    pub fn resync(&self) {
        self.each(|waiting| {
            waiting.told.clear();
            (waiting.begun, waiting.resync) = (true, true);
        });
    }

    /// Tells everybody that the watch was disturbed, and to take a fresh snapshot.
    pub fn fail(&self, error: &Error) {
        self.each(|waiting| {
            // That the store lost data must be heard, whatever went wrong after it.
            let untold = waiting.failed.take().filter(|untold| untold.kind() == ErrorKind::FenceRegression);
            waiting.failed = Some(untold.unwrap_or_else(|| error.clone()));
            waiting.told.clear();
            (waiting.resync, waiting.excused) = (waiting.begun, true);
        });
    }

    /// Tells those who wait to begin what keeps them from it, unless they were told before.
    pub fn excuse(&self, error: &Error) {
        self.each(|waiting| {
            if !waiting.begun && !std::mem::replace(&mut waiting.excused, true) {
                waiting.failed = Some(error.clone());
            }
        });
    }

    /// Whether nobody listens.
    pub fn is_idle(&self) -> bool {
        lock(&self.boxes).is_empty()
    }

    /// Whether somebody listens to just this.
    pub fn has(&self, scope: &Scope) -> bool {
        lock(&self.boxes).contains_key(scope)
    }

    /// All that somebody listens to, in order.
    pub fn scopes(&self) -> Vec<Scope> {
        lock(&self.boxes).keys().cloned().collect()
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
    fn begin(&self) {
        let mut waiting = lock(&self.inner);
        if !std::mem::replace(&mut waiting.begun, true) {
            waiting.resync = true;
            self.notify.notify_one();
        }
    }

    fn push(&self, revision: u64, told: Told) {
        let mut waiting = lock(&self.inner);
        if !waiting.begun {
            return;
        }
        if matches!((waiting.told.back(), &told), (Some((_, Told::Stands(_))), Told::Stands(_))) {
            waiting.told.pop_back();
        }
        if waiting.told.len() >= MAILBOX {
            waiting.told.clear();
            waiting.resync = true;
        } else {
            waiting.told.push_back((revision, told));
        }
        drop(waiting);
        self.notify.notify_one();
    }
}

impl Waiting {
    /// The next signal to a watcher that knows all up to a revision, and this of its key.
    fn take(&mut self, since: u64, known: &mut Known) -> Option<Signal> {
        if let Some(error) = self.failed.take() {
            return Some(Signal::Failed(ErrorSignal(error)));
        }
        if std::mem::take(&mut self.resync) {
            self.told.clear();
            return Some(Signal::Resync);
        }
        while let Some((revision, told)) = self.told.pop_front() {
            match told {
                // At the same revision nothing else can stand there, unless somebody removed it behind the store's back. What was
                // seen before the last change may be told after it.
                Told::Stands(stands) if stands == known.version || revision < known.revision => {}
                Told::Stands(_) => return Some(Signal::Resync),
                Told::Change(_) if revision <= since => {}
                Told::Change(event) => {
                    let version = match &event {
                        Event::Put(entry) => Some(entry.version),
                        _ => None,
                    };
                    *known = Known { revision, version };
                    return Some(Signal::Change(event));
                }
            }
        }
        None
    }
}

/// What a watcher knows of its key, if it listens to just one: the version that stood there at a revision.
#[derive(Clone, Copy, Default)]
struct Known {
    revision: u64,
    version: Option<Version>,
}

/// One watcher's end. Dropping it ends the subscription.
pub struct Subscription {
    fanout: Arc<Fanout>,
    scope: Scope,
    mailbox: Arc<Mailbox>,
    since: u64,
    known: Known,
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
        self.known.revision = revision;
    }

    /// As [`taken`](Self::taken), and says what it held, which [`Fanout::confirm`] is compared with.
    pub fn taken_with(&mut self, revision: u64, entries: &[Entry]) {
        self.taken(revision);
        self.known.version = entries.first().map(|entry| entry.version);
    }

    /// What disturbed it meanwhile, and is told so; what follows is a [`Signal::Resync`]. A snapshot that was taken meanwhile is not
    /// to be shown then.
    pub fn failed(&mut self) -> Option<Error> {
        lock(&self.mailbox.inner).failed.take()
    }

    /// The next signal. Cancel-safe: a signal is lost only with the whole subscription.
    pub async fn next(&mut self) -> Signal {
        loop {
            let notified = self.mailbox.notify.notified();
            if let Some(signal) = lock(&self.mailbox.inner).take(self.since, &mut self.known) {
                return signal;
            }
            notified.await;
        }
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
    use futures_util::FutureExt as _;

    use super::*;
    use crate::kv::{Fence, Outcome};

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
    async fn what_failed_while_a_snapshot_was_taken_is_told_instead_of_it() {
        let fanout = Fanout::new();
        let mut watcher = fanout.subscribe(Scope::Prefix(Key::root()));
        assert_eq!(watcher.next().await, Signal::Resync);
        assert!(watcher.failed().is_none());
        fanout.fail(&Error::new(ErrorKind::FenceRegression, Outcome::NotApplied, "as a test"));
        assert!(matches!(watcher.failed(), Some(error) if error.kind() == ErrorKind::FenceRegression));
        assert!(watcher.failed().is_none());
        assert_eq!(watcher.next().await, Signal::Resync);
    }

    #[tokio::test]
    async fn who_begins_later_is_told_nothing_before_but_what_fails() {
        let (fanout, scope) = (Fanout::new(), Scope::Key(Key::new("a").unwrap()));
        let mut watcher = fanout.subscribe_later(scope.clone());
        fanout.publish(1, &delete("a"));
        assert!(watcher.next().now_or_never().is_none());
        fanout.fail(&Error::new(ErrorKind::Unavailable, Outcome::NotApplied, "as a test"));
        assert!(matches!(watcher.next().await, Signal::Failed(_)));
        let mut late = fanout.subscribe_later(scope.clone());
        for _ in 0..2 {
            fanout.excuse(&Error::new(ErrorKind::Unavailable, Outcome::NotApplied, "as a test"));
        }
        assert!(matches!(late.next().await, Signal::Failed(_)));
        for watcher in [&mut watcher, &mut late] {
            assert!(watcher.next().now_or_never().is_none());
        }
        // Twice is once.
        for _ in 0..2 {
            fanout.begin(&scope);
        }
        assert_eq!(watcher.next().await, Signal::Resync);
        fanout.publish(2, &delete("a"));
        assert_eq!(watcher.next().await, Signal::Change(delete("a")));
        assert!(watcher.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_missed_something_takes_a_fresh_snapshot() {
        let (fanout, key) = (Fanout::new(), Key::new("a").unwrap());
        let entry = |version: u128| {
            let (fence, version) = (Fence::new(3), Version::new(version));
            Entry { key: key.clone(), value: "".into(), version, fence, session: None }
        };
        let mut watcher = fanout.subscribe(Scope::Key(key.clone()));
        assert_eq!(watcher.next().await, Signal::Resync);
        watcher.taken_with(4, &[entry(3)]);
        let mut revision = 4;
        let mut stands = |version: Option<u128>| {
            revision += 1;
            fanout.confirm(revision, &key, version.map(Version::new));
        };
        // What was so before the snapshot says nothing.
        fanout.confirm(3, &key, None);
        stands(Some(3));
        assert!(watcher.next().now_or_never().is_none());
        fanout.publish(5, &Event::Put(entry(5)));
        assert!(matches!(watcher.next().await, Signal::Change(_)));
        // Nor does what was so before a change and is told after it.
        fanout.confirm(4, &key, Some(Version::new(3)));
        assert!(watcher.next().now_or_never().is_none());
        stands(Some(5));
        assert!(watcher.next().now_or_never().is_none());
        stands(Some(6));
        assert_eq!(watcher.next().await, Signal::Resync);
        watcher.taken_with(20, &[]);
        for stands in [None, Some(Version::new(21))] {
            fanout.confirm(21, &key, stands);
            let signal = watcher.next().now_or_never();
            assert_eq!(signal, stands.map(|_| Signal::Resync));
        }
        // However long nobody asks.
        watcher.taken_with(21, &[entry(21)]);
        for revision in 22..22 + 2 * MAILBOX as u64 {
            fanout.confirm(revision, &key, Some(Version::new(21)));
        }
        assert!(watcher.next().now_or_never().is_none());
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
