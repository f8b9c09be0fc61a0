//! Stores that break one line of the contract each: the suite must find out every one.

mod keys;
mod numbers;
mod outcomes;
mod queues;
mod sessions;
mod sizes;
mod watches;
mod writes;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use libtest_mimic::{Failed, Trial};
use quorate::backends::Memory;
use quorate::kv::conformance::{self, Subject, Violation};
use quorate::kv::{
    Consistency, Coordinator, Entered, Entry, Event, Grant, Key, Limits, Place, PlaceRef, Queue, QueueStore,
    Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn, WatchStore, Write,
};

use crate::stores::{Time, runtime};

const READ: Consistency = Consistency::Linearizable;

type Told = BoxStream<'static, Result<Event>>;

/// What is wrong with a store: each method stands in for the memory store's own.
#[async_trait]
trait Flaw: Send + Sync + 'static {
    /// The key that is really used.
    fn key(&self, key: &Key) -> Key {
        key.clone()
    }

    /// An entry as it is told.
    fn show(&self, entry: Entry) -> Entry {
        entry
    }

    async fn get(&self, memory: &Memory, key: &Key) -> Result<Option<Entry>> {
        memory.get(key, READ).await
    }

    /// A read that may be stale.
    async fn get_local(&self, memory: &Memory, key: &Key) -> Result<Option<Entry>> {
        self.get(memory, key).await
    }

    async fn list(&self, memory: &Memory, prefix: &Key) -> Result<Vec<Entry>> {
        memory.list(prefix, READ).await
    }

    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        memory.commit(txn).await
    }

    async fn delete_prefix(&self, memory: &Memory, prefix: &Key) -> Result<u64> {
        memory.delete_prefix(prefix).await
    }

    async fn grant(&self, memory: &Memory, ttl: Duration) -> Result<Grant> {
        memory.grant(ttl).await
    }

    async fn renew(&self, memory: &Memory, session: &SessionId) -> Result<Renewal> {
        memory.renew(session).await
    }

    async fn revoke(&self, memory: &Memory, session: &SessionId) -> Result<()> {
        memory.revoke(session).await
    }

    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        memory.watch(scope)
    }

    async fn enter(&self, memory: &Memory, place: Enter) -> Result<Entered> {
        place.send(memory).await
    }

    async fn ahead(&self, memory: &Memory, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        memory.ahead(place, limit).await
    }

    /// Makes trouble; the memory store's own is to cut every watch.
    fn disturb(&self, memory: &Memory) {
        memory.cut_watches();
    }

    /// Stops and starts again; the memory store keeps all but its watches.
    async fn restart(&self, memory: &Memory) -> Result<()> {
        memory.cut_watches();
        Ok(())
    }
}

/// What `enter` is asked.
#[derive(Clone)]
struct Enter {
    queue: Queue,
    session: SessionId,
    ticket: Ticket,
    value: Bytes,
    limit: usize,
}

impl Enter {
    async fn send(self, memory: &Memory) -> Result<Entered> {
        memory.enter(&self.queue, &self.session, &self.ticket, self.value, self.limit).await
    }
}

/// A memory store with a flaw.
#[derive(Clone)]
struct Broken {
    memory: Memory,
    flaw: Arc<dyn Flaw>,
}

impl Broken {
    fn new(flaw: Arc<dyn Flaw>) -> Self {
        Self { memory: Memory::new(), flaw }
    }

    fn told(&self, write: Write) -> Write {
        write.map(|entries| entries.into_iter().map(|entry| self.flaw.show(entry)).collect())
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Broken").field(&self.memory).finish()
    }
}

#[async_trait]
impl Store for Broken {
    fn limits(&self) -> Limits {
        self.memory.limits()
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        let key = self.flaw.key(key);
        let found = match read {
            Consistency::Linearizable => self.flaw.get(&self.memory, &key).await?,
            Consistency::Local => self.flaw.get_local(&self.memory, &key).await?,
        };
        Ok(found.map(|entry| self.flaw.show(entry)))
    }

    async fn list(&self, prefix: &Key, _: Consistency) -> Result<Vec<Entry>> {
        let found = self.flaw.list(&self.memory, &self.flaw.key(prefix)).await?;
        Ok(found.into_iter().map(|entry| self.flaw.show(entry)).collect())
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        let txn = txn.map_keys(|key| Ok(self.flaw.key(key)))?;
        Ok(self.told(self.flaw.commit(&self.memory, txn).await?))
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        self.flaw.delete_prefix(&self.memory, &self.flaw.key(prefix)).await
    }
}

#[async_trait]
impl SessionStore for Broken {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.flaw.grant(&self.memory, ttl).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        self.flaw.renew(&self.memory, session).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        self.flaw.revoke(&self.memory, session).await
    }
}

