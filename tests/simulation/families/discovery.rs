//! Registrations that come, change and go, and views of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use quorate::backends::Memory;
use quorate::discovery::providers::StoreProvider;
use quorate::discovery::{Instance, Members, Registrar, Registration, Status};
use quorate::kv::{Clock, ErrorKind, Event, Fence, Key, Scope, SessionId, WatchStore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Dropping;
use super::locks::empties;
use crate::world::{Climate, History, Link, Process, ProcessClock, TTL, Weather, World, must, say, standing};

const SERVICES: [&str; 2] = ["api", "web"];
const SLOTS: usize = 3;
/// The rate of the slowest clock that loses its session some moments before the store ends it: the margin is a tenth.
const SLOWEST: f64 = 0.92;
/// By then all that an earlier life of a process had sent has arrived, and its session has ended.
const FORGOTTEN: Duration = Duration::from_secs(12);

/// The keys that were acknowledged, and that nobody has asked to remove since.
type Kept = Arc<Mutex<BTreeMap<String, bool>>>;

/// One id of one process, registered again and again.
#[derive(Clone)]
struct Slot {
    service: &'static str,
    id: String,
    process: Process,
    registrar: Registrar<Link>,
    history: History,
    kept: Kept,
}

/// A view, and the process that looks.
struct Observer {
    service: &'static str,
    process: usize,
    members: Members,
}

/// Those of the processes there are now.
type Observers = Arc<Mutex<Vec<Observer>>>;

fn lock(observers: &Observers) -> MutexGuard<'_, Vec<Observer>> {
    observers.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) async fn run(seed: u64, climate: Climate) -> History {
    let world = World::new(seed, climate, 2 + (seed % 2) as usize);
    let history = world.history.clone();
    let (kept, stop) = (Kept::default(), CancellationToken::new());
    let mut watching = JoinSet::new();
    world.record(&mut watching);
    watching.spawn(nothing_kept_goes(world.server.clone(), history.clone(), Arc::clone(&kept)));
    let anchor = world.process(9);
    anchor.link.weather(Weather::CALM);
    let anchors = Anchors::register(&world, &anchor, &kept).await;
    let observers = Observers::default();
    watching.spawn(views_keep_what_stands(Arc::clone(&observers), world.server.clone(), history.clone()));
    let mut slots = JoinSet::new();
    let mut start = |process: &Process| {
        lock(&observers).retain(|observer| observer.process != process.name);
        lock(&observers).extend(observe(process));
        let registrar = Registrar::new(&process.link, &process.sessions);
        for nth in 0..SLOTS {
            slots.spawn(Slot::new(&world, process, &registrar, &kept, nth).live_in_process(stop.clone()));
        }
    };
    world.processes().iter().for_each(&mut start);
    world.trouble(start).await;
    stop.cancel();
    let kept_at_last = keep(&world, anchors, slots).await;
    settled(&world, &kept_at_last, &observers).await;
    rebinds(&world, &kept_at_last, &observers).await;
    settled(&world, &kept_at_last, &observers).await;
    kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    finale(&world, kept_at_last, &observers).await;
    anchor.sessions.close().await;
    must!(history, world.standing().await.is_empty(), "entries outlive their sessions");
    history
}

/// One registration of each service, in a process that is never troubled.
struct Anchors(Vec<(Process, Registration)>);

impl Anchors {
    async fn register(world: &World, process: &Process, kept: &Kept) -> Self {
        let registrar = Registrar::new(&process.link, &process.sessions);
        let mut all = Vec::new();
        for nth in 0..SERVICES.len() {
            let slot = Slot::new(world, process, &registrar, kept, nth);
            if let Some(registration) = slot.register_surely().await {
                all.push((process.clone(), registration));
            }
        }
        Self(all)
    }
}

#[expect(clippy::expect_used, reason = "the names are good")]
fn observe(process: &Process) -> [Observer; 2] {
    SERVICES.map(|service| {
        let clock = Arc::<ProcessClock>::clone(process.link.clock()) as Arc<dyn Clock>;
        let provider = StoreProvider::new(&process.link, service).expect("the name is good");
        let provider = provider.with(Arc::clone(&clock), process.random.clone());
        let members = Members::with(provider, clock, process.random.clone()).expect("there is a runtime");
        Observer { service, process: process.name, members }
    })
}

