//! The watch of one key. What stands there is read and its next change asked for in one request, so nothing falls between
//! the two, and who only waits for its end asks no more: what the server has told it watches no longer.
//!
//! A connection that broke brings such a watch along to the next server, with what was missed; still it is not believed, and
//! there is a fresh snapshot.

use std::sync::Arc;

use tokio::task::yield_now;
use zookeeper_client::{Client, Error as Zk, EventType, OneshotWatcher, SessionState, StateWatcher};

use super::super::BACKEND;
use super::super::connection::Kind;
use super::super::ensemble::Ensemble;
use super::super::host::Running;
use super::super::keys;
use super::super::reads::{Behind, Found};
use super::PAUSE;
use crate::kv::{Entry, Event, Key, Result, Version};

/// The state of one watch, between two events.
pub(super) struct Watching {
    ensemble: Arc<Ensemble>,
    key: Key,
    node: String,
    next: Next,
    /// What stands, as far as it was told. A version says which node it is, too.
    seen: Option<Version>,
    disturbed: bool,
    over: bool,
}

/// What is to be done for the next event.
enum Next {
    /// Take a snapshot.
    Look,
    /// See what has become of it, on the connection that has told of a change: it may be older on another.
    Read(Arc<Client>),
    /// Wait until that connection tells of one.
    Wait(Arc<Client>, Running<Told>),
}

/// What the server told, once.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// It was made or written.
    Put,
    Deleted,
    /// Something may have been missed.
    Broken,
}

impl Watching {
    pub(super) fn new(ensemble: Arc<Ensemble>, key: Key) -> Self {
        let node = keys::node(&key);
        Self { ensemble, key, node, next: Next::Look, seen: None, disturbed: false, over: false }
    }

    /// The next event. Dropped at its await, it is dropped with the whole stream.
    pub(super) async fn step(mut self) -> Option<(Result<Event>, Self)> {
        if self.over {
            return None;
        }
        let told = self.event().await.map_err(|error| {
            self.disturbed = true;
            self.over = !error.is_transient();
            error.at(BACKEND, "watch").on(&self.key)
        });
        Some((told, self))
    }

    async fn event(&mut self) -> Result<Event> {
        loop {
            match std::mem::replace(&mut self.next, Next::Look) {
                Next::Look => return self.look().await,
                Next::Read(client) => {
                    if let Some(event) = self.read(client).await? {
                        return Ok(event);
                    }
                }
                // Who listens and panics, as the client does when its session ends without a word, has told nothing.
                Next::Wait(client, told) => match told.done().await.unwrap_or(Told::Broken) {
                    Told::Broken => {}
                    Told::Put => self.next = Next::Read(client),
                    Told::Deleted => {
                        self.next = Next::Read(client);
                        if self.seen.take().is_some() {
                            return Ok(Event::Delete(self.key.clone()));
                        }
                    }
                },
            }
        }
    }

    /// Takes a snapshot.
    async fn look(&mut self) -> Result<Event> {
        if self.disturbed {
            tokio::time::sleep(PAUSE).await;
        }
        let (ensemble, node) = (&*self.ensemble, &*self.node);
        let looked = ensemble.call(Kind::Repeatable, "watch", |client: Arc<Client>| async move {
            // A majority need not be asked: a server without one loses its clients soon, and then there is another look.
            let flight = ensemble.together.board(&client, Behind::Leader);
            yield_now().await;
            let (_, read) = tokio::try_join!(flight, read(&client, node, false))?;
            Ok((client, read))
        });
        let (client, (found, watcher)) = looked.await?;
        self.disturbed = false;
        let entry = self.take_note(client, found, watcher);
        Ok(Event::Snapshot(entry.into_iter().collect()))
    }

    /// What was told to have changed, if it stands otherwise than was told.
    async fn read(&mut self, client: Arc<Client>) -> Result<Option<Event>> {
        let (node, before) = (&*self.node, self.seen);
        let looked = self.ensemble.call(Kind::Repeatable, "watch", |now: Arc<Client>| {
            let same = Arc::ptr_eq(&now, &client);
            async move { if same { read(&now, node, before.is_none()).await.map(Some) } else { Ok(None) } }
        });
        let Some((found, watcher)) = looked.await? else { return Ok(None) };
        let entry = self.take_note(client, found, watcher);
        Ok(match (before, entry) {
            (before, Some(entry)) => (before != Some(entry.version)).then_some(Event::Put(entry)),
            (Some(_), None) => Some(Event::Delete(self.key.clone())),
            (None, None) => None,
        })
    }

    /// Waits for the next change, from what was found on.
    fn take_note(&mut self, client: Arc<Client>, found: Found, watcher: OneshotWatcher) -> Option<Entry> {
        let told = self.ensemble.host.run(listen(watcher, client.state_watcher()));
        self.next = Next::Wait(client, told);
        // The root is no key.
        let found = found.filter(|_| !self.key.is_root());
        let entry = found.map(|(value, stat)| keys::entry(self.key.clone(), value, &stat));
        self.seen = entry.as_ref().map(|entry| entry.version);
        entry
    }
}

/// What stands at a node, and the word to tell of its next change: one request, or two where nothing stands, of which the
/// first is spared if that is `expected`.
async fn read(client: &Client, node: &str, expected: bool) -> Result<(Found, OneshotWatcher), Zk> {
    let mut absent = expected;
    // Kept until another watches in its place, or the server would be told to forget it.
    let mut kept = None;
    loop {
        if !absent {
            match client.get_and_watch_data(node).await {
                Ok((value, stat, watcher)) => return Ok((Some((value.into(), stat)), watcher)),
                Err(Zk::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
        let (stat, watcher) = client.check_and_watch_stat(node).await?;
        absent = stat.is_none();
        if absent {
            return Ok((None, watcher));
        }
        kept.replace(watcher);
    }
}

async fn listen(watcher: OneshotWatcher, states: StateWatcher) -> Told {
    tokio::select! {
        biased;
        event = watcher.changed() => match event.event_type {
            EventType::NodeDeleted => Told::Deleted,
            EventType::Session => Told::Broken,
            _ => Told::Put,
        },
        () = broken(states) => Told::Broken,
    }
}

/// Waits until the connection is not what it was.
async fn broken(mut states: StateWatcher) {
    let mut state = states.state();
    while state == SessionState::SyncConnected {
        state = states.changed().await;
    }
}
