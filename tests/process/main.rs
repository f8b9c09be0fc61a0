//! Real processes, killed, stopped and told to end, that meet in one embedded file.
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]

mod counter;
mod election;
#[path = "../kit/replica.rs"]
mod replica;
mod scale;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        // This binary again, as one of the processes.
        ["work", "increment", url, file, times] => run(counter::increment(url, file, times)),
        ["work", "hold", url] => run(scale::hold(url)),
        _ => {
            let trials = vec![
                trial("kill_nine_of_the_leader_twenty_times", election::kill_nine),
                trial("a_graceful_end_does_not_wait_for_the_ttl", election::graceful),
                trial("a_stopped_leader_comes_back_as_a_follower", election::stopped),
                trial("an_unprotected_counter_loses_nothing_under_the_lock", counter::loses_nothing),
                trial("ten_thousand_locks_and_registrations_in_bounded_memory", scale::bounded),
            ];
            libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
        }
    }
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
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
