//! What one query tells, and who is told.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::reads::Found;
use crate::kv::{Entry, Error, Event, Fanout, Fence, Key, Result, Scope, Subscription, Version};

/// Why a watch was disturbed whose runtime went away under it.
pub(super) const ENDED: &str = "the runtime that the watches were served on has ended";

/// The pause after an answer that told nothing new, before it is asked again; it doubles up to the last. Where nothing
/// stands, the server answers at each write anywhere in the store.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// How many entries there have to be below a key for an answer about them to be long.
const MANY: usize = 256;

/// How many entries of an answer cost a millisecond's pause before the next: far more than it takes to write and to read
/// them, so that somebody who puts thousands does not have all of them told with each.
const PER_MILLISECOND: u64 = 100;

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

/// As much of an entry as tells whether it has changed.
struct Known {
    key: Key,
    version: Version,
    fence: Fence,
}

impl Known {
    fn of(entry: &Entry) -> Self {
        Self { key: entry.key.clone(), version: entry.version, fence: entry.fence }
    }
}

/// One query, asked again and again: what it told last, and who is told what is new.
pub(super) struct Feed {
    pub(super) number: u64,
    fanout: Arc<Fanout>,
    /// What stands there, in key order.
    known: Vec<Known>,
    index: u64,
    /// How many changes were told.
    told: u64,
    /// Those who joined since the last look was sent, and those who joined before. What is known is not enough for them: it
    /// may be older than a write that they have seen acknowledged.
    joining: Vec<Joining>,
    looking: Vec<Joining>,
    is_waiting: bool,
    pause: Duration,
    /// Whether it was ever joined for all that it tells, and for a part of that.
    is_for_all: bool,
    is_for_parts: bool,
    wanted: CancellationToken,
    _unwanted: DropGuard,
}

impl Feed {
    pub(super) fn new(number: u64) -> Self {
        let wanted = CancellationToken::new();
        Self {
            number,
            fanout: Fanout::new(),
            known: Vec::new(),
            index: 0,
            told: 0,
            joining: Vec::new(),
            looking: Vec::new(),
            is_waiting: false,
            pause: Duration::ZERO,
            is_for_all: false,
            is_for_parts: false,
            _unwanted: wanted.clone().drop_guard(),
            wanted,
        }
    }

    /// Takes in who wants to be told of `scope`; this one is about `all`.
    pub(super) fn join(&mut self, all: &Scope, scope: Scope, reply: oneshot::Sender<Result<Joined>>) {
        self.is_for_all |= scope == *all;
        self.is_for_parts |= scope != *all;
        self.joining.push(Joining { scope, reply });
    }

    /// Whether somebody wanted to be told of all of it.
    pub(super) fn is_for_all(&self) -> bool {
        self.is_for_all
    }

    /// One of many entries, to see by that the server still answers.
    pub(super) fn sample(&self) -> Option<Scope> {
        let first = self.known.first().filter(|_| self.known.len() >= MANY)?;
        Some(Scope::Key(first.key.clone()))
    }

