//! etcd.

mod connecting;
mod faults;
mod interop;
mod metrics;
mod round_trips;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{Coordinator, SessionOptions, Sessions};

use crate::common::{self, connect, key, within};
use crate::servers::Release as _;
use crate::servers::etcd::Version;

/// How long a session lives that is meant to live.
const TTL: Duration = Duration::from_secs(10);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let of = |version: &Version| {
        let version = *version;
        let groups = [
            interop::trials(version),
            connecting::trials(version),
            faults::trials(version),
            watches::trials(version),
            round_trips::trials(version),
        ];
        groups.into_iter().flatten()
    };
    Version::tried().iter().flat_map(of).collect()
}

fn trial<F: Future<Output = ()>>(
    version: Version,
    name: &str,
    test: impl FnOnce(Version) -> F + Send + 'static,
) -> Trial {
    common::trial(format!("etcd::{}::{name}", version.name()), move || test(version))
}

fn sessions(store: &Arc<dyn Coordinator>) -> Sessions {
    Sessions::new(store, SessionOptions::new(TTL)).expect("such sessions are possible")
}

/// Fails when it takes too long.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    within(what, PATIENCE, future).await
}
