//! What the cases are written with.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::case::{Checked, Subject, Violation, ensure};
use crate::kv::{
    Clock, Consistency, Coordinator, Delivery, Entry, Error, ErrorKind, Grant, Instant, Key, Limits, Mode,
    Outcome, Queue, Random, Store, SystemClock, Ticket, Txn, Write,
};

/// The shortest ttl the cases ask for: on a busy machine less proves nothing.
const SHORTEST_TTL: Duration = Duration::from_secs(1);

/// What a bound is exceeded by before that is a violation: the store is not alone on its machine.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long something that should happen at once may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long to wait between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// One run of one case: the subject, and a place in it of one's own.
pub(super) struct Bench<S: ?Sized + Send + Sync + 'static> {
    subject: Arc<dyn Subject<S>>,
    prefix: Key,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl<S: ?Sized + Send + Sync + 'static> Bench<S> {
    pub(super) fn new(subject: Arc<dyn Subject<S>>) -> Self {
        let prefix = subject.prefix();
        // Nobody else uses the prefix, so the tickets need not differ from one run to the next.
        Self { subject, prefix, clock: Arc::new(SystemClock::new()), random: Random::seeded(1) }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) async fn pause(&self, pause: Duration) {
        self.clock.sleep_until(self.clock.now() + pause).await;
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(super) async fn open(&self) -> Checked<Arc<S>> {
        Ok(self.subject.open().await?)
    }

    pub(super) async fn restart(&self) -> Checked<bool> {
        Ok(self.subject.restart().await?)
    }

    pub(super) async fn disturb(&self) -> Checked<bool> {
        Ok(self.subject.disturb().await?)
    }

    pub(super) fn prefix(&self) -> &Key {
        &self.prefix
    }

    /// A key of this case's own.
    pub(super) fn key(&self, below: &str) -> Checked<Key> {
        Ok(self.prefix.join(&Key::new(below)?)?)
    }

    /// A key of this case's own below a reserved segment.
    pub(super) fn hidden(&self, below: &str) -> Checked<Key> {
        Ok(self.prefix.join(&Key::decode(&format!("_quorate/{below}"))?)?)
    }

    /// A queue of this case's own.
    pub(super) fn queue(&self, name: &str) -> Checked<Queue> {
        Ok(Queue::lock(&format!("{}/{name}", self.prefix))?)
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket::new(Mode::Exclusive, &self.random)
    }

    /// Looks until it is so; a violation when it takes too long.
    pub(super) async fn eventually<F, Fut>(&self, what: &str, within: Duration, mut look: F) -> Checked
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Checked<bool>> + Send,
    {
        let deadline = self.now() + within;
        loop {
            let began = self.now();
            if look().await? {
                return Ok(());
            }
            ensure!(began < deadline, "not within {within:?}: {what}");
            self.pause(LOOK).await;
        }
    }
}

impl Bench<dyn Coordinator> {
    /// A session with the shortest ttl that proves something, and when it was asked for.
    pub(super) async fn grant(&self, store: &Arc<dyn Coordinator>) -> Checked<(Grant, Instant)> {
        let sent = self.now();
        Ok((store.grant(short_ttl(&store.limits())).await?, sent))
    }

    /// A session that outlives the case.
    pub(super) async fn long_grant(&self, store: &Arc<dyn Coordinator>) -> Checked<Grant> {
        let limits = store.limits();
        let ttl = short_ttl(&limits).max(Duration::from_mins(1)).min(*limits.ttl.end());
        Ok(store.grant(ttl).await?)
    }
}

/// The shortest ttl that proves something.
pub(super) fn short_ttl(limits: &Limits) -> Duration {
    (*limits.ttl.start()).max(SHORTEST_TTL).min(*limits.ttl.end())
}

/// How long an acknowledged change may take to be told, or a request to be answered.
pub(super) fn patience(limits: &Limits) -> Duration {
    match limits.delivery {
        Delivery::Pushed => PATIENCE,
        Delivery::Polled { every } => PATIENCE + every * 3,
    }
}

