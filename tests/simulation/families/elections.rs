//! Candidates who stand, lead, work, resign and are stopped, and followers who look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use quorate::backends::Memory;
use quorate::election::{Candidate, Follower, Leader, Status, Term};
use quorate::kv::{BoxError, Clock, Entry, ErrorKind, Fence};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::locks::{data_never_goes_back, empties};
use crate::world::{Climate, History, Link, Process, ProcessClock, TTL, World, must, say, standing};

const NAME: &str = "chief";
/// How long a process that was just resumed, or a store that just let go, has until others may count on it.
const MOMENT: Duration = Duration::from_millis(5);
/// The longest a candidate pauses after errors or to hold off, on the slowest clock.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The work that was ever done, by term.
type Works = Arc<Mutex<BTreeMap<Fence, Work>>>;

struct Work {
    by: usize,
    clock: Arc<ProcessClock>,
    ended: Option<Duration>,
}

/// Nothing yet, or who leads.
#[derive(Clone, Debug, Default, PartialEq)]
enum Heard {
    #[default]
    Nothing,
    Leader(Option<Leader>),
}

/// What a follower was told last.
type Told = Arc<Mutex<Heard>>;

#[derive(Clone)]
struct Actor {
    process: Process,
    server: Memory,
    history: History,
    climate: Climate,
    works: Works,
    candidate: Candidate<Link>,
    follower: Follower<Link>,
    told: Told,
    /// From here on nobody does anything out of turn.
    calm: CancellationToken,
    stop: CancellationToken,
}

/// How work goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Heeds,
    Ignores,
    Returns,
    Fails,
    Panics,
}

/// How a run ends.
enum End {
    Stopped,
    Dropped,
}

pub(crate) async fn run(seed: u64, climate: Climate) -> History {
    let world = World::new(seed, climate, 2 + (seed % 3) as usize);
    let history = world.history.clone();
    let mut watching = JoinSet::new();
    world.record(&mut watching);
    watching.spawn(data_never_goes_back(world.server.clone(), history.clone()));
    let (works, calm) = (Works::default(), CancellationToken::new());
    if climate == Climate::Mild {
        watching.spawn(one_at_a_time(history.clone(), Arc::clone(&works)));
    }
    let (mut actors, mut running) = (BTreeMap::new(), JoinSet::new());
    let mut start = |process: &Process| {
        let actor = Actor::new(&world, process, &works, &calm);
        watching.spawn(actor.clone().in_process(Actor::follow));
        watching.spawn(actor.clone().in_process(Actor::watch_status));
        if climate == Climate::Mild {
            watching.spawn(actor.clone().in_process(Actor::says_what_is_so));
        }
        running.spawn(actor.clone().in_process(Actor::live));
        actors.insert(process.name, actor);
    };
    world.processes().iter().for_each(&mut start);
    world.trouble(start).await;
    let actors: Vec<_> = actors.into_values().collect();
    calm.cancel();
    finale(&world, &actors, running).await;
    history
}

/// With all trouble over: all stand and one leads, one after the other hands over, and nothing is left behind.
async fn finale(world: &World, actors: &[Actor], mut running: JoinSet<()>) {
    let history = &world.history;
    // What the trouble did to a session shows within its ttl.
    tokio::time::sleep(2 * TTL).await;
    let all: Vec<_> = actors.iter().collect();
    let stand = becomes(LONGEST_PAUSE, || async { all_stand(&all).await }).await;
    must!(history, stand, "all is well, and not all stand: {:?}", world.standing().await);
    let mut left = all;
    while let Some(leader) = leader_of(&left).await {
        let agreed = becomes(Duration::from_secs(1), || async { agree(actors).await }).await;
        must!(history, agreed, "followers were told {:?}", told(actors));
        actors[leader].candidate.proclaim("last words").await.unwrap_or_else(|error| {
            history.violation(format_args!("p{leader} cannot proclaim though all is well: {error}"));
        });
        let agreed = becomes(Duration::from_secs(1), || async { agree(actors).await }).await;
        must!(history, agreed, "followers were told {:?} after a proclamation", told(actors));
        say!(history, "p{leader} is stopped");
        actors[leader].stop.cancel();
        left.retain(|actor| actor.process.name != leader);
        let patience = if world.climate == Climate::Mild { TTL / 4 } else { LONGEST_PAUSE };
        let over = becomes(patience, || async { all_stand(&left).await }).await;
        must!(history, over, "p{leader} was stopped, and did not hand over: {:?}", world.standing().await);
        if !over {
            break;
        }
    }
    must!(history, left.is_empty(), "nobody leads, though these stand: {:?}", world.standing().await);
    let ended = tokio::time::timeout(TTL, async { while running.join_next().await.is_some() {} }).await;
    must!(history, ended.is_ok(), "some candidates go on though they were stopped");
    empties(world, 3 * TTL, "all candidates were stopped").await;
    let agreed = becomes(Duration::from_secs(1), || async { agree(actors).await }).await;
    must!(history, agreed, "nobody leads, and followers were told {:?}", told(actors));
    for actor in actors {
        let status = *actor.candidate.status().borrow();
        must!(history, status == Status::Idle, "p{} was stopped, and is {status:?}", actor.process.name);
        actor.process.sessions.close().await;
    }
    let closed = becomes(3 * TTL, || async { world.server.sessions().is_empty() }).await;
    must!(history, closed, "sessions are left: {:?}", world.server.sessions());
    must!(history, world.standing().await.is_empty(), "entries outlive their sessions");
}

