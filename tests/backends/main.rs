//! Each store on its real server: what goes wrong there, and that its native clients get along with ours.
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]

#[cfg(feature = "etcd")]
mod etcd;
#[path = "../kit/proxy.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod proxy;
#[cfg(feature = "redis")]
mod redis;
#[path = "../kit/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests need more of it")]
mod servers;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let trials: Vec<Trial> = Vec::new();
    #[cfg(feature = "etcd")]
    let trials: Vec<Trial> = trials.into_iter().chain(etcd::trials()).collect();
    #[cfg(feature = "redis")]
    let trials: Vec<Trial> = trials.into_iter().chain(redis::trials()).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
