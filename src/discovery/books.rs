//! What a registrar's task knows: what stands in the store, what is wanted there, and what to do next. No I/O.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::Status;
use super::record::{Record, Wanted};
use crate::kv::settle::LATEST;
use crate::kv::{
    Clock, Entry, Error, Event, Instant, Key, Limits, Outcome, Rejection, SessionId, Txn, Version, bad,
};

/// How many sessions before the current one are known as ours.
const FORMER: usize = 8;

/// What is to be done, by key.
#[derive(Debug, Default)]
struct Agenda {
    /// Somebody may have changed these: look, before anything is inferred.
    look: BTreeSet<Key>,
    /// What stands at these may not be what is wanted.
    commit: BTreeSet<Key>,
    /// The same of those that came just now, one by one: thousands are sorted at once sooner than each is put in its place.
    fresh: Vec<Key>,
}

impl Agenda {
    fn is_empty(&self) -> bool {
        self.look.is_empty() && self.commit.is_empty() && self.fresh.is_empty()
    }

    fn sort(&mut self) {
        let mut fresh = BTreeSet::from_iter(std::mem::take(&mut self.fresh));
        self.commit.append(&mut fresh);
    }

    fn append(&mut self, mut other: Self) {
        self.look.append(&mut other.look);
        self.commit.append(&mut other.commit);
        self.fresh.append(&mut other.fresh);
    }
}

struct Tracked {
    record: Arc<Record>,
    /// What of ours stands there, as far as is known.
    standing: Option<Standing>,
    /// Whether a put was ever acknowledged. The first takes over whatever stands there; all later ones are conditional,
    /// so that they neither take anything from others nor land late.
    acknowledged: bool,
    displaced: bool,
}

struct Standing {
    version: Version,
    /// The number of the instance it shows, or [`OTHER`](Self::OTHER).
    number: u64,
    /// Whether it is bound to the current session.
    current: bool,
}

impl Standing {
    /// It shows an instance that is not wanted any more. Those that are wanted count from 1.
    const OTHER: u64 = 0;
}

enum Step {
    Put(u64, Bytes),
    Delete(Version),
    Look,
    Finish,
    Nothing,
}

/// What one commit under way is about.
pub(super) struct Batch(Vec<Item>);

struct Item {
    key: Key,
    /// The number of the instance that is put; `None` when the entry is deleted.
    number: Option<u64>,
    expected: Expected,
}