async fn becomes<Fut>(patience: Duration, condition: impl Fn() -> Fut + Send + Sync) -> bool
where
    Fut: Future<Output = bool> + Send,
{
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(patience, holds).await.is_ok()
}

/// Whether the first of those who stand does its work, and, unless operators meddled, all of these stand, and nobody
/// else.
async fn all_stand(actors: &[&Actor]) -> bool {
    let Some(first) = actors.first() else { return true };
    let places = first.places().await;
    let is_told = |actor: &&Actor| {
        matches!(*actor.candidate.status().borrow(), Status::Campaigning | Status::Leading(_))
    };
    let works = places.first().is_some_and(|place| {
        let among = |work: &Work| actors.iter().any(|actor| actor.process.name == work.by);
        works(&first.works).get(&place.fence).is_some_and(|work| work.ended.is_none() && among(work))
    });
    // Who waits does not watch its own place: it learns when it is woken that an operator deleted it.
    let complete =
        first.climate == Climate::Wild || (places.len() == actors.len() && actors.iter().all(is_told));
    works && complete
}

/// The process whose candidate the store says leads.
async fn leader_of(actors: &[&Actor]) -> Option<usize> {
    let leader = actors.first()?.truth().await?;
    actors.iter().map(|actor| actor.process.name).find(|name| leader.id == format!("p{name}"))
}

/// Whether all followers were told what is true.
async fn agree(actors: &[Actor]) -> bool {
    let Some(first) = actors.first() else { return true };
    let truth = Heard::Leader(first.truth().await);
    told(actors).into_iter().all(|told| told == truth)
}

fn told(actors: &[Actor]) -> Vec<Heard> {
    let told = |actor: &Actor| actor.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    actors.iter().map(told).collect()
}

/// The work of no two running processes lasts at once.
async fn one_at_a_time(history: History, all: Works) {
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let open = |(_, work): &(&Fence, &Work)| work.ended.is_none() && runs(&work.clock);
        let at_work: Vec<_> = works(&all).iter().filter(open).map(own).collect();
        must!(history, at_work.len() < 2, "these work at once: {at_work:?}");
    }
}

/// Whether a process may be doing something in this very moment: one that is paused, or has not had a moment since,
/// does nothing.
fn runs(clock: &ProcessClock) -> bool {
    clock.running_for().is_some_and(|running| running > MOMENT)
}