/// What is kept of all that was registered, once what the trouble did has shown.
async fn keep(
    world: &World,
    anchors: Anchors,
    mut slots: JoinSet<Option<(Slot, Option<Registration>)>>,
) -> Vec<(Process, Registration)> {
    let mut kept = anchors.0;
    let ended = tokio::time::timeout(10 * TTL, async {
        while let Some(slot) = slots.join_next().await {
            let Ok(Some((slot, registration))) = slot else { continue };
            kept.extend(registration.map(|registration| (slot.process, registration)));
        }
    });
    must!(world.history, ended.await.is_ok(), "some registrations never came to an end");
    tokio::time::sleep(3 * TTL).await;
    kept
}

/// What goes is gone at once, while its session lives, and what is left stays.
async fn finale(world: &World, kept: Vec<(Process, Registration)>, observers: &Observers) {
    let history = &world.history;
    let mut left = Vec::new();
    for (nth, (process, registration)) in kept.into_iter().enumerate() {
        match nth % 3 {
            0 => left.push((process, registration)),
            1 => drop(registration),
            _ => {
                let key = key(&registration.instance());
                registration.deregister().await;
                let stands = world.standing().await.iter().any(|entry| entry.key.as_str() == key);
                must!(history, !stands, "{key} was deregistered, and stands");
            }
        }
    }
    tokio::time::sleep(TTL / 2).await;
    settled(world, &left, observers).await;
    drop(left);
    empties(world, TTL / 2, "the last registrations were dropped").await;
    for process in world.processes() {
        process.sessions.close().await;
    }
}

/// In calm: each process is cut off for just so long that it counts its session as lost, while the store keeps it yet.
/// What is registered is then bound to the next session without having been gone, and every view shows it throughout.
async fn rebinds(world: &World, kept: &[(Process, Registration)], observers: &Observers) {
    let history = &world.history;
    let before = fences(world).await;
    let mut processes: Vec<_> = kept.iter().map(|(process, _)| process).collect();
    processes.dedup_by_key(|process| process.name);
    // Of slower clocks the store does not wait for the end of the margin.
    for process in processes.into_iter().filter(|process| process.link.clock().rate() >= SLOWEST) {
        let Some(session) = process.sessions.peek() else { continue };
        say!(history, "p{} is cut off until its session is lost", process.name);
        process.link.cut();
        let lost = tokio::time::timeout(3 * TTL, session.lost()).await;
        process.link.heal();
        must!(history, lost.is_ok(), "p{} was cut off, and never lost its session", process.name);
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let gone = missing(kept, observers);
            must!(history, gone.is_none(), "{gone:?} was rebound with a gap that a view shows");
        }
        let now = fences(world).await;
        must!(history, now == before, "what was rebound was gone for a moment: {before:?}, then {now:?}");
    }
}

/// What stands, and the fence with which it was made: what goes for a moment comes back with another.
async fn fences(world: &World) -> BTreeMap<String, Fence> {
    let standing = world.standing().await;
    standing.into_iter().map(|entry| (entry.key.as_str().to_owned(), entry.fence)).collect()
}

/// What is kept, and some view does not show.
fn missing(kept: &[(Process, Registration)], observers: &Observers) -> Option<String> {
    let observers = lock(observers);
    let hidden = |instance: &Instance| {
        let mut of_service = observers.iter().filter(|one| one.service == instance.service);
        of_service.any(|one| one.members.snapshot().get(&instance.id).is_none())
    };
    let instances = kept.iter().map(|(_, registration)| registration.instance());
    instances.filter(|instance| hidden(instance)).map(|instance| key(&instance)).next()
}

