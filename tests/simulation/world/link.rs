//! The network between one process and the store: slow, lossy, and sometimes cut.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use quorate::backends::Memory;
use quorate::kv::{
    Consistency, Entered, Entry, Error, ErrorKind, Event, Grant, Key, Limits, Outcome, Place, PlaceRef,
    Queue, QueueStore, Random, Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn,
    WatchStore, Watched, Write,
};
use tokio::sync::{mpsc, oneshot};

use super::clock::ProcessClock;

/// How long a client waits for a reply.
const TIMEOUT: Duration = Duration::from_millis(800);

/// How much later something arrives that took `usual` on another day.
fn late(usual: Duration) -> Duration {
    (20 * usual).min(Duration::from_secs(2))
}

/// What may happen to requests, as one in so many; 0 is never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// The longest a request or reply is under way, but for those that are held up.
    pub(crate) slow: Duration,
    pub(crate) lose_request: u32,
    pub(crate) lose_reply: u32,
    /// Delivered twice: before the reply is, or much later when there is none.
    pub(crate) double: u32,
    /// Delivered only after its sender has given up.
    pub(crate) hold_up: u32,
    /// Told at once that it was not sent.
    pub(crate) refuse: u32,
    /// A watch loses its connection after this many events.
    pub(crate) cut_watch: u32,
}

impl Weather {
    pub(crate) const CALM: Self = Self {
        slow: Duration::from_millis(5),
        lose_request: 0,
        lose_reply: 0,
        double: 0,
        hold_up: 0,
        refuse: 0,
        cut_watch: 0,
    };
}

/// What one process reaches the store through. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    server: Memory,
    clock: Arc<ProcessClock>,
    random: Random,
    weather: Watched<Weather>,
    /// Whether the network is cut, and how often watches were.
    cut: Watched<(bool, u64)>,
    doubled: AtomicU64,
}

type Request<T> = Arc<dyn Fn(Memory) -> BoxFuture<'static, Result<T>> + Send + Sync>;

impl Link {
    pub(crate) fn new(server: Memory, clock: Arc<ProcessClock>, random: Random, weather: Weather) -> Self {
        let (weather, cut) = (Watched::new(weather), Watched::new((false, 0)));
        Self(Arc::new(Inner { server, clock, random, weather, cut, doubled: AtomicU64::new(0) }))
    }

    pub(crate) fn clock(&self) -> &Arc<ProcessClock> {
        &self.0.clock
    }

    pub(crate) fn weather(&self, weather: Weather) {
        self.0.weather.set(weather);
    }

    /// Nothing passes in either direction, until it is healed.
    pub(crate) fn cut(&self) {
        self.0.cut.set((true, self.0.cut.get().1));
    }

    pub(crate) fn heal(&self) {
        self.0.cut.set((false, self.0.cut.get().1 + 1));
    }

    /// Every watch loses its connection.
    pub(crate) fn cut_watches(&self) {
        let (cut, times) = self.0.cut.get();
        self.0.cut.set((cut, times + 1));
    }

    /// How many requests were delivered twice so far. A request that is answered is counted before its answer is.
    pub(crate) fn doubled(&self) -> u64 {
        self.0.doubled.load(Ordering::Relaxed)
    }

    fn is_cut(&self) -> bool {
        self.0.cut.get().0
    }

    fn one_in(&self, of: impl Fn(&Weather) -> u32) -> bool {
        let of = of(&self.0.weather.get());
        self.0.random.one_in(of)
    }

    fn delay(&self) -> Duration {
        let slow = self.0.weather.get().slow;
        Duration::from_millis(self.0.random.below(1..slow.as_millis() as usize + 1) as u64)
    }

