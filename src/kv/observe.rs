//! The one watch loop, and the view it feeds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::backoff::Backoff;
use super::{Clock, Entry, Error, Event, Key, Random, Result, Scope, WatchStore, bad};

/// Watches for ever: whenever the store's stream ends, pauses and watches again.
///
/// Errors come in-stream and mean that what is known may be stale until the next snapshot, which always follows.
/// Dropping the stream ends it.
pub fn observe<S: WatchStore + ?Sized>(
    store: &Arc<S>,
    scope: Scope,
    clock: &Arc<dyn Clock>,
    random: &Random,
) -> BoxStream<'static, Result<Event>> {
    let backoff = Backoff::new(clock, random, Duration::from_millis(20), Duration::from_secs(5));
    let state = (Arc::clone(store), scope, backoff, None::<BoxStream<'static, Result<Event>>>);
    futures_util::stream::unfold(state, |(store, scope, mut backoff, watch)| async move {
        let mut watch = watch.unwrap_or_else(|| store.watch(scope.clone()));
        loop {
            if let Some(event) = watch.next().await {
                if event.is_ok() {
                    backoff.reset();
                }
                return Some((event, (store, scope, backoff, Some(watch))));
            }
            backoff.pause().await;
            watch = store.watch(scope.clone());
        }
    })
    .boxed()
}

/// What is known of a watched part of a store. An error makes it stale, never empty.
#[derive(Clone, Debug, Default)]
pub struct View {
    entries: BTreeMap<Key, Entry>,
    complete: bool,
    stale: Option<Error>,
}

impl View {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one item of a watch into account.
    pub fn apply(&mut self, event: Result<Event>) {
        match event {
            Ok(Event::Snapshot(entries)) => {
                self.entries = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
                self.complete = true;
                self.stale = None;
            }
            Ok(Event::Put(entry)) => {
                self.entries.insert(entry.key.clone(), entry);
            }
            Ok(Event::Delete(key)) => {
                self.entries.remove(&key);
            }
            Err(error) => {
                if bad("empty_view_on_error") {
                    self.entries.clear();
                }
                self.stale = Some(error);
            }
        }
    }

    /// What stands there, as far as is known, in key order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Whether a snapshot was seen at all.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What has disturbed the watch since the last snapshot.
    #[must_use]
    pub fn stale(&self) -> Option<&Error> {
        self.stale.as_ref()
    }
}
