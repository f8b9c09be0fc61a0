//! ZooKeeper through `zookeeper-client`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use quorate::kv::Random;
use spawns_core::{Spawn, Task};
use tokio::runtime::Handle;
use tokio::time::Instant;
use zookeeper_client::{Acls, AddWatchMode, Client, CreateMode, EventType};

use super::asked::answer;
use super::{Changes, Floor, Operations, VALUE, member};

/// How many nodes are made in one request: of this size a thousand and more fit.
const OPERATIONS: usize = 500;

#[derive(Clone)]
pub(crate) struct ZooKeeper {
    pub(super) address: SocketAddr,
    client: Arc<Mutex<Arc<Client>>>,
    scattered: Arc<Mutex<Scattered>>,
    pub(super) watcher: Arc<Client>,
}

/// What lies about in memory, so that a client's task finds another place each time: by where that lies
/// the lot is drawn how well it does.
struct Scattered {
    random: Random,
    pieces: Vec<Vec<u8>>,
}

/// How many pieces lie about, and how large they are at most.
const PIECES: (usize, usize) = (64, 32 * 1024);

impl Scattered {
    fn anew(&mut self) {
        let (count, largest) = PIECES;
        let random = &self.random;
        self.pieces = (0..count).map(|_| Vec::with_capacity(random.below(1..largest))).collect();
    }
}

/// On the runtime that all else is on.
struct Here(Handle);

impl Spawn for Here {
    fn spawn(&self, task: Task) {
        self.0.spawn(Box::into_pin(task.future));
    }
}

impl ZooKeeper {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let (client, watcher) = (open(address).await, open(address).await);
        let client = Arc::new(Mutex::new(Arc::new(client)));
        let scattered = Scattered { random: Random::seeded(1), pieces: Vec::new() };
        Self { address, client, scattered: Arc::new(Mutex::new(scattered)), watcher: Arc::new(watcher) }
    }

    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.lock().expect("nobody panics meanwhile"))
    }
}

pub(super) async fn open(address: SocketAddr) -> Client {
    let connect = async move {
        Client::connector().with_session_timeout(Duration::from_mins(1)).connect(&address.to_string()).await
    };
    let mut connect = std::pin::pin!(connect);
    let client = std::future::poll_fn(|context| {
        let here = Here(Handle::current());
        let _scope = spawns_core::enter(&here);
        connect.as_mut().poll(context)
    });
    client.await.expect("it serves")
}

fn path(key: &str) -> String {
    format!("/{key}")
}

#[async_trait]
impl Operations for ZooKeeper {
    async fn put(&self, key: &str, value: Bytes) {
        let path = path(key);
        if self.client().set_data(&path, &value, None).await.is_err() {
            make(&self.client(), &path, CreateMode::Persistent).await;
        }
    }

    /// What the server that is asked has.
    async fn get(&self, key: &str) -> Option<Bytes> {
        let found = self.client().get_data(&path(key)).await.ok();
        found.map(|(value, _)| value.into())
    }

    async fn state(&self, key: &str) -> i64 {
        let stat = self.client().check_stat(&path(key)).await.expect("it answers");
        stat.expect("it stands").version.into()
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let version = i32::try_from(state).expect("it was one");
        let stat = self.client().set_data(&path(key), &value, Some(version)).await;
        stat.expect("nobody else writes").version.into()
    }

    async fn lock_pair(&self, key: &str) {
        let path = path(key);
        let client = self.client();
        make(&client, &path, CreateMode::Ephemeral).await;
        client.delete(&path, None).await.expect("it is ours");
    }
}

#[async_trait]
impl Floor for ZooKeeper {
    async fn delete(&self, key: &str) {
        self.client().delete(&path(key), None).await.expect("it is deleted");
    }

    async fn fill(&self, prefix: &str, count: usize) {
        make(&self.client(), &path(prefix), CreateMode::Persistent).await;
        for nth in 0..count {
            make(&self.client(), &path(&format!("{prefix}/{nth:05}")), CreateMode::Persistent).await;
        }
    }

    /// The names, and then all values in one request.
    async fn list(&self, prefix: &str) -> usize {
        let prefix = path(prefix);
        let client = self.client();
        let names = client.list_children(&prefix).await.expect("it stands");
        let mut reads = client.new_multi_reader();
        for name in &names {
            reads.add_get_data(&format!("{prefix}/{name}")).expect("a path");
        }
        reads.commit().await.expect("it answers").len()
    }

    async fn reopen(&self) -> bool {
        self.scattered.lock().expect("nobody panics meanwhile").anew();
        let client = Arc::new(open(self.address).await);
        *self.client.lock().expect("nobody panics meanwhile") = client;
        true
    }

    async fn watch(&self, key: &str) -> Option<Changes> {
        let path = path(key);
        let watch = self.watcher.watch(&path, AddWatchMode::Persistent).await.expect("it is watched");
        let changes = stream::unfold((watch, path, Arc::clone(&self.watcher)), |mut all| async {
            if all.0.changed().await.event_type != EventType::NodeDeleted {
                all.2.get_data(&all.1).await.expect("it stands");
            }
            Some(((), all))
        });
        Some(changes.boxed())
    }

    async fn register(&self, prefix: &str, count: usize) -> Duration {
        let session = open(self.address).await;
        let prefix = path(prefix);
        let options = CreateMode::Container.with_acls(Acls::anyone_all());
        // It may stand since the last time.
        let _ = session.create(&prefix, b"", &options).await;
        let began = Instant::now();
        for first in (0..count).step_by(OPERATIONS) {
            let mut writes = session.new_multi_writer();
            for nth in (first..count).take(OPERATIONS) {
                let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
                let (_, value) = member("", nth);
                writes.add_create(&format!("{prefix}/member-{nth:05}"), &value, &options).expect("a path");
            }
            writes.commit().await.expect("it is made");
        }
        began.elapsed()
    }

    async fn requests(&self) -> Option<u64> {
        let facts = answer(self.address, "mntr").await;
        let count = |line: &str| line.strip_prefix("zk_packets_received")?.trim().parse::<u64>().ok();
        facts.lines().find_map(count)
    }
}

pub(super) async fn make(client: &Client, path: &str, mode: CreateMode) {
    let options = mode.with_acls(Acls::anyone_all());
    client.create(path, &VALUE, &options).await.expect("it is made");
}