/// With all trouble over: what stands is what is kept, as it is wanted, bound to its process's session; and all views show just that.
async fn settled(world: &World, kept: &[(Process, Registration)], observers: &Observers) {
    let history = &world.history;
    let mut wanted = BTreeMap::new();
    for (process, registration) in kept {
        let instance = registration.instance();
        let session = process.sessions.peek().map(|session| session.id().clone());
        let lives = session.as_ref().is_some_and(|id| world.server.sessions().contains(id));
        must!(history, lives, "p{} has no live session though all is well", process.name);
        let status = *registration.status().borrow();
        must!(history, status == Status::Registered, "{registration:?} is not registered");
        wanted.insert(key(&instance), (instance, session));
    }
    let standing = world.standing().await;
    for entry in &standing {
        let Some((instance, session)) = wanted.get(entry.key.as_str()) else {
            must!(history, false, "{} stands, and nobody wants it", entry.key);
            continue;
        };
        must!(history, *session == entry.session, "{entry:?} is not bound to {session:?}");
        let stands = serde_json::from_slice::<Instance>(&entry.value).ok();
        must!(history, stands.as_ref() == Some(instance), "{instance:?} is wanted, and {stands:?} stands");
    }
    for key in wanted.keys() {
        must!(history, standing.iter().any(|entry| entry.key.as_str() == key), "{key} does not stand");
    }
    for Observer { service, process, members } in lock(observers).iter() {
        let shown: Vec<_> = members.snapshot().instances().iter().map(|shown| (**shown).clone()).collect();
        let of_service = wanted.values().map(|(instance, _)| instance).filter(|one| one.service == *service);
        let truth: Vec<_> = of_service.cloned().collect();
        must!(history, shown == truth, "p{process} is shown {shown:?} instead of {truth:?}");
        let error = members.error();
        must!(history, !members.is_stale(), "p{process}'s view is stale though all is well: {error:?}");
    }
}

/// What was acknowledged, and is wanted still, goes with its session only, or by an operator's hand.
async fn nothing_kept_goes(server: Memory, history: History, kept: Kept) {
    let Ok(own) = Key::decode("_quorate") else { return };
    let (mut events, mut bound) = (server.watch(Scope::Prefix(own)), BTreeMap::<Key, SessionId>::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Put(entry)) => {
                bound.extend(entry.session.map(|session| (entry.key, session)));
            }
            Ok(Event::Delete(key)) => {
                let lives = bound.get(&key).is_some_and(|session| server.sessions().contains(session));
                let wanted = is_kept(&kept, key.as_str());
                let operated = history.said_now(&format!("an operator deletes {key}"));
                must!(history, !(lives && wanted && !operated), "{key} is gone, and its session is not");
            }
            Ok(Event::Snapshot(_)) | Err(_) => {}
        }
    }
}

/// A view that has shown what always stood goes on to show it; one with an error does not change.
async fn views_keep_what_stands(observers: Observers, server: Memory, history: History) {
    let (mut first, mut gone) = ([None; 2], [false; 2]);
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let stands = standing(&server).await;
        for (nth, service) in SERVICES.iter().enumerate() {
            let key = format!("_quorate/service/{service}/{}", id(9, nth));
            let fence = stands.iter().find(|entry| entry.key.as_str() == key).map(|entry| entry.fence);
            // It was gone for a moment if it was created again.
            gone[nth] |= fence.is_none() || *first[nth].get_or_insert(fence) != fence;
            for Observer { process, members, .. } in
                lock(&observers).iter().filter(|one| one.service == *service)
            {
                let view = members.snapshot();
                let shows = view.revision() == 0 || view.get(&id(9, nth)).is_some();
                must!(history, gone[nth] || shows, "p{process}'s view of {service} lost what always stood");
            }
        }
        if gone == [true; 2] {
            return;
        }
    }
}

fn id(process: usize, nth: usize) -> String {
    format!("p{process}-{nth}")
}

fn key(instance: &Instance) -> String {
    format!("_quorate/service/{}/{}", instance.service, instance.id)
}

fn is_kept(kept: &Kept, key: &str) -> bool {
    kept.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or_default()
}

impl Slot {
    fn new(world: &World, process: &Process, registrar: &Registrar<Link>, kept: &Kept, nth: usize) -> Self {
        Self {
            service: SERVICES[nth % SERVICES.len()],
            id: id(process.name, nth),
            process: process.clone(),
            registrar: registrar.clone(),
            history: world.history.clone(),
            kept: Arc::clone(kept),
        }
    }