fn works(works: &Works) -> std::sync::MutexGuard<'_, BTreeMap<Fence, Work>> {
    works.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Actor {
    #[expect(clippy::expect_used, reason = "the names are good")]
    fn new(world: &World, process: &Process, works: &Works, calm: &CancellationToken) -> Self {
        let id = format!("p{}", process.name);
        let candidate = Candidate::new(&process.link, &process.sessions, NAME, &id)
            .expect("the names are good")
            .data("at first")
            .grace(Duration::from_millis([50, 500, 5_000][process.random.below(0..3)]))
            .hold_off(Duration::from_millis(50), Duration::from_millis(400));
        let clock = Arc::<ProcessClock>::clone(process.link.clock()) as Arc<dyn Clock>;
        let follower = Follower::new(&process.link, NAME).expect("the name is good");
        Self {
            process: process.clone(),
            server: world.server.clone(),
            history: world.history.clone(),
            climate: world.climate,
            works: Arc::clone(works),
            candidate,
            follower: follower.with(clock, process.random.clone()),
            told: Told::default(),
            calm: calm.clone(),
            stop: CancellationToken::new(),
        }
    }

    /// Does something until its process is killed.
    async fn in_process<F: Future<Output = ()>>(self, program: impl FnOnce(Self) -> F) {
        let process = self.process.clone();
        process.run(program(self)).await;
    }

    async fn follow(self) {
        let mut leaders = self.follower.leaders();
        while let Some(leader) = leaders.next().await {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Heard::Leader(leader);
        }
    }

    /// Terms begin and end by turns, each once.
    async fn watch_status(self) {
        let (mut status, mut highest, mut before) = (self.candidate.status(), None, Status::Idle);
        while status.changed().await.is_ok() {
            let now = *status.borrow_and_update();
            let name = self.process.name;
            say!(self.history, "p{name} is {now:?}");
            match (before, now) {
                (Status::Leading(old), Status::Leading(new)) => must!(
                    self.history,
                    old == new,
                    "p{name} leads with fence {new} before fence {old} had ended"
                ),
                (Status::Leading(_) | Status::Leaving(_), _) | (_, Status::Idle) => {}
                (_, Status::Leading(new)) => {
                    must!(self.history, highest != Some(new), "p{name} leads again with fence {new}");
                    highest = Some(new);
                }
                // A term that was over at once may show only in its end: who watches sees the latest.
                (_, Status::Leaving(old)) => {
                    must!(self.history, highest <= Some(old), "p{name} leaves {old} after {highest:?}");
                    highest = Some(old);
                }
                _ => {}
            }
            before = now;
        }
    }

    /// Whoever says that it leads has a place in the store, while the store and the clocks keep their word.
    async fn says_what_is_so(self) {
        let (status, name) = (self.candidate.status(), self.process.name);
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let said = *status.borrow();
            let Status::Leading(fence) = said else { continue };
            let stands = self.places().await.iter().any(|place| place.fence == fence);
            let stands = stands || !runs(self.process.link.clock());
            must!(self.history, stands, "p{name} says that it leads with fence {fence}, which is gone");
        }
    }

    /// Runs, and runs again whenever it was stopped, until it is stopped for good.
    async fn live(self) {
        while !self.stop.is_cancelled() {
            self.process.think(300).await;
            let token = self.stop.child_token();
            let mut run = Box::pin(self.candidate.run(token.clone(), |term| self.clone().work(term)));
            let ended = tokio::select! {
                biased;
                ended = &mut run => Some(ended),
                end = self.meddle() => match end {
                    End::Dropped => None,
                    End::Stopped => {
                        token.cancel();
                        Some(run.as_mut().await)
                    }
                },
            };
            drop(run);
            say!(self.history, "p{}'s run has ended: {ended:?}", self.process.name);
            must!(self.history, ended.is_none_or(|ended| ended.is_ok()), "a run failed");
            let (name, status) = (self.process.name, *self.candidate.status().borrow());
            // An election that was told is told to be over, whatever ended it.
            must!(self.history, status == Status::Idle, "p{name} does not run, and is said to be {status:?}");
            let working = works(&self.works).values().any(|work| work.by == name && work.ended.is_none());
            must!(self.history, !working, "p{name} works, and does not run");
        }
    }

    /// What is done to a candidate while it runs.
    async fn meddle(&self) -> End {
        let random = &self.process.random;
        loop {
            tokio::select! {
                biased;
                () = self.calm.cancelled() => return std::future::pending().await,
                () = self.process.think(4_000) => {}
            }
            match random.below(0..8) {
                0 => return End::Stopped,
                1 => return End::Dropped,
                2..=4 => self.resign().await,
                _ => self.proclaim(random.below(0..100).to_string()).await,
            }
        }
    }

    async fn resign(&self) {
        let before = works(&self.works).iter().rev().find(|(_, work)| work.ended.is_none()).map(own);
        let hold_off = Duration::from_millis(self.process.random.below(1..1_000) as u64);
        let resigned = self.candidate.resign(hold_off).await;
        say!(self.history, "p{} resigned: {resigned}", self.process.name);
        let Some((_, fence)) = before.filter(|(by, _)| *by == self.process.name && resigned) else { return };
        let over = works(&self.works).get(&fence).is_none_or(|work| work.ended.is_some());
        must!(self.history, over, "{fence} was resigned, and its work goes on");
        if self.climate == Climate::Mild && *self.candidate.status().borrow() == Status::Leading(fence) {
            self.history.violation(format_args!("{fence} was resigned, and is said to lead"));
        }
    }

    async fn proclaim(&self, data: String) {
        say!(self.history, "p{} proclaims {data}", self.process.name);
        let proclaimed = self.candidate.proclaim(data).await;
        self.expected("proclaiming", proclaimed);
    }

    fn expected<T>(&self, doing: &str, result: quorate::kv::Result<T>) {
        let Err(error) = result else { return };
        let expected = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::SessionLost);
        must!(self.history, expected, "p{} {doing} got {error}", self.process.name);
    }

    /// One term's work, in one of the ways there are.
    async fn work(self, term: Term<Link>) -> Result<(), BoxError> {
        let _working = Working::begin(&self, &term);
        let random = &self.process.random;
        // The margin is there for slow clocks as well as for work that does not heed its token: not for both at once.
        let slow = self.process.link.clock().rate() < 0.95 && self.climate == Climate::Mild;
        let manner = match random.below(0..9) {
            _ if self.calm.is_cancelled() => Manner::Heeds,
            0..=2 if !slow => Manner::Ignores,
            3 => Manner::Returns,
            4 => Manner::Fails,
            5 => Manner::Panics,
            _ => Manner::Heeds,
        };
        let mut steps = if matches!(manner, Manner::Heeds | Manner::Ignores) { usize::MAX } else { 3 };
        while steps > 0 {
            steps -= 1;
            let ignores = manner == Manner::Ignores && !self.calm.is_cancelled();
            tokio::select! {
                biased;
                () = term.stopped(), if !ignores => return Ok(()),
                () = self.step(&term) => {}
            }
        }
        match manner {
            Manner::Fails => Err("it did not work out".into()),
            // Without a word on the terminal.
            Manner::Panics => std::panic::resume_unwind(Box::new("it fell over")),
            _ => Ok(()),
        }
    }

    async fn step(&self, term: &Term<Link>) {
        let fence = term.fence();
        let places = self.places().await;
        let ahead = places.iter().find(|place| place.fence < fence);
        must!(self.history, ahead.is_none(), "{fence} leads, and {ahead:?} stands ahead");
        if self.climate == Climate::Mild && term.is_leading() {
            let stands = places.iter().any(|place| place.fence == fence);
            must!(self.history, stands, "p{} believes in {fence}, which is gone", self.process.name);
        }
        self.expected("writing", term.put("data/chief", fence.to_string()).await);
        if self.process.random.one_in(5) {
            self.expected("proclaiming", term.proclaim("at work").await);
        }
        self.process.think(500).await;
    }

    async fn places(&self) -> Vec<Entry> {
        let prefix = format!("_quorate/election/{NAME}/");
        let standing = standing(&self.server).await;
        let mut places: Vec<_> =
            standing.into_iter().filter(|entry| entry.key.as_str().starts_with(&prefix)).collect();
        places.sort_by_key(|place| place.fence);
        places
    }

    /// Who leads, as the store's own memory says.
    async fn truth(&self) -> Option<Leader> {
        let direct = Follower::new(&Arc::new(self.server.clone()), NAME).ok()?;
        direct.leader().await.ok()?
    }
}

