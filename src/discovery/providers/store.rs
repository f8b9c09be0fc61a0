//! The instances registered in a store.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::discovery::{Instance, Provider, Update};
use crate::kv::clock::until;
use crate::kv::key::unescape;
use crate::kv::{
    Clock, Consistency, Entry, Error, ErrorKind, Event, Key, Outcome, Random, Result, Scope, SystemClock,
    WatchStore, observe,
};

/// How long a watch may be quiet before the store is asked whether it is there.
const QUIET: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The instances of one service, as a [`Registrar`](crate::discovery::Registrar) put them.
///
/// A watch alone does not tell a quiet service from a dead connection. So when nothing was heard for 30 s the store is
/// asked, with one small read, and a store that does not answer it within 5 s makes the view stale.
pub struct StoreProvider<S: WatchStore + ?Sized> {
    store: Arc<S>,
    prefix: Key,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl<S: WatchStore + ?Sized> StoreProvider<S> {
    /// The instances of `service`. Nothing is sent.
    pub fn new(store: &Arc<S>, service: &str) -> Result<Self> {
        let (prefix, clock) = (Instance::prefix(service)?, Arc::new(SystemClock::new()));
        Ok(Self { store: Arc::clone(store), prefix, clock, random: Random::from_os() })
    }

    /// The same on another clock and source of chance, which its pauses go by.
    #[must_use]
    pub fn with(mut self, clock: Arc<dyn Clock>, random: Random) -> Self {
        self.clock = clock;
        self.random = random;
        self
    }

    fn watch(&self) -> BoxStream<'static, Result<Event>> {
        observe(&self.store, Scope::Prefix(self.prefix.clone()), &self.clock, &self.random)
    }

    /// Whether the store answers. One read of a key at which nothing stands.
    async fn ask(&self) -> Result<()> {
        let answer = self.store.get(&self.prefix, Consistency::Local);
        let late = || {
            let why =
                format!("the store was silent for {QUIET:?}, and then did not answer within {PATIENCE:?}");
            let backend = self.store.limits().backend;
            Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why).on(&self.prefix).at(backend, "get")
        };
        until(&*self.clock, self.clock.now() + PATIENCE, answer).await.ok_or_else(late)?.map(drop)
    }
}

impl<S: WatchStore + ?Sized> Provider for StoreProvider<S> {
    fn updates(&self) -> BoxStream<'static, Result<Update>> {
        let state = (self.clone(), self.watch(), Reader::default());
        futures_util::stream::unfold(state, |(provider, mut events, mut reader)| async move {
            let quiet = provider.clock.now() + QUIET;
            let update = match until(&*provider.clock, quiet, events.next()).await {
                Some(event) => event?.map(|event| reader.update(event)),
                None => provider.ask().await.map(|()| Update::Confirm).inspect_err(|_| {
                    // Whatever the old watch waits for, a new one begins with all there is.
                    events = provider.watch();
                }),
            };
            Some((update, (provider, events, reader)))
        })
        .boxed()
    }
}

impl<S: WatchStore + ?Sized> Clone for StoreProvider<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            prefix: self.prefix.clone(),
            clock: Arc::clone(&self.clock),
            random: self.random.clone(),
        }
    }
}

impl<S: WatchStore + ?Sized> fmt::Debug for StoreProvider<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreProvider")
            .field("prefix", &self.prefix)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Reads entries as instances. One that cannot be read is left out, with one warning for as long as it stands.
#[derive(Default)]
struct Reader {
    unreadable: BTreeSet<Key>,
}

impl Reader {
    fn update(&mut self, event: Event) -> Update {
        match event {
            Event::Snapshot(entries) => {
                let standing: BTreeSet<_> = entries.iter().map(|entry| &entry.key).collect();
                self.unreadable.retain(|key| standing.contains(key));
                Update::Reset(entries.iter().filter_map(|entry| self.read(entry)).collect())
            }
            Event::Put(entry) => {
                let instance = self.read(&entry);
                instance.map_or_else(|| Update::Remove(unescape(entry.key.name())), Update::Upsert)
            }
            Event::Delete(key) => {
                self.unreadable.remove(&key);
                Update::Remove(unescape(key.name()))
            }
        }
    }

    fn read(&mut self, entry: &Entry) -> Option<Instance> {
        let why = match serde_json::from_slice::<Instance>(&entry.value) {
            Ok(instance) if instance.id == unescape(entry.key.name()) => {
                self.unreadable.remove(&entry.key);
                return Some(instance);
            }
            Ok(_) => "its id is not the one in its key".to_owned(),
            Err(error) => error.to_string(),
        };
        if self.unreadable.insert(entry.key.clone()) {
            tracing::warn!(key = %entry.key, %why, "an entry is no instance, and is left out");
        }
        None
    }
}
