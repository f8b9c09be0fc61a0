//! A store in this process: the contract as code, for tests and for programs of one process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::kv::{
    Clock, Consistency, Entered, Entry, Error, ErrorKind, Event, Fanout, Fence, Grant, Instant, Key, Limits,
    Outcome, Place, PlaceRef, Put, Queue, QueueStore, Rejection, Renewal, Result, Scope, SessionId,
    SessionStore, Signal, Store, SystemClock, Ticket, Txn, Version, WatchStore, Watched, Write,
};

const BACKEND: &str = "memory";

/// A store in memory. Clones, and [clients](Self::client), are handles on the same data, which goes with the last.
///
/// It is the executable specification of the contract: everything happens at once, under one lock, and time is its
/// [`Clock`]'s, so that under tokio's paused time an election takes milliseconds. Its hooks make trouble:
/// [`end_session`](Self::end_session), [`cut_watches`](Self::cut_watches), [`freeze`](Self::freeze),
/// [`wipe`](Self::wipe).
///
/// ```
/// use quorate::backends::Memory;
/// use quorate::kv::StoreExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Memory::new();
/// store.put("greeting", "hello").await?;
/// assert_eq!(store.client().fetch("greeting").await?.expect("the same data").value, "hello");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Memory {
    world: Arc<World>,
    frozen: Arc<Watched<bool>>,
}

struct World {
    state: Mutex<State>,
    fanout: Arc<Fanout>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Key, Entry>,
    sessions: BTreeMap<SessionId, Life>,
    revision: u64,
    granted: u64,
}

struct Life {
    ttl: Duration,
    deadline: Instant,
    bound: BTreeSet<Key>,
}

impl Memory {
    /// An empty store on the default clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::new()))
    }

    /// An empty store whose sessions live by this clock.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let world = World { state: Mutex::default(), fanout: Fanout::new(), clock };
        Self { world: Arc::new(world), frozen: Arc::default() }
    }

    /// Another client of the same data, which freezes on its own.
    #[must_use]
    pub fn client(&self) -> Self {
        Self { world: Arc::clone(&self.world), frozen: Arc::default() }
    }

    /// Makes every request of this client, and its watches, hang until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.frozen.set(true);
    }

    /// Ends a [`freeze`](Self::freeze); what hung goes on.
    pub fn thaw(&self) {
        self.frozen.set(false);
    }

    /// Ends a session, if there is one, as if it had expired now.
    pub fn end_session(&self, session: &SessionId) {
        self.world.lock().end(session, &self.world.fanout);
    }

    /// The sessions that live now.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        self.world.lock().sessions.keys().cloned().collect()
    }

    /// Disturbs every watch: each is told an error, then a fresh snapshot.
    pub fn cut_watches(&self) {
        let error =
            Error::new(ErrorKind::WatchLost, Outcome::NotApplied, "the watch was cut").at(BACKEND, "watch");
        self.world.fanout.fail(&error);
    }

    /// Loses everything, as a server does that comes back with an empty disk: revisions start again.
    pub fn wipe(&self) {
        let mut state = self.world.lock();
        // Servers draw their sessions' names by chance, so they do not come again.
        *state = State { granted: state.granted, ..State::default() };
        drop(state);
        self.cut_watches();
    }

    async fn thawed(&self) {
        self.frozen.find(|frozen| (!frozen).then_some(())).await;
    }

    async fn world(&self) -> &World {
        self.thawed().await;
        &self.world
    }
}

impl World {
    /// The state as of now: whatever is due has expired.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let due: Vec<_> = state
            .sessions
            .iter()
            .filter(|(_, life)| life.deadline <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for session in due {
            state.end(&session, &self.fanout);
        }
        state
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.lock().sessions.values().map(|life| life.deadline).min()
    }

