//! Trouble at random for real servers and for the processes that use them, judged by the servers' own history.
//!
//! `scripts/chaos` runs it for as long as you like; as a test it runs for a short time, with the feature of a backend.
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]
#![expect(clippy::future_not_send, reason = "each process of it waits for everything in one task")]

mod contest;
#[allow(dead_code, reason = "without the feature of a server there is nobody to torment")]
mod crew;
#[cfg(feature = "etcd")]
mod etcd;
mod history;
mod judge;
mod judged;
#[allow(dead_code, reason = "without the feature of a server there is nobody to torment")]
mod options;
#[path = "../kit/proxy.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod proxy;
mod record;
#[cfg(feature = "redis")]
mod redis;
#[allow(dead_code, reason = "without the feature of a server there is nobody to torment")]
mod report;
#[allow(dead_code, reason = "without the feature of a server there is nobody to torment")]
mod run;
#[path = "../kit/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests need more of it")]
mod servers;
#[allow(dead_code, reason = "without the feature of a server there is nobody to torment")]
mod trouble;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

use crate::contest::Contest;
use crate::history::Historian;
use crate::options::Options;
use crate::servers::Release;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        // This binary again, as one of the processes.
        ["work", contest, id, url, seed, guarded] => {
            let contest = Contest::parse(contest).expect("a contest");
            let seed = seed.parse().expect("a number");
            block_on(worker::work(contest, id, url, seed, *guarded == "guarded"))
        }
        #[cfg(feature = "etcd")]
        ["run", "etcd", rest @ ..] => run::<servers::etcd::Version>(rest),
        #[cfg(feature = "redis")]
        ["run", "redis", rest @ ..] => run::<servers::redis::Version>(rest),
        ["run", ..] => refuse("unknown backend, or built without it"),
        _ => {
            let trials = judged::trials();
            #[cfg(feature = "etcd")]
            let trials: Vec<Trial> = trials.into_iter().chain([short::<servers::etcd::Version>()]).collect();
            #[cfg(feature = "redis")]
            let trials: Vec<Trial> = trials.into_iter().chain([short::<servers::redis::Version>()]).collect();
            libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
        }
    }
}

/// A run for people.
fn run<V: Release<Cluster: Historian>>(arguments: &[&str]) -> ExitCode {
    match Options::<V>::parse(arguments) {
        Ok(options) if block_on(run::run(&options)) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(reason) => refuse(&reason),
    }
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(2)
}

/// A run as a test.
fn short<V: Release<Cluster: Historian>>() -> Trial {
    let name = format!("{}::nothing_goes_wrong_in_a_short_time_of_chaos", V::SERVER);
    let options = Options::<V>::new(Duration::from_secs(20));
    Trial::test(name, move || {
        if block_on(run::run(&options)) { Ok(()) } else { Err("what went wrong is printed above".into()) }
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