    /// What a process that is killed had registered may go from then on.
    async fn live_in_process(self, stop: CancellationToken) -> Option<(Self, Option<Registration>)> {
        let slot = self.clone();
        let lived = self.process.clone().run(self.live(stop)).await;
        if lived.is_none() {
            slot.keep(false);
        }
        lived
    }

    /// Registers, changes and removes its instance until it is stopped; what it has then is kept.
    async fn live(self, stop: CancellationToken) -> (Self, Option<Registration>) {
        while !stop.is_cancelled() {
            self.process.think(1_000).await;
            let Some(registration) = self.register().await else { continue };
            for _ in 0..self.process.random.below(0..8) {
                self.process.think(2_000).await;
                self.change(&registration).await;
            }
            if stop.is_cancelled() && self.process.random.one_in(2) {
                return (self, Some(registration));
            }
            self.remove(registration).await;
        }
        let kept = if self.process.random.one_in(2) { self.register_surely().await } else { None };
        (self, kept)
    }

    fn instance(&self) -> Instance {
        let address = format!("10.0.0.{}:80", self.process.random.below(1..250));
        Instance::new(self.service, self.id.as_str(), address)
    }

    fn keep(&self, wanted: bool) {
        let key = format!("_quorate/service/{}/{}", self.service, self.id);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(key, wanted);
    }

    /// Registers, and sometimes gives up in the middle.
    async fn register(&self) -> Option<Registration> {
        let random = &self.process.random;
        let polls = if random.one_in(4) { random.below(0..10) } else { usize::MAX };
        let registered = Dropping { future: Box::pin(self.registrar.register(self.instance())), polls }.await;
        say!(self.history, "{} registers: {registered:?}", self.id);
        self.expected("registering", registered).inspect(|_| self.keep(true))
    }

    /// In calm. What the trouble did to a session shows within its ttl.
    async fn register_surely(&self) -> Option<Registration> {
        for _ in 0..3 {
            match self.registrar.register(self.instance()).await {
                Ok(registration) => {
                    self.keep(true);
                    return Some(registration);
                }
                Err(error) => {
                    say!(self.history, "{} fails to register: {error}", self.id);
                    tokio::time::sleep(TTL).await;
                }
            }
        }
        must!(self.history, false, "{} cannot register though all is well", self.id);
        None
    }

    async fn change(&self, registration: &Registration) {
        let random = &self.process.random;
        let polls = if random.one_in(4) { random.below(1..6) } else { usize::MAX };
        let (draining, tag) = (random.one_in(2), random.below(0..5).to_string());
        let change = async {
            match random.below(0..3) {
                0 => registration.set_draining(draining).await,
                1 => registration.update(|instance| instance.address("10.1.1.1:1").tag(tag)).await,
                _ => registration.update(|instance| instance.metadata("at", tag)).await,
            }
        };
        let changed = Dropping { future: Box::pin(change), polls }.await;
        self.expected("changing", changed);
        let status = *registration.status().borrow();
        // What the process that was killed had sent may arrive late, and displace what came after it for a while.
        let haunted = self.process.life > 0 && self.process.link.clock().age() < FORGOTTEN;
        let displaced = status == Status::Displaced && !haunted;
        must!(self.history, !displaced, "{} is displaced, and by nobody", self.id);
    }

    async fn remove(&self, registration: Registration) {
        self.keep(false);
        let random = &self.process.random;
        say!(self.history, "{} goes", self.id);
        if random.one_in(3) {
            return;
        }
        let polls = if random.one_in(3) { random.below(1..6) } else { usize::MAX };
        Dropping { future: Box::pin(registration.deregister()), polls }.await;
    }

    fn expected<T>(&self, doing: &str, result: Option<quorate::kv::Result<T>>) -> Option<T> {
        let error = match result? {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let expected = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::SessionLost);
        must!(self.history, expected, "{} {doing} got {error}", self.id);
        None
    }
}
