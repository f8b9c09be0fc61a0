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
use quorate::connect::Schemes;
use quorate::kv::{Coordinator, Key, SessionOptions, Sessions};

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
    Trial::test(format!("etcd::{}::{name}", version.name()), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test(version));
        Ok(())
    })
}

async fn connect(url: &str) -> Arc<dyn Coordinator> {
    Schemes::default().connect(url).await.expect("it lets us in")
}

fn sessions(store: &Arc<dyn Coordinator>) -> Sessions {
    Sessions::new(store, SessionOptions::new(TTL)).expect("such sessions are possible")
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

/// Fails when it takes too long.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}
