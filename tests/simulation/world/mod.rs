//! A world of a few processes, one store, and a seed that decides everything.

mod clock;
mod history;
mod link;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use quorate::backends::Memory;
use quorate::kv::{Clock, Event, Key, Random, Scope, SessionOptions, Sessions, WatchStore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use clock::ProcessClock;
pub(crate) use history::{History, must, say};
pub(crate) use link::{Link, Weather};

/// How long sessions live.
pub(crate) const TTL: Duration = Duration::from_secs(4);
/// How long users, the network and the store make trouble.
pub(crate) const TROUBLE: Duration = Duration::from_secs(40);

/// What kind of trouble a run meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Climate {
    /// The store keeps its sessions, and clocks keep within the margin: no two may even believe that they hold.
    Mild,
    /// Operators delete and end what they like, the store ends sessions early, and clocks run at any rate.
    Wild,
    /// As wild, and now and then the store loses all it had and starts its revisions again.
    Wiped,
}

/// Everything of one run.
pub(crate) struct World {
    pub(crate) climate: Climate,
    pub(crate) random: Random,
    pub(crate) server: Memory,
    pub(crate) history: History,
    processes: Mutex<Vec<Process>>,
}

/// One process: a clock, a network, and the sessions it keeps.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) name: usize,
    /// How many of this name were killed before.
    pub(crate) life: usize,
    pub(crate) link: Arc<Link>,
    pub(crate) random: Random,
    pub(crate) sessions: Sessions,
    killed: CancellationToken,
}

impl World {
    /// A world of this seed, in whose processes nothing runs yet.
    pub(crate) fn new(seed: u64, climate: Climate, processes: usize) -> Self {
        let random = Random::seeded(seed);
        let server = Memory::with_clock(ProcessClock::new(Duration::ZERO, 1.0, false));
        let world = Self { climate, random, server, history: History::new(), processes: Mutex::default() };
        for name in 0..processes {
            let process = world.process(name);
            world.lock().push(process);
        }
        world
    }

    /// The processes there are now, in the order of their names.
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process that was just started, with a clock of its own.
    pub(crate) fn process(&self, name: usize) -> Process {
        self.process_of_life(name, 0)
    }

    fn process_of_life(&self, name: usize, life: usize) -> Process {
        let random = Random::seeded(self.random.nonce() as u64);
        let percent = match self.climate {
            // The margin is a tenth of the ttl: a clock may lose that much over one ttl.
            Climate::Mild => random.below(92..150),
            Climate::Wild | Climate::Wiped => random.below(50..200),
        };
        let offset = Duration::from_secs(random.below(0..1_000_000) as u64);
        let forgets =
            cfg!(quorate_bad) && std::env::var("QUORATE_BAD").is_ok_and(|bad| bad == "clock_forgets_suspend");
        let clock = ProcessClock::new(offset, percent as f64 / 100.0, forgets);
        let link = Link::new(
            self.server.clone(),
            Arc::clone(&clock),
            Random::seeded(random.nonce() as u64),
            self.weather(),
        );
        let link = Arc::new(link);
        let options = SessionOptions::new(TTL).clock(clock).random(random.clone()).owner(format!("p{name}"));
        let sessions = Sessions::new(&link, options).expect("the options are good");
        Process { name, life, link, random, sessions, killed: CancellationToken::new() }
    }

    /// A different network for each process: each seed turns some faults off altogether.
    fn weather(&self) -> Weather {
        let one_in = |of: u32| if self.random.one_in(2) { 0 } else { of };
        Weather {
            slow: Duration::from_millis([2, 20, 100, 600][self.random.below(0..4)]),
            lose_request: one_in(30),
            lose_reply: one_in(15),
            double: one_in(20),
            hold_up: one_in(30),
            refuse: one_in(30),
            cut_watch: one_in(20),
        }
    }

    /// Between one and `most` milliseconds.
    pub(crate) fn some_millis(&self, most: usize) -> Duration {
        Duration::from_millis(self.random.below(1..most + 1) as u64)
    }

