//! ZooKeeper by hand again, with the requests that the contract takes: reads behind a write that fails, as `sync` does not
//! see all that was acknowledged, writes that check a counter beside the node, as the node's own version begins anew when
//! it is made again, and keys that are directories.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;
use zookeeper_client::{Acls, Client, CreateMode, MultiReadResult, MultiWriteResult, MultiWriter};

use super::zookeeper::{ZooKeeper, make, open, path};
use super::{Changes, Operations, VALUE, member};
use crate::work::after;

/// By the same connections as the floor.
pub(crate) struct Alike(ZooKeeper);

/// The counter, which nobody raises.
const COUNTER: &str = "/floor-counter";

/// How many are registered in one commit, how many counters that raises, as many keys hash to so many of 256, and how many
/// commits are under way.
const REGISTERED: (usize, usize, usize) = (64, 57, 3);

impl Alike {
    pub(crate) async fn of(raw: &ZooKeeper) -> Self {
        make(&raw.client(), COUNTER, CreateMode::Persistent).await;
        Self(raw.clone())
    }

    /// Makes a place in a queue, and says where and how many there are.
    async fn enter(&self, queue: &str) -> (String, i32) {
        let (queue, client) = (path(queue) + "-queue", self.0.client());
        let place = format!("{queue}/lock-");
        let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
        loop {
            let mut writes = client.new_multi_writer();
            writes.add_create(&place, &VALUE, &options).expect("a path");
            writes.add_set_data(&queue, b"", None).expect("a path");
            let Ok(made) = writes.commit().await else {
                make(&client, &queue, CreateMode::Persistent).await;
                continue;
            };
            let Ok([MultiWriteResult::Create { path, .. }, MultiWriteResult::SetData { stat }]) =
                <[_; 2]>::try_from(made)
            else {
                panic!("a place, and the queue");
            };
            return (path, stat.num_children);
        }
    }

    /// A write that checks the counter first.
    fn checked(client: &Client) -> MultiWriter<'_> {
        let mut writes = client.new_multi_writer();
        writes.add_check_version(COUNTER, 0).expect("a path");
        writes
    }
}

#[async_trait]
impl Operations for Alike {
    async fn put(&self, key: &str, value: Bytes) {
        let client = self.0.client();
        let mut writes = Self::checked(&client);
        writes.add_set_data(&path(key), &value, None).expect("a path");
        if writes.commit().await.is_err() {
            self.0.put(key, value).await;
        }
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        let client = self.0.client();
        let refused = client.delete("/floor-nothing", Some(i32::MAX));
        let found = client.get_data(&path(key));
        assert!(refused.await.is_err(), "there is no such node");
        found.await.ok().map(|(value, _)| value.into())
    }

    async fn state(&self, key: &str) -> i64 {
        self.0.state(key).await
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let client = self.0.client();
        let mut writes = Self::checked(&client);
        let version = i32::try_from(state).expect("it was one");
        writes.add_check_version(&path(key), version).expect("a path");
        writes.add_set_data(&path(key), &value, None).expect("a path");
        writes.commit().await.expect("nobody else writes");
        state + 1
    }

    /// A place in a queue, with how many there are in the same answer; then it goes.
    async fn lock_pair(&self, key: &str) {
        let (place, places) = self.enter(key).await;
        assert_eq!(places, 1, "nobody else is there");
        self.0.client().delete(&place, None).await.expect("it is ours");
    }

    async fn hand_over_alike(&self, queue: &str, idle: Duration) -> Option<Duration> {
        let client = self.0.client();
        let (first, _) = self.enter(queue).await;
        let (second, _) = self.enter(queue).await;
        let (_, _, deleted) = self.0.watcher.get_and_watch_data(&first).await.expect("it stands");
        let told = async {
            deleted.changed().await;
            let mut stands = client.new_multi_writer();
            stands.add_check_version(&second, -1).expect("a path");
            let directory = path(queue) + "-queue";
            let (stands, names) = tokio::join!(stands.commit(), self.0.watcher.get_children(&directory));
            stands.expect("it stands");
            assert_eq!(names.expect("it answers").0.len(), 1, "it is the first");
        };
        let left = async { client.delete(&first, None).await.expect("it is ours") };
        let took = after(idle, left, told).await;
        client.delete(&second, None).await.expect("it is ours");
        Some(took)
    }

