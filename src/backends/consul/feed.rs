//! What one query tells, and who is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::reads::Found;
use crate::kv::{Entry, Error, Event, Fanout, Key, Result, Scope, Subscription};

/// Why a watch was disturbed whose runtime went away under it.
pub(super) const ENDED: &str = "the runtime that the watches were served on has ended";

/// The pause after an answer that told nothing new, before it is asked again; it doubles up to the last. Where nothing
/// stands, the server answers at each write anywhere in the store.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// A query.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    /// What stands there now, when this index was known.
    Now { since: u64 },
    /// What stands there once that is newer than this index.
    Changed { since: u64, pause: Duration },
}

/// A watch that has begun.
pub(super) struct Joined {
    pub(super) snapshot: Vec<Entry>,
    pub(super) subscription: Subscription,
}

struct Joining {
    scope: Scope,
    reply: oneshot::Sender<Result<Joined>>,
}

/// One query, asked again and again: what it told last, and who is told what is new.
pub(super) struct Feed {
    pub(super) number: u64,
    fanout: Arc<Fanout>,
    entries: BTreeMap<Key, Entry>,
    index: u64,
    /// How many changes were told.
    told: u64,
    /// Those who joined since the last look was sent, and those who joined before. What is known is not enough for them: it
    /// may be older than a write that they have seen acknowledged.
    joining: Vec<Joining>,
    looking: Vec<Joining>,
    is_waiting: bool,
    pause: Duration,
    wanted: CancellationToken,
    _unwanted: DropGuard,
}

impl Feed {
    pub(super) fn new(number: u64) -> Self {
        let wanted = CancellationToken::new();
        Self {
            number,
            fanout: Fanout::new(),
            entries: BTreeMap::new(),
            index: 0,
            told: 0,
            joining: Vec::new(),
            looking: Vec::new(),
            is_waiting: false,
            pause: Duration::ZERO,
            _unwanted: wanted.clone().drop_guard(),
            wanted,
        }
    }

    pub(super) fn join(&mut self, scope: Scope, reply: oneshot::Sender<Result<Joined>>) {
        self.joining.push(Joining { scope, reply });
    }

    /// Whether somebody listens, or is about to. While a look is under way somebody is: it will soon be over, and its
    /// connection can be kept.
    pub(super) fn is_wanted(&self) -> bool {
        !self.fanout.is_idle() || !self.joining.is_empty() || !self.looking.is_empty()
    }

    /// Cancelled with the feed.
    pub(super) fn wanted(&self) -> CancellationToken {
        self.wanted.clone()
    }

    /// The query to send now, if one is due.
    pub(super) fn next_look(&mut self) -> Option<Look> {
        if self.looking.is_empty() && !self.joining.is_empty() {
            self.looking = std::mem::take(&mut self.joining);
            return Some(Look::Now { since: self.index });
        }
        if self.index == 0 || self.is_waiting || self.fanout.is_idle() {
            return None;
        }
        self.is_waiting = true;
        Some(Look::Changed { since: self.index, pause: self.pause })
    }

    /// Takes an answer in, and tells what is new.
    pub(super) fn take(&mut self, look: Look, found: Found) {
        match look {
            Look::Now { since } => {
                self.learn(found, since);
                for joining in std::mem::take(&mut self.looking) {
                    self.begin(joining);
                }
            }
            Look::Changed { since, .. } => {
                self.is_waiting = false;
                let (first, last) = PAUSES;
                let news = self.learn(found, since);
                self.pause = if news { Duration::ZERO } else { (self.pause * 2).clamp(first, last) };
            }
        }
    }

    /// Tells how what was found, by a look that was sent when the index was `since`, differs from what was known. An
    /// answer that is older than what was learned meanwhile is left aside; one that is older than its question comes from
    /// a store that went back in time, and is what is true now.
    fn learn(&mut self, found: Found, since: u64) -> bool {
        // An index is 1 at least; one that is not would let the next query return at once.
        let index = found.index.max(1);
        let began_anew = index < since;
        if index <= self.index && !began_anew {
            return false;
        }
        self.index = index;
        let before = self.told;
        let known = std::mem::take(&mut self.entries);
        self.entries = found.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        for (key, old) in &known {
            // One that was made anew was deleted before.
            if self.entries.get(key).is_none_or(|new| new.fence != old.fence) {
                self.told += 1;
                self.fanout.publish(self.told, &Event::Delete(key.clone()));
            }
        }
        let is_new = |entry: &&Entry| known.get(&entry.key).is_none_or(|old| old.version != entry.version);
        let mut new: Vec<_> = self.entries.values().filter(is_new).collect();
        new.sort_by_key(|entry| entry.version.raw());
        for entry in new {
            self.told += 1;
            self.fanout.publish(self.told, &Event::Put(entry.clone()));
        }
        self.told > before
    }

    fn begin(&self, joining: Joining) {
        let Joining { scope, reply } = joining;
        let covered = self.entries.values().filter(|entry| scope.covers(&entry.key));
        let snapshot = covered.cloned().collect();
        let mut subscription = self.fanout.subscribe(scope);
        subscription.taken(self.told);
        // That a snapshot is wanted first goes without saying.
        let _ = subscription.next().now_or_never();
        // Whoever has gone has no use for it.
        let _ = reply.send(Ok(Joined { snapshot, subscription }));
    }

    /// Tells everybody that it is over.
    pub(super) fn fail(&mut self, error: &Error) {
        for joining in self.looking.drain(..).chain(self.joining.drain(..)) {
            let _ = joining.reply.send(Err(error.clone()));
        }
        self.fanout.fail(error);
    }
}