    /// Sleeps until a session is due, and ends it; for ever while there is none.
    async fn expire(&self) {
        match self.next_expiry() {
            Some(deadline) => self.clock.sleep_until(deadline).await,
            // A session granted later is ended by whoever looks next, and its first change wakes the watcher.
            None => std::future::pending().await,
        }
    }
}

impl State {
    /// The entries strictly below `prefix`, reserved ones too.
    fn below<'a>(&'a self, prefix: &'a Key) -> impl Iterator<Item = &'a Entry> {
        let range = self.entries.range((Bound::Excluded(prefix), Bound::Unbounded));
        range.take_while(|(key, _)| key.strip(prefix).is_some()).map(|(_, entry)| entry)
    }

    fn covered(&self, scope: &Scope) -> Vec<Entry> {
        match scope {
            Scope::Key(key) => self.entries.get(key).cloned().into_iter().collect(),
            Scope::Prefix(prefix) => {
                self.below(prefix).filter(|entry| prefix.covers(&entry.key)).cloned().collect()
            }
        }
    }

    fn put(&mut self, put: Put, revision: u64, fanout: &Fanout) -> Entry {
        let old = self.entries.get(&put.key);
        let fence = old.map_or(Fence::new(revision), |entry| entry.fence);
        if let Some(old) = old.and_then(|entry| entry.session.clone()) {
            self.life(&old, |bound| bound.remove(&put.key));
        }
        if let Some(new) = &put.session {
            self.life(new, |bound| bound.insert(put.key.clone()));
        }
        let entry = Entry::new(put.key, put.value, Version::new(revision.into()), fence, put.session);
        self.entries.insert(entry.key.clone(), entry.clone());
        fanout.publish(revision, &Event::Put(entry.clone()));
        entry
    }

    fn delete(&mut self, key: &Key, revision: u64, fanout: &Fanout) {
        let Some(entry) = self.entries.remove(key) else { return };
        if let Some(session) = &entry.session {
            self.life(session, |bound| bound.remove(key));
        }
        fanout.publish(revision, &Event::Delete(key.clone()));
    }

    fn life(&mut self, session: &SessionId, change: impl FnOnce(&mut BTreeSet<Key>) -> bool) {
        if let Some(life) = self.sessions.get_mut(session) {
            change(&mut life.bound);
        }
    }

    fn end(&mut self, session: &SessionId, fanout: &Fanout) {
        let Some(life) = self.sessions.remove(session) else { return };
        self.revision += 1;
        for key in life.bound {
            self.delete(&key, self.revision, fanout);
        }
    }

    fn ahead(&self, queue: &Queue, fence: Fence, limit: usize) -> Vec<PlaceRef> {
        let mut ahead: Vec<_> = self.below(queue.key()).filter_map(|entry| queue.read_place(entry)).collect();
        ahead.retain(|place| place.fence < fence);
        ahead.sort_by_key(|place| std::cmp::Reverse(place.fence));
        ahead.truncate(limit);
        ahead
    }

    fn alive(&self, session: &SessionId) -> Result<()> {
        if self.sessions.contains_key(session) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::SessionLost, Outcome::NotApplied, format!("session {session} is gone")))
    }
}

#[async_trait]
impl Store for Memory {
    fn limits(&self) -> Limits {
        Limits::new(BACKEND)
    }

    async fn get(&self, key: &Key, _: Consistency) -> Result<Option<Entry>> {
        Ok(self.world().await.lock().entries.get(key).cloned())
    }