    /// The pause before what changes next is asked for, during which changes gather. Who waits for one key may be waited
    /// for in turn, so there is none for them.
    fn pace(&self) -> Duration {
        if self.is_for_parts {
            return Duration::ZERO;
        }
        Duration::from_millis(self.known.len() as u64 / PER_MILLISECOND)
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

    /// Takes an answer in, and tells what is new; `None` is that there is nothing.
    pub(super) fn take(&mut self, look: Look, found: Option<Found>) {
        match look {
            Look::Now { since } => {
                if let Some(found) = found {
                    self.begin(found, since);
                }
            }
            Look::Changed { since, .. } => {
                let news = found.is_some_and(|found| self.learn(&found, since));
                self.is_waiting = false;
                let (first, last) = PAUSES;
                self.pause = if news { self.pace() } else { (self.pause * 2).clamp(first, last) };
            }
        }
    }

    /// Whether what was found, by a look that was sent when the index was `since`, is older than what was learned
    /// meanwhile. An answer that is older than its question comes from a store that went back in time, and is what is
    /// true now.
    fn is_outrun(&self, found: &Found, since: u64) -> bool {
        (since..self.index).contains(&index(found))
    }

    /// Tells how what was found differs from what was known, unless that is newer.
    fn learn(&mut self, found: &Found, since: u64) -> bool {
        let index = index(found);
        if (since..=self.index).contains(&index) {
            return false;
        }
        self.index = index;
        let before = self.told;
        let known = std::mem::replace(&mut self.known, found.entries.iter().map(Known::of).collect());
        let mut new = Vec::new();
        for (old, now) in side_by_side(&known, &found.entries) {
            // One that was made anew was deleted before.
            if let Some(old) = old.filter(|old| now.is_none_or(|now| now.fence != old.fence)) {
                self.told += 1;
                self.fanout.publish(self.told, &Event::Delete(old.key.clone()));
            }
            new.extend(now.filter(|now| old.is_none_or(|old| old.version != now.version)));
        }
        new.sort_by_key(|entry| entry.version.raw());
        for entry in new {
            self.told += 1;
            self.fanout.publish(self.told, &Event::Put(entry.clone()));
        }
        self.told > before
    }

    /// Tells those who joined before the look was sent what was found, and takes them in.
    fn begin(&mut self, mut found: Found, since: u64) {
        let mut beginning = std::mem::take(&mut self.looking);
        if self.is_outrun(&found, since) {
            // They would miss what was told meanwhile: it is asked again.
            beginning.append(&mut self.joining);
            self.joining = beginning;
            return;
        }
        self.learn(&found, since);
        let last = beginning.len().saturating_sub(1);
        for (nth, Joining { scope, reply }) in beginning.into_iter().enumerate() {
            let snapshot = if nth == last {
                // Nobody needs them any more: a long answer does not stand in memory twice.
                found.entries.retain(|entry| scope.covers(&entry.key));
                std::mem::take(&mut found.entries)
            } else {
                found.entries.iter().filter(|entry| scope.covers(&entry.key)).cloned().collect()
            };
            let mut subscription = self.fanout.subscribe(scope);
            subscription.taken(self.told);
            // That a snapshot is wanted first goes without saying.
            let _ = subscription.next().now_or_never();
            // Whoever has gone has no use for it.
            let _ = reply.send(Ok(Joined { snapshot, subscription }));
        }
    }

    /// Tells everybody that it is over.
    pub(super) fn fail(&mut self, error: &Error) {
        for joining in self.looking.drain(..).chain(self.joining.drain(..)) {
            let _ = joining.reply.send(Err(error.clone()));
        }
        self.fanout.fail(error);
    }
}

/// An index is 1 at least; one that is not would let the next query return at once.
fn index(found: &Found) -> u64 {
    found.index.max(1)
}

/// What stood at each key and what stands there now, in key order, as both lists are.
fn side_by_side<'a>(
    old: &'a [Known],
    new: &'a [Entry],
) -> impl Iterator<Item = (Option<&'a Known>, Option<&'a Entry>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.key.cmp(&new.key),
        };
        let old = if order == Ordering::Greater { None } else { old.next() };
        let new = if order == Ordering::Less { None } else { new.next() };
        Some((old, new))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(of: &[(&str, u64)]) -> Vec<Entry> {
        let entry = |(key, version): &(&str, u64)| {
            let (key, version) = (Key::new(key).unwrap(), Version::new((*version).into()));
            Entry::new(key, "".into(), version, Fence::new(1), None)
        };
        of.iter().map(entry).collect()
    }

    #[test]
    fn each_key_of_either_list_comes_once() {
        let name = |entry: Option<&Entry>| entry.map(|entry| entry.key.to_string()).unwrap_or_default();
        let pairs = |old: &[(&str, u64)], new: &[(&str, u64)]| {
            let (old, new) = (entries(old).iter().map(Known::of).collect::<Vec<_>>(), entries(new));
            let key = |old: &Known| old.key.to_string();
            let pairs = side_by_side(&old, &new);
            let pairs = pairs.map(|(old, new)| format!("{}:{}", old.map(key).unwrap_or_default(), name(new)));
            pairs.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(pairs(&[], &[]), "");
        assert_eq!(pairs(&[("a", 1)], &[]), "a:");
        assert_eq!(pairs(&[("a", 1), ("a/b", 1), ("a-b", 1)], &[("a/b", 2), ("c", 1)]), "a: a/b:a/b a-b: :c");
    }

    /// Which query is due once so many stand there and something has changed.
    fn due(scope: Scope, count: usize) -> Option<Look> {
        let all = Scope::Prefix(Key::root());
        let keys: Vec<_> = (0..count).map(|nth| format!("k{nth:05}")).collect();
        let of: Vec<_> = keys.iter().map(|key| (&**key, 1)).collect();
        let found =
            |index| Some(Found { index, entries: entries(&of[..of.len() - usize::from(index == 1)]) });
        let mut feed = Feed::new(0);
        let (reply, mut joined) = oneshot::channel();
        feed.join(&all, scope, reply);
        assert!(matches!(feed.next_look(), Some(look @ Look::Now { since: 0 }) if {
            feed.take(look, found(1));
            true
        }));
        let _listens = joined.try_recv().unwrap().unwrap();
        let look = feed.next_look()?;
        assert!(matches!(look, Look::Changed { since: 1, pause: Duration::ZERO }), "{look:?}");
        feed.take(look, found(2));
        assert_eq!(feed.sample().is_some(), count >= MANY);
        feed.next_look()
    }

    #[test]
    fn the_more_is_told_the_longer_changes_gather() {
        let pause = |look| match look {
            Some(Look::Changed { since: 2, pause }) => pause,
            other => panic!("{other:?}"),
        };
        let all = || Scope::Prefix(Key::root());
        assert_eq!(pause(due(all(), 99)), Duration::ZERO);
        assert_eq!(pause(due(all(), 1_000)), Duration::from_millis(10));
        assert_eq!(pause(due(Scope::Key(Key::new("k00001").unwrap()), 1_000)), Duration::ZERO);
    }

    #[test]
    fn what_has_not_changed_is_not_learned() {
        let all = Scope::Prefix(Key::root());
        let mut feed = Feed::new(0);
        let (reply, mut joined) = oneshot::channel();
        feed.join(&all, all.clone(), reply);
        let look = feed.next_look().unwrap();
        feed.take(look, Some(Found { index: 5, entries: entries(&[("a", 1)]) }));
        let mut listens = joined.try_recv().unwrap().unwrap();
        let look = feed.next_look().unwrap();
        feed.take(look, None);
        assert!(listens.subscription.next().now_or_never().is_none());
        assert!(matches!(feed.next_look(), Some(Look::Changed { since: 5, pause }) if !pause.is_zero()));
    }
    #[test]
    fn who_joins_is_told_nothing_older_than_what_was_told_meanwhile() {
        let all = Scope::Prefix(Key::root());
        let mut feed = Feed::new(0);
        let join = |feed: &mut Feed| {
            let (reply, joined) = oneshot::channel();
            feed.join(&all, all.clone(), reply);
            joined
        };
        let found = |index, of: &[(&str, u64)]| Some(Found { index, entries: entries(of) });
        let mut first = join(&mut feed);
        let look = feed.next_look().unwrap();
        feed.take(look, found(5, &[("a", 1)]));
        let _first = first.try_recv().unwrap().unwrap();
        let waits = feed.next_look().unwrap();
        let mut second = join(&mut feed);
        let look = feed.next_look().unwrap();
        assert!(matches!(look, Look::Now { since: 5 }));
        feed.take(waits, found(7, &[("a", 2)]));
        // Sent before what was learned meanwhile, and answered after it.
        feed.take(look, found(6, &[]));
        assert!(second.try_recv().is_err());
        let look = feed.next_look().unwrap();
        assert!(matches!(look, Look::Now { since: 7 }), "{look:?}");
        feed.take(look, found(7, &[("a", 2)]));
        let snapshot = second.try_recv().unwrap().unwrap().snapshot;
        assert_eq!(snapshot, entries(&[("a", 2)]));
        // What is older than the question is what a store has that went back in time.
        let mut third = join(&mut feed);
        let look =
            std::iter::from_fn(|| feed.next_look()).find(|look| matches!(look, Look::Now { .. })).unwrap();
        feed.take(look, found(3, &[("b", 3)]));
        assert_eq!(third.try_recv().unwrap().unwrap().snapshot, entries(&[("b", 3)]));
    }
}
