//! Makes trouble between a program and its store, of a chosen kind at a chosen moment, or by seeded chance.
//!
//! The trouble is all within the contract: what a network and a server may do to anybody. What a caller makes of a
//! lost reply is the question that matters most, so [`Fault::After`] is the fault to start with.
//!
//! ```
//! use quorate::backends::Memory;
//! use quorate::kv::chaos::{Chaos, Fault};
//! use quorate::kv::counting::Operation;
//! use quorate::kv::{Outcome, StoreExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> quorate::kv::Result<()> {
//! let (store, control) = Chaos::new(Memory::new());
//! control.next(Operation::Commit, Fault::After);
//! let error = store.create("a", "1").await.expect_err("the reply was lost");
//! assert_eq!(error.outcome(), Outcome::Unknown);
//! assert!(store.exists("a").await?, "it was applied all the same");
//! assert_eq!(control.struck(), [(Operation::Commit, Fault::After)]);
//! # Ok(()) }
//! ```

mod control;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub use control::{ChaosControl, Fault};

use super::counting::Operation;
use super::{
    Clock, Consistency, Entered, Entry, Error, ErrorKind, Event, Grant, Key, Limits, Outcome, Place,
    PlaceRef, Queue, QueueStore, Random, Renewal, Result, Scope, SessionId, SessionStore, Store, SystemClock,
    Ticket, Txn, WatchStore, Write,
};

/// A store with trouble in front of it, made by the [`ChaosControl`] that came with it. Clones are clients of the
/// same store with the same trouble. Without any it is as good as the store behind it.
pub struct Chaos<S: ?Sized> {
    link: Arc<Link<S>>,
}

/// What lies between the caller and the store.
struct Link<S: ?Sized> {
    control: ChaosControl,
    clock: Arc<dyn Clock>,
    /// Requests that were given up but not lost; they arrive before the next one does.
    late: Mutex<VecDeque<Late<S>>>,
    store: Arc<S>,
}

/// A request that can be sent, more than once if need be.
type Request<S, T> = Box<dyn for<'a> Fn(&'a S) -> BoxFuture<'a, Result<T>> + Send + Sync>;

/// A request whose answer nobody waits for.
type Late<S> = Box<dyn for<'a> FnOnce(&'a S) -> BoxFuture<'a, ()> + Send>;

impl<S: Store> Chaos<S> {
    /// Puts a quiet link in front of `store`, with chance of a fixed seed and the default clock.
    #[must_use]
    pub fn new(store: S) -> (Self, ChaosControl) {
        Self::seeded(Arc::new(store), Random::seeded(0), Arc::new(SystemClock::new()))
    }
}

impl<S: Store + ?Sized> Chaos<S> {
    /// Puts a quiet link in front of `store`. The same `random` gives the same trouble for the same requests;
    /// delays are slept on `clock`.
    #[must_use]
    pub fn seeded(store: Arc<S>, random: Random, clock: Arc<dyn Clock>) -> (Self, ChaosControl) {
        let control = ChaosControl::new(random);
        let link = Link { control: control.clone(), clock, late: Mutex::default(), store };
        (Self { link: Arc::new(link) }, control)
    }

    /// The store behind the trouble.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.link.store
    }

    /// Lets every [late](Fault::Late) request arrive now. Dropping it may lose the one that is on its way.
    pub async fn settle(&self) {
        self.link.deliver().await;
    }

    /// How many [late](Fault::Late) requests have not arrived yet.
    #[must_use]
    pub fn late(&self) -> usize {
        self.link.late().len()
    }
}

impl<S: SessionStore + ?Sized> Chaos<S> {
    /// Ends a session in the store behind its owner's back, as an operator or an expiry would.
    pub async fn end_session(&self, session: &SessionId) -> Result<()> {
        self.link.store.revoke(session).await
    }
}

impl<S: Store + ?Sized> Link<S> {
    fn next_late(&self) -> Option<Late<S>> {
        self.late().pop_front()
    }

