//! A server, what it is compared with, and clients of it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use quorate::Client;
use quorate::kv::Key;

use crate::floor::Floor;
use crate::servers::{Cluster, Options, Release};

/// Where a metric is measured.
pub(crate) struct Arena {
    pub(crate) backend: &'static str,
    url: String,
    pub(crate) floor: Arc<dyn Floor>,
    /// The same requests that the store needs for its contract, by hand, where the floor does with fewer or others.
    pub(crate) alike: Option<Arc<dyn Floor>>,
    /// What a look at the number of requests adds to it.
    pub(crate) look: u64,
    namespaces: Cell<u32>,
    _served: Served,
}

/// What goes when it is dropped.
pub(crate) enum Served {
    #[cfg_attr(
        not(any(feature = "consul", feature = "etcd", feature = "redis", feature = "zookeeper")),
        expect(dead_code, reason = "without the feature of a server there is none")
    )]
    Cluster(#[expect(dead_code, reason = "dropping it ends it")] Box<dyn Cluster>),
    Directory(#[expect(dead_code, reason = "dropping it removes it")] tempfile::TempDir),
}

impl Arena {
    /// The backends that this was built with.
    pub(crate) const BACKENDS: &[&str] = &[
        #[cfg(feature = "embedded")]
        "embedded",
        #[cfg(feature = "etcd")]
        "etcd",
        #[cfg(feature = "consul")]
        "consul",
        #[cfg(feature = "zookeeper")]
        "zookeeper",
        #[cfg(feature = "redis")]
        "redis",
    ];

    /// Starts what `backend` needs.
    pub(crate) async fn open(backend: &str) -> Self {
        match backend {
            #[cfg(feature = "embedded")]
            "embedded" => {
                let directory =
                    tempfile::Builder::new().prefix("quorate-bench-").tempdir().expect("a directory");
                let floor = Arc::new(crate::floor::file::Sqlite::open(&directory.path().join("floor.db")));
                let url = format!("embedded:{}", directory.path().join("quorate.db").display());
                Self::new("embedded", url, floor, Served::Directory(directory)).await
            }
            #[cfg(feature = "etcd")]
            "etcd" => {
                use crate::servers::etcd::Version;
                let (cluster, address) = serve(Options::new(Version::usual())).await;
                let floor = crate::floor::etcd::Etcd::connect(address).await;
                Self::served("etcd", cluster, Arc::new(floor)).await
            }
            #[cfg(feature = "consul")]
            "consul" => {
                use crate::servers::consul::Version;
                let counts = r#"-hcl=telemetry { prometheus_retention_time = "1h" }"#;
                let (cluster, address) = serve(Options::new(Version::usual()).flag(counts)).await;
                let floor = crate::floor::consul::Consul::connect(address).await;
                Self::served("consul", cluster, Arc::new(floor)).await
            }
            #[cfg(feature = "zookeeper")]
            "zookeeper" => {
                use crate::servers::zookeeper::Version;
                let (cluster, address) = serve(Options::new(Version::usual())).await;
                let floor = crate::floor::zookeeper::ZooKeeper::connect(address).await;
                let alike = Arc::new(crate::floor::zookeeper_alike::Alike::of(&floor).await);
                let arena = Self::served("zookeeper", cluster, Arc::new(floor)).await;
                Self { alike: Some(alike), ..arena }
            }
            #[cfg(feature = "redis")]
            "redis" => {
                use crate::servers::redis::Version;
                let (cluster, address) = serve(Options::new(Version::usual())).await;
                let floor = crate::floor::redis::Redis::connect(address).await;
                Self::served("redis", cluster, Arc::new(floor)).await
            }
            _ => panic!("there is no backend {backend:?} here; there are {}", Self::BACKENDS.join(", ")),
        }
    }

    #[cfg(any(feature = "consul", feature = "etcd", feature = "redis", feature = "zookeeper"))]
    async fn served(backend: &'static str, cluster: impl Cluster, floor: Arc<dyn Floor>) -> Self {
        let url = cluster.url("");
        Self::new(backend, url, floor, Served::Cluster(Box::new(cluster))).await
    }

    async fn new(backend: &'static str, url: String, floor: Arc<dyn Floor>, served: Served) -> Self {
        let before = floor.requests().await;
        let look = floor.requests().await.zip(before).map_or(0, |(now, before)| now - before);
        let namespaces = Cell::new(0);
        Self { backend, url, floor, alike: None, look, namespaces, _served: served }
    }

    /// A namespace of its own.
    pub(crate) fn namespace(&self) -> Key {
        self.namespaces.set(self.namespaces.get() + 1);
        Key::new(&format!("bench{}", self.namespaces.get())).expect("a key")
    }

    /// A client of its own, as anybody would make one.
    pub(crate) async fn client(&self, namespace: &Key) -> Client {
        let client = Client::builder(&self.url).namespace(namespace.clone());
        client.connect().await.expect("it lets us in")
    }

    pub(crate) async fn requests(&self) -> Option<u64> {
        self.floor.requests().await
    }
}

#[cfg(any(feature = "consul", feature = "etcd", feature = "redis", feature = "zookeeper"))]
async fn serve<V: Release>(options: Options<V>) -> (V::Cluster, SocketAddr) {
    let cluster = options.start().await;
    let address = cluster.addresses()[0];
    (cluster, address)
}
