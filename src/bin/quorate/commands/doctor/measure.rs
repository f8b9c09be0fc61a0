//! Doing everything many times, in a place of its own that is left as it was found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use quorate::Client;
use quorate::kv::{
    Clock, Consistency, Delivery, Entry, Error, ErrorKind, Event, Instant, Key, Outcome, Random, Renewal,
    Result, Scope, SessionId, StoreExt as _, SystemClock, Txn, Version, Write,
};
use quorate::lock::{Mutex, Release};

use super::clocks::Renewals;
use super::latency::Latency;

/// How many entries are listed at once.
const LISTED: usize = 10;
/// How long an event may take before the store is not well.
const PATIENCE: Duration = Duration::from_secs(10);

/// The place, and what it takes to leave it.
pub(super) struct Scratch<'a> {
    client: &'a Client,
    prefix: Key,
    mutex: Mutex,
    /// The session that is being tried out, while there is one.
    session: Option<SessionId>,
    stopwatch: Stopwatch,
}

/// What is written to, below the prefix.
struct Keys {
    plain: Key,
    made: Key,
    other: Key,
    listed: Key,
    watched: Key,
}

impl<'a> Scratch<'a> {
    pub(super) fn new(client: &'a Client, random: &Random) -> Result<Self> {
        let name = format!("quorate-doctor-{:032x}", random.nonce());
        let (prefix, mutex) = (Key::new(&name)?, client.mutex(&name)?);
        Ok(Self { client, prefix, mutex, session: None, stopwatch: Stopwatch::new() })
    }

    /// Times everything this often, or until it is told to stop: soon after that nothing is under way any more.
    pub(super) async fn measure(
        &mut self,
        samples: u32,
        stop: &AtomicBool,
    ) -> Result<(Vec<Latency>, Renewals)> {
        let keys = self.keys()?;
        let goes_on = || !stop.load(Ordering::Relaxed);
        for nth in (0..LISTED).take_while(|_| goes_on()) {
            self.client.kv().put(keys.listed.child(&nth.to_string())?, "listed").await?;
        }
        let mut events = self.client.kv().watch(Scope::Key(keys.watched.clone()));
        self.until(&mut events, |event| matches!(event, Event::Snapshot(_))).await?;
        // The first lock opens the session of this client, which is not what a lock costs.
        drop(self.mutex.lock().await?);
        let session = self.client.sessions().current().await?;
        for _ in (0..samples).take_while(|_| goes_on()) {
            self.keys_once(&keys).await?;
            self.session_once(session.ttl()).await?;
            self.lock_once().await?;
            self.event_once(&keys.watched, &mut events).await?;
        }
        let latencies = self.stopwatch.read();
        let slow = latencies.iter().find(|latency| latency.operation == "renew").map(|renew| renew.p99);
        let (ttl, margin) = (session.ttl(), session.margin());
        Ok((latencies, Renewals { ttl, margin, slow: slow.unwrap_or_default() }))
    }

    /// Deletes what was written, and ends the sessions.
    pub(super) async fn clean_up(&mut self) -> Result<()> {
        let kv = self.client.kv();
        let revoked = match self.session.take() {
            Some(session) => kv.revoke(&session).await,
            None => Ok(()),
        };
        let deleted = kv.delete_prefix(&self.prefix).await;
        self.client.close().await;
        revoked.and(deleted.map(drop))
    }

    fn keys(&self) -> Result<Keys> {
        let key = |name| self.prefix.child(name);
        Ok(Keys {
            plain: key("plain")?,
            made: key("made")?,
            other: key("other")?,
            listed: key("listed")?,
            watched: key("watched")?,
        })
    }

    async fn keys_once(&mut self, keys: &Keys) -> Result<()> {
        let (kv, stopwatch) = (self.client.kv(), &mut self.stopwatch);
        let put = stopwatch.time("put", kv.put(keys.plain.clone(), "put")).await?;
        stopwatch.time("get", kv.get(&keys.plain, Consistency::Linearizable)).await?;
        let created = stopwatch.time("create", kv.create(keys.made.clone(), "made")).await?;
        self.expect("create", &keys.made, &created)?;
        self.stopwatch.time("list", kv.list(&keys.listed, Consistency::Linearizable)).await?;
        let txn = Txn::new().version(&keys.plain, put.version).put(&keys.plain, "1").put(&keys.other, "2");
        let committed = self.stopwatch.time("commit", kv.commit(txn)).await?;
        self.expect("commit", &keys.plain, &committed)?;
        self.stopwatch.time("delete", kv.delete(keys.made.clone())).await
    }

