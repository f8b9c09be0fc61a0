//! Every case of the conformance suite over every store, and broken stores that it must find out.

mod defects;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "etcd")]
mod etcd;
mod hooks;
mod narrow;
#[cfg(feature = "etcd")]
#[path = "../kit/proxy.rs"]
#[expect(
    clippy::expect_used,
    dead_code,
    reason = "the kit fails by panicking; only its cuts are needed here"
)]
mod proxy;
#[path = "../kit/remote/mod.rs"]
mod remote;
#[cfg(feature = "etcd")]
#[path = "../kit/servers/mod.rs"]
#[expect(
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "the kit fails by panicking, and offers more"
)]
mod servers;
mod stores;
mod workers;

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
    #[cfg(feature = "etcd")]
    let trials = trials.chain(etcd::trials());
    let trials = trials.collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
