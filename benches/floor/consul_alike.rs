//! Consul by hand again, with the requests that the contract takes: writes are transactions, which tell the new state and
//! leave alone what a session holds.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::consul::Consul;
use super::{Operations, VALUE};

pub(crate) struct Alike(Consul);

impl Alike {
    pub(crate) fn of(raw: &Consul) -> Self {
        Self(raw.clone())
    }

    /// With flags of its own each time, as a write that changes nothing has no state of its own.
    fn set(&self, key: &str, value: &[u8]) -> Value {
        let flags = self.0.writes.fetch_add(1, Ordering::Relaxed);
        json!({ "Verb": "set", "Key": key, "Value": STANDARD.encode(value), "Flags": flags })
    }

    /// Returns the state of what was written last.
    async fn commit(&self, operations: &[Value]) -> i64 {
        let operations: Vec<_> = operations.iter().map(|operation| json!({ "KV": operation })).collect();
        let answer = self.0.commit(&operations).await;
        let last = answer["Results"].as_array().and_then(|results| results.last());
        last.map_or(0, |last| last["KV"]["ModifyIndex"].as_i64().expect("an index"))
    }
}

/// Fails if a session holds it.
fn free(key: &str) -> Value {
    json!({ "Verb": "check-session", "Key": key, "Session": "" })
}

#[async_trait]
impl Operations for Alike {
    async fn put(&self, key: &str, value: Bytes) {
        self.commit(&[self.set(key, &value), free(key)]).await;
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        self.0.get(key).await
    }

    async fn state(&self, key: &str) -> i64 {
        self.0.state(key).await
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let unchanged = json!({ "Verb": "check-index", "Key": key, "Index": state });
        self.commit(&[unchanged, self.set(key, &value), free(key)]).await
    }

    async fn lock_pair(&self, key: &str) {
        let key = format!("{key}-place");
        let absent = json!({ "Verb": "check-not-exists", "Key": key });
        let session = &self.0.session;
        let lock = json!({ "Verb": "lock", "Key": key, "Value": STANDARD.encode(VALUE), "Session": session });
        let state = self.commit(&[absent, lock]).await;
        let unchanged = json!({ "Verb": "check-index", "Key": key, "Index": state });
        self.commit(&[unchanged, json!({ "Verb": "delete", "Key": key })]).await;
    }
}