    async fn session_once(&mut self, ttl: Duration) -> Result<()> {
        let (kv, stopwatch) = (self.client.kv(), &mut self.stopwatch);
        let range = kv.limits().ttl;
        let grant = stopwatch.time("grant", kv.grant(ttl.clamp(*range.start(), *range.end()))).await?;
        self.session = Some(grant.id.clone());
        if stopwatch.time("renew", kv.renew(&grant.id)).await? == Renewal::Lost {
            return Err(self.broken("renew", "a session was lost as soon as it was granted"));
        }
        stopwatch.time("revoke", kv.revoke(&grant.id)).await?;
        self.session = None;
        Ok(())
    }

    async fn lock_once(&mut self) -> Result<()> {
        let guard = self.stopwatch.time("lock", self.mutex.lock()).await?;
        match self.stopwatch.time("unlock", async { Ok(guard.release().await) }).await? {
            Release::Released => Ok(()),
            Release::AlreadyLost(reason) => {
                Err(Error::new(ErrorKind::SessionLost, Outcome::NotApplied, reason.to_string()))
            }
        }
    }

    /// From before a put until a watch has told of it.
    async fn event_once(&mut self, key: &Key, events: &mut Events) -> Result<()> {
        let began = self.stopwatch.clock.now();
        let version = self.client.kv().put(key.clone(), "event").await?.version;
        self.until(events, |event| tells_of(event, version)).await?;
        self.stopwatch.add("event", began);
        Ok(())
    }

    /// Waits for an event. What is transient on the way shows as the time it costs.
    async fn until(&self, events: &mut Events, wanted: impl Fn(&Event) -> bool + Send) -> Result<()> {
        let every = match self.client.kv().limits().delivery {
            Delivery::Pushed => Duration::ZERO,
            Delivery::Polled { every } => every,
        };
        let clock = &self.stopwatch.clock;
        let latest = clock.now() + PATIENCE + every * 2;
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = clock.sleep_until(latest) => None,
            };
            match event {
                Some(Ok(event)) if wanted(&event) => return Ok(()),
                Some(Err(error)) if !error.is_transient() => return Err(error),
                Some(_) => {}
                None => {
                    let why = "a watch has not told of a change";
                    return Err(Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why)
                        .at(self.client.kv().limits().backend, "watch"));
                }
            }
        }
    }

    fn expect<T>(&self, operation: &'static str, key: &Key, write: &Write<T>) -> Result<()> {
        let refused = || self.broken(operation, "it was refused where nobody else writes").on(key);
        if write.is_applied() { Ok(()) } else { Err(refused()) }
    }

    fn broken(&self, operation: &'static str, why: &str) -> Error {
        Error::new(ErrorKind::Internal, Outcome::NotApplied, why)
            .at(self.client.kv().limits().backend, operation)
    }
}

type Events = BoxStream<'static, Result<Event>>;

fn tells_of(event: &Event, version: Version) -> bool {
    let is_it = |entry: &Entry| entry.version == version;
    match event {
        Event::Put(entry) => is_it(entry),
        Event::Snapshot(entries) => entries.iter().any(is_it),
        Event::Delete(_) => false,
    }
}

/// What took how long, in the order in which it was first done.
struct Stopwatch {
    clock: SystemClock,
    times: Vec<(&'static str, Vec<Duration>)>,
}

impl Stopwatch {
    fn new() -> Self {
        Self { clock: SystemClock::new(), times: Vec::new() }
    }

    /// Times something that goes well.
    async fn time<T>(
        &mut self,
        operation: &'static str,
        doing: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let began = self.clock.now();
        let done = doing.await?;
        self.add(operation, began);
        Ok(done)
    }

    fn add(&mut self, operation: &'static str, began: Instant) {
        let took = self.clock.now().since(began);
        match self.times.iter_mut().find(|(name, _)| *name == operation) {
            Some((_, times)) => times.push(took),
            None => self.times.push((operation, vec![took])),
        }
    }

    fn read(&self) -> Vec<Latency> {
        self.times.iter().map(|(operation, times)| Latency::of(operation, times.clone())).collect()
    }
}