#[derive(PartialEq)]
enum Expected {
    Anything,
    Absent,
    Version(Version),
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

pub(super) struct Books {
    clock: Arc<dyn Clock>,
    tracked: BTreeMap<Key, Tracked>,
    /// How many are tracked of each service.
    services: BTreeMap<Key, usize>,
    /// Services that came or went since somebody asked.
    stirred: Vec<Key>,
    /// Until when a put whose reply was lost may still land. Few are in doubt, and so it is not kept of each.
    doubts: BTreeMap<Key, Instant>,
    session: Option<SessionId>,
    former: VecDeque<SessionId>,
    agenda: Agenda,
    /// What failed, for after a pause.
    deferred: Agenda,
}

impl Books {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            tracked: BTreeMap::new(),
            services: BTreeMap::new(),
            stirred: Vec::new(),
            doubts: BTreeMap::new(),
            session: None,
            former: VecDeque::new(),
            agenda: Agenda::default(),
            deferred: Agenda::default(),
        }
    }

    /// Whether there is nothing to keep.
    pub(super) fn is_empty(&self) -> bool {
        self.tracked.is_empty()
    }

    /// Whether there is nothing to do now.
    pub(super) fn is_idle(&self) -> bool {
        self.agenda.is_empty()
    }

    /// Services that came or went since the last call, and whether they are there now.
    pub(super) fn take_stirred(&mut self) -> Vec<(Key, bool)> {
        let stirred = std::mem::take(&mut self.stirred);
        stirred.into_iter().map(|prefix| (prefix.clone(), self.services.contains_key(&prefix))).collect()
    }

    /// Takes word from a handle.
    pub(super) fn take(&mut self, record: Arc<Record>) {
        let Err(record) = self.take_new(record) else { return };
        let key = record.key.clone();
        match self.tracked.get_mut(&key) {
            Some(tracked) if Arc::ptr_eq(&tracked.record, &record) => {}
            _ if is_over(&record) => return record.set_status(Status::Deregistered),
            Some(tracked) if tracked.record.is_leaving() => {
                tracked.record.set_status(Status::Deregistered);
                tracked.record = record;
                // What stands is the other's, and still to be removed should this one leave before it is put.
                tracked.standing.iter_mut().for_each(|standing| standing.number = Standing::OTHER);
                tracked.acknowledged = false;
                tracked.displaced = false;
            }
            _ => {
                record.fail(&Error::invalid("this registrar has registered it already").on(&key));
                return record.set_status(Status::Deregistered);
            }
        }
        self.agenda.commit.insert(key.clone());
        if self.session.is_none() {
            self.finish_if_leaving(&key); // Whatever stood went with the session.
        }
    }

    /// The same, if nothing is kept of its key so far; or else gives it back.
    pub(super) fn take_new(&mut self, record: Arc<Record>) -> Result<(), Arc<Record>> {
        let key = record.key.clone();
        let Slot::Vacant(slot) = self.tracked.entry(key.clone()) else { return Err(record) };
        if is_over(&record) {
            record.set_status(Status::Deregistered);
            return Ok(());
        }
        slot.insert(Tracked { standing: None, acknowledged: false, displaced: false, record });
        self.count(&key);
        self.agenda.fresh.push(key);
        Ok(())
    }

    /// One more of its service is tracked.
    fn count(&mut self, key: &Key) {
        // Most are of a service that is there already, which then is the last in front of them; its key need not be made.
        let before = self.services.range_mut(..=key).next_back();
        if let Some((_, count)) = before.filter(|(prefix, _)| key.is_child_of(prefix)) {
            *count += 1;
            return;
        }
        let prefix = key.parent().unwrap_or_else(Key::root);
        let count = self.services.entry(prefix.clone()).or_default();
        *count += 1;
        if *count == 1 {
            self.stirred.push(prefix);
        }
    }

    fn finish_if_leaving(&mut self, key: &Key) {
        if self.tracked.get(key).is_some_and(|tracked| tracked.record.is_leaving()) {
            self.finish(key);
        }
    }

    /// Nothing of this registration stands any more. While a lost put may still land, its key is looked at again.
    fn finish(&mut self, key: &Key) {
        let Some(tracked) = self.tracked.get_mut(key) else { return };
        tracked.record.set_status(Status::Deregistered);
        tracked.standing = None;
        if self.doubts.get(key).is_some_and(|until| *until > self.clock.now()) {
            tracked.record.leave();
            self.deferred.look.insert(key.clone());
            return;
        }
        self.tracked.remove(key);
        self.doubts.remove(key);
        self.agenda.look.remove(key);
        self.agenda.commit.remove(key);
        let prefix = key.parent().unwrap_or_else(Key::root);
        if let Some(count) = self.services.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.services.remove(&prefix);
                self.stirred.push(prefix);
            }
        }
    }

    /// The next session is open.
    pub(super) fn opened(&mut self, session: &SessionId) {
        self.session = Some(session.clone());
    }

    /// The session could not be opened. What was never put is given up, and whoever waits for a change is told.
    pub(super) fn not_opened(&mut self, error: &Error) {
        for key in self.tracked.keys().cloned().collect::<Vec<_>>() {
            self.refused(&key, error);
        }
    }

    /// The session ended, and what was bound to it has gone or is about to. What the next is to find is looked at
    /// first: the entries may still stand, or others in their place.
    pub(super) fn lost(&mut self) {
        self.former.extend(self.session.take());
        if self.former.len() > FORMER {
            self.former.pop_front();
        }
        self.agenda = Agenda::default();
        self.deferred = Agenda::default();
        self.doubts.clear();
        let mut leaving = Vec::new();
        for (key, tracked) in &mut self.tracked {
            tracked.standing.iter_mut().for_each(|standing| standing.current = false);
            if tracked.record.is_leaving() {
                leaving.push(key.clone());
            } else if tracked.acknowledged {
                if !tracked.displaced {
                    tracked.record.set_status(Status::Reconnecting);
                }
                if !bad("rebinding_forgotten") {
                    self.agenda.look.insert(key.clone());
                }
            } else {
                self.agenda.commit.insert(key.clone());
            }
        }
        for key in &leaving {
            self.finish(key);
        }
    }

    fn is_ours(&self, session: Option<&SessionId>) -> bool {
        session.is_some_and(|id| self.session.as_ref() == Some(id) || self.former.contains(id))
    }

    /// Takes the keys to look at next, all of one service.
    pub(super) fn next_looks(&mut self) -> Vec<Key> {
        let look = &mut self.agenda.look;
        let Some(prefix) = look.first().map(|first| first.parent().unwrap_or_else(Key::root)) else {
            return Vec::new();
        };
        let (keys, others) = std::mem::take(look).into_iter().partition(|key| prefix.covers(key));
        *look = others;
        Vec::from_iter::<BTreeSet<_>>(keys)
    }

    /// Takes into account what a linearizable read found at a key.
    pub(super) fn judge(&mut self, key: &Key, found: Option<&Entry>) {
        let ours = self.is_ours(found.and_then(|entry| entry.session.as_ref()));
        let Some(tracked) = self.tracked.get_mut(key) else { return };
        let wanted = tracked.record.wanted();
        match found {
            Some(entry) if ours => {
                let shown = match &wanted {
                    Wanted::Value(number, value) if *value == entry.value => Some(*number),
                    _ => None,
                };
                let current = entry.session == self.session;
                let number = shown.unwrap_or(Standing::OTHER);
                tracked.displaced = false;
                tracked.standing = Some(Standing { version: entry.version, number, current });
                if let Some(number) = shown.filter(|_| current) {
                    // From here on it comes back after any loss, whatever became of the commit that put it.
                    tracked.acknowledged = true;
                    tracked.record.acknowledge(number);
                }
                self.agenda.commit.insert(key.clone());
            }
            _ if matches!(wanted, Wanted::Nothing) => self.finish(key),
            Some(_) => {
                tracked.standing = None;
                if !std::mem::replace(&mut tracked.displaced, true) {
                    tracing::warn!(%key, "another process has registered this instance");
                }
                tracked.record.set_status(Status::Displaced);
            }
            None => {
                tracked.standing = None;
                tracked.displaced = false;
                if tracked.acknowledged {
                    tracked.record.set_status(Status::Reconnecting);
                }
                self.agenda.commit.insert(key.clone());
            }
        }
    }

    /// Takes note of an event: it may be late, and about an entry that was since replaced, so it only tells where to
    /// look.
    pub(super) fn notice(&mut self, prefix: &Key, event: &Event) {
        let mut look = Vec::new();
        match event {
            Event::Put(entry) => {
                look.extend(self.is_news(&entry.key, Some(entry)).then(|| entry.key.clone()));
            }
            Event::Delete(key) => look.extend(self.is_news(key, None).then(|| key.clone())),
            Event::Snapshot(entries) => {
                // Both are in key order.
                let mut told = entries.iter().peekable();
                let below = self.tracked.range((Bound::Excluded(prefix.clone()), Bound::Unbounded));
                for (key, _) in below.take_while(|(key, _)| prefix.covers(key)) {
                    while told.next_if(|entry| entry.key < *key).is_some() {}
                    if self.is_news(key, told.next_if(|entry| entry.key == *key)) {
                        look.push(key.clone());
                    }
                }
            }
        }
        self.agenda.look.extend(look);
    }

    /// Whether what was told of a key is something else than what is known of it.
    fn is_news(&self, key: &Key, told: Option<&Entry>) -> bool {
        let ours = self.is_ours(told.and_then(|entry| entry.session.as_ref()));
        let Some(tracked) = self.tracked.get(key) else { return false };
        let settled = tracked.acknowledged || self.doubts.contains_key(key);
        let known = match told {
            Some(entry) if tracked.displaced => !ours && entry.session.is_some(),
            Some(entry) => tracked.standing.as_ref().is_some_and(|own| own.version == entry.version),
            None => tracked.standing.is_none() && !tracked.displaced,
        };
        settled && !known && !bad("registration_not_watched")
    }

    /// The next commit: at most `most` entries, within the limits.
    pub(super) fn assemble(&mut self, limits: &Limits, most: usize) -> Option<(Txn, Batch)> {
        let session = self.session.clone()?;
        let (mut txn, mut batch) = (Txn::new(), Batch(Vec::new()));
        let (mut ops, mut bytes) = (0, 0);
        self.agenda.sort();
        while batch.len() < most {
            let Some(key) = self.agenda.commit.pop_first() else { break };
            let Some(tracked) = self.tracked.get(&key) else { continue };
            let (expected, step) = (tracked.expected(), tracked.step(self.doubts.contains_key(&key)));
            // How many operations it takes, its check among them, and how many bytes.
            let (count, size) = match &step {
                Step::Put(_, value) => {
                    (1 + usize::from(expected != Expected::Anything), key.as_str().len() + value.len())
                }
                Step::Delete(_) => (2, 0),
                Step::Look | Step::Finish | Step::Nothing => (0, 0),
            };
            let fits = ops + count <= limits.max_txn_ops && bytes + size <= limits.max_txn_bytes;
            // What fits into no commit is for the store to refuse.
            if !fits && batch.len() > 0 {
                self.agenda.commit.insert(key);
                break;
            }
            let number = match step {
                Step::Put(number, value) => {
                    txn = expected.check(txn, &key).put_bound(&key, value, &session);
                    Some(number)
                }
                Step::Delete(version) => {
                    txn = txn.version(&key, version).delete(&key);
                    None
                }
                Step::Look => {
                    self.agenda.look.insert(key);
                    continue;
                }
                Step::Finish => {
                    self.finish(&key);
                    continue;
                }
                Step::Nothing => continue,
            };
            ops += count;
            bytes += size;
            batch.0.push(Item { key, number, expected });
        }
        (batch.len() > 0).then_some((txn, batch))
    }

    /// The commit took effect and made these entries.
    pub(super) fn applied(&mut self, batch: Batch, entries: Vec<Entry>) {
        let mut made = entries.into_iter();
        let (put, deleted): (Vec<_>, Vec<_>) = batch.0.into_iter().partition(|item| item.number.is_some());
        let mut next = self.tracked.range_mut::<Key, _>(..);
        for Item { key, number, .. } in put {
            // They are in the order of the keys: most often it is what comes next, and need not be searched for.
            let mut found = next.next().filter(|(next, _)| **next == key);
            if found.is_none() {
                next = self.tracked.range_mut(&key..);
                found = next.next().filter(|(next, _)| **next == key);
            }
            let (Some(number), Some(entry), Some((_, tracked))) = (number, made.next(), found) else {
                continue;
            };
            let current = entry.session == self.session;
            tracked.standing = entry.session.map(|_| Standing { version: entry.version, number, current });
            tracked.acknowledged = true;
            tracked.record.acknowledge(number);
        }
        for item in deleted {
            self.finish(&item.key);
        }
    }

    /// A check of the commit did not hold: what was found tells why, and the others go again.
    pub(super) fn rejected(&mut self, batch: Batch, rejection: &Rejection) {
        for Item { key, expected, .. } in batch.0 {
            if key != rejection.key {
                self.agenda.commit.insert(key);
                continue;
            }
            let found = rejection.found.as_ref();
            if expected == found.map_or(Expected::Absent, |entry| Expected::Version(entry.version)) {
                // It was otherwise for a moment; look again, but not at once.
                self.deferred.look.insert(key);
            } else {
                self.judge(&key, found);
            }
        }
    }

    /// The commit failed, perhaps only for now; perhaps it took effect, or will while the session lives.
    pub(super) fn failed(&mut self, batch: Batch, error: &Error) {
        let until = self.clock.now() + LATEST;
        for Item { key, number, .. } in batch.0 {
            if error.outcome() == Outcome::NotApplied {
                self.refused(&key, error);
            } else if number.is_some() && self.tracked.contains_key(&key) {
                self.doubts.insert(key.clone(), until);
            }
            if self.tracked.contains_key(&key) {
                self.deferred.commit.insert(key);
            }
        }
    }

    /// Puts the entries of a commit that was too much at once back, to go in smaller ones.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.agenda.commit.extend(batch.0.into_iter().map(|item| item.key));
    }

    /// A try for this key had no effect: a registration that was never put has failed, another goes on being wanted.
    fn refused(&mut self, key: &Key, error: &Error) {
        let Some(tracked) = self.tracked.get(key) else { return };
        tracked.record.fail(error);
        if !tracked.acknowledged && !self.doubts.contains_key(key) {
            self.finish(key);
        }
    }

    /// Looks at these again after a pause.
    pub(super) fn defer_looks(&mut self, keys: Vec<Key>) {
        self.deferred.look.extend(keys);
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// The pause is over.
    pub(super) fn resume(&mut self) {
        self.agenda.append(std::mem::take(&mut self.deferred));
    }
}

/// Whether it came to nothing before it was taken.
fn is_over(record: &Record) -> bool {
    record.is_leaving() || record.status() == Status::Deregistered
}

impl Tracked {
    fn step(&self, in_doubt: bool) -> Step {
        match (self.record.wanted(), &self.standing) {
            (Wanted::Nothing, Some(standing)) => Step::Delete(standing.version),
            (Wanted::Nothing, None) if in_doubt => Step::Look,
            (Wanted::Nothing, None) => Step::Finish,
            (Wanted::Value(..), _) if self.displaced => Step::Nothing,
            (Wanted::Value(number, _), Some(standing)) if standing.current && standing.number == number => {
                Step::Nothing
            }
            (Wanted::Value(number, value), _) => Step::Put(number, value),
        }
    }

    fn expected(&self) -> Expected {
        match &self.standing {
            _ if !self.acknowledged => Expected::Anything,
            Some(standing) => Expected::Version(standing.version),
            None => Expected::Absent,
        }
    }
}

impl Expected {
    fn check(&self, txn: Txn, key: &Key) -> Txn {
        match self {
            Self::Anything => txn,
            Self::Absent => txn.absent(key),
            Self::Version(version) => txn.version(key, *version),
        }
    }
}
