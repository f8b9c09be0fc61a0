//! Registrations and live views over the memory store, in paused time.

mod many;
mod members;
mod registration;
mod store;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use super::{Instance, Members, Registrar, Registration, Snapshot, Status, watches};
use crate::backends::Memory;
use crate::kv::{Consistency, Entry, Key, Scope, SessionOptions, Sessions, Store, WatchStore};
use store::Wrapped;

/// Far more than anything here takes; in paused time it costs nothing.
const PATIENCE: Duration = Duration::from_mins(10);
const TTL: Duration = Duration::from_secs(10);

fn instance(id: &str) -> Instance {
    Instance::new("web", id, format!("{id}.example:80"))
}

fn key(id: &str) -> Key {
    Key::reserved("service", ["web", id]).unwrap()
}

fn sessions(store: &Arc<Wrapped>) -> Sessions {
    Sessions::new(store, SessionOptions::new(TTL)).unwrap()
}

fn fresh() -> Wrapped {
    Wrapped::new(Memory::new())
}

fn decoded(entry: &Entry) -> Instance {
    serde_json::from_slice(&entry.value).unwrap()
}

/// Waits until the entry of this id satisfies `wanted`.
async fn becomes(store: &Wrapped, id: &str, mut wanted: impl FnMut(Option<&Entry>) -> bool + Send) {
    let mut events = store.memory.client().watch(Scope::Key(key(id)));
    within(async {
        while !wanted(standing(store, id).await.as_ref()) {
            events.next().await.unwrap().unwrap();
        }
    })
    .await;
}

/// A process: its client of the store, its session, its registrar.
struct Process {
    store: Arc<Wrapped>,
    sessions: Sessions,
    registrar: Registrar<Wrapped>,
}

impl Process {
    fn on(store: Wrapped) -> Self {
        let store = Arc::new(store);
        let sessions = sessions(&store);
        let registrar = Registrar::new(&store, &sessions);
        Self { store, sessions, registrar }
    }

    fn session(&self) -> crate::kv::SessionId {
        self.sessions.peek().unwrap().id().clone()
    }

    async fn register(&self, id: &str) -> Registration {
        within(self.registrar.register(instance(id))).await.unwrap()
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it never happens")
}

async fn status_is(registration: &Registration, wanted: Status) {
    let mut status = registration.status();
    within(status.wait_for(|status| *status == wanted)).await.unwrap();
}

/// What stands at the key of this instance, asked of the memory store itself.
async fn standing(store: &Wrapped, id: &str) -> Option<Entry> {
    store.memory.client().get(&key(id), Consistency::Linearizable).await.unwrap()
}

async fn everything(store: &Wrapped) -> Vec<Entry> {
    let prefix = Instance::prefix("web").unwrap();
    store.memory.client().list(&prefix, Consistency::Linearizable).await.unwrap()
}

/// Waits until what the view shows satisfies `wanted`.
async fn shows(members: &Members, mut wanted: impl FnMut(&Snapshot) -> bool + Send) -> Arc<Snapshot> {
    let mut changes = members.changes();
    within(async {
        loop {
            let changes = changes.next().await.unwrap();
            if wanted(&changes.snapshot) {
                return changes.snapshot;
            }
        }
    })
    .await
}

fn ids(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.instances().iter().map(|instance| &*instance.id).collect()
}
