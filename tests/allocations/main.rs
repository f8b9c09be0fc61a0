//! How much operations allocate on every store: counted, so that it is the same on any machine, however busy. Who needs
//! more than is written down here has made something dearer, or has a reason, with which the number is raised.
//!
//! How many requests they cost is counted beside each server, in `tests/backends`.
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]

#[path = "../kit/proxy.rs"]
#[allow(dead_code, reason = "the kit needs it")]
mod proxy;
#[path = "../kit/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests need more of it")]
mod servers;

use std::alloc::System;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use quorate::connect::Schemes;
use quorate::discovery::providers::Nodes;
use quorate::discovery::{Members, RoundRobin};
use quorate::kv::{
    Consistency, Coordinator, Key, Namespaced, SessionOptions, Sessions, Store, StoreExt, Txn,
};
use quorate::lock::Mutex;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How often an operation is done; before that, half as often without being counted.
const TIMES: usize = 200;

/// How many entries are listed.
const LISTED: usize = 100;

/// The most that each may allocate, by all threads of the process together. What the client crates allocate is in it.
#[derive(Clone, Copy)]
struct Budget {
    get: usize,
    put: usize,
    replace: usize,
    lock_and_unlock: usize,
    list_a_hundred: usize,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // What others did meanwhile would be counted too.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials()).exit_code()
}

fn trials() -> Vec<Trial> {
    vec![
        Trial::test("members::a_pick_allocates_nothing", || block_on(picks())),
        trial("memory", MEMORY, async || ("memory:".to_owned(), ())),
        #[cfg(feature = "embedded")]
        trial("embedded", EMBEDDED, async || {
            let directory = tempfile::TempDir::new().expect("a directory");
            (format!("embedded:{}", directory.path().join("store.db").display()), directory)
        }),
        #[cfg(feature = "consul")]
        trial("consul", CONSUL, served::<servers::consul::Version>),
        #[cfg(feature = "etcd")]
        trial("etcd", ETCD, served::<servers::etcd::Version>),
        #[cfg(feature = "redis")]
        trial("redis", REDIS, served::<servers::redis::Version>),
        #[cfg(feature = "zookeeper")]
        trial("zookeeper", ZOOKEEPER, served::<servers::zookeeper::Version>),
    ]
}

#[cfg(any(feature = "consul", feature = "etcd", feature = "redis", feature = "zookeeper"))]
async fn served<V: servers::Release>() -> (String, V::Cluster) {
    use servers::Cluster as _;
    let cluster = servers::Options::new(V::usual()).start().await;
    (cluster.url(""), cluster)
}

/// On what `open` opens: a URL, and what has to stay for it to lead there.
fn trial<T>(store: &str, budget: Budget, open: impl AsyncFnOnce() -> (String, T) + Send + 'static) -> Trial {
    Trial::test(format!("{store}::operations_allocate_no_more_than_they_did"), move || {
        block_on(async {
            let (url, _served) = open().await;
            let spent = spent(Schemes::default().connect(&url).await.expect("it lets us in")).await;
            let problems: Vec<_> = spent
                .into_iter()
                .zip([budget.get, budget.put, budget.replace, budget.lock_and_unlock, budget.list_a_hundred])
                // Chance has a part in what threads and connections take at a time.
                .filter(|((_, spent), budget)| *spent > budget + budget / 20)
                .map(|((what, spent), budget)| format!("{what}: {spent} allocations, and not {budget}"))
                .collect();
            if problems.is_empty() { Ok(()) } else { Err(problems.join("; ").into()) }
        })
    })
}

fn block_on(test: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test)
}

/// What is looked up for each request a service sends must cost nothing.
async fn picks() -> Result<(), Failed> {
    let members = Nodes::new("web", "10.0.[0:39].[1:250]:80").expect("a list");
    let members = Members::new(members).expect("there is a runtime");
    assert_eq!(members.ready().await.instances().len(), 10_000);
    let turns = RoundRobin::new();
    let region = Region::new(COUNTED);
    for _ in 0..TIMES {
        members.pick(&turns).expect("there are some");
    }
    match region.change().allocations {
        0 => Ok(()),
        some => Err(format!("{some} allocations in {TIMES} picks").into()),
    }
}

/// What each operation allocates, in the order of [`Budget`].
async fn spent(store: Arc<dyn Coordinator>) -> [(&'static str, usize); 5] {
    let sessions = Sessions::new(&store, SessionOptions::new(Duration::from_secs(30))).expect("a session");
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    let key = Key::new("k").expect("a key");
    // As most see it, who have a part of the store.
    let within = Namespaced::new(Arc::clone(&store), Key::new("p").expect("a key"));
    for nth in 0..LISTED {
        store.put(format!("p/{nth}").as_str(), "value").await.expect("it is put");
    }
    let mut version = store.put("k", "value").await.expect("it is put").version;
    [
        (
            "a get",
            each(async || {
                let found = store.get(&key, Consistency::Linearizable).await.expect("it answers");
                assert!(found.is_some(), "it stands");
            })
            .await,
        ),
        (
            "a put",
            each(async || version = store.put(key.clone(), "value").await.expect("it is put").version).await,
        ),
        (
            "a replacement",
            each(async || {
                let txn = Txn::new().version(&key, version).put(&key, "value");
                let made =
                    store.commit(txn).await.expect("it answers").applied().expect("nobody else writes");
                version = made[0].version;
            })
            .await,
        ),
        (
            "a lock, and to release it",
            each(async || {
                mutex.lock().await.expect("it is free").release().await;
            })
            .await,
        ),
        (
            "a list of a hundred",
            each(async || {
                let found = within.list(&Key::root(), Consistency::Linearizable).await.expect("it answers");
                assert_eq!(found.len(), LISTED);
            })
            .await,
        ),
    ]
}

/// How much one of many allocates. What happens now and then besides, such as a renewal, is lost in the division.
async fn each(mut operation: impl AsyncFnMut()) -> usize {
    for _ in 0..TIMES / 2 {
        operation().await;
    }
    let region = Region::new(COUNTED);
    for _ in 0..TIMES {
        operation().await;
    }
    let change = region.change();
    (change.allocations + change.reallocations) / TIMES
}

macro_rules! budgets {
    ($($(#[$feature:meta])? $store:ident: $get:literal $put:literal $replace:literal $lock:literal $list:literal;)*) => {$(
        $(#[$feature])?
        const $store: Budget =
            Budget { get: $get, put: $put, replace: $replace, lock_and_unlock: $lock, list_a_hundred: $list };
    )*};
}

budgets! {
    MEMORY: 1 4 4 11 9;
    #[cfg(feature = "embedded")]
    // What SQLite allocates by itself is not counted: to compile `BEGIN` anew each time was free here.
    EMBEDDED: 14 19 24 47 322;
    #[cfg(feature = "consul")]
    CONSUL: 29 37 38 80 239;
    #[cfg(feature = "etcd")]
    ETCD: 46 45 54 108 376;
    #[cfg(feature = "redis")]
    REDIS: 10 14 15 32 353;
    #[cfg(feature = "zookeeper")]
    // The two answers to a get may come by one look at the socket or by two; of writes some take one less.
    ZOOKEEPER: 26 20 22 49 885;
}