    fn late(&self) -> MutexGuard<'_, VecDeque<Late<S>>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn deliver(&self) {
        while let Some(request) = self.next_late() {
            request(&self.store).await;
        }
    }

    async fn yields(&self) {
        for _ in 0..self.control.yield_count() {
            tokio::task::yield_now().await;
        }
    }

    async fn sleep(&self, pause: Duration) {
        if !pause.is_zero() {
            self.clock.sleep_until(self.clock.now() + pause).await;
        }
    }
}

fn unanswered(operation: Operation, outcome: Outcome, what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, outcome, format!("injected: {what}")).at("chaos", operation.name())
}

impl<S: Store + ?Sized> Chaos<S> {
    /// Sends a request through the trouble.
    async fn send<T: Send + 'static>(&self, operation: Operation, request: Request<S, T>) -> Result<T> {
        let link = &*self.link;
        link.deliver().await;
        let lost = |what| unanswered(operation, Outcome::Unknown, what);
        let fault = link.control.draw(operation);
        link.yields().await;
        let answer = match fault {
            None => request(&link.store).await,
            Some(Fault::Before) => {
                Err(unanswered(operation, Outcome::NotApplied, "the request was not sent"))
            }
            Some(Fault::After) => request(&link.store).await.and(Err(lost("the reply was lost"))),
            Some(Fault::Lost) => Err(lost("the request was lost on its way")),
            Some(Fault::Late) => {
                link.late()
                    .push_back(Box::new(move |store| Box::pin(async move { drop(request(store).await) })));
                Err(lost("the request is late"))
            }
            Some(Fault::Twice) => {
                let answer = request(&link.store).await;
                drop(request(&link.store).await);
                answer
            }
            Some(Fault::Delay { before, after }) => {
                link.sleep(before).await;
                let answer = request(&link.store).await;
                link.sleep(after).await;
                answer
            }
        };
        link.yields().await;
        answer
    }
}

impl<S: ?Sized> Clone for Chaos<S> {
    fn clone(&self) -> Self {
        Self { link: Arc::clone(&self.link) }
    }
}

