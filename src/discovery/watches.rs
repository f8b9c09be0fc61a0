//! The watches of a registrar: one for each service it has registered instances of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::books::Books;
use crate::kv::{Coordinator, Event, Instant, Key, Result, Scope, Sessions, observe};

/// How long nothing must have been registered before a watch begins. Most services register all that they have in one go,
/// and a watch would tell them of each. It begins with what stands then, so nothing is missed.
pub(super) const QUIET: Duration = Duration::from_millis(50);

/// When it begins at the latest, however much is registered.
pub(super) const LATEST: Duration = Duration::from_secs(1);

pub(super) struct Watches<S: Coordinator + ?Sized> {
    store: Arc<S>,
    sessions: Sessions,
    events: SelectAll<BoxStream<'static, (Key, Result<Event>)>>,
    open: BTreeMap<Key, DropGuard>,
    /// What is to be watched soon.
    wanted: BTreeSet<Key>,
    /// When all that is wanted is watched, and when at the latest.
    begin: Option<(Instant, Instant)>,
}

impl<S: Coordinator + ?Sized> Watches<S> {
    pub(super) fn new(store: &Arc<S>, sessions: &Sessions) -> Self {
        Self {
            store: Arc::clone(store),
            sessions: sessions.clone(),
            events: SelectAll::new(),
            open: BTreeMap::new(),
            wanted: BTreeSet::new(),
            begin: None,
        }
    }

    /// Has watched what is on the books, and nothing else.
    pub(super) fn heed(&mut self, books: &mut Books) {
        for (prefix, wanted) in books.take_stirred() {
            if wanted {
                self.want(prefix);
            } else {
                self.close(&prefix);
            }
        }
    }

    /// Has what stands below `prefix` watched soon, unless it is already.
    fn want(&mut self, prefix: Key) {
        if !self.open.contains_key(&prefix) {
            self.wanted.insert(prefix);
        }
    }

    /// Something was registered: what is wanted is watched when that has been all for a while.
    pub(super) fn stir(&mut self) {
        if self.wanted.is_empty() {
            return;
        }
        let now = self.sessions.clock().now();
        let latest = self.begin.map_or(now + LATEST, |(_, latest)| latest);
        self.begin = Some((latest.min(now + QUIET), latest));
    }

    fn open_wanted(&mut self) {
        self.begin = None;
        for prefix in std::mem::take(&mut self.wanted) {
            self.open(prefix);
        }
    }

    fn open(&mut self, prefix: Key) {
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

    fn close(&mut self, prefix: &Key) {
        self.open.remove(prefix);
        self.wanted.remove(prefix);
    }

    /// The next event, and the prefix it was seen below; `None` while nothing is to be watched. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<(Key, Result<Event>)> {
        while let Some((begin, _)) = self.begin {
            tokio::select! {
                biased;
                Some(event) = self.events.next() => return Some(event),
                () = self.sessions.clock().sleep_until(begin) => {}
            }
            self.open_wanted();
        }
        self.events.next().await
    }
}
