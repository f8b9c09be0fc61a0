//! A server, what it is compared with, and clients of it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use quorate::Client;
use quorate::kv::Key;
use tokio::process::Command;

use crate::floor::{Floor, Operations};
use crate::metrics::bare;
use crate::servers::Cluster;
#[cfg(any(feature = "consul", feature = "etcd", feature = "redis", feature = "zookeeper"))]
use crate::servers::{Options, Release};

/// Where a metric is measured.
pub(crate) struct Arena {
    pub(crate) backend: &'static str,
    pub(crate) url: String,
    /// Where peers find it.
    pub(crate) address: Option<SocketAddr>,
    /// Where the server's own tools are.
    pub(crate) tools: PathBuf,
    /// What is a lock around a command to the server's own tools, and its name.
    pub(crate) command: Option<(&'static str, Start)>,
    pub(crate) floor: Arc<dyn Floor>,
    /// The same requests that the store needs for its contract, by hand, where the floor does with fewer or others.
    pub(crate) alike: Option<Arc<dyn Operations>>,
    /// What a look at the number of requests adds to it.
    pub(crate) look: u64,
    namespaces: Cell<u32>,
    _served: Served,
}

/// Starts a command.
pub(crate) type Start = Rc<dyn Fn() -> Command>;

/// What goes when it is dropped.
#[allow(dead_code, reason = "they are there to be dropped, and only where there is such a store")]
pub(crate) enum Served {
    Cluster(Rc<dyn Cluster>),
    Directory(tempfile::TempDir),
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
                let file = directory.path().join("flock");
                let flock = move || {
                    let mut command = bare("flock");
                    command.arg(&file).arg("true");
                    command
                };
                let arena = Self::new("embedded", url, floor, Served::Directory(directory)).await;
                Self { command: Some(("flock", Rc::new(flock))), ..arena }
            }
            #[cfg(feature = "etcd")]
            "etcd" => {
                use crate::servers::etcd::Version;
                let (cluster, address) = serve(Options::new(Version::usual())).await;
                let floor = Arc::new(crate::floor::etcd::Etcd::connect(address, None).await);
                let alike = Arc::new(crate::floor::etcd_alike::Alike::connect(address).await);
                let cluster = Rc::new(cluster);
                let etcdctl = {
                    let cluster = Rc::clone(&cluster);
                    move || {
                        let mut command = cluster.etcdctl_command(&cluster.addresses());
                        command.env("PATH", "/usr/bin:/bin").args(["lock", "command", "true"]);
                        command
                    }
                };
                let arena = Self::served("etcd", cluster, floor).await;
                let tools = crate::servers::unpacked(&format!("etcd-{}", Version::usual().name()));
                Self { command: Some(("etcdctl lock", Rc::new(etcdctl))), tools, alike: Some(alike), ..arena }
            }
            #[cfg(feature = "consul")]
            "consul" => {
                use crate::servers::consul::Version;
                let counts = r#"-hcl=telemetry { prometheus_retention_time = "1h" }"#;
                // All who are compared come from one address, and keep their connections; each alone would do with 200.
                let room = "-hcl=limits { http_max_conns_per_client = 1000 }";
                let (cluster, address) = serve(Options::new(Version::usual()).flag(counts).flag(room)).await;
                let floor = crate::floor::consul::Consul::connect(address).await;
                let alike = Arc::new(crate::floor::consul_alike::Alike::of(&floor));
                let cluster = Rc::new(cluster);
                let consul = {
                    let cluster = Rc::clone(&cluster);
                    move || {
                        let mut command = cluster.bare_consul();
                        command.arg("lock").args(cluster.consul_options(address)).args(["command", "true"]);
                        command
                    }
                };
                let arena = Self::served("consul", cluster, Arc::new(floor)).await;
                let tools = crate::servers::unpacked(&format!("consul-{}", Version::usual().name()));
                Self { command: Some(("consul lock", Rc::new(consul))), tools, alike: Some(alike), ..arena }
            }
            #[cfg(feature = "zookeeper")]
            "zookeeper" => {
                use crate::servers::zookeeper::Version;
                // As it does by default; tests do without.
                let synced = "forceSync=yes";
                let (cluster, address) = serve(Options::new(Version::usual()).flag(synced)).await;
                let floor = crate::floor::zookeeper::ZooKeeper::connect(address).await;
                let alike = Arc::new(crate::floor::zookeeper_alike::Alike::of(&floor).await);
                let arena = Self::served("zookeeper", Rc::new(cluster), Arc::new(floor)).await;
                Self { alike: Some(alike), ..arena }
            }
            #[cfg(feature = "redis")]
            "redis" => {
                use crate::servers::redis::Version;
                let (cluster, address) = serve(Options::new(Version::usual())).await;
                let floor = crate::floor::redis::Redis::connect(address).await;
                let alike = Arc::new(crate::floor::redis_alike::Alike::of(&floor).await);
                let arena = Self::served("redis", Rc::new(cluster), Arc::new(floor)).await;
                Self { alike: Some(alike), ..arena }
            }
            _ => panic!("there is no backend {backend:?} here; there are {}", Self::BACKENDS.join(", ")),
        }
    }

    #[cfg(any(feature = "consul", feature = "etcd", feature = "redis", feature = "zookeeper"))]
    async fn served(backend: &'static str, cluster: Rc<dyn Cluster>, floor: Arc<dyn Floor>) -> Self {
        let url = cluster.url("");
        let address = Some(cluster.addresses()[0]);
        Self { address, ..Self::new(backend, url, floor, Served::Cluster(cluster)).await }
    }

    async fn new(backend: &'static str, url: String, floor: Arc<dyn Floor>, served: Served) -> Self {
        let before = floor.requests().await;
        let look = floor.requests().await.zip(before).map_or(0, |(now, before)| now - before);
        let namespaces = Cell::new(0);
        Self {
            backend,
            url,
            address: None,
            tools: PathBuf::new(),
            command: None,
            floor,
            alike: None,
            look,
            namespaces,
            _served: served,
        }
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

    /// Starts this program as a process that does `what` in a namespace; see [`child`](crate::child).
    pub(crate) fn child(&self, what: &'static str, count: usize) -> impl Fn(&str) -> Command + use<> {
        let url = self.url.clone();
        move |namespace| {
            let mut command = Command::new(std::env::current_exe().expect("a path"));
            command.args(["--child", what, &url, namespace, &count.to_string()]).kill_on_drop(true);
            command
        }
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
