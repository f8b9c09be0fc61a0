//! Users of plain keys, who read, write and delete with every verb, and watchers, who must end up with the truth.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use libtest_mimic::Trial;
use quorate::kv::{Clock, Entry, Key, Scope, StoreExt, Version, View, observe};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::recorded::{Histories, Recorded};
use crate::linearizable::{self, Operation, Reply, Verdict};
use crate::world::{Climate, History, Process, TROUBLE, World, must, say};

const NAMES: [&str; 3] = ["a", "b/c", "b%2F*"];
const USERS: usize = 2;
/// After so long everybody goes on to fresh keys: short histories are judged soon.
const EPOCH: Duration = Duration::from_secs(10);
/// By then every request that was held up has arrived.
const SETTLED: Duration = Duration::from_secs(8);
/// How many states of the search one key is worth.
const BUDGET: usize = 20_000;

struct User {
    process: Process,
    recorded: Recorded,
    /// What this user saw last at each key.
    seen: BTreeMap<Key, Version>,
    written: Arc<AtomicU64>,
}

/// What one process knows from watching.
struct Watcher {
    process: usize,
    scope: Scope,
    view: Arc<StdMutex<View>>,
}

pub(crate) async fn run(seed: u64, climate: Climate) -> History {
    let world = World::new(seed, climate, 2 + (seed % 3) as usize);
    let (history, histories, written) = (world.history.clone(), Histories::default(), Arc::default());
    let mut watching = JoinSet::new();
    let mut watchers = Vec::new();
    let stop = CancellationToken::new();
    let mut users = JoinSet::new();
    let mut start = |process: &Process| {
        watchers.retain(|watcher: &Watcher| watcher.process != process.name);
        watchers.extend(scopes().into_iter().map(|scope| watch(process, scope, &history, &mut watching)));
        for _ in 0..USERS {
            let recorded = recorded(&world, process, &histories);
            let written = Arc::clone(&written);
            let user = User { process: process.clone(), recorded, seen: BTreeMap::new(), written };
            let (process, live) = (process.clone(), user.live(stop.clone()));
            users.spawn(async move { process.run(live).await });
        }
    };
    world.processes().iter().for_each(&mut start);
    world.trouble(start).await;
    stop.cancel();
    let ended = tokio::time::timeout(SETTLED, async { while users.join_next().await.is_some() {} }).await;
    must!(history, ended.is_ok(), "some users never got an answer, nor an error");
    tokio::time::sleep(SETTLED).await;
    for process in &world.processes() {
        let recorded = recorded(&world, process, &histories);
        for key in keys() {
            let read = recorded.ask(&key, Operation::Get, usize::MAX).await;
            must!(history, read.is_some(), "p{} cannot read {key} though all is well", process.name);
        }
    }
    for watcher in &watchers {
        watcher.knows_the_truth(&world).await;
    }
    judge(&history, &histories);
    history
}

fn recorded(world: &World, process: &Process, histories: &Histories) -> Recorded {
    Recorded {
        process: process.name,
        link: Arc::clone(&process.link),
        history: world.history.clone(),
        histories: Arc::clone(histories),
    }
}

fn key(epoch: u64, name: &str) -> Key {
    Key::new(&format!("registers/{epoch}/{name}")).expect("the names are good")
}

fn epochs() -> u64 {
    TROUBLE.as_secs().div_ceil(EPOCH.as_secs())
}

fn keys() -> Vec<Key> {
    (0..epochs()).flat_map(|epoch| NAMES.map(|name| key(epoch, name))).collect()
}

/// Every key for itself, and all together.
fn scopes() -> Vec<Scope> {
    let all = Scope::Prefix(Key::new("registers").expect("it is a good key"));
    keys().into_iter().map(Scope::Key).chain([all]).collect()
}

fn watch(process: &Process, scope: Scope, history: &History, watching: &mut JoinSet<Option<()>>) -> Watcher {
    let clock: Arc<dyn Clock> = Arc::clone(process.link.clock()) as _;
    let view = Arc::new(StdMutex::new(View::new()));
    let mut events = observe(&process.link, scope.clone(), &clock, &process.random);
    let (applied, history, watching_in) = (Arc::clone(&view), history.clone(), process.clone());
    let watches = async move {
        while let Some(event) = events.next().await {
            let mut view = applied.lock().unwrap_or_else(PoisonError::into_inner);
            let before = event.is_err().then(|| view.clone());
            view.apply(event);
            let kept = before.is_none_or(|before| before.entries().eq(view.entries()));
            must!(history, kept, "an error changed what a watcher knows");
        }
    };
    watching.spawn(async move { watching_in.run(watches).await });
    Watcher { process: process.name, scope, view }
}

