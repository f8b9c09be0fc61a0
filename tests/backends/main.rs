//! Each store on its real server: what goes wrong there, and that its native clients get along with ours.
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]

#[cfg_attr(
    not(any(feature = "consul", feature = "etcd", feature = "redis", feature = "zookeeper")),
    allow(dead_code, reason = "without the feature of a server there are no trials")
)]
mod common;
#[cfg(feature = "consul")]
mod consul;
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
#[cfg(feature = "zookeeper")]
mod zookeeper;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let trials = std::iter::empty::<Trial>();
    #[cfg(feature = "consul")]
    let trials = trials.chain(consul::trials());
    #[cfg(feature = "etcd")]
    let trials = trials.chain(etcd::trials());
    #[cfg(feature = "redis")]
    let trials = trials.chain(redis::trials());
    #[cfg(feature = "zookeeper")]
    let trials = trials.chain(zookeeper::trials());
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
