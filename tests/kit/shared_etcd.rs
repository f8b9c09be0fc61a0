//! One etcd that all trials of a process share, each below a namespace of its own.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::{Builder, Runtime};

use crate::servers::etcd::{Etcd, Options, Version};

/// A running server, and the runtime that the proxies to it live on. It ends with the process.
pub(crate) struct Shared {
    pub(crate) etcd: Etcd,
    pub(crate) runtime: Runtime,
}

/// The server; it starts with the first trial that wants it.
pub(crate) fn shared() -> &'static Shared {
    static SHARED: LazyLock<Shared> = LazyLock::new(|| {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        // Trials may be on a runtime already, which cannot wait for another.
        let etcd = std::thread::scope(|scope| {
            let started = scope.spawn(|| runtime.block_on(Options::new(Version::V3_5).start()));
            started.join().expect("it starts")
        });
        Shared { etcd, runtime }
    });
    &SHARED
}

/// A namespace that no other trial has.
pub(crate) fn fresh_namespace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("trial{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
