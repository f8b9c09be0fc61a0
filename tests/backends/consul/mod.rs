//! Consul.

mod catalog;
mod connecting;
mod counted;
mod faults;
mod round_trips;
mod scale;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{Coordinator, SessionOptions, Sessions};

use crate::common::{self, connect, key, within};
use crate::servers::Release as _;
use crate::servers::consul::Version;

/// How long a session lives: the shortest that Consul grants.
const TTL: Duration = Duration::from_secs(10);

/// How long anything may take that no session has to expire for.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let of = |version: &Version| {
        let version = *version;
        let groups = [
            connecting::trials(version),
            faults::trials(version),
            watches::trials(version),
            round_trips::trials(version),
            scale::trials(version),
            catalog::trials(version),
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
    common::trial(format!("consul::{}::{name}", version.name()), move || test(version))
}

fn sessions(store: &Arc<dyn Coordinator>) -> Sessions {
    Sessions::new(store, SessionOptions::new(TTL)).expect("such sessions are possible")
}

/// Fails when it takes too long.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    within(what, PATIENCE, future).await
}