impl<S: Store + ?Sized> fmt::Debug for Chaos<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos").field("store", &&self.link.store).field("late", &self.late()).finish()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store + ?Sized> Store for Chaos<S> {
    fn limits(&self) -> Limits {
        self.link.store.limits()
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        let key = key.clone();
        self.send(
            Operation::Get,
            Box::new(move |store| {
                let key = key.clone();
                Box::pin(async move { store.get(&key, read).await })
            }),
        )
        .await
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        let prefix = prefix.clone();
        self.send(
            Operation::List,
            Box::new(move |store| {
                let prefix = prefix.clone();
                Box::pin(async move { store.list(&prefix, read).await })
            }),
        )
        .await
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        txn.validate(&self.limits())?;
        self.send(Operation::Commit, Box::new(move |store| store.commit(txn.clone()))).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        let prefix = prefix.clone();
        self.send(
            Operation::DeletePrefix,
            Box::new(move |store| {
                let prefix = prefix.clone();
                Box::pin(async move { store.delete_prefix(&prefix).await })
            }),
        )
        .await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SessionStore + ?Sized> SessionStore for Chaos<S> {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.send(Operation::Grant, Box::new(move |store| store.grant(ttl))).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        let session = session.clone();
        self.send(
            Operation::Renew,
            Box::new(move |store| {
                let session = session.clone();
                Box::pin(async move { store.renew(&session).await })
            }),
        )
        .await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        let session = session.clone();
        self.send(
            Operation::Revoke,
            Box::new(move |store| {
                let session = session.clone();
                Box::pin(async move { store.revoke(&session).await })
            }),
        )
        .await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: QueueStore + ?Sized> QueueStore for Chaos<S> {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let (queue, session, ticket) = (queue.clone(), session.clone(), *ticket);
        self.send(
            Operation::Enter,
            Box::new(move |store| {
                let (queue, session, value) = (queue.clone(), session.clone(), value.clone());
                Box::pin(async move { store.enter(&queue, &session, &ticket, value, limit).await })
            }),
        )
        .await
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        let place = place.clone();
        self.send(
            Operation::Ahead,
            Box::new(move |store| {
                let place = place.clone();
                Box::pin(async move { store.ahead(&place, limit).await })
            }),
        )
        .await
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        let place = place.clone();
        self.send(
            Operation::Leave,
            Box::new(move |store| {
                let place = place.clone();
                Box::pin(async move { store.leave(&place).await })
            }),
        )
        .await
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        self.link.store.read_place(queue, entry)
    }
}

/// A watch with trouble on its way.
struct Watched<S: ?Sized> {
    link: Arc<Link<S>>,
    scope: Scope,
    cuts: tokio::sync::watch::Receiver<u64>,
    stream: BoxStream<'static, Result<Event>>,
}

impl<S: WatchStore + ?Sized> Watched<S> {
    async fn next(&mut self) -> Option<Result<Event>> {
        let told = tokio::select! {
            biased;
            // The control that sends cuts lives in the link, so this cannot fail.
            _ = self.cuts.changed() => return Some(Err(self.cut())),
            told = self.stream.next() => told?,
        };
        match self.link.control.draw(Operation::Watch) {
            None => Some(told),
            Some(Fault::Delay { before, after }) => {
                self.link.sleep(before + after).await;
                Some(told)
            }
            // What was told is lost, and the fresh snapshot makes up for it.
            Some(_) => Some(Err(self.cut())),
        }
    }

    fn cut(&mut self) -> Error {
        self.stream = self.link.store.watch(self.scope.clone());
        let cut = "injected: the watch was cut";
        Error::new(ErrorKind::WatchLost, Outcome::NotApplied, cut).at("chaos", Operation::Watch.name())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: WatchStore + ?Sized> WatchStore for Chaos<S> {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let stream = self.link.store.watch(scope.clone());
        let watched = Watched { link: Arc::clone(&self.link), scope, cuts: self.link.control.cuts(), stream };
        futures_util::stream::unfold(watched, |mut watched| async move {
            watched.next().await.map(|told| (told, watched))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::Memory;
    use crate::kv::{Mode, StoreExt};

    const PAUSE: Duration = Duration::from_secs(3);

    fn outcome<T>(answer: Result<T>) -> Option<Outcome> {
        answer.err().map(|error| error.outcome())
    }

    #[tokio::test]
    async fn each_fault_does_what_it_says() -> Result<()> {
        let (store, control) = Chaos::new(Memory::new());
        let faults = [
            (Fault::Before, Some(Outcome::NotApplied), false),
            (Fault::After, Some(Outcome::Unknown), true),
            (Fault::Lost, Some(Outcome::Unknown), false),
            (Fault::Twice, None, true),
        ];
        for (fault, expected, applied) in faults {
            control.next(Operation::Commit, fault);
            assert_eq!(outcome(store.put("a", "1").await), expected, "{fault:?}");
            assert_eq!(store.inner().exists("a").await?, applied, "{fault:?}");
            store.delete("a").await?;
        }
        let struck: Vec<_> = control.struck().into_iter().map(|(_, fault)| fault).collect();
        assert_eq!(struck, faults.map(|(fault, ..)| fault));
        Ok(())
    }

    #[tokio::test]
    async fn a_late_request_arrives_before_the_next() -> Result<()> {
        let (store, control) = Chaos::new(Memory::new());
        control.next(Operation::Commit, Fault::Late);
        assert_eq!(outcome(store.put("a", "late").await), Some(Outcome::Unknown));
        assert!(!store.inner().exists("a").await?);
        assert_eq!(store.late(), 1);
        store.put("b", "1").await?;
        assert!(store.inner().exists("a").await?);
        control.next(Operation::Commit, Fault::Late);
        assert_eq!(outcome(store.put("a", "later").await), Some(Outcome::Unknown));
        store.settle().await;
        assert_eq!(store.inner().fetch("a").await?.map(|entry| entry.value), Some("later".into()));
        Ok(())
    }

    #[tokio::test]
    async fn an_enter_sent_twice_is_one_place() -> Result<()> {
        let (store, control) = Chaos::new(Memory::new());
        let session = store.grant(Duration::from_secs(9)).await?.id;
        let (queue, ticket) = (Queue::lock("q")?, Ticket::new(Mode::Exclusive, &Random::seeded(1)));
        control.pass(Operation::Enter, 1);
        control.next(Operation::Enter, Fault::After);
        control.next(Operation::Enter, Fault::Twice);
        let enter = || store.enter(&queue, &session, &ticket, Bytes::new(), 9);
        let entered = enter().await?;
        assert_eq!(outcome(enter().await), Some(Outcome::Unknown));
        assert_eq!(enter().await?, entered);
        assert_eq!(store.list(queue.key(), Consistency::Linearizable).await?.len(), 1);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_lies_on_both_sides_of_the_effect() -> Result<()> {
        let (store, control) = Chaos::new(Memory::new());
        let clock = SystemClock::new();
        control.next(Operation::Commit, Fault::Delay { before: PAUSE, after: PAUSE });
        let (whole, key) = (store.clone(), Key::new("a")?);
        let put = async { whole.put(&key, "1").await };
        let look = async {
            clock.sleep_until(clock.now() + PAUSE / 2).await;
            let before = store.inner().exists(&key).await?;
            clock.sleep_until(clock.now() + PAUSE).await;
            Ok((before, store.inner().exists(&key).await?))
        };
        let (_, seen) = futures_util::future::try_join(put, look).await?;
        assert_eq!(seen, (false, true));
        assert!(clock.now().since(super::super::Instant::default()) >= PAUSE * 2);
        Ok(())
    }

    #[tokio::test]
    async fn a_cut_watch_says_so_and_starts_over() -> Result<()> {
        let (store, control) = Chaos::new(Memory::new());
        let mut watch = store.watch(Scope::Prefix(Key::root()));
        assert_eq!(watch.next().await.transpose()?, Some(Event::Snapshot(vec![])));
        control.cut_watches();
        let entry = store.put("a", "1").await?;
        assert!(matches!(watch.next().await, Some(Err(error)) if error.kind() == ErrorKind::WatchLost));
        assert_eq!(watch.next().await.transpose()?, Some(Event::Snapshot(vec![entry])));
        control.next(Operation::Watch, Fault::Lost);
        let entry = store.put("a", "2").await?;
        assert!(matches!(watch.next().await, Some(Err(_))));
        assert_eq!(watch.next().await.transpose()?, Some(Event::Snapshot(vec![entry])));
        Ok(())
    }

    #[tokio::test]
    async fn chance_can_be_repeated() -> Result<()> {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let memory: Arc<Memory> = Arc::new(Memory::new());
            let (store, control) = Chaos::seeded(memory, Random::seeded(5), Arc::new(SystemClock::new()));
            control.chance(Operation::Get, Fault::Before, 3);
            let mut failed = Vec::new();
            for round in 0..100 {
                failed.extend(store.fetch("a").await.is_err().then_some(round));
            }
            assert_eq!(failed.len(), control.struck().len());
            assert!((10..70).contains(&failed.len()), "{failed:?}");
            control.calm();
            store.fetch("a").await?;
            runs.push(failed);
        }
        assert_eq!(runs[0], runs[1]);
        Ok(())
    }

    #[tokio::test]
    async fn a_session_ends_behind_its_owner() -> Result<()> {
        let (store, _) = Chaos::new(Memory::new());
        let session = store.grant(Duration::from_secs(9)).await?.id;
        store.end_session(&session).await?;
        assert_eq!(store.renew(&session).await?, Renewal::Lost);
        Ok(())
    }
}
