//! Many registrations, and keeping them.

use std::future::ready;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use quorate::Client;
use quorate::discovery::{Instance, Registration};
use quorate::kv::Key;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep};

use super::{Bar, Metric, Scale};
use crate::arena::Arena;
use crate::contest::{Contestant, Role, Slice, Work};
use crate::program::{Program, value};

const MANY: usize = 10_000;

pub(super) fn metrics() -> Vec<Metric> {
    let bar = |backend: &str| if backend == "embedded" { Bar::None } else { Bar::AtMost(1.20) };
    vec![
        Metric {
            name: "register-1000",
            unit: "ms",
            bar,
            rounds: 45,
            contestants: |arena, _| register(arena, 1000).boxed_local(),
        },
        Metric {
            name: "register-10000",
            unit: "ms",
            bar,
            rounds: 15,
            contestants: |arena, _| register(arena, MANY).boxed_local(),
        },
        Metric {
            name: "memory-10000",
            unit: "KiB",
            bar: |_| Bar::Below(1.0),
            rounds: 3,
            contestants: |arena, _| ready(memory(arena)).boxed_local(),
        },
        Metric {
            name: "keep-10000",
            unit: "ms/s",
            bar: |_| Bar::Below(2.0),
            rounds: 1,
            contestants: |arena, scale| ready(keep(arena, scale)).boxed_local(),
        },
    ]
}

/// Against raw writes in batches.
async fn register(arena: &Arena, count: usize) -> Vec<Contestant> {
    let ours = Crowd { url: arena.url.clone(), namespace: arena.namespace(), count, ready: None };
    let floor = Arc::clone(&arena.floor);
    let by_hand = Batches(async move || floor.register("floor-crowd", count).await);
    let mut all = vec![
        Contestant::new(Role::Quorate, "quorate", ours),
        Contestant::new(Role::Floor, "raw batches", by_hand),
    ];
    if let Some(alike) = arena.alike.clone()
        && alike.register_alike("floor-crowd-alike", 0).await.is_some()
    {
        let register =
            async move || alike.register_alike("floor-crowd-alike", count).await.unwrap_or_default();
        all.push(Contestant::new(Role::Alike, "same requests", Batches(register)));
    }
    all
}

/// One of many.
pub(crate) fn instance(nth: usize) -> Instance {
    Instance::new("crowd", format!("member-{nth:05}"), "10.0.0.1:8080")
}

/// Registers so many, and as many at once as `abreast` says.
pub(crate) async fn registered(client: &Client, count: usize, abreast: usize) -> Vec<Registration> {
    let all = stream::iter(0..count).map(|nth| client.register(instance(nth))).buffered(abreast);
    all.try_collect().await.expect("they are registered")
}

/// Registers so many at once, each time as a new client, which is closed then.
struct Crowd {
    url: String,
    namespace: Key,
    count: usize,
    ready: Option<(Client, Registration)>,
}

impl Work for Crowd {
    fn prepare(&mut self) -> LocalBoxFuture<'_, ()> {
        async {
            let client = Client::builder(&self.url).namespace(self.namespace.clone());
            let client = client.connect().await.expect("it lets us in");
            // The session is opened, and whatever is made once.
            let first = client.register(instance(self.count)).await.expect("it is registered");
            self.ready = Some((client, first));
        }
        .boxed_local()
    }

    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let (client, _first) = self.ready.take().expect("it was prepared");
            let began = Instant::now();
            let _all = registered(&client, self.count, self.count).await;
            let took = began.elapsed();
            client.close().await;
            Slice { values: vec![took.as_secs_f64() * 1e3], operations: 1 }
        }
        .boxed_local()
    }
}

fn memory(arena: &Arena) -> Vec<Contestant> {
    let ours = Program { command: child(arena), metric: "memory-10000", unit: "KiB", operations: 1 };
    vec![Contestant::new(Role::Quorate, "quorate", ours)]
}

/// This program, registering that many in a namespace of its own.
fn child(arena: &Arena) -> impl FnMut() -> Command + use<> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let child = arena.child("weigh", MANY);
    // What the one before has registered may not be gone yet.
    move || child(&format!("crowd{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// What registers, and says how long that took.
struct Batches<R>(R);

impl<R: AsyncFnMut() -> Duration> Work for Batches<R> {
    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let took = (self.0)().await;
            Slice { values: vec![took.as_secs_f64() * 1e3], operations: 1 }
        }
        .boxed_local()
    }
}

/// What it costs to keep them, for half a minute: processor time of the client, and requests a second.
fn keep(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let seconds = scale.of(30);
    let ours = Keep { command: Box::new(child(arena)), seconds, running: None };
    vec![Contestant::new(Role::Quorate, "quorate", ours)]
}

struct Keep {
    command: Box<dyn FnMut() -> Command>,
    seconds: usize,
    running: Option<Running>,
}

struct Running {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// The next line that says what processor time it has used so far.
    async fn processor(&mut self) -> f64 {
        self.input.write_all(b"\n").await.expect("it reads");
        loop {
            let line = self.output.next_line().await.expect("it is text").expect("it runs on");
            if let Some(used) = value(&line, "keep-10000", "ms") {
                return used;
            }
        }
    }
}

impl Work for Keep {
    fn prepare(&mut self) -> LocalBoxFuture<'_, ()> {
        async {
            let mut command = (self.command)();
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
            let input = child.stdin.take().expect("it is piped");
            let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
            let mut running = Running { _child: child, input, output };
            running.processor().await;
            // Until all that comes with their beginning is over.
            sleep(Duration::from_secs(5)).await;
            self.running = Some(running);
        }
        .boxed_local()
    }

    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let mut running = self.running.take().expect("it was prepared");
            let (before, began) = (running.processor().await, Instant::now());
            sleep(Duration::from_secs(self.seconds as u64)).await;
            let used = running.processor().await - before;
            Slice { values: vec![used / began.elapsed().as_secs_f64()], operations: self.seconds }
        }
        .boxed_local()
    }
}
