//! etcd by hand again, with the requests that the contract takes: a put asks for what stood there, whose fence it keeps,
//! who enters a queue is told who stands ahead, and a list leaves out what is reserved.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};

use super::etcd::Etcd;
use super::{Floor as _, Operations, VALUE};

pub(crate) struct Alike(Arc<Etcd>);

impl Alike {
    pub(crate) fn of(raw: &Arc<Etcd>) -> Self {
        Self(Arc::clone(raw))
    }
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
        let bound = Some(PutOptions::new().with_lease(self.0.lease));
        let newest = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Create, SortOrder::Descend)
            .with_limit(2)
            .with_keys_only();
        let txn = Txn::new()
            .when([Compare::create_revision(place.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(place.clone(), VALUE, bound), TxnOp::get(queue, Some(newest))])
            .or_else([TxnOp::get(place.clone(), Some(GetOptions::new().with_keys_only()))]);
        self.0.commit(txn).await;
        self.0.delete(&place).await;
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
