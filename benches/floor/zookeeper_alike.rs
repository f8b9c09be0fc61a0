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
use zookeeper_client::{Acls, Client, CreateMode, Error, MultiReadResult, MultiWriteResult, MultiWriter};

use super::zookeeper::{ZooKeeper, make, open};
use super::{Changes, Operations, VALUE, member};
use crate::work::after;

/// By the same connections as the floor.
pub(crate) struct Alike(ZooKeeper);

/// Where all of it stands. Names are about as long and as deep as ours, as the server takes each apart.
const ROOT: &str = "/floor1";

/// The counter, which nobody raises.
const COUNTER: &str = "/_quorate/generation/floor";

/// A place in a queue, up to its number.
const PLACE: &str = "1000000000000001-x00000000000000000000000000000001.0-lock-";

/// How many are registered in one commit, how many counters that raises, as many keys hash to so many of 256, and how many
/// commits are under way.
const REGISTERED: (usize, usize, usize) = (64, 57, 3);

impl Alike {
    pub(crate) async fn of(raw: &ZooKeeper) -> Self {
        for path in [COUNTER, &queue("")] {
            stand(&raw.client(), path.trim_end_matches('/')).await;
        }
        Self(raw.clone())
    }

    /// Makes a place in a queue, and says where and how many there are.
    async fn enter(&self, queue: &str) -> (String, i32) {
        let (queue, client) = (self::queue(queue), self.0.client());
        let place = format!("{queue}/{PLACE}");
        let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
        loop {
            let mut writes = client.new_multi_writer();
            writes.add_create(&place, &VALUE, &options).expect("a path");
            writes.add_set_data(&queue, b"", None).expect("a path");
            let Ok(made) = writes.commit().await else {
                stand(&client, &queue).await;
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

/// The directory that a key is.
fn directory(key: &str) -> String {
    format!("{ROOT}/{}", key.trim_start_matches("floor-"))
}

/// The node that holds its value.
fn entry(key: &str) -> String {
    directory(key) + "/="
}

/// The directory that a queue is.
fn queue(name: &str) -> String {
    format!("{ROOT}/_quorate/lock/{name}")
}

/// Makes a node and what is above it, unless they are there.
async fn stand(client: &Client, path: &str) {
    let ends = path.char_indices().skip(1).filter(|(_, sign)| *sign == '/').map(|(end, _)| end);
    for end in ends.chain([path.len()]) {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        match client.create(&path[..end], &VALUE, &options).await {
            Ok(_) | Err(Error::NodeExists) => {}
            Err(error) => panic!("{path} is not made: {error}"),
        }
    }
}

#[async_trait]
impl Operations for Alike {
    async fn put(&self, key: &str, value: Bytes) {
        let client = self.0.client();
        let mut writes = Self::checked(&client);
        writes.add_set_data(&entry(key), &value, None).expect("a path");
        if writes.commit().await.is_err() {
            stand(&client, &entry(key)).await;
        }
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        let client = self.0.client();
        let refused = client.delete("/floor-nothing", Some(i32::MAX));
        let found = client.get_data(&entry(key));
        assert!(refused.await.is_err(), "there is no such node");
        found.await.ok().map(|(value, _)| value.into())
    }

    async fn state(&self, key: &str) -> i64 {
        let stat = self.0.client().check_stat(&entry(key)).await.expect("it answers");
        stat.expect("it stands").version.into()
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let client = self.0.client();
        let mut writes = Self::checked(&client);
        let version = i32::try_from(state).expect("it was one");
        writes.add_check_version(&entry(key), version).expect("a path");
        writes.add_set_data(&entry(key), &value, None).expect("a path");
        writes.commit().await.expect("nobody else writes");
        state + 1
    }

    /// A place in a queue, with how many there are in the same answer; then it goes.
    async fn lock_pair(&self, key: &str) {
        let (place, places) = self.enter(key).await;
        assert_eq!(places, 1, "nobody else is there");
        self.0.client().delete(&place, None).await.expect("it is ours");
    }

    async fn hand_over_alike(&self, name: &str, idle: Duration) -> Option<Duration> {
        let client = self.0.client();
        let (first, _) = self.enter(name).await;
        let (second, _) = self.enter(name).await;
        let (_, _, deleted) = self.0.watcher.get_and_watch_data(&first).await.expect("it stands");
        let told = async {
            deleted.changed().await;
            let mut stands = client.new_multi_writer();
            stands.add_check_version(&second, -1).expect("a path");
            let directory = queue(name);
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
        let (path, client) = (entry(key), Arc::clone(&self.0.watcher));
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
        for nth in 0..count {
            stand(&self.0.client(), &entry(&format!("{prefix}/{nth:05}"))).await;
        }
        true
    }

    /// The names, and then names and value of each directory, many in one request; each behind a write that fails.
    async fn list_alike(&self, prefix: &str) -> usize {
        let (prefix, client) = (directory(prefix), self.0.client());
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
        let prefix = directory(&format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed)));
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
