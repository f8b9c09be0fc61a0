//! ZooKeeper by hand again, with the requests that the contract takes: reads behind a write that fails, as `sync` does not
//! see all that was acknowledged, and writes that check a counter beside the node, as the node's own version begins anew
//! when it is made again.

use async_trait::async_trait;
use bytes::Bytes;
use zookeeper_client::{Acls, CreateMode, MultiWriter};

use super::zookeeper::{ZooKeeper, make, path};
use super::{Operations, VALUE};

pub(crate) struct Alike(ZooKeeper);

/// The counter, which nobody raises.
const COUNTER: &str = "/floor-counter";

impl Alike {
    pub(crate) async fn of(raw: &ZooKeeper) -> Self {
        make(&raw.client, COUNTER, CreateMode::Persistent).await;
        Self(raw.clone())
    }

    /// A write that checks the counter first.
    fn checked(&self) -> MultiWriter<'_> {
        let mut writes = self.0.client.new_multi_writer();
        writes.add_check_version(COUNTER, 0).expect("a path");
        writes
    }
}

#[async_trait]
impl Operations for Alike {
    async fn put(&self, key: &str, value: Bytes) {
        let mut writes = self.checked();
        writes.add_set_data(&path(key), &value, None).expect("a path");
        if writes.commit().await.is_err() {
            self.0.put(key, value).await;
        }
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        let refused = self.0.client.delete("/floor-nothing", Some(i32::MAX));
        let found = self.0.client.get_data(&path(key));
        assert!(refused.await.is_err(), "there is no such node");
        found.await.ok().map(|(value, _)| value.into())
    }

    async fn state(&self, key: &str) -> i64 {
        self.0.state(key).await
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let mut writes = self.checked();
        let version = i32::try_from(state).expect("it was one");
        writes.add_check_version(&path(key), version).expect("a path");
        writes.add_set_data(&path(key), &value, None).expect("a path");
        writes.commit().await.expect("nobody else writes");
        state + 1
    }

    /// A place in a queue, and all places in the same flight.
    async fn lock_pair(&self, key: &str) {
        let (queue, client) = (path(key) + "-queue", &self.0.client);
        let place = format!("{queue}/lock-");
        let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
        let made = client.create(&place, &VALUE, &options);
        let all = client.get_children(&queue);
        let Ok((_, number)) = made.await else {
            return make(client, &queue, CreateMode::Persistent).await;
        };
        all.await.expect("it stands");
        let mut writes = client.new_multi_writer();
        writes.add_delete(&format!("{place}{number}"), None).expect("a path");
        writes.commit().await.expect("it is ours");
    }
}