fn own((fence, work): (&Fence, &Work)) -> (usize, Fence) {
    (work.by, *fence)
}

/// Work from its start to when it is really dropped.
struct Working {
    actor: Actor,
    fence: Fence,
}

impl Working {
    fn begin(actor: &Actor, term: &Term<Link>) -> Self {
        let (actor, fence) = (actor.clone(), term.fence());
        let by = actor.process.name;
        say!(actor.history, "p{by} works in term {fence}");
        let mut works = works(&actor.works);
        let highest = works.keys().next_back().copied();
        let told = *actor.candidate.status().borrow();
        let elected = matches!(told, Status::Leading(now) | Status::Leaving(now) if now == fence);
        must!(actor.history, elected, "term {fence} began, and p{by} is said to be {told:?}");
        must!(actor.history, !works.contains_key(&fence), "term {fence} began twice");
        if actor.climate == Climate::Mild {
            let grows = highest.is_none_or(|highest| highest < fence);
            must!(actor.history, grows, "term {fence} began after {highest:?}");
        }
        works.insert(fence, Work { by, clock: Arc::clone(actor.process.link.clock()), ended: None });
        drop(works);
        Self { actor, fence }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let Self { actor, fence } = self;
        say!(actor.history, "p{}'s work in term {fence} has ended", actor.process.name);
        if let Some(work) = works(&actor.works).get_mut(fence) {
            work.ended = Some(actor.history.now());
        }
    }
}