/// When what is bound to an unrenewed session must be gone.
pub(super) fn gone_by(limits: &Limits, granted: &Grant) -> Duration {
    granted.ttl + limits.expiry_slack(granted.ttl) + GRACE
}

/// What stands at `key`.
pub(super) async fn get<S: Store + ?Sized>(store: &S, key: &Key) -> Checked<Option<Entry>> {
    Ok(store.get(key, Consistency::Linearizable).await?)
}

/// What stands at `key`, which must be something.
pub(super) async fn standing<S: Store + ?Sized>(store: &S, key: &Key) -> Checked<Entry> {
    get(store, key).await?.ok_or_else(|| Violation::new(format!("nothing stands at {key:?}")))
}

/// A violation if anything stands at `key`.
pub(super) async fn nothing_at<S: Store + ?Sized>(store: &S, key: &Key) -> Checked {
    let found = get(store, key).await?;
    ensure!(found.is_none(), "something stands at {key:?}: {found:?}");
    Ok(())
}

/// The keys below `prefix`, in the order they were listed.
pub(super) async fn listed<S: Store + ?Sized>(store: &S, prefix: &Key) -> Checked<Vec<Key>> {
    let entries = store.list(prefix, Consistency::Linearizable).await?;
    Ok(entries.into_iter().map(|entry| entry.key).collect())
}

/// A violation unless what was got is what was expected.
pub(super) fn same<T: PartialEq + Debug>(what: &str, got: &T, expected: &T) -> Checked {
    ensure!(got == expected, "{what}: got {got:?}, expected {expected:?}");
    Ok(())
}

/// What a commit put, which must have been applied.
pub(super) async fn applied<S: Store + ?Sized>(store: &S, txn: Txn) -> Checked<Vec<Entry>> {
    let asked = format!("{txn:?}");
    match store.commit(txn).await? {
        Write::Applied(entries) => Ok(entries),
        Write::Rejected(rejection) => {
            Err(Violation::new(format!("{asked} was rejected although its checks hold: {rejection:?}")))
        }
    }
}

/// The one entry a put made.
pub(super) async fn put<S: Store + ?Sized>(store: &S, key: &Key, value: &str) -> Checked<Entry> {
    write_one(store, Txn::new().put(key, value.to_owned())).await
}

/// The one entry a commit of one put made.
pub(super) async fn write_one<S: Store + ?Sized>(store: &S, txn: Txn) -> Checked<Entry> {
    only(applied(store, txn).await?)
}

/// The one entry of the answer to a single put.
pub(super) fn only(mut entries: Vec<Entry>) -> Checked<Entry> {
    ensure!(entries.len() == 1, "one put was answered with {} entries: {entries:?}", entries.len());
    entries.pop().ok_or_else(|| Violation::new("a put was answered with no entry"))
}

/// A violation unless the commit is rejected, naming the key and, if anything, what stands there.
pub(super) async fn rejected<S: Store + ?Sized>(store: &S, txn: Txn, key: &Key) -> Checked {
    let asked = format!("{txn:?}");
    let Write::Rejected(rejection) = store.commit(txn).await? else {
        return Err(Violation::new(format!("{asked} was applied although a check does not hold")));
    };
    same("the key a rejection names", &rejection.key, key)?;
    let stray = rejection.found.filter(|entry| entry.key != *key);
    ensure!(stray.is_none(), "a rejection about {key:?} tells of {stray:?}");
    Ok(())
}

/// A violation unless this is an error of that kind that says it was not applied.
pub(super) fn refused<T: Debug>(what: &str, answer: Result<T, Error>, kind: ErrorKind) -> Checked {
    match answer {
        Ok(answer) => Err(Violation::new(format!("{what} was not refused but answered with {answer:?}"))),
        Err(error) => {
            ensure!(error.kind() == kind, "{what} failed as {:?}, not as {kind:?}: {error}", error.kind());
            ensure!(error.outcome() == Outcome::NotApplied, "{what} was refused, yet its outcome is unknown");
            Ok(())
        }
    }
}