    /// Makes trouble with networks, processes and the store until the time is up; then all is well again. What is to
    /// run in a process that takes the place of one that was killed, `start` starts.
    pub(crate) async fn trouble(&self, mut start: impl FnMut(&Process) + Send) {
        let end = tokio::time::Instant::now() + TROUBLE;
        let (mut tasks, mut dead, kills) = (JoinSet::new(), BTreeMap::new(), !self.random.one_in(3));
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(self.some_millis(3_000)).await;
            self.restart(&mut dead, tokio::time::Instant::now(), &mut start);
            let processes = self.processes();
            let process = &processes[self.random.below(0..processes.len())];
            let (link, clock) = (Arc::clone(&process.link), Arc::clone(process.link.clock()));
            let (name, lasting) = (process.name, self.some_millis(2 * TTL.as_millis() as usize));
            match self.random.below(0..6) {
                0 => {
                    say!(self.history, "p{name} is cut off for {lasting:?}");
                    link.cut();
                    tasks.spawn(async move {
                        tokio::time::sleep(lasting).await;
                        link.heal();
                    });
                }
                1 => {
                    say!(self.history, "p{name} is paused for {lasting:?}");
                    clock.pause();
                    tasks.spawn(async move {
                        tokio::time::sleep(lasting).await;
                        clock.resume();
                    });
                }
                2 => link.cut_watches(),
                3 => {
                    say!(self.history, "the store restarts");
                    self.server.cut_watches();
                    for process in &processes {
                        process.link.cut_watches();
                    }
                }
                4 if kills && !dead.contains_key(&name) => {
                    say!(self.history, "p{name} is killed");
                    process.kill();
                    dead.insert(name, tokio::time::Instant::now() + lasting);
                }
                4 => {}
                _ if self.climate == Climate::Mild => {}
                _ if self.climate == Climate::Wiped && self.random.one_in(2) => {
                    say!(self.history, "the store comes back empty");
                    self.server.wipe();
                }
                _ => self.operate().await,
            }
        }
        drop(tasks);
        self.restart(&mut dead, end + 2 * TROUBLE, &mut start);
        for process in self.processes() {
            process.link.heal();
            process.link.clock().resume();
            process.link.weather(Weather::CALM);
        }
        say!(self.history, "all is well from here on");
    }

    /// Where a process was killed and the time has come, another starts, which knows nothing of the one before.
    fn restart(
        &self,
        dead: &mut BTreeMap<usize, tokio::time::Instant>,
        now: tokio::time::Instant,
        start: &mut impl FnMut(&Process),
    ) {
        dead.retain(|&name, at| {
            let due = *at <= now;
            if due {
                say!(self.history, "p{name} starts again");
                let process = self.process_of_life(name, self.lock()[name].life + 1);
                self.lock()[name] = process.clone();
                start(&process);
            }
            !due
        });
    }

    /// An operator, or the store itself, ends something that somebody relies on.
    async fn operate(&self) {
        let sessions = self.server.sessions();
        if self.random.one_in(2) && !sessions.is_empty() {
            let session = &sessions[self.random.below(0..sessions.len())];
            say!(self.history, "the store ends session {session}");
            self.server.end_session(session);
            return;
        }
        let places = self.standing().await;
        if !places.is_empty() {
            let entry = &places[self.random.below(0..places.len())];
            say!(self.history, "an operator deletes {}", entry.key);
            let txn = quorate::kv::Txn::new().delete(&entry.key);
            drop(quorate::kv::Store::commit(&self.server, txn).await);
        }
    }

    /// Everything of quorate's own that stands in the store now, as the store itself knows it.
    pub(crate) async fn standing(&self) -> Vec<quorate::kv::Entry> {
        standing(&self.server).await
    }

    /// Writes what the store records into the history, as it happens.
    pub(crate) fn record(&self, tasks: &mut JoinSet<()>) {
        let (history, server) = (self.history.clone(), self.server.clone());
        tasks.spawn(async move {
            let mut events = server.watch(Scope::Prefix(own()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Put(entry)) => say!(history, "store: put {} fence {}", entry.key, entry.fence),
                    Ok(Event::Delete(key)) => say!(history, "store: deleted {key}"),
                    Ok(Event::Snapshot(_)) | Err(_) => {}
                }
            }
        });
    }
}

/// The prefix of all that is quorate's own.
fn own() -> Key {
    Key::decode("_quorate").expect("it is a good key")
}

pub(crate) async fn standing(server: &Memory) -> Vec<quorate::kv::Entry> {
    let read = quorate::kv::Consistency::Linearizable;
    quorate::kv::Store::list(server, &own(), read).await.unwrap_or_default()
}

impl Process {
    /// Runs something in this process. If the process is killed first, it is dropped where it stands; `None` then.
    pub(crate) async fn run<F: Future>(&self, program: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.killed.cancelled() => None,
            output = program => Some(output),
        }
    }

    /// Whatever is on its way to the store arrives, and nothing else ever does: what dropped futures and guards hand to
    /// the session's task, and the task itself, wait for a clock that stands still.
    fn kill(&self) {
        self.link.clock().stop();
        self.killed.cancel();
    }

    /// Sleeps on the process's own clock, for at most this many of its milliseconds.
    pub(crate) async fn think(&self, most: usize) {
        let clock = self.link.clock();
        let pause = Duration::from_millis(self.random.below(1..most + 1) as u64);
        clock.sleep_until(clock.now() + pause).await;
    }
}
