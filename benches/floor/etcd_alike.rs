//! etcd by hand again, with the requests that the contract takes: a put asks for what stood there, whose fence it keeps,
//! who enters a queue is told who stands ahead, and a list leaves out what is reserved.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, ConnectOptions, DeleteOptions, GetOptions, KeyValue, PutOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse,
};
use futures_util::StreamExt as _;

use super::etcd::Etcd;
use super::{Floor as _, Operations, VALUE};
use crate::work::after;

pub(crate) struct Alike(Etcd);

impl Alike {
    /// Whatever it asks, the member must have a leader.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(Etcd::connect(address, Some(ConnectOptions::new().with_require_leader(true))).await)
    }

    /// Makes a place in a queue, and reads who is the newest there.
    async fn enter(&self, queue: &str, place: &str) {
        let bound = Some(PutOptions::new().with_lease(self.0.lease));
        let txn = Txn::new()
            .when([Compare::create_revision(place, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(place, VALUE, bound), newest(queue)])
            .or_else([TxnOp::get(place, Some(GetOptions::new().with_keys_only()))]);
        self.0.commit(txn).await;
    }

    async fn leave(&self, place: &str) {
        let options = DeleteOptions::new().with_prev_key();
        self.0.client.kv_client().delete(place, Some(options)).await.expect("it is deleted");
    }
}

/// The two that came last in a queue.
fn newest(queue: &str) -> TxnOp {
    let options = GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Descend);
    TxnOp::get(queue, Some(options.with_limit(2).with_keys_only()))
}

#[async_trait]
impl Operations for Alike {
    async fn put(&self, key: &str, value: Bytes) {
        let options = PutOptions::new().with_prev_key();
        self.0.client.kv_client().put(key, value, Some(options)).await.expect("it is put");
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        self.0.get(key).await
    }

    async fn state(&self, key: &str) -> i64 {
        self.0.state(key).await
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let unchanged = Compare::mod_revision(key, CompareOp::Equal, state);
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_prev_key()));
        let txn = Txn::new().when([unchanged]).and_then([put]).or_else([TxnOp::get(key, None)]);
        self.0.commit(txn).await.header().expect("it has a header").revision()
    }

    async fn lock_pair(&self, key: &str) {
        let (queue, place) = (format!("{key}-queue/"), format!("{key}-queue/place"));
        self.enter(&queue, &place).await;
        self.leave(&place).await;
    }

    async fn hand_over_alike(&self, queue: &str, idle: Duration) -> Option<Duration> {
        let queue = format!("{queue}/");
        let [first, second] = ["0", "1"].map(|nth| format!("{queue}{nth}"));
        self.enter(&queue, &first).await;
        self.enter(&queue, &second).await;
        let mut changes = self.0.watch(&first).await?;
        let told = async {
            changes.next().await;
            let own = TxnOp::get(second.clone(), Some(GetOptions::new().with_keys_only()));
            let looks = Txn::new().and_then([own, newest(&queue)]);
            self.0.commit(looks).await.op_responses()
        };
        let took = after(idle, self.leave(&first), told).await;
        self.leave(&second).await;
        Some(took)
    }

    async fn fill_alike(&self, prefix: &str, count: usize) -> bool {
        self.0.fill(prefix, count).await;
        true
    }

    /// What is below it but for what is reserved there, as two ranges of one transaction. The client crate copies each of its
    /// answers.
    async fn list_alike(&self, prefix: &str) -> usize {
        let reserved = |end: &str| format!("{prefix}/_quorate{end}");
        let range = |from: String, to: String| TxnOp::get(from, Some(GetOptions::new().with_range(to)));
        let ranges = [range(format!("{prefix}/"), reserved("/")), range(reserved("0"), format!("{prefix}0"))];
        let answer = self.0.client.kv_client().txn(Txn::new().and_then(ranges)).await.expect("it answers");
        let entries = answer.op_responses().into_iter().flat_map(|answer| match answer {
            TxnOpResponse::Get(mut found) => found.take_kvs(),
            _ => Vec::new(),
        });
        entries.map(KeyValue::into_key_value).collect::<Vec<_>>().len()
    }
}
