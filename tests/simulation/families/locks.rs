//! Users of a few locks, who wait, hold, write, are lost and give up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use quorate::kv::{Entry, ErrorKind, Event, Fence, Key, Scope, Store, Txn, WatchStore};
use quorate::lock::{Guard, Mutex, Release};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Dropping;
use crate::world::{Climate, History, Link, Process, TTL, World, must, say, standing};

const LOCKS: [&str; 2] = ["a", "b/c"];
const USERS: usize = 2;

/// What the oracle knows of the grants so far.
type Grants = Arc<StdMutex<BTreeMap<(Whose, &'static str), Vec<Fence>>>>;

/// Which life of which process remembers a grant, or all do.
type Whose = Option<(usize, usize)>;

#[derive(Clone)]
struct User {
    name: String,
    process: Process,
    server: quorate::backends::Memory,
    history: History,
    climate: Climate,
    grants: Grants,
    locks: [Mutex<Link>; 2],
}

pub(crate) async fn run(seed: u64, climate: Climate) -> History {
    let count = 2 + (seed % 3) as usize;
    let world = World::new(seed, climate, count);
    let history = world.history.clone();
    let mut watching = JoinSet::new();
    world.record(&mut watching);
    if climate != Climate::Wiped {
        watching.spawn(data_never_goes_back(world.server.clone(), history.clone()));
    }
    let stop = CancellationToken::new();
    let mut users = JoinSet::new();
    let mut all = Vec::new();
    let grants = Grants::default();
    let mut start = |process: &Process| {
        let locks = LOCKS.map(|name| lock(process, name));
        all.retain(|user: &User| user.process.name != process.name);
        for nth in 0..USERS {
            let user = User {
                name: format!("p{}u{nth}", process.name),
                process: process.clone(),
                server: world.server.clone(),
                history: history.clone(),
                climate,
                grants: Arc::clone(&grants),
                locks: locks.clone(),
            };
            let (process, live) = (process.clone(), user.clone().live(stop.clone()));
            users.spawn(async move { process.run(live).await });
            all.push(user);
        }
    };
    world.processes().iter().for_each(&mut start);
    world.trouble(start).await;
    stop.cancel();
    if climate == Climate::Wiped {
        // A process that has seen larger fences refuses all others, and rightly: there is no good end to wait for.
        users.shutdown().await;
    } else {
        finale(&world, users, all).await;
    }
    history
}

fn lock(process: &Process, name: &str) -> Mutex<Link> {
    Mutex::new(&process.link, &process.sessions, name).expect("the names are good")
}

/// With all trouble over: everybody gets a turn, nothing is left behind, and losses are told at once.
async fn finale(world: &World, mut users: JoinSet<Option<()>>, all: Vec<User>) {
    let history = &world.history;
    let ended = tokio::time::timeout(20 * TTL, async { while users.join_next().await.is_some() {} }).await;
    must!(history, ended.is_ok(), "some users never got their turn");
    users.shutdown().await;
    empties(world, 3 * TTL, "nobody holds or waits any more").await;
    // What the trouble did to a session shows within its ttl.
    tokio::time::sleep(2 * TTL).await;
    for user in all.iter().step_by(USERS) {
        user.last_turn().await;
    }
    empties(world, TTL / 2, "the last guards were dropped").await;
    for user in all.iter().step_by(USERS) {
        user.close_while_waiting().await;
    }
    let sessions = tokio::time::timeout(3 * TTL, async {
        while !world.server.sessions().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    must!(history, sessions.await.is_ok(), "sessions are left: {:?}", world.server.sessions());
    must!(history, world.standing().await.is_empty(), "entries outlive their sessions");
}

pub(super) async fn empties(world: &World, patience: Duration, why: &str) {
    let emptied = tokio::time::timeout(patience, async {
        while !world.standing().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let emptied = emptied.await.is_ok();
    must!(world.history, emptied, "{why}, but these stand: {:?}", world.standing().await);
}

/// Guarded writes land in the order of their fences.
pub(super) async fn data_never_goes_back(server: quorate::backends::Memory, history: History) {
    let Ok(data) = Key::new("data") else { return };
    let mut events = server.watch(Scope::Prefix(data));
    let mut highest = BTreeMap::new();
    while let Some(event) = events.next().await {
        let Ok(Event::Put(entry)) = event else { continue };
        let fence: u64 = String::from_utf8_lossy(&entry.value).parse().unwrap_or_default();
        let before = highest.insert(entry.key.clone(), fence).unwrap_or_default();
        must!(history, before <= fence, "a guarded write of fence {fence} landed after one of {before}");
    }
}

impl User {
    async fn live(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.process.think(600).await;
            let nth = self.process.random.below(0..LOCKS.len());
            let Some(guard) = self.take(nth).await else { continue };
            self.granted(nth, &guard).await;
            self.hold(nth, &guard).await;
            self.give_back(nth, guard).await;
        }
        say!(self.history, "{} goes home", self.name);
    }

    /// Tries to take a lock in one of the ways there are; sometimes gives up in the middle.
    async fn take(&self, nth: usize) -> Option<Guard<Link>> {
        let (mutex, random) = (&self.locks[nth], &self.process.random);
        let taken = match random.below(0..6) {
            0 => mutex.try_lock().await,
            1 => mutex.lock_timeout(Duration::from_millis(random.below(1..3_000) as u64)).await,
            2 | 3 => {
                let polls = random.below(0..14);
                let dropped = Dropping { future: Box::pin(mutex.lock()), polls }.await;
                dropped.map_or(Ok(None), |locked| locked.map(Some))
            }
            _ => self.wait(nth).await.map(Some),
        };
        taken.unwrap_or_else(|error| {
            let wiped = self.climate == Climate::Wiped && error.kind() == ErrorKind::FenceRegression;
            let expected = wiped || matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::SessionLost);
            must!(self.history, expected, "{} got {error}", self.name);
            None
        })
    }

    /// Waits for as long as it takes; but not for a session that is lost.
    async fn wait(&self, nth: usize) -> quorate::kv::Result<Guard<Link>> {
        let session = self.process.sessions.current().await?;
        let deaf = async {
            session.lost().await;
            self.process.think(1_000).await;
            self.process.think(1_000).await;
        };
        let mut locked = std::pin::pin!(self.locks[nth].lock());
        tokio::select! {
            biased;
            locked = &mut locked => return locked,
            () = deaf => {}
        }
        let same = self.process.sessions.peek().is_some_and(|now| now.id() == session.id());
        must!(self.history, !same, "{} waits on, though its session is lost", self.name);
        locked.await
    }

    async fn granted(&self, nth: usize, guard: &Guard<Link>) {
        let (name, fence) = (LOCKS[nth], guard.fence());
        say!(self.history, "{} holds {name} with fence {fence}", self.name);
        // What was granted by a store that has lost all since, is no longer anywhere in its order.
        let ahead = self.places(nth).await.into_iter().find(|entry| entry.fence < fence);
        let first = ahead.is_none() || self.climate == Climate::Wiped;
        must!(self.history, first, "{} was granted {name}, but {ahead:?} stands ahead", self.name);
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a store that loses its data, each process can tell only what it has seen itself.
        let own = (self.climate == Climate::Wiped).then_some((self.process.name, self.process.life));
        let before = grants.entry((own, name)).or_default();
        must!(self.history, !before.contains(&fence), "fence {fence} of {name} was granted twice");
        if self.climate != Climate::Wild {
            must!(
                self.history,
                before.iter().all(|old| *old < fence),
                "fence {fence} of {name} after {before:?}"
            );
        }
        before.push(fence);
    }

    /// Works under the lock for a while, or until it is lost.
    async fn hold(&self, nth: usize, guard: &Guard<Link>) {
        let key = format!("data/{}", LOCKS[nth]);
        let mut over = false;
        for _ in 0..self.process.random.below(1..8) {
            must!(self.history, !(over && guard.is_held()), "{} holds again what it had lost", self.name);
            over |= !guard.is_held();
            self.believes(nth, guard).await;
            match guard.put(key.as_str(), guard.fence().to_string()).await {
                Ok(_) => {}
                Err(error) => {
                    let expected = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::SessionLost);
                    must!(self.history, expected, "{} writing got {error}", self.name);
                }
            }
            tokio::select! {
                biased;
                reason = guard.lost() => {
                    say!(self.history, "{} lost {}: {reason}", self.name, LOCKS[nth]);
                    must!(self.history, !guard.is_held(), "{} was told of a loss and holds on", self.name);
                    self.process.think(300).await;
                    must!(self.history, !guard.is_held(), "{} holds again what it had lost", self.name);
                    return;
                }
                () = self.process.think(500) => {}
            }
        }
    }

    /// Whoever believes that it holds must be right, while the store and the clocks keep their word.
    async fn believes(&self, nth: usize, guard: &Guard<Link>) {
        if self.climate != Climate::Mild || !guard.is_held() {
            return;
        }
        let stands = self.places(nth).await.iter().any(|entry| entry.fence == guard.fence());
        must!(self.history, stands, "{} believes in fence {}, which is gone", self.name, guard.fence());
    }

    async fn give_back(&self, nth: usize, guard: Guard<Link>) {
        let fence = guard.fence();
        let random = &self.process.random;
        let release = match random.below(0..4) {
            0 => {
                drop(guard);
                None
            }
            1 => Dropping { future: Box::pin(guard.release()), polls: random.below(0..6) }.await,
            _ => Some(guard.release().await),
        };
        say!(self.history, "{} gives back {} of fence {fence}: {release:?}", self.name, LOCKS[nth]);
        if release == Some(Release::Released) && self.climate != Climate::Wiped {
            let stands = self.places(nth).await.iter().any(|entry| entry.fence == fence);
            must!(
                self.history,
                !stands,
                "{} was told that fence {fence} is released, and it stands",
                self.name
            );
        }
    }

    /// In calm: takes each lock once; keeps it over renewals; is told at once when an operator deletes the place.
    async fn last_turn(&self) {
        for (nth, name) in LOCKS.iter().enumerate() {
            let guard = match tokio::time::timeout(4 * TTL, self.lock_in_calm(nth)).await {
                Ok(Ok(guard)) => guard,
                failed => {
                    let failed = failed.map(|locked| locked.map(drop));
                    let all_is_well = "though all is well";
                    return self
                        .history
                        .violation(format_args!("{} on {name} {all_is_well}: {failed:?}", self.name));
                }
            };
            self.granted(nth, &guard).await;
            tokio::time::sleep(3 * TTL / 2).await;
            must!(self.history, guard.is_held(), "{} lost {name} though all is well", self.name);
            let place = self.places(nth).await.into_iter().find(|entry| entry.fence == guard.fence());
            let Some(place) = place else {
                return self
                    .history
                    .violation(format_args!("{} holds {name}, and no place stands", self.name));
            };
            drop(self.server.commit(Txn::new().delete(&place.key)).await);
            let told = tokio::time::timeout(Duration::from_secs(1), guard.lost()).await;
            must!(self.history, told.is_ok(), "{} is not told that its place was deleted", self.name);
        }
    }

    /// Closes the session while it holds a lock, and while somebody waits for that lock with it.
    async fn close_while_waiting(&self) {
        let Ok(Ok(held)) = tokio::time::timeout(4 * TTL, self.lock_in_calm(0)).await else {
            return self.history.violation(format_args!("{} cannot lock a last time", self.name));
        };
        let waiting = tokio::spawn({
            let lock = self.locks[0].clone();
            async move { lock.lock().await.map(drop) }
        });
        self.process.think(50).await;
        self.process.sessions.close().await;
        must!(self.history, !held.is_held(), "{} closed its session and holds on", self.name);
        let waited = tokio::time::timeout(Duration::from_secs(1), waiting).await;
        let refused = matches!(&waited, Ok(Ok(Err(error))) if error.kind() == ErrorKind::SessionLost);
        must!(self.history, refused, "{} waits with a session that was closed: {waited:?}", self.name);
    }

    /// A session that was lost just now is one more try.
    async fn lock_in_calm(&self, nth: usize) -> quorate::kv::Result<Guard<Link>> {
        match self.locks[nth].lock().await {
            Err(error) if error.kind() == ErrorKind::SessionLost => self.locks[nth].lock().await,
            locked => locked,
        }
    }

    async fn places(&self, nth: usize) -> Vec<Entry> {
        let name = LOCKS[nth].replace('/', "%2F");
        let prefix = format!("_quorate/lock/{name}/");
        let standing = standing(&self.server).await;
        standing.into_iter().filter(|entry| entry.key.as_str().starts_with(&prefix)).collect()
    }
}
