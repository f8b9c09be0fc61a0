//! One watch: a snapshot, then a look at whatever the server says has changed.
//!
//! The server tells which nodes changed and not how, so values that are soon overwritten may be left out. The server's
//! watch is set in front of the snapshot on the same connection, so nothing falls between the two. It does not survive
//! the connection (nor would the changes: <https://issues.apache.org/jira/browse/ZOOKEEPER-4698>), and is set anew on
//! the next, with a fresh snapshot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_io::Timer;
use tokio::sync::Notify;
use zookeeper_client::{AddWatchMode, Client, EventType, PersistentWatcher, SessionState};

use super::BACKEND;
use super::connection::Kind;
use super::ensemble::Ensemble;
use super::host::Running;
use super::keys::{self, Is};
use super::reads::{self, Behind};
use crate::kv::{Event, Key, Result, Scope, Version};

/// How many keys that changed wait for a slow watcher, before it is given a fresh snapshot instead.
const MAILBOX: usize = 1024;

/// How long a disturbed watch waits before it looks again.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the server goes on watching a key that was deleted when nobody wants to know any more. Who waited for that has
/// something to ask now, which would wait for the answer to this.
const LINGER: Duration = Duration::from_millis(20);

/// What became of a node last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It was made or written.
    Put,
    Deleted,
}

/// What the server has told and the watcher not yet looked at.
#[derive(Default)]
struct Mailbox {
    told: Mutex<Told>,
    notify: Notify,
    /// Nobody will look at it any more.
    closed: Notify,
}

#[derive(Default)]
struct Told {
    changed: BTreeMap<Key, Change>,
    /// Something may have been missed.
    broken: bool,
}

impl Mailbox {
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify.notify_one();
    }

    /// What was told since the last time; waits for it. Cancel-safe.
    async fn told(&self) -> Told {
        loop {
            let notified = self.notify.notified();
            let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
            if told.broken || !told.changed.is_empty() {
                return told;
            }
            notified.await;
        }
    }
}

/// The state of one watch, between two events.
pub(super) struct Watching {
    ensemble: Arc<Ensemble>,
    scope: Scope,
    /// What the server is asked to watch, and whether with all below it.
    path: String,
    mode: AddWatchMode,
    listening: Option<(Arc<Mailbox>, Running<()>)>,
    /// What stands, as far as it was told, by what comes after the scope's own key, which all have in common. A version
    /// says which node it is, too.
    view: BTreeMap<Key, Version>,
    waiting: VecDeque<Event>,
    disturbed: bool,
    over: bool,
    /// The one key that is watched was deleted last.
    deleted: bool,
}

impl Watching {
    pub(super) fn new(ensemble: Arc<Ensemble>, scope: Scope) -> Self {
        let (path, mode) = match &scope {
            Scope::Key(key) => (keys::node(key), AddWatchMode::Persistent),
            Scope::Prefix(prefix) => (keys::directory(prefix), AddWatchMode::PersistentRecursive),
        };
        Self {
            ensemble,
            scope,
            path,
            mode,
            listening: None,
            view: BTreeMap::new(),
            waiting: VecDeque::new(),
            disturbed: false,
            over: false,
            deleted: false,
        }
    }

