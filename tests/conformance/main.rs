//! Every case of the conformance suite over every store, and broken stores that it must find out.

#[cfg(feature = "consul")]
mod consul;
mod defects;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "etcd")]
mod etcd;
mod hooks;
mod narrow;
#[path = "../kit/proxy.rs"]
#[allow(dead_code, reason = "only its cuts are needed here")]
mod proxy;
#[allow(dead_code, reason = "without the feature of a server there is none")]
#[expect(clippy::expect_used, reason = "no case asks a server that was not started")]
mod real;
#[cfg(feature = "redis")]
mod redis;
#[path = "../kit/remote/mod.rs"]
mod remote;
#[path = "../kit/servers/mod.rs"]
#[expect(clippy::expect_used, clippy::panic, reason = "the kit fails by panicking")]
#[allow(dead_code, unused_imports, reason = "the kit offers more")]
mod servers;
mod stores;
mod workers;
#[cfg(feature = "zookeeper")]
mod zookeeper;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [mode, url] = &*arguments
        && mode == "serve"
    {
        return workers::serve(url);
    }
    let trials = stores::trials().chain(narrow::trials()).chain(workers::trials()).chain(defects::trials());
    #[cfg(feature = "consul")]
    let trials = trials.chain(consul::trials());
    #[cfg(feature = "etcd")]
    let trials = trials.chain(etcd::trials());
    #[cfg(feature = "redis")]
    let trials = trials.chain(redis::trials());
    #[cfg(feature = "zookeeper")]
    let trials = trials.chain(zookeeper::trials());
    let trials = trials.collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
