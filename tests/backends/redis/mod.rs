//! Redis.

mod clusters;
mod connecting;
mod counts;
mod failover;
mod faults;
mod keys;
mod lists;
mod operators;
mod sentinels;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{Coordinator, SessionOptions, Sessions};
use quorate::lock::{Guard, Mutex};

use crate::common::{self, connect, key, within};
use crate::proxy::Proxy;
use crate::servers::redis::{Options, Redis, Version};
use crate::servers::{Cluster as _, Release as _};

/// How long a session lives that is meant to live.
const TTL: Duration = Duration::from_secs(10);

/// A short life.
const SHORT: Duration = Duration::from_secs(2);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let of = |version: &Version| {
        let version = *version;
        let groups = [
            clusters::trials(version),
            connecting::trials(version),
            counts::trials(version),
            faults::trials(version),
            keys::trials(version),
            lists::trials(version),
            operators::trials(version),
            sentinels::trials(version),
            watches::trials(version),
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
    common::trial(format!("redis::{}::{name}", version.name()), move || test(version))
}

async fn start(version: Version) -> Redis {
    Options::new(version).start().await
}

/// A client of its own, and the proxy that it goes through.
async fn through(redis: &Redis, options: &str) -> (Proxy, Arc<dyn Coordinator>) {
    let proxy = Proxy::to(redis.addresses()[0]).await;
    let store = connect(&format!("{}/?{options}", redis.url_via(&[proxy.address()], ""))).await;
    (proxy, store)
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
