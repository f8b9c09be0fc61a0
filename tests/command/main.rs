//! The command, as real processes, on real stores.
#![expect(clippy::expect_used, clippy::panic, reason = "a test program: it fails by panicking")]

mod elect;
#[cfg(feature = "etcd")]
mod etcd;
mod help;
mod kit;
mod kv;
#[allow(dead_code, reason = "without the feature of a server there is none")]
mod link;
mod lock;
mod look;
mod outage;
mod printed;
#[path = "../kit/proxy.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod proxy;
mod register;
#[path = "../kit/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests need more of it")]
mod servers;
#[path = "../kit/shared.rs"]
#[allow(dead_code, reason = "without the feature of a server there is none")]
mod shared;
mod signals;
#[cfg(feature = "zookeeper")]
mod zookeeper;

use std::process::ExitCode;

use kit::Store;
use libtest_mimic::{Arguments, Trial};

/// What is tried on every store.
const TRIALS: &[&[kit::Trial]] = &[
    lock::TRIALS,
    signals::TRIALS,
    outage::TRIALS,
    elect::TRIALS,
    kv::TRIALS,
    look::TRIALS,
    register::TRIALS,
    help::TRIALS,
];

/// A store that the command is tried on.
struct Subject {
    name: &'static str,
    make: fn() -> Store,
    /// What is tried on it alone.
    more: &'static [kit::Trial],
}

/// Every store that the command is tried on. A store adds itself here; the trials stay as they are.
const STORES: &[Subject] = &[
    Subject { name: "embedded", make: Store::embedded, more: &[] },
    #[cfg(feature = "consul")]
    Subject { name: "consul", make: || Store::served(&*shared::CONSUL, 5), more: &[] },
    #[cfg(feature = "etcd")]
    Subject { name: "etcd", make: || Store::served(&*shared::ETCD, 1), more: etcd::TRIALS },
    #[cfg(feature = "redis")]
    Subject { name: "redis", make: || Store::served(&*shared::REDIS, 1), more: &[] },
    #[cfg(feature = "zookeeper")]
    Subject { name: "zookeeper", make: || Store::served(&*shared::ZOOKEEPER, 1), more: zookeeper::TRIALS },
];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for Subject { name: store, make, more } in STORES {
        for (name, trial) in TRIALS.iter().copied().flatten().chain(*more) {
            trials.push(Trial::test(format!("{store}::{name}"), move || {
                trial(&make());
                Ok(())
            }));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