    async fn call<T: Send + 'static>(&self, operation: &'static str, request: Request<T>) -> Result<T> {
        self.0.clock.awake().await;
        if self.one_in(|weather| weather.refuse) {
            return Err(
                Error::new(ErrorKind::Unavailable, Outcome::NotApplied, "refused").at("sim", operation)
            );
        }
        let (reply, answer) = oneshot::channel();
        // The request is on its way, whatever becomes of who sent it.
        tokio::spawn(self.clone().deliver(request, reply));
        let answer = tokio::time::timeout(TIMEOUT, answer).await;
        self.0.clock.awake().await;
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                Err(Error::new(ErrorKind::Unavailable, Outcome::Unknown, "no reply").at("sim", operation))
            }
        }
    }

    async fn deliver<T: Send + 'static>(self, request: Request<T>, mut reply: oneshot::Sender<Result<T>>) {
        let (there, back) = (self.delay(), self.delay());
        let lost = self.one_in(|weather| weather.lose_request);
        let (silent, double) =
            (self.one_in(|weather| weather.lose_reply), self.one_in(|weather| weather.double));
        let held_up = self.one_in(|weather| weather.hold_up);
        tokio::time::sleep(if held_up { TIMEOUT + late(there) } else { there }).await;
        if lost || self.is_cut() {
            // Its sender is not told, and waits until its patience ends.
            return reply.closed().await;
        }
        let answer = request(self.0.server.clone()).await;
        tokio::time::sleep(back).await;
        let silent = silent || self.is_cut();
        if double {
            self.0.doubled.fetch_add(1, Ordering::Relaxed);
            // Once there was an answer, nothing of the request arrives any more: that is line 9 of the contract.
            tokio::time::sleep(if silent { late(back) } else { Duration::ZERO }).await;
            drop(request(self.0.server.clone()).await);
        }
        if silent {
            return reply.closed().await;
        }
        drop(reply.send(answer));
    }

    /// Passes events on, in order, until the watcher is gone; a disturbance shows as an error, then as a fresh snapshot.
    async fn relay(self, scope: Scope, events: mpsc::Sender<Result<Event>>) {
        loop {
            let times = self.0.cut.find(|(cut, times)| (!cut).then_some(times)).await;
            tokio::time::sleep(self.delay()).await;
            let mut watch = self.0.server.watch(scope.clone());
            loop {
                let event = tokio::select! {
                    biased;
                    () = events.closed() => return,
                    () = self.0.cut.find(|now| (now != (false, times)).then_some(())) => break,
                    event = watch.next() => event,
                };
                tokio::time::sleep(self.delay()).await;
                let Some(event) = event.filter(|_| !self.one_in(|weather| weather.cut_watch)) else { break };
                if self.0.cut.get() != (false, times) {
                    break;
                }
                if events.send(event).await.is_err() {
                    return;
                }
            }
            let error =
                Error::new(ErrorKind::WatchLost, Outcome::NotApplied, "disconnected").at("sim", "watch");
            if events.send(Err(error)).await.is_err() {
                return;
            }
        }
    }
}

macro_rules! request {
    (|$server:ident| $request:expr) => {
        Arc::new(move |$server: Memory| Box::pin(async move { $request.await }) as BoxFuture<'static, _>)
    };
    ([$($name:ident),*] |$server:ident| $request:expr) => {
        Arc::new(move |$server: Memory| {
            $(let $name = $name.clone();)*
            Box::pin(async move { $request.await }) as BoxFuture<'static, _>
        })
    };
}

#[async_trait]
impl Store for Link {
    fn limits(&self) -> Limits {
        self.0.server.limits()
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        let key = key.clone();
        self.call("get", request!([key] | server | server.get(&key, read))).await
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        let prefix = prefix.clone();
        self.call("list", request!([prefix] | server | server.list(&prefix, read))).await
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        self.call("commit", request!([txn] | server | server.commit(txn))).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        let prefix = prefix.clone();
        self.call("delete_prefix", request!([prefix] | server | server.delete_prefix(&prefix))).await
    }
}

#[async_trait]
impl SessionStore for Link {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.limits().check_ttl(ttl)?;
        self.call("grant", request!(|server| server.grant(ttl))).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        let session = session.clone();
        self.call("renew", request!([session] | server | server.renew(&session))).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        let session = session.clone();
        self.call("revoke", request!([session] | server | server.revoke(&session))).await
    }
}

#[async_trait]
impl WatchStore for Link {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let (sender, events) = mpsc::channel(64);
        let relay = self.clone().relay(scope, sender);
        let clock = Arc::clone(&self.0.clock);
        futures_util::stream::unfold((events, clock, Some(relay)), |(mut events, clock, relay)| async move {
            if let Some(relay) = relay {
                tokio::spawn(relay);
            }
            let event = events.recv().await?;
            clock.awake().await;
            Some((event, (events, clock, None)))
        })
        .boxed()
    }
}

#[async_trait]
impl QueueStore for Link {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let (queue, session, ticket) = (queue.clone(), session.clone(), *ticket);
        let enter = request!(
            [queue, session, value] | server | server.enter(&queue, &session, &ticket, value, limit)
        );
        self.call("enter", enter).await
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        let place = place.clone();
        self.call("ahead", request!([place] | server | server.ahead(&place, limit))).await
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        let place = place.clone();
        self.call("leave", request!([place] | server | server.leave(&place))).await
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        self.0.server.read_place(queue, entry)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}