    async fn watch_alike(&self, key: &str) -> Option<Changes> {
        let (path, client) = (path(key), Arc::clone(&self.0.watcher));
        let (_, _, watch) = client.get_and_watch_data(&path).await.expect("it stands");
        let changes = stream::unfold((watch, path, client), |(watch, path, client)| async {
            watch.changed().await;
            let (_, _, watch) = client.get_and_watch_data(&path).await.expect("it stands");
            Some(((), (watch, path, client)))
        });
        Some(changes.boxed())
    }

    /// A directory for each, with its value in it.
    async fn fill_alike(&self, prefix: &str, count: usize) -> bool {
        let prefix = path(prefix);
        make(&self.0.client(), &prefix, CreateMode::Persistent).await;
        for nth in 0..count {
            make(&self.0.client(), &format!("{prefix}/{nth:05}"), CreateMode::Persistent).await;
            make(&self.0.client(), &format!("{prefix}/{nth:05}/="), CreateMode::Persistent).await;
        }
        true
    }

    /// The names, and then names and value of each directory, many in one request; each behind a write that fails.
    async fn list_alike(&self, prefix: &str) -> usize {
        let (prefix, client) = (path(prefix), self.0.client());
        let refused = client.delete("/floor-nothing", Some(i32::MAX));
        let names = client.list_children(&prefix);
        assert!(refused.await.is_err(), "there is no such node");
        let names = names.await.expect("it stands");
        let refused = client.delete("/floor-nothing", Some(i32::MAX));
        let mut flight = Vec::new();
        for some in names.chunks(50) {
            let mut reads = client.new_multi_reader();
            for name in some {
                reads.add_get_children(&format!("{prefix}/{name}")).expect("a path");
                reads.add_get_data(&format!("{prefix}/{name}/=")).expect("a path");
            }
            flight.push(reads.commit());
        }
        assert!(refused.await.is_err(), "there is no such node");
        let mut listed = 0;
        for answers in flight {
            let answers = answers.await.expect("it answers");
            listed += answers.iter().filter(|answer| matches!(answer, MultiReadResult::Data { .. })).count();
        }
        listed
    }

    /// For each a directory, in a request of its own for all of a commit, and its value in it. Nobody watches: whoever
    /// registers looks after what stands there only when no more comes.
    async fn register_alike(&self, prefix: &str, count: usize) -> Option<Duration> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let session = open(self.0.address).await;
        let prefix = path(&format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        make(&session, &prefix, CreateMode::Container).await;
        let (size, counters, abreast) = REGISTERED;
        for nth in 0..counters {
            make(&session, &format!("{prefix}-{nth}"), CreateMode::Container).await;
        }
        let directory = |nth: usize| format!("{prefix}/member-{nth:05}");
        let commit = async |first: usize| {
            let (mut makes, mut writes) = (session.new_multi_writer(), session.new_multi_writer());
            for nth in (first..count).take(size) {
                let (directory, (_, value)) = (directory(nth), member("", nth));
                let options = CreateMode::Container.with_acls(Acls::anyone_all());
                makes.add_create(&directory, b"", &options)?;
                let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
                writes.add_create(&format!("{directory}/="), &value, &options)?;
            }
            for nth in 0..counters {
                writes.add_set_data(&format!("{prefix}-{nth}"), b"", None)?;
            }
            let (made, written) = (makes.commit(), writes.commit());
            made.await?;
            written.await.map(drop)
        };
        let began = Instant::now();
        let all = stream::iter((0..count).step_by(size)).map(commit).buffer_unordered(abreast);
        all.try_collect::<()>().await.expect("they are made");
        let took = began.elapsed();
        let directories: Vec<_> = (0..count).map(directory).collect();
        // The server would keep the directories for a while, and has little memory.
        for some in directories.chunks(size) {
            let mut deletes = session.new_multi_writer();
            for directory in some {
                deletes.add_delete(&format!("{directory}/="), None).expect("a path");
                deletes.add_delete(directory, None).expect("a path");
            }
            deletes.commit().await.expect("they stand");
        }
        Some(took)
    }
}
