//! The watches of a registrar: one for each service it has registered instances of.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::kv::{Coordinator, Event, Key, Result, Scope, Sessions, observe};

pub(super) struct Watches<S: Coordinator + ?Sized> {
    store: Arc<S>,
    sessions: Sessions,
    events: SelectAll<BoxStream<'static, (Key, Result<Event>)>>,
    open: BTreeMap<Key, DropGuard>,
}

impl<S: Coordinator + ?Sized> Watches<S> {
    pub(super) fn new(store: &Arc<S>, sessions: &Sessions) -> Self {
        Self {
            store: Arc::clone(store),
            sessions: sessions.clone(),
            events: SelectAll::new(),
            open: BTreeMap::new(),
        }
    }

    /// Watches what stands below `prefix`, unless it is watched already.
    pub(super) fn open(&mut self, prefix: Key) {
        if self.open.contains_key(&prefix) {
            return;
        }
        let scope = Scope::Prefix(prefix.clone());
        let events = observe(&self.store, scope, self.sessions.clock(), self.sessions.random());
        let closed = CancellationToken::new();
        let named = {
            let prefix = prefix.clone();
            events.map(move |event| (prefix.clone(), event))
        };
        self.events.push(named.take_until(closed.clone().cancelled_owned()).boxed());
        self.open.insert(prefix, closed.drop_guard());
    }

    pub(super) fn close(&mut self, prefix: &Key) {
        self.open.remove(prefix);
    }

    /// The next event, and the prefix it was seen below; `None` while nothing is watched. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<(Key, Result<Event>)> {
        self.events.next().await
    }
}
