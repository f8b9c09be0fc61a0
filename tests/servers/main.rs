//! What tests against real servers stand on: that the servers start, and fail and come back as ordered.
//!
//! Trials of a server are there with the feature of its backend, and named after it. The program also starts servers
//! for people: see `scripts/servers`.
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]

#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "etcd")]
mod etcd;
mod proxied;
#[path = "../kit/proxy.rs"]
#[allow(dead_code, reason = "without the feature of a server there is little to stand before")]
mod proxy;
#[cfg(feature = "redis")]
mod redis;
#[path = "../kit/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "without the feature of a server nobody torments it")]
mod servers;
mod start;
#[cfg(feature = "zookeeper")]
mod zookeeper;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, server, options @ ..] = &*arguments
        && mode == "start"
    {
        return block_on(start::dispatch(server, options));
    }
    let trials = proxied::trials();
    #[cfg(feature = "consul")]
    let trials: Vec<_> = trials.into_iter().chain(consul::trials()).collect();
    #[cfg(feature = "etcd")]
    let trials: Vec<_> = trials.into_iter().chain(etcd::trials()).collect();
    #[cfg(feature = "redis")]
    let trials: Vec<_> = trials.into_iter().chain(redis::trials()).collect();
    #[cfg(feature = "zookeeper")]
    let trials: Vec<_> = trials.into_iter().chain(zookeeper::trials()).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial<F: Future<Output = ()>>(
    name: impl Into<String>,
    test: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        block_on(test());
        Ok(())
    })
}

/// Fails because of something that says so.
#[allow(dead_code, reason = "without the feature of a server nobody refuses anything")]
fn refused<T: std::fmt::Debug>(done: &Result<T, String>, because: &str) {
    let reason = done.as_ref().expect_err("it is refused");
    assert!(reason.contains(because), "not {because:?} but {reason}");
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
