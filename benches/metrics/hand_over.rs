//! From one holder to the next.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use quorate::election::{Candidate, Leadership};
use quorate::lock::{Guard, Mutex};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Bar, Metric, Scale};
use crate::arena::Arena;
use crate::contest::{Contestant, Role, Slice, Work, micros};
use crate::floor::{Crowd, Floor, Turns, VALUE};
use crate::work::{after, reported};

/// How many clients the waiters share, at most: by default Consul takes 200 connections from one address.
const CLIENTS: usize = 16;

/// The queue by hand, whose name is as long as what quorate makes.
const STOOD_IN: &str = "bench0/_quorate/lock/wanted";

/// How long those who stand in the queue may take to watch who is ahead.
const SETTLED: Duration = Duration::from_millis(200);

pub(super) fn metrics() -> Vec<Metric> {
    let bar = |backend: &str| if backend == "embedded" { Bar::None } else { Bar::AtMost(1.50) };
    vec![
        Metric {
            name: "hand-over-16",
            unit: "µs",
            bar,
            rounds: 19,
            contestants: |arena, scale| waiters(arena, scale, 16).boxed_local(),
        },
        Metric {
            name: "hand-over-100",
            unit: "µs",
            bar,
            rounds: 13,
            contestants: |arena, scale| waiters(arena, scale, 100).boxed_local(),
        },
        Metric {
            name: "resign-lead",
            unit: "µs",
            bar,
            rounds: 19,
            contestants: |arena, scale| terms(arena, scale).boxed_local(),
        },
    ]
}

/// For each of the waiters, of whom each gives the lock back at once.
async fn waiters(arena: &Arena, scale: Scale, count: usize) -> Vec<Contestant> {
    let namespace = arena.namespace();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS.min(count) {
        clients.push(arena.client(&namespace).await);
    }
    let mutexes = clients.iter().map(|client| client.mutex("wanted").expect("a name"));
    let mutexes: Vec<_> = mutexes.collect();
    let mutexes = mutexes.iter().cycle().take(count).cloned().collect();
    let queue = Queue { mutexes, held: None, waiting: JoinSet::new() };
    let mut all = vec![Contestant::new(Role::Quorate, "quorate", queue)];
    all.extend(deletion(arena, scale.of(30), Duration::ZERO).await);
    all.extend(standing(arena, count).await.or_else(|| alike(arena, scale.of(30), Duration::ZERO)));
    all
}

/// As many by hand at as many clients, with the requests that the contract takes, where those who wait have a part in what one
/// hand-over takes.
async fn standing(arena: &Arena, count: usize) -> Option<Contestant> {
    let crowd = arena.alike.as_ref()?.crowd_alike(CLIENTS.min(count)).await?;
    Some(Contestant::new(Role::Alike, "same requests", Standing { crowd, count, turns: None }))
}

struct Standing {
    crowd: Crowd,
    count: usize,
    turns: Option<Turns>,
}

impl Work for Standing {
    fn prepare(&mut self) -> LocalBoxFuture<'_, ()> {
        async {
            self.turns = Some(self.crowd.stand(STOOD_IN, self.count).await);
            sleep(SETTLED).await;
        }
        .boxed_local()
    }

    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let turns = self.turns.take().expect("they stand");
            per_turn(self.count, turns).await
        }
        .boxed_local()
    }
}

/// What each of so many turns took, on average.
#[expect(clippy::cast_precision_loss, reason = "there are not that many")]
async fn per_turn(operations: usize, turns: impl Future) -> Slice {
    let began = Instant::now();
    turns.await;
    Slice { values: vec![micros(began.elapsed()) / operations as f64], operations }
}

struct Queue {
    mutexes: Vec<Mutex>,
    held: Option<Guard>,
    waiting: JoinSet<()>,
}

impl Work for Queue {
    fn prepare(&mut self) -> LocalBoxFuture<'_, ()> {
        async {
            self.held = Some(self.mutexes[0].lock().await.expect("it is free"));
            for mutex in &self.mutexes {
                let mutex = mutex.clone();
                self.waiting.spawn(async move {
                    mutex.lock().await.expect("the session lives").release().await;
                });
            }
            while self.mutexes[0].waiters().await.expect("it answers").len() < self.mutexes.len() {
                sleep(Duration::from_millis(10)).await;
            }
            sleep(SETTLED).await;
        }
        .boxed_local()
    }

    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let held = self.held.take().expect("it is held");
            per_turn(self.mutexes.len(), async {
                held.release().await;
                while let Some(done) = self.waiting.join_next().await {
                    done.expect("nobody panics");
                }
            })
            .await
        }
        .boxed_local()
    }
}

/// From the begin of the resignation to when the next one leads, at another client.
async fn terms(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let namespace = arena.namespace();
    let clients = [arena.client(&namespace).await, arena.client(&namespace).await];
    let candidate = |nth: usize| Arc::new(clients[nth].candidate("office").expect("a name"));
    let (mut next, mut then): (Arc<Candidate>, Arc<Candidate>) = (candidate(1), candidate(0));
    let mut leads: Option<Leadership> = Some(then.campaign().await.expect("nobody leads"));
    let ours = reported(scale.of(12), async move || {
        let leader = leads.take().expect("somebody leads");
        let elected = async { leads = Some(next.campaign().await.expect("the session lives")) };
        let took = after(SETTLED, leader.resign(), elected).await;
        std::mem::swap(&mut next, &mut then);
        let _kept = &clients;
        took
    });
    let mut all = vec![Contestant::new(Role::Quorate, "quorate", ours)];
    all.extend(deletion(arena, scale.of(12), SETTLED).await);
    all.extend(alike(arena, scale.of(12), SETTLED));
    all
}

/// What takes the least: a deletion by one client, the event at another, and one read. All are as idle before it as they
/// are before what it is compared with.
async fn deletion(arena: &Arena, times: usize, idle: Duration) -> Option<Contestant> {
    let floor: Arc<dyn Floor> = Arc::clone(&arena.floor);
    for key in ["floor-held", "floor-next"] {
        floor.put(key, VALUE).await;
    }
    let mut changes = floor.watch("floor-held").await?;
    let by_hand = reported(times, async move || {
        let told = async {
            changes.next().await;
            floor.get("floor-next").await
        };
        let took = after(idle, floor.delete("floor-held"), told).await;
        tokio::join!(floor.put("floor-held", VALUE), changes.next());
        took
    });
    Some(Contestant::new(Role::Floor, "delete, event, read", by_hand))
}

/// The same with the requests that the contract takes: a place is left, the one behind is told, and sees that it is the first.
fn alike(arena: &Arena, times: usize, idle: Duration) -> Option<Contestant> {
    let alike = arena.alike.clone()?;
    let by_hand = reported(times, async move || {
        alike.hand_over_alike("floor-queue", idle).await.expect("all of them can")
    });
    Some(Contestant::new(Role::Alike, "same requests", by_hand))
}
