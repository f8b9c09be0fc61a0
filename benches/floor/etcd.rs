//! etcd through `etcd-client`.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{Client, Compare, CompareOp, ConnectOptions, GetOptions, PutOptions, Txn, TxnOp};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::asked::counted;
use super::{Changes, Floor, Operations, VALUE, member};

/// What a transaction takes by default.
const OPERATIONS: usize = 128;

pub(crate) struct Etcd {
    address: SocketAddr,
    pub(super) client: Client,
    watcher: Client,
    /// What locks hang on.
    pub(super) lease: i64,
}

impl Etcd {
    pub(crate) async fn connect(address: SocketAddr, options: Option<ConnectOptions>) -> Self {
        let connect =
            || async { Client::connect([address.to_string()], options.clone()).await.expect("it serves") };
        let (client, watcher) = (connect().await, connect().await);
        let lease = client.lease_client().grant(3600, None).await.expect("it grants").id();
        Self { address, client, watcher, lease }
    }

    pub(super) async fn commit(&self, txn: Txn) -> etcd_client::TxnResponse {
        let answer = self.client.kv_client().txn(txn).await.expect("it answers");
        assert!(answer.succeeded(), "nobody else writes");
        answer
    }
}

#[async_trait]
impl Operations for Etcd {
    async fn put(&self, key: &str, value: Bytes) {
        self.client.kv_client().put(key, value, None).await.expect("it is put");
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        let mut answer = self.client.kv_client().get(key, None).await.expect("it answers");
        answer.take_kvs().pop().map(|entry| entry.into_key_value().1.into())
    }

    async fn state(&self, key: &str) -> i64 {
        let answer = self.client.kv_client().get(key, None).await.expect("it answers");
        answer.kvs()[0].mod_revision()
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let unchanged = Compare::mod_revision(key, CompareOp::Equal, state);
        let txn = Txn::new().when([unchanged]).and_then([TxnOp::put(key, value, None)]);
        self.commit(txn).await.header().expect("it has a header").revision()
    }

    async fn lock_pair(&self, key: &str) {
        let free = Compare::create_revision(key, CompareOp::Equal, 0);
        let bound = Some(PutOptions::new().with_lease(self.lease));
        self.commit(Txn::new().when([free]).and_then([TxnOp::put(key, VALUE, bound)])).await;
        self.delete(key).await;
    }
}

#[async_trait]
impl Floor for Etcd {
    async fn delete(&self, key: &str) {
        self.client.kv_client().delete(key, None).await.expect("it is deleted");
    }

    async fn fill(&self, prefix: &str, count: usize) {
        for nth in 0..count {
            self.put(&format!("{prefix}/{nth:05}"), VALUE).await;
        }
    }

    async fn list(&self, prefix: &str) -> usize {
        let below = Some(GetOptions::new().with_prefix());
        let answer = self.client.kv_client().get(format!("{prefix}/"), below).await.expect("it answers");
        answer.kvs().len()
    }

    async fn watch(&self, key: &str) -> Option<Changes> {
        self.get(key).await;
        let mut watch = self.watcher.watch_client().watch(key, None).await.expect("it is watched");
        // The first one says that there is a watch.
        watch.message().await.expect("it is answered");
        let changes = stream::unfold(watch, |mut watch| async {
            watch.message().await.expect("it goes on")?;
            Some(((), watch))
        });
        Some(changes.boxed())
    }

    async fn register(&self, prefix: &str, count: usize) -> Duration {
        let lease = self.client.lease_client().grant(30, None).await.expect("it grants").id();
        let put = |nth| {
            let (key, value) = member(prefix, nth);
            TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)))
        };
        let began = Instant::now();
        for first in (0..count).step_by(OPERATIONS) {
            let batch: Vec<_> = (first..count).take(OPERATIONS).map(put).collect();
            self.commit(Txn::new().and_then(batch)).await;
        }
        let took = began.elapsed();
        self.client.lease_client().revoke(lease).await.expect("it is revoked");
        took
    }

    async fn requests(&self) -> Option<u64> {
        let messages = |name: &str| name.starts_with("grpc_server_msg_received_total{");
        Some(counted(self.address, "/metrics", messages).await)
    }
}
