//! Those who are compared take turns in one process: a slice of one, a slice of the next, and so on, for some rounds.
//! Whatever else the machine does then hits all of them, and only their ratio says something.

use std::future::ready;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tokio::time::sleep;

use crate::arena::Arena;

/// How long what a slice left behind may go on before the next one, and before its requests are counted.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Quorate,
    /// The least work that has the same effect.
    Floor,
    /// The requests that the contract takes, by hand, where they are dearer than the floor's.
    Alike,
    Peer,
}

/// What came of a slice.
pub(crate) struct Slice {
    /// In the unit of the metric.
    pub(crate) values: Vec<f64>,
    /// What its requests are divided by.
    pub(crate) operations: usize,
}

pub(crate) trait Work {
    /// What comes before a slice and is neither timed nor counted.
    fn prepare(&mut self) -> LocalBoxFuture<'_, ()> {
        ready(()).boxed_local()
    }

    fn slice(&mut self) -> LocalBoxFuture<'_, Slice>;
}

pub(crate) struct Contestant {
    pub(crate) role: Role,
    pub(crate) name: String,
    work: Box<dyn Work>,
    /// Whether it had nothing to say of this metric, so that it is not asked again.
    is_silent: bool,
}

impl Contestant {
    pub(crate) fn new(role: Role, name: &str, work: impl Work + 'static) -> Self {
        Self { role, name: name.to_owned(), work: Box::new(work), is_silent: false }
    }
}

/// What one of them reached.
pub(crate) struct Reached {
    pub(crate) role: Role,
    pub(crate) name: String,
    /// The median of each round.
    pub(crate) rounds: Vec<f64>,
    /// Requests for one operation, where the server counts.
    pub(crate) trips: Option<f64>,
}

/// So many rounds of all of them, after one that does not count unless there is only one.
pub(crate) async fn contest(arena: &Arena, mut contestants: Vec<Contestant>, rounds: usize) -> Vec<Reached> {
    let mut reached: Vec<_> = contestants.iter().map(Tally::new).collect();
    let first = usize::from(rounds == 1);
    for round in first..=rounds {
        for turn in 0..contestants.len() {
            let index = (turn + round) % contestants.len();
            if contestants[index].is_silent {
                continue;
            }
            contestants[index].work.prepare().await;
            let before = arena.requests().await;
            let slice = contestants[index].work.slice().await;
            sleep(PAUSE).await;
            let requests = arena.requests().await.zip(before).map(|(now, before)| now - before);
            contestants[index].is_silent = slice.values.is_empty();
            if round > 0 {
                reached[index].add(slice, requests.map(|count| count.saturating_sub(arena.look)));
            }
        }
    }
    reached.into_iter().map(Tally::total).filter(|reached| !reached.rounds.is_empty()).collect()
}

struct Tally {
    reached: Reached,
    operations: usize,
    requests: Option<u64>,
}

impl Tally {
    fn new(contestant: &Contestant) -> Self {
        let Contestant { role, name, .. } = contestant;
        let reached = Reached { role: *role, name: name.clone(), rounds: Vec::new(), trips: None };
        Self { reached, operations: 0, requests: Some(0) }
    }

    fn add(&mut self, mut slice: Slice, requests: Option<u64>) {
        self.reached.rounds.extend(median(&mut slice.values));
        self.operations += slice.operations;
        self.requests = self.requests.zip(requests).map(|(all, some)| all + some);
    }

    #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
    fn total(self) -> Reached {
        let counted = self.requests.filter(|_| self.operations > 0 && self.reached.role != Role::Peer);
        let trips = counted.map(|requests| requests as f64 / self.operations as f64);
        Reached { trips, ..self.reached }
    }
}

/// The one in the middle.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
