//! Trouble at random, for servers and for those who contend. All of it ends.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate::Client;
use quorate::kv::Random;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::contest::Contest;
use crate::crew::{Crew, Worker};
use crate::proxy::Proxy;
use crate::record::{Moment, now};
use crate::servers::{Cluster, PATIENCE, until};

/// What was done, and when.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Vec<Fault>>);

#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: &'static str,
    pub(crate) whose: String,
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

/// A member that stands still, whichever it is.
const PAUSED: &str = "member paused";

/// A member that follows nobody any more and noticed, while its clients were connected to it.
pub(crate) const DESERTED: &str = "follower cut off from its leader until it gave up";

impl Journal {
    fn note(&self, kind: &'static str, whose: &str, from: Moment) {
        let fault = Fault { kind, whose: whose.to_owned(), from, to: now() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn has(&self, kind: &str) -> bool {
        self.faults().iter().any(|fault| fault.kind == kind)
    }

    pub(crate) fn by_kind(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for fault in self.faults() {
            *kinds.entry(fault.kind).or_default() += 1;
        }
        kinds
    }

    /// When members stood still.
    pub(crate) fn pauses(&self) -> Vec<(Moment, Moment)> {
        let paused = self.faults().into_iter().filter(|fault| fault.kind == PAUSED);
        paused.map(|fault| (fault.from, fault.to)).collect()
    }
}

/// Torments one member after the other until `end`, the leader every other time. A majority is always well.
pub(crate) async fn members(
    cluster: &mut dyn Cluster,
    random: Random,
    journal: &Journal,
    rest: Range<usize>,
    end: Instant,
) {
    // What only some can be made suffer comes first, so that the shortest run has it.
    let mut deserts = cluster.lines().is_some();
    while Instant::now() < end {
        sleep(some(&random, rest.clone())).await;
        if deserts {
            desert(cluster, &random, journal).await;
        }
        deserts = cluster.lines().is_some() && random.one_in(3);
        if deserts {
            continue;
        }
        let leads = random.one_in(2);
        let count = cluster.addresses().len();
        let member = if leads { cluster.leader().await } else { random.below(0..count) };
        let (whose, from) = (format!("{member}{}", if leads { ", the leader" } else { "" }), now());
        if random.one_in(2) {
            cluster.kill(member);
            sleep(some(&random, 200..3000)).await;
            cluster.restart(member).await;
            journal.note("member killed", &whose, from);
        } else {
            cluster.pause(member);
            sleep(some(&random, 300..4000)).await;
            cluster.resume(member);
            journal.note(PAUSED, &whose, from);
        }
    }
}

/// Cuts a follower off from the others, and not from its clients; in most cases until it has noticed that it follows nobody.
async fn desert(cluster: &mut dyn Cluster, random: &Random, journal: &Journal) {
    let (leader, addresses) = (cluster.leader().await, cluster.addresses());
    let member = (leader + random.below(1..addresses.len())) % addresses.len();
    let Some(lines) = cluster.lines() else { return };
    let (from, briefly) = (now(), journal.has(DESERTED) && random.one_in(3));
    lines.cut_off(member);
    if !briefly {
        until("it gives up", PATIENCE, async || cluster.is_deserted(addresses[member]).await).await;
    }
    sleep(some(random, 200..3000)).await;
    lines.mend();
    cluster.ready().await;
    let kind = if briefly { "follower cut off from its leader for a moment" } else { DESERTED };
    journal.note(kind, &member.to_string(), from);
}

/// Torments workers until `end`, several at a time, and every other time one that has its turn.
pub(crate) async fn workers(
    crew: &Crew,
    observer: &Client,
    random: Random,
    journal: &Arc<Journal>,
    ttl: Duration,
    end: Instant,
) {
    let mut troubled = JoinSet::new();
    while Instant::now() < end {
        sleep(some(&random, share(ttl, 5..35))).await;
        while troubled.try_join_next().is_some_and(|ended| ended.is_ok()) {}
        let holder = if random.one_in(2) { holder(observer, &random, ttl).await } else { None };
        let worker = holder.and_then(|id| crew.find(&id));
        let workers = crew.workers();
        let worker = worker.unwrap_or_else(|| &workers[random.below(0..workers.len())]);
        // One that is in trouble already is left to it.
        if let Ok(worker) = Arc::clone(worker).try_lock_owned() {
            let fault = Ordered::draw(&random, ttl);
            troubled.spawn(fault.befall(worker, Arc::clone(journal)));
        }
    }
    while let Some(ended) = troubled.join_next().await {
        ended.expect("trouble does not panic");
    }
}

/// Who has its turn, as the store says; nobody, if the store does not say so soon.
async fn holder(observer: &Client, random: &Random, ttl: Duration) -> Option<String> {
    let contest = Contest::ALL[random.below(0..Contest::ALL.len())];
    let look = async {
        match contest {
            Contest::Lock => {
                let holders = observer.mutex(contest.name()).ok()?.holders().await.ok()?;
                Some(holders.first()?.owner.clone())
            }
            Contest::Election => Some(observer.follower(contest.name()).ok()?.leader().await.ok()??.id),
        }
    };
    timeout(ttl / 4, look).await.ok()?
}

/// Something that is to happen to a worker, drawn beforehand.
struct Ordered {
    fault: WorkerFault,
    length: Duration,
}

#[derive(Clone, Copy, Debug)]
enum WorkerFault {
    Kill,
    Pause,
    Partition,
    Cut,
    Swallow,
    Delay,
}

impl Ordered {
    fn draw(random: &Random, ttl: Duration) -> Self {
        // What makes a session end is as frequent as what it should outlast.
        let (fault, percent) = match random.below(0..8) {
            0 => (WorkerFault::Kill, 0..100),
            1 => (WorkerFault::Pause, 12..100),
            2 => (WorkerFault::Pause, 100..250),
            3 => (WorkerFault::Partition, 12..100),
            4 => (WorkerFault::Partition, 100..250),
            5 => (WorkerFault::Cut, 0..1),
            6 => (WorkerFault::Swallow, 5..50),
            _ => (WorkerFault::Delay, 50..200),
        };
        Self { fault, length: some(random, share(ttl, percent)) }
    }

    async fn befall(self, mut worker: OwnedMutexGuard<Worker>, journal: Arc<Journal>) {
        let Self { fault, length } = self;
        let from = now();
        match fault {
            WorkerFault::Kill => worker.kill(),
            WorkerFault::Pause => worker.pause(),
            WorkerFault::Partition => worker.proxies.iter().for_each(Proxy::freeze),
            WorkerFault::Cut => worker.proxies.iter().for_each(Proxy::cut),
            WorkerFault::Swallow => worker.proxies.iter().for_each(Proxy::swallow_replies),
            WorkerFault::Delay => worker.proxies.iter().for_each(|proxy| proxy.delay(length / 20)),
        }
        sleep(length).await;
        match fault {
            WorkerFault::Kill => worker.start(),
            WorkerFault::Pause => worker.resume(),
            _ => worker.proxies.iter().for_each(Proxy::heal),
        }
        journal.note(fault.name(), &worker.id, from);
    }
}

impl WorkerFault {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "worker killed",
            Self::Pause => "worker paused",
            Self::Partition => "worker cut off",
            Self::Cut => "connections cut",
            Self::Swallow => "replies swallowed",
            Self::Delay => "requests and replies delayed",
        }
    }
}

/// From so many to so many hundredths of a ttl, in milliseconds.
fn share(ttl: Duration, percent: Range<usize>) -> Range<usize> {
    let ttl = usize::try_from(ttl.as_millis()).expect("a ttl is short");
    ttl * percent.start / 100..ttl * percent.end / 100
}

/// So many milliseconds.
fn some(random: &Random, range: Range<usize>) -> Duration {
    Duration::from_millis(random.below(range) as u64)
}
