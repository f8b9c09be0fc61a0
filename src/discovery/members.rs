//! The live view of a service.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::providers::StoreProvider;
use super::{Changes, Health, Instance, Provider, Snapshot, Strategy, Update};
use crate::kv::backoff::Backoff;
use crate::kv::{Clock, Error, Instant, Random, Result, SystemClock, WatchStore};

/// How many updates that wait already are taken into account before the view is published.
const UPDATES_AT_ONCE: usize = 65_536;

/// Who is there: the instances of a service, kept up to date in the background.
///
/// Reading and picking take no lock and do no I/O. While the provider fails, the last known instances stay, and
/// [`age`](Self::age) says how old they are: an error never empties the view. Clones, and [filtered](Self::filter) views,
/// share one task, which is stopped with the last of them.
///
/// ```
/// use quorate::discovery::providers::Nodes;
/// use quorate::discovery::{Members, RoundRobin};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let members = Members::new(Nodes::new("web", "10.0.0.[1:2]:80")?)?;
/// let turns = RoundRobin::new();
/// members.ready().await;
/// let next = || members.pick(&turns).map(|instance| instance.address.clone());
/// assert_eq!(next().as_deref(), Some("10.0.0.1:80"));
/// assert_eq!(next().as_deref(), Some("10.0.0.2:80"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Members {
    feed: Arc<Feed>,
    lens: Option<Arc<Lens>>,
}

/// What all views share.
struct Feed {
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    _task: AbortOnDropHandle<()>,
}

/// What the task writes on.
struct Board {
    snapshot: ArcSwap<Snapshot>,
    freshness: ArcSwap<Freshness>,
    /// The revision of the snapshot; it wakes those who wait for changes.
    revision: watch::Sender<u64>,
}

/// How far the view can be trusted.
struct Freshness {
    confirmed: Instant,
    stale: Option<Stale>,
}

#[derive(Clone)]
enum Stale {
    Unready,
    Failed(Error),
}

type Keep = dyn Fn(&Instance) -> bool + Send + Sync;

/// A filter, and what it made of the last snapshot.
struct Lens {
    keep: Box<Keep>,
    made: ArcSwap<Snapshot>,
}

impl Members {
    /// The view of what `provider` tells. Fails outside a tokio runtime.
    pub fn new(provider: impl Provider) -> Result<Self> {
        Self::with(provider, Arc::new(SystemClock::new()), Random::from_os())
    }

    /// The instances of `service` that are registered in `store`. Fails on an invalid name, and outside a tokio runtime.
    pub fn of<S: WatchStore + ?Sized>(store: &Arc<S>, service: &str) -> Result<Self> {
        Self::new(StoreProvider::new(store, service)?)
    }

    /// A view on another clock and source of chance, which its ages and pauses go by.
    pub fn with(provider: impl Provider, clock: Arc<dyn Clock>, random: Random) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::invalid("a live view needs a tokio runtime").because(error))?;
        let board = Arc::new(Board {
            snapshot: ArcSwap::default(),
            freshness: ArcSwap::from_pointee(Freshness {
                confirmed: clock.now(),
                stale: Some(Stale::Unready),
            }),
            revision: watch::Sender::new(0),
        });
        let task = follow(Box::new(provider), Arc::clone(&board), Arc::clone(&clock), random);
        let task = AbortOnDropHandle::new(runtime.spawn(task));
        Ok(Self { feed: Arc::new(Feed { board, clock, _task: task }), lens: None })
    }

    /// Only those that `keep` keeps, of those that this view shows. It is asked once for each instance and change of the
    /// view, and not for every pick.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Instance) -> bool + Send + Sync + 'static) -> Self {
        let keep: Box<Keep> = match &self.lens {
            None => Box::new(keep),
            Some(outer) => {
                let outer = Arc::clone(outer);
                Box::new(move |instance| (outer.keep)(instance) && keep(instance))
            }
        };
        let lens = Lens { keep, made: ArcSwap::default() };
        Self { feed: Arc::clone(&self.feed), lens: Some(Arc::new(lens)) }
    }

    /// Only those with this tag.
    #[must_use]
    pub fn tagged(&self, tag: impl Into<String>) -> Self {
        let tag = tag.into();
        self.filter(move |instance| instance.tags.contains(&tag))
    }

    /// Only those in this zone.
    #[must_use]
    pub fn in_zone(&self, zone: impl Into<String>) -> Self {
        let zone = zone.into();
        self.filter(move |instance| instance.zone.as_ref() == Some(&zone))
    }

    /// Only those at least this well.
    #[must_use]
    pub fn healthy(&self, worst: Health) -> Self {
        self.filter(move |instance| instance.health <= worst)
    }

    /// Who is there now, as far as is known. No I/O, no lock.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let whole = self.feed.board.snapshot.load();
        match &self.lens {
            None => Arc::clone(&whole),
            Some(lens) => lens.through(&whole),
        }
    }

    /// One of those that should be given work: neither draining nor critical. `None` when there is none. No I/O, no lock.
    #[must_use]
    pub fn pick<P: Strategy + ?Sized>(&self, strategy: &P) -> Option<Arc<Instance>> {
        let choose = |snapshot: &Snapshot| {
            let pickable = snapshot.pickable();
            pickable.get(strategy.choose(pickable)?).cloned()
        };
        let whole = self.feed.board.snapshot.load();
        match &self.lens {
            None => choose(&whole),
            Some(lens) => choose(&lens.through(&whole)),
        }
    }

    /// Waits until it is known who is there, and says so. Cancel-safe; at once when it is known already.
    pub async fn ready(&self) -> Arc<Snapshot> {
        let mut revision = self.feed.board.revision.subscribe();
        // Fails only when the board is gone, and `self` has it.
        let _ = revision.wait_for(|revision| *revision > 0).await;
        self.snapshot()
    }

    /// How old what is shown may be: zero while the provider keeps up, else the time since it last did.
    #[must_use]
    pub fn age(&self) -> Duration {
        let freshness = self.feed.board.freshness.load();
        if freshness.stale.is_none() {
            Duration::ZERO
        } else {
            self.feed.clock.now().since(freshness.confirmed)
        }
    }

    /// Whether what is shown may be out of date: the provider has failed since it last told all there is, or has not
    /// told anything yet.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.feed.board.freshness.load().stale.is_some()
    }

    /// What made it stale, if an error did.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        match &self.feed.board.freshness.load().stale {
            Some(Stale::Failed(error)) => Some(error.clone()),
            Some(Stale::Unready) | None => None,
        }
    }

    /// What changes: first all there is, as soon as that is known, then the difference to what this stream told last.
    /// Changes that follow each other quickly may come as one. The stream never ends, and keeps the view alive.
    #[must_use]
    pub fn changes(&self) -> BoxStream<'static, Changes> {
        let revision = self.feed.board.revision.subscribe();
        let state = (self.clone(), revision, None::<Arc<Snapshot>>);
        futures_util::stream::unfold(state, |(members, mut revision, mut seen)| async move {
            loop {
                let known = seen.as_ref().map_or(0, |seen| seen.revision());
                revision.wait_for(|revision| *revision > known).await.ok()?;
                let now = members.snapshot();
                let changes = match &seen {
                    None => Changes::between(&Snapshot::default(), &now),
                    Some(seen) => Changes::between(seen, &now),
                };
                let first = seen.replace(now).is_none();
                if first || !changes.is_empty() {
                    return Some((changes, (members, revision, seen)));
                }
            }
        })
        .boxed()
    }
}

