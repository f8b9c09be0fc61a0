//! The watch of what is below a prefix: one of the server's that stands for all of it. It is set in front of the snapshot on
//! the same connection, so nothing falls between the two. It does not survive the connection (nor would the changes:
//! <https://issues.apache.org/jira/browse/ZOOKEEPER-4698>), and is set anew on the next, with a fresh snapshot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use zookeeper_client::{AddWatchMode, Client, EventType, PersistentWatcher, SessionState};

use super::super::BACKEND;
use super::super::connection::Kind;
use super::super::ensemble::Ensemble;
use super::super::host::Running;
use super::super::keys::{self, Is};
use super::super::reads::{self, Behind};
use super::PAUSE;
use crate::kv::{Event, Key, Result, Version};

/// How many keys that changed wait for a slow watcher, before it is given a fresh snapshot instead.
const MAILBOX: usize = 1024;

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
    prefix: Key,
    listening: Option<(Arc<Mailbox>, Running<()>)>,
    /// What stands, as far as it was told, by what comes after the prefix, which all have in common. A version says which
    /// node it is, too.
    view: BTreeMap<Key, Version>,
    waiting: VecDeque<Event>,
    disturbed: bool,
    over: bool,
}

impl Watching {
    pub(super) fn new(ensemble: Arc<Ensemble>, prefix: Key) -> Self {
        Self {
            ensemble,
            prefix,
            listening: None,
            view: BTreeMap::new(),
            waiting: VecDeque::new(),
            disturbed: false,
            over: false,
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
                return Some((Err(error.at(BACKEND, "watch").on(&self.prefix)), self));
            }
        }
    }

    /// Takes a snapshot, with the watch set in front of it.
    async fn look(&mut self) -> Result<()> {
        if self.disturbed {
            tokio::time::sleep(PAUSE).await;
        }
        let watcher = self.ensemble.call(Kind::Repeatable, "watch", |client: Arc<Client>| {
            let path = keys::directory(&self.prefix);
            async move { client.watch(&path, AddWatchMode::PersistentRecursive).await }
        });
        let watcher = watcher.await?;
        let mailbox = Arc::new(Mailbox::default());
        let listening = listen(watcher, Arc::clone(&mailbox), self.prefix.clone());
        let listening = self.ensemble.host.run(listening);
        // Only now may the one before go: the server forgets all watches of a path together.
        self.listening = Some((mailbox, listening));
        // A majority need not be asked: a server without one loses its clients soon, and then there is another look.
        let entries = reads::below(&self.ensemble, "watch", &self.prefix, Behind::Leader).await?;
        self.view = entries.iter().map(|entry| (self.name(&entry.key), entry.version)).collect();
        self.disturbed = false;
        self.waiting.push_back(Event::Snapshot(entries));
        Ok(())
    }

    /// Looks at what was put. The server that told has seen the change, so its word is good enough.
    async fn hear(&mut self, changed: BTreeMap<Key, Change>) -> Result<()> {
        let (put, deleted): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|(_, change)| *change == Change::Put);
        let keys: Vec<_> = put.into_iter().map(|(key, _)| key).collect();
        let found = reads::entries(&self.ensemble, "watch", &keys, Behind::Nothing).await?;
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
        key.strip(&self.prefix).unwrap_or_else(|| key.clone())
    }
}

/// Takes down what the server tells, as fast as it does.
async fn listen(mut watcher: PersistentWatcher, mailbox: Arc<Mailbox>, prefix: Key) {
    let _over = Over(Arc::clone(&mailbox));
    loop {
        let event = watcher.changed().await;
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
            && prefix.covers(&key)
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
    use super::super::super::host::Host;
    use super::*;

    #[tokio::test]
    async fn who_listens_and_panics_has_the_watch_look_anew() {
        let (host, mailbox) = (Host::default(), Arc::<Mailbox>::default());
        let over = Over(Arc::clone(&mailbox));
        let _listening = host.run(async move {
            let _over = over;
            assert!(std::hint::black_box(false), "as the client does");
        });
        let told = tokio::time::timeout(std::time::Duration::from_secs(10), mailbox.told()).await;
        assert!(told.expect("it is told").broken);
    }
}