    /// The next event. Dropped at its await, it is dropped with the whole stream.
    pub(super) async fn step(mut self) -> Option<(Result<Event>, Self)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some((Ok(event), self));
            }
            if self.over {
                return None;
            }
            let told = match &self.listening {
                Some((mailbox, _)) => {
                    let told = mailbox.told().await;
                    if told.broken { self.look().await } else { self.hear(told.changed).await }
                }
                None => self.look().await,
            };
            if let Err(error) = told {
                self.listening = None;
                self.disturbed = true;
                self.over = !error.is_transient();
                return Some((Err(error.at(BACKEND, "watch").on(self.scope.key())), self));
            }
        }
    }

    /// Takes a snapshot, with the watch set in front of it.
    async fn look(&mut self) -> Result<()> {
        if self.disturbed {
            tokio::time::sleep(PAUSE).await;
        }
        let watcher = self.ensemble.call(Kind::Repeatable, "watch", |client: Arc<Client>| {
            let (path, mode) = (self.path.clone(), self.mode);
            async move { client.watch(&path, mode).await }
        });
        let watcher = watcher.await?;
        let mailbox = Arc::new(Mailbox::default());
        let listening = listen(watcher, Arc::clone(&mailbox), self.scope.clone());
        let listening = self.ensemble.host.run(listening);
        // Only now may the one before go: the server forgets all watches of a path together.
        self.listening = Some((mailbox, listening));
        // A majority need not be asked: a server without one loses its clients soon, and then there is another look.
        let entries = reads::covered(&self.ensemble, "watch", &self.scope, Behind::Leader).await?;
        self.view = entries.iter().map(|entry| (self.name(&entry.key), entry.version)).collect();
        (self.disturbed, self.deleted) = (false, false);
        self.waiting.push_back(Event::Snapshot(entries));
        Ok(())
    }

    /// Looks at what was put. The server that told has seen the change, so its word is good enough.
    async fn hear(&mut self, changed: BTreeMap<Key, Change>) -> Result<()> {
        let (put, deleted): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|(_, change)| *change == Change::Put);
        let keys: Vec<_> = put.into_iter().map(|(key, _)| key).collect();
        let found = reads::entries(&self.ensemble, "watch", &keys, Behind::Nothing).await?;
        self.deleted = keys.is_empty() && matches!(self.scope, Scope::Key(_));
        for (key, _) in deleted {
            if self.forget(&key) {
                self.waiting.push_back(Event::Delete(key));
            }
        }
        for (key, found) in keys.into_iter().zip(found) {
            match found {
                Some(entry) => {
                    if self.view.insert(self.name(&key), entry.version) != Some(entry.version) {
                        self.waiting.push_back(Event::Put(entry));
                    }
                }
                None => {
                    if self.forget(&key) {
                        self.waiting.push_back(Event::Delete(key));
                    }
                }
            }
        }
        Ok(())
    }

    /// What stands there no more, and whether it did as far as was told.
    fn forget(&mut self, key: &Key) -> bool {
        self.view.remove(&self.name(key)).is_some()
    }

    fn name(&self, key: &Key) -> Key {
        key.strip(self.scope.key()).unwrap_or_else(|| key.clone())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if self.deleted
            && let Some((mailbox, listening)) = self.listening.take()
        {
            mailbox.closed.notify_one();
            listening.left();
        }
    }
}

/// Takes down what the server tells, as fast as it does.
async fn listen(mut watcher: PersistentWatcher, mailbox: Arc<Mailbox>, scope: Scope) {
    let _over = Over(Arc::clone(&mailbox));
    loop {
        let event = tokio::select! {
            biased;
            () = mailbox.closed.notified() => {
                // Of this clock, as no runtime is meant here.
                Timer::after(LINGER).await;
                return;
            }
            event = watcher.changed() => event,
        };
        if event.event_type == EventType::Session {
            if event.session_state != SessionState::SyncConnected {
                mailbox.tell(|told| told.broken = true);
            }
            if matches!(
                event.session_state,
                SessionState::Expired | SessionState::Closed | SessionState::AuthFailed
            ) {
                // Nothing follows: the client panics when it is asked for more.
                return;
            }
        } else if let Some(Is::Entry(key)) = keys::decode(&event.path)
            && scope.covers(&key)
        {
            mailbox.tell(|told| {
                if told.changed.len() < MAILBOX {
                    let deleted = event.event_type == EventType::NodeDeleted;
                    told.changed.insert(key, if deleted { Change::Deleted } else { Change::Put });
                } else {
                    told.broken = true;
                }
            });
        }
    }
}

/// Whoever listens no more has the watch look anew, also if the client panicked: it does when its session ends without a word,
/// and the watch would wait for ever.
struct Over(Arc<Mailbox>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.tell(|told| told.broken = true);
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::Host;
    use super::*;

    #[tokio::test]
    async fn who_listens_and_panics_has_the_watch_look_anew() {
        let (host, mailbox) = (Host::default(), Arc::<Mailbox>::default());
        let over = Over(Arc::clone(&mailbox));
        let _listening = host.run(async move {
            let _over = over;
            assert!(std::hint::black_box(false), "as the client does");
        });
        let told = tokio::time::timeout(Duration::from_secs(10), mailbox.told()).await;
        assert!(told.expect("it is told").broken);
    }
}
