//! One cluster of each kind of server that all trials of a process share, each trial below a namespace of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::{Builder, Runtime};

use crate::servers::{Cluster, Options, Release};

/// A Consul.
#[cfg(feature = "consul")]
pub(crate) static CONSUL: std::sync::LazyLock<Shared<crate::servers::consul::Consul>> =
    std::sync::LazyLock::new(Shared::start::<crate::servers::consul::Version>);

/// An etcd.
#[cfg(feature = "etcd")]
pub(crate) static ETCD: std::sync::LazyLock<Shared<crate::servers::etcd::Etcd>> =
    std::sync::LazyLock::new(Shared::start::<crate::servers::etcd::Version>);

/// A Redis.
#[cfg(feature = "redis")]
pub(crate) static REDIS: std::sync::LazyLock<Shared<crate::servers::redis::Redis>> =
    std::sync::LazyLock::new(Shared::start::<crate::servers::redis::Version>);
/// A ZooKeeper.
#[cfg(feature = "zookeeper")]
pub(crate) static ZOOKEEPER: std::sync::LazyLock<Shared<crate::servers::zookeeper::ZooKeeper>> =
    std::sync::LazyLock::new(Shared::start::<crate::servers::zookeeper::Version>);

/// One running server, and the runtime that the proxies to it live on. It starts with the first trial that wants it, and
/// ends with the process.
pub(crate) struct Shared<C: ?Sized> {
    pub(crate) runtime: Runtime,
    pub(crate) cluster: C,
}

impl<C: Cluster> Shared<C> {
    fn start<V: Release<Cluster = C>>() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        // Trials may be on a runtime already, which cannot wait for another.
        let cluster = std::thread::scope(|scope| {
            let started = scope.spawn(|| runtime.block_on(Options::new(V::usual()).start()));
            started.join().expect("it starts")
        });
        Self { runtime, cluster }
    }
}

/// A namespace that no other trial has.
pub(crate) fn fresh_namespace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("trial{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