/// Each key on its own. One that cannot be decided is told, and counted by a trial: it is no pass.
fn judge(history: &History, histories: &Histories) {
    let histories = histories.lock().unwrap_or_else(PoisonError::into_inner);
    for (key, operations) in histories.iter() {
        match linearizable::check_within(operations, BUDGET) {
            Verdict::Linearizable => say!(history, "judged {key}: in order, {} operations", operations.len()),
            Verdict::Unknown { states } => say!(history, "judged {key}: UNDECIDED after {states} states"),
            Verdict::Violation(why) => history.violation(format_args!("{key} is not linearizable: {why}")),
        }
    }
}

impl Watcher {
    async fn knows_the_truth(&self, world: &World) {
        let truth = truth(world, &self.scope).await;
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known: Vec<_> = view.entries().cloned().collect();
        let (process, scope) = (self.process, &self.scope);
        let calm = view.is_complete() && view.stale().is_none();
        must!(world.history, calm, "p{process} has had no snapshot of {scope:?}: {:?}", view.stale());
        must!(
            world.history,
            known == truth,
            "p{process} sees {known:?} in {scope:?}, where {truth:?} stands"
        );
    }
}

async fn truth(world: &World, scope: &Scope) -> Vec<Entry> {
    let read = quorate::kv::Consistency::Linearizable;
    let truth = match scope {
        Scope::Key(key) => world.server.fetch(key.clone()).await.map(|entry| entry.into_iter().collect()),
        Scope::Prefix(prefix) => quorate::kv::Store::list(&world.server, prefix, read).await,
    };
    truth.expect("the store itself answers")
}

impl User {
    async fn live(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.process.think(600).await;
            self.act().await;
        }
    }

    async fn act(&mut self) {
        let random = self.process.random.clone();
        let epoch = self.recorded.history.now().as_secs() / EPOCH.as_secs();
        let key = key(epoch.min(epochs() - 1), NAMES[random.below(0..NAMES.len())]);
        let polls = if random.one_in(8) { random.below(1..8) } else { usize::MAX };
        let version = self.seen.get(&key).copied().unwrap_or_else(|| Version::new(0));
        let operation = match random.below(0..12) {
            0..=2 => Operation::Get,
            3 | 4 => Operation::Put(self.value().into()),
            5 | 6 => Operation::Create(self.value().into()),
            7 => Operation::Replace(version, self.value().into()),
            8 => Operation::Delete,
            9 => Operation::DeleteIf(version),
            _ => {
                let value = || (!random.one_in(4)).then(|| self.value());
                return self.recorded.update(&key, value, polls).await;
            }
        };
        let reply = self.recorded.ask(&key, operation, polls).await;
        if let Some(Reply::Read(Some(found)) | Reply::Rejected(Some(found))) = &reply {
            self.seen.insert(key, found.version);
        } else if let Some(Reply::Written(version, _)) = reply {
            self.seen.insert(key, version);
        }
    }

    /// A value that nobody else writes.
    fn value(&self) -> String {
        format!("p{}:{}", self.process.name, self.written.fetch_add(1, Ordering::Relaxed))
    }
}

/// A checker that gives up proves nothing, so it seldom may.
pub(crate) fn trials() -> Vec<Trial> {
    vec![crate::trial("registers::nearly_every_key_is_decided", || {
        let (mut judged, mut undecided) = (0, 0);
        for family in super::all().into_iter().filter(|family| family.name.starts_with("registers")) {
            for seed in 0..200 {
                let lines = crate::hunt::run(family, seed).lines();
                judged += lines.iter().filter(|line| line.contains(" judged ")).count();
                undecided += lines.iter().filter(|line| line.contains("UNDECIDED")).count();
            }
        }
        assert!(judged >= 200 * keys().len(), "only {judged} keys were judged");
        assert!(undecided * 50 < judged, "{undecided} of {judged} keys are undecided");
    })]
}
