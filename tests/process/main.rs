//! Real processes, killed, stopped and told to end, that meet in one store.
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]

mod counter;
mod election;
mod place;
#[path = "../kit/proxy.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod proxy;
#[path = "../kit/replica.rs"]
mod replica;
mod scale;
#[path = "../kit/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests need more of it")]
mod servers;
#[path = "../kit/shared.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod shared;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use place::Place;

type Test = fn(&Place);

/// What is tried on every store.
const TRIALS: [(&str, Test); 4] = [
    ("kill_nine_of_the_leader_time_and_again", election::kill_nine),
    ("a_graceful_end_does_not_wait_for_the_ttl", election::graceful),
    ("a_stopped_leader_comes_back_as_a_follower", election::stopped),
    ("an_unprotected_counter_loses_nothing_under_the_lock", counter::loses_nothing),
];

type Making = fn() -> Place;

/// Every store that processes meet in.
const STORES: &[(&str, Making)] = &[
    ("embedded", Place::embedded),
    // It ends a session after up to twice its ttl.
    #[cfg(feature = "consul")]
    ("consul", || Place::served(&*shared::CONSUL, 10, Duration::from_secs(12))),
    #[cfg(feature = "etcd")]
    ("etcd", || Place::served(&*shared::ETCD, 2, Duration::from_secs(2))),
    #[cfg(feature = "redis")]
    ("redis", || Place::served(&*shared::REDIS, 2, Duration::from_secs(1))),
    // It hears of a process between renewals, and looks for sessions that have ended twice a second.
    #[cfg(feature = "zookeeper")]
    ("zookeeper", || Place::served(&*shared::ZOOKEEPER, 2, Duration::from_secs(2))),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        // This binary again, as one of the processes.
        ["work", "increment", url, file, times] => run(counter::increment(url, file, times)),
        ["work", "hold", url] => run(scale::hold(url)),
        _ => {
            let mut trials =
                vec![Trial::test("embedded::ten_thousand_locks_and_registrations_in_bounded_memory", || {
                    scale::bounded();
                    Ok(())
                })];
            for (store, make) in STORES {
                trials.extend(TRIALS.iter().map(|(name, test)| {
                    Trial::test(format!("{store}::{name}"), || {
                        test(&make());
                        Ok(())
                    })
                }));
            }
            libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
        }
    }
}

/// Runs a future to its end with real time.
fn run<F: Future>(future: F) -> ExitCode {
    block_on(future);
    ExitCode::SUCCESS
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// The URL of a file that does not exist yet.
fn url(directory: &Path) -> String {
    format!("embedded:{}", directory.join("store.db").display())
}

/// Waits until `condition` gives something, for at most `patience`.
async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let found = tokio::time::timeout(patience, async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not within {patience:?}"))
}
