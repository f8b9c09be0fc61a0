//! ZooKeeper.

mod connecting;
mod faults;
mod interop;
mod layout;
mod reads;
mod round_trips;
mod sasl;
mod sessions;
mod tap;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{Coordinator, SessionOptions, Sessions};
use quorate::lock::{Guard, Mutex};

use crate::common::{self, connect, key, within};
use crate::proxy::Proxy;
use crate::servers::zookeeper::{Version, ZooKeeper};
use crate::servers::{Cluster as _, Release as _};

/// How long a session lives that is meant to live.
const TTL: Duration = Duration::from_secs(10);

/// A short life.
const SHORT: Duration = Duration::from_secs(3);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    let of = |version: &Version| {
        let version = *version;
        let groups = [
            interop::trials(version),
            layout::trials(version),
            connecting::trials(version),
            sasl::trials(version),
            reads::trials(version),
            faults::trials(version),
            sessions::trials(version),
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
    common::trial(format!("zookeeper::{}::{name}", version.name()), move || test(version))
}

/// A store behind proxies of its own, one for each member.
async fn through(zookeeper: &ZooKeeper, options: &str) -> (Vec<Proxy>, Arc<dyn Coordinator>) {
    let proxies = Proxy::to_each(&zookeeper.addresses()).await;
    let addresses: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let url = zookeeper.url_via(&addresses, "");
    let sign = if url.contains('?') { '&' } else { '?' };
    let store = connect(&format!("{url}{sign}{options}")).await;
    (proxies, store)
}

fn sessions(store: &Arc<dyn Coordinator>, ttl: Duration) -> Sessions {
    Sessions::new(store, SessionOptions::new(ttl)).expect("such sessions are possible")
}

async fn held(store: &Arc<dyn Coordinator>, sessions: &Sessions) -> Guard {
    Mutex::new(store, sessions, "m").expect("a name").lock().await.expect("it is free")
}

/// Fails when it takes too long.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    within(what, PATIENCE, future).await
}
