//! Following a watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::bench::{Bench, LOOK, patience};
use super::case::{Checked, Violation, ensure};
use crate::kv::clock::until;
use crate::kv::{Clock, Consistency, Entry, Event, Key, Result, Scope, Store, WatchStore};

/// A watch, and what it has told so far.
pub(super) struct Watching {
    stream: BoxStream<'static, Result<Event>>,
    reopen: Box<dyn Fn() -> BoxStream<'static, Result<Event>> + Send + Sync>,
    clock: Arc<dyn Clock>,
    within: Duration,
    scope: Scope,
    /// Whether the next event must be a snapshot: at the start, and after an error.
    unknown: bool,
    /// Whether the last thing told was an error, after which it may end.
    failed: bool,
    /// What stands, as told.
    pub(super) view: BTreeMap<Key, Entry>,
}

impl Watching {
    /// A watch that nothing was asked of yet.
    pub(super) fn idle<S>(bench: &Bench<S>, store: &Arc<S>, scope: Scope) -> Self
    where
        S: WatchStore + ?Sized + Send + Sync + 'static,
    {
        let (clock, within) = (bench.clock(), patience(&store.limits()));
        let reopen = Box::new({
            let (store, scope) = (Arc::clone(store), scope.clone());
            move || store.watch(scope.clone())
        });
        Self {
            stream: reopen(),
            reopen,
            clock,
            within,
            scope,
            unknown: true,
            failed: false,
            view: BTreeMap::new(),
        }
    }

    /// A watch that has told its first snapshot.
    pub(super) async fn open<S>(bench: &Bench<S>, store: &Arc<S>, scope: Scope) -> Checked<Self>
    where
        S: WatchStore + ?Sized + Send + Sync + 'static,
    {
        let mut watching = Self::idle(bench, store, scope);
        watching.next().await?;
        Ok(watching)
    }

    /// Waits this much longer for each event from now on.
    pub(super) fn extend(&mut self, longer: Duration) {
        self.within += longer;
    }

    /// The next event, which is also worked into the view. Errors are ridden out as the contract says: after one
    /// comes a snapshot, or the end, and then it is watched again.
    pub(super) async fn next(&mut self) -> Checked<Event> {
        let deadline = self.clock.now() + self.within;
        let within = self.within;
        loop {
            let Some(told) = until(&*self.clock, deadline, self.stream.next()).await else {
                return Err(Violation::new(format!(
                    "a watch of {:?} told nothing for {within:?}",
                    self.scope
                )));
            };
            match told {
                Some(Ok(event)) => {
                    self.failed = false;
                    self.fold(&event)?;
                    return Ok(event);
                }
                Some(Err(error)) => {
                    (self.unknown, self.failed) = (true, true);
                    ensure!(
                        self.clock.now() < deadline,
                        "a watch told nothing but errors for {within:?}: {error}"
                    );
                }
                None => {
                    ensure!(self.failed, "a watch of {:?} ended without an error", self.scope);
                    self.failed = false;
                    self.stream = (self.reopen)();
                }
            }
            // A stream that fails at once, again and again, must not keep the time from passing.
            self.clock.sleep_until(self.clock.now() + LOOK).await;
        }
    }

    fn fold(&mut self, event: &Event) -> Checked {
        let snapshot = matches!(event, Event::Snapshot(_));
        ensure!(snapshot || !self.unknown, "a watch told {event:?} where a snapshot must come first");
        self.unknown = false;
        match event {
            Event::Snapshot(entries) => {
                ensure!(
                    entries.is_sorted_by(|a, b| a.key < b.key),
                    "a snapshot is not in key order: {entries:?}"
                );
                self.view = entries.iter().map(|entry| (entry.key.clone(), entry.clone())).collect();
            }
            Event::Put(entry) => drop(self.view.insert(entry.key.clone(), entry.clone())),
            Event::Delete(key) => drop(self.view.remove(key)),
        }
        let stray = self.view.keys().find(|key| !self.scope.covers(key));
        ensure!(stray.is_none(), "a watch of {:?} told of {stray:?}", self.scope);
        if let Event::Delete(key) = event {
            ensure!(self.scope.covers(key), "a watch of {:?} told of the delete of {key:?}", self.scope);
        }
        Ok(())
    }

    /// Follows until the view is so; the events up to then.
    pub(super) async fn until(
        &mut self,
        what: &str,
        done: impl Fn(&BTreeMap<Key, Entry>) -> bool,
    ) -> Checked<Vec<Event>> {
        let mut events = Vec::new();
        while !done(&self.view) {
            let event = self.next().await.map_err(|violation| {
                let (last, view) = (events.last(), &self.view);
                Violation::new(format!(
                    "{}; waited until {what}; last told: {last:?}; view: {view:?}",
                    violation.what
                ))
            })?;
            events.push(event);
        }
        Ok(events)
    }

    /// Follows until the view is what stands in the store, in the end.
    pub(super) async fn converges<S: Store + ?Sized>(&mut self, store: &S) -> Checked<Vec<Event>> {
        let standing = match &self.scope {
            Scope::Key(key) => store.get(key, Consistency::Linearizable).await?.into_iter().collect(),
            Scope::Prefix(prefix) => store.list(prefix, Consistency::Linearizable).await?,
        };
        let standing: BTreeMap<_, _> = standing.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        self.until("the view is what stands", |view| *view == standing).await
    }
}