    async fn list(&self, prefix: &Key, _: Consistency) -> Result<Vec<Entry>> {
        Ok(self.world().await.lock().covered(&Scope::Prefix(prefix.clone())))
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        let world = self.world().await;
        let mut state = world.lock();
        if let Some(session) = txn.session() {
            state.alive(session).map_err(|error| error.at(BACKEND, "commit"))?;
        }
        for check in txn.checks() {
            let found = state.entries.get(check.key());
            if !check.holds(found) {
                return Ok(Write::Rejected(Rejection { key: check.key().clone(), found: found.cloned() }));
            }
        }
        state.revision += 1;
        let revision = state.revision;
        for key in txn.deletes() {
            state.delete(key, revision, &world.fanout);
        }
        let puts = txn.puts().iter().cloned();
        Ok(Write::Applied(puts.map(|put| state.put(put, revision, &world.fanout)).collect()))
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        let world = self.world().await;
        let mut state = world.lock();
        let doomed = state.covered(&Scope::Prefix(prefix.clone()));
        state.revision += 1;
        let revision = state.revision;
        for entry in &doomed {
            state.delete(&entry.key, revision, &world.fanout);
        }
        Ok(doomed.len() as u64)
    }
}

#[async_trait]
impl SessionStore for Memory {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.limits().check_ttl(ttl)?;
        let world = self.world().await;
        let mut state = world.lock();
        state.granted += 1;
        let id = SessionId::new(format!("s{}", state.granted));
        let life = Life { ttl, deadline: world.clock.now() + ttl, bound: BTreeSet::new() };
        state.sessions.insert(id.clone(), life);
        Ok(Grant { id, ttl })
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        let world = self.world().await;
        let mut state = world.lock();
        Ok(state.sessions.get_mut(session).map_or(Renewal::Lost, |life| {
            life.deadline = world.clock.now() + life.ttl;
            Renewal::Renewed { ttl: life.ttl }
        }))
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        let world = self.world().await;
        world.lock().end(session, &world.fanout);
        Ok(())
    }
}

#[async_trait]
impl WatchStore for Memory {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let subscription = self.world.fanout.subscribe(scope);
        let step = |(store, mut subscription): (Self, crate::kv::Subscription)| async move {
            loop {
                let signal = tokio::select! {
                    biased;
                    signal = subscription.next() => signal,
                    () = store.world.expire() => continue,
                };
                store.thawed().await;
                let event = match signal {
                    Signal::Failed(error) => Err(error.0),
                    Signal::Change(event) => Ok(event),
                    Signal::Resync => {
                        let state = store.world.lock();
                        subscription.taken(state.revision);
                        Ok(Event::Snapshot(state.covered(subscription.scope())))
                    }
                };
                return Some((event, (store, subscription)));
            }
        };
        futures_util::stream::unfold((self.clone(), subscription), step).boxed()
    }
}

#[async_trait]
impl QueueStore for Memory {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let key = queue.place_key(session, ticket)?;
        Txn::new().put(&key, value.clone()).validate(&self.limits())?;
        let world = self.world().await;
        let mut state = world.lock();
        state.alive(session).map_err(|error| error.at(BACKEND, "enter").on(queue.key()))?;
        let entry = if let Some(standing) = state.entries.get(&key) {
            standing.clone()
        } else {
            state.revision += 1;
            let revision = state.revision;
            state.put(Put { key, value, session: Some(session.clone()) }, revision, &world.fanout)
        };
        let ahead = state.ahead(queue, entry.fence, limit);
        let (queue, session) = (queue.clone(), session.clone());
        Ok(Entered {
            place: Place { queue, key: entry.key, fence: entry.fence, session, ticket: *ticket },
            ahead,
        })
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        let state = self.world().await.lock();
        let own = state.entries.get(&place.key);
        let stands =
            own.is_some_and(|own| own.fence == place.fence && own.session.as_ref() == Some(&place.session));
        Ok(stands.then(|| state.ahead(&place.queue, place.fence, limit)))
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        let world = self.world().await;
        let mut state = world.lock();
        let stands = state.entries.get(&place.key).is_some_and(|own| own.fence == place.fence);
        if stands {
            state.revision += 1;
            let revision = state.revision;
            state.delete(&place.key, revision, &world.fanout);
        }
        Ok(stands)
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        queue.read_place(entry)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.world.state.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Memory")
            .field("entries", &state.entries.len())
            .field("sessions", &state.sessions.len())
            .field("revision", &state.revision)
            .finish_non_exhaustive()
    }
}