impl Lens {
    /// What it makes of `whole`, made once for each revision.
    fn through(&self, whole: &Snapshot) -> Arc<Snapshot> {
        let made = self.made.load();
        if made.revision() == whole.revision() {
            return Arc::clone(&made);
        }
        let made = Arc::new(whole.filtered(&*self.keep));
        self.made.store(Arc::clone(&made));
        made
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("Members")
            .field("revision", &snapshot.revision())
            .field("instances", &snapshot.instances().len())
            .field("stale", &self.is_stale())
            .finish_non_exhaustive()
    }
}

/// The task of a view.
async fn follow(provider: Box<dyn Provider>, board: Arc<Board>, clock: Arc<dyn Clock>, random: Random) {
    let mut backoff = Backoff::new(&clock, &random, Duration::from_millis(20), Duration::from_secs(5));
    let mut draft = Draft { confirmed: clock.now(), ..Draft::default() };
    loop {
        let mut updates = provider.updates();
        while let Some(update) = updates.next().await {
            if update.is_ok() {
                backoff.reset();
            }
            draft.apply(update, clock.now());
            for _ in 1..UPDATES_AT_ONCE {
                let Some(Some(update)) = updates.next().now_or_never() else { break };
                draft.apply(update, clock.now());
            }
            draft.publish(&board);
        }
        drop(updates);
        backoff.pause().await;
    }
}

/// What is known, before it is published.
#[derive(Default)]
struct Draft {
    instances: BTreeMap<String, Arc<Instance>>,
    revision: u64,
    changed: bool,
    complete: bool,
    confirmed: Instant,
    stale: Option<Error>,
}

impl Draft {
    fn apply(&mut self, update: Result<Update>, now: Instant) {
        match update {
            Ok(Update::Reset(instances)) => {
                self.reset(instances);
                self.complete = true;
                self.stale = None;
            }
            Ok(Update::Upsert(instance)) => self.upsert(instance),
            Ok(Update::Remove(id)) => self.changed |= self.instances.remove(&id).is_some(),
            Ok(Update::Confirm) => {}
            Err(error) => {
                if self.stale.is_none() {
                    tracing::warn!(%error, "the view of a service is stale");
                }
                self.stale = Some(error);
            }
        }
        if self.stale.is_none() {
            self.confirmed = now;
        }
    }

    /// Keeps what stays the same, so that whoever compares need not look into it.
    fn reset(&mut self, instances: Vec<Instance>) {
        let mut before = std::mem::take(&mut self.instances);
        for instance in instances {
            if let Some((id, same)) = before.remove_entry(&instance.id).filter(|(_, was)| **was == instance) {
                self.instances.insert(id, same);
            } else {
                self.upsert(instance);
            }
        }
        self.changed |= !before.is_empty() || !self.complete;
    }

    fn upsert(&mut self, instance: Instance) {
        let known = self.instances.get(&instance.id).is_some_and(|known| **known == instance);
        if !known {
            self.instances.insert(instance.id.clone(), Arc::new(instance));
            self.changed = true;
        }
    }

    /// Shows it, once a first `Reset` has told all there is.
    fn publish(&mut self, board: &Board) {
        if std::mem::take(&mut self.changed) && self.complete {
            self.revision += 1;
            let instances = self.instances.values().cloned().collect();
            board.snapshot.store(Arc::new(Snapshot::new(self.revision, instances)));
        }
        let stale = match &self.stale {
            Some(error) => Some(Stale::Failed(error.clone())),
            None if !self.complete => Some(Stale::Unready),
            None => None,
        };
        board.freshness.store(Arc::new(Freshness { confirmed: self.confirmed, stale }));
        // After the snapshot and its state, so that whoever is woken sees both.
        board.revision.send_if_modified(|known| std::mem::replace(known, self.revision) != self.revision);
    }
}