impl WatchStore for Broken {
    fn watch(&self, scope: Scope) -> Told {
        let scope = match scope {
            Scope::Key(key) => Scope::Key(self.flaw.key(&key)),
            Scope::Prefix(key) => Scope::Prefix(self.flaw.key(&key)),
        };
        let flaw = Arc::clone(&self.flaw);
        let show = move |event| match event {
            Event::Snapshot(entries) => {
                Event::Snapshot(entries.into_iter().map(|entry| flaw.show(entry)).collect())
            }
            Event::Put(entry) => Event::Put(flaw.show(entry)),
            Event::Delete(key) => Event::Delete(key),
        };
        self.flaw.watch(&self.memory, scope).map(move |told| told.map(&show)).boxed()
    }
}

#[async_trait]
impl QueueStore for Broken {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let enter = Enter { queue: queue.clone(), session: session.clone(), ticket: *ticket, value, limit };
        self.flaw.enter(&self.memory, enter).await
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        self.flaw.ahead(&self.memory, place, limit).await
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        self.memory.read_place(queue, entry)
    }
}

#[async_trait]
impl Subject for Broken {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        Ok(Arc::new(self.clone()))
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }

    async fn restart(&self) -> Result<bool> {
        self.flaw.restart(&self.memory).await.map(|()| true)
    }

    async fn disturb(&self) -> Result<bool> {
        self.flaw.disturb(&self.memory);
        Ok(true)
    }
}

/// A line of the contract, what breaks it, and how to make that.
type Defect = (u8, &'static str, fn() -> Arc<dyn Flaw>);

/// Lists flaws that have a default.
macro_rules! defects {
    ($($line:literal: $flaw:ident),* $(,)?) => {
        vec![$(($line, stringify!($flaw), || std::sync::Arc::new($flaw::default()))),*]
    };
}
use defects;

/// Nothing wrong.
struct Sound;

impl Flaw for Sound {}

fn all() -> Vec<Defect> {
    let groups = [
        writes::defects(),
        numbers::defects(),
        sessions::defects(),
        watches::defects(),
        keys::defects(),
        outcomes::defects(),
        sizes::defects(),
        queues::defects(),
    ];
    groups.into_iter().flatten().collect()
}

/// A trial for each defect, and those that ask whether there are enough.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    let red = all().into_iter().map(|(line, name, flaw)| {
        Trial::test(format!("defects::line{line:02}_goes_red_{name}"), move || goes_red(line, &flaw()))
    });
    red.chain([
        Trial::test("defects::every_line_goes_red", every_line_goes_red),
        Trial::test("defects::every_case_goes_red", every_case_goes_red),
        Trial::test("defects::none_stays_green", stays_green),
    ])
}

/// What a store of this flaw is found guilty of by the cases of a line, or of all.
fn verdicts(line: Option<u8>, flaw: &Arc<dyn Flaw>) -> Result<Vec<Violation>, Failed> {
    let mut violations = Vec::new();
    for case in conformance::cases() {
        if line.is_none_or(|line| line == case.line) {
            let subject = Arc::new(Broken::new(Arc::clone(flaw)));
            violations.extend(runtime(Time::Paused)?.block_on(case.run(subject)).err());
        }
    }
    Ok(violations)
}

fn goes_red(line: u8, flaw: &Arc<dyn Flaw>) -> Result<(), Failed> {
    let violations = verdicts(Some(line), flaw)?;
    match violations.first() {
        Some(violation) if violation.line == line => Ok(()),
        Some(violation) => Err(format!("the violation names another line: {violation}").into()),
        None => Err(format!("no case of line {line} found out").into()),
    }
}

fn stays_green() -> Result<(), Failed> {
    let flaw: Arc<dyn Flaw> = Arc::new(Sound);
    let violations = verdicts(None, &flaw)?;
    violations.first().map_or(Ok(()), |violation| Err(violation.to_string().into()))
}

fn every_line_goes_red() -> Result<(), Failed> {
    let asked: BTreeSet<u8> = conformance::cases().iter().map(|case| case.line).collect();
    let broken: BTreeSet<u8> = all().iter().map(|(line, ..)| *line).collect();
    let lines: BTreeSet<u8> = (1..=13).collect();
    if asked == lines && broken == lines {
        return Ok(());
    }
    Err(format!("of the lines {lines:?}, {asked:?} are asked about and {broken:?} are broken").into())
}

/// A case that no defect makes fail may be one that cannot fail.
fn every_case_goes_red() -> Result<(), Failed> {
    let mut green: BTreeSet<&str> = conformance::cases().iter().map(|case| case.name).collect();
    for (line, _, flaw) in all() {
        for violation in verdicts(Some(line), &flaw())? {
            green.remove(violation.case);
        }
    }
    if green.is_empty() { Ok(()) } else { Err(format!("nothing makes these cases fail: {green:?}").into()) }
}
