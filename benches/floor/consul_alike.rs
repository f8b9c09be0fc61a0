//! Consul by hand again, with the requests that the contract takes: writes are transactions, which tell the new state and
//! leave alone what a session holds; who enters a queue is told who stands there, and who is next reads it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::consul::Consul;
use super::{Changes, Crowd, Floor as _, Operations, Turns, VALUE, Waiters, reserved};
use crate::work::after;

#[derive(Clone)]
pub(crate) struct Alike(Consul);

impl Alike {
    pub(crate) fn of(raw: &Consul) -> Self {
        Self(raw.clone())
    }

    /// Another client of the same server, with connections and a session of its own.
    async fn another(&self) -> Self {
        Self(Consul::connect(self.0.address).await)
    }

    /// With flags of its own each time, as a write that changes nothing has no state of its own.
    fn set(&self, key: &str, value: &[u8]) -> Value {
        let flags = self.0.writes.fetch_add(1, Ordering::Relaxed);
        json!({ "Verb": "set", "Key": key, "Value": STANDARD.encode(value), "Flags": flags })
    }

    /// A place of ours in a queue, under a key as long as quorate's, which the server tells back and a look has to read.
    fn place(&self, queue: &str, nth: usize) -> String {
        format!("{queue}/{}-x{nth:032x}", self.0.session)
    }

    /// Makes a place in a queue, and reads who stands there. Returns its state.
    async fn enter(&self, queue: &str, place: &str) -> i64 {
        let (session, flags) = (&self.0.session, self.0.writes.fetch_add(1, Ordering::Relaxed));
        let value = STANDARD.encode(VALUE);
        let lock =
            json!({ "Verb": "lock", "Key": place, "Value": value, "Flags": flags, "Session": session });
        let absent = json!({ "Verb": "check-not-exists", "Key": place });
        let standing = json!({ "Verb": "get-tree", "Key": format!("{queue}/") });
        let told = self.told(&[absent, lock, standing]).await;
        state(told.iter().find(|told| told["KV"]["Key"] == place))
    }

    async fn leave(&self, place: &str, state: i64) {
        let unchanged = json!({ "Verb": "check-index", "Key": place, "Index": state });
        self.commit(&[unchanged, json!({ "Verb": "delete", "Key": place })]).await;
    }

    /// Returns the state of what was written last.
    async fn commit(&self, operations: &[Value]) -> i64 {
        let told = self.told(operations).await;
        told.last().map_or(0, |last| state(Some(last)))
    }

    async fn told(&self, operations: &[Value]) -> Vec<Value> {
        let operations: Vec<_> = operations.iter().map(|operation| json!({ "KV": operation })).collect();
        let mut answer = self.0.commit(&operations).await;
        answer["Results"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }
}

fn state(told: Option<&Value>) -> i64 {
    told.and_then(|told| told["KV"]["ModifyIndex"].as_i64()).expect("an index")
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

    /// Not `?raw`, which tells neither which state it is nor whether it is bound.
    async fn get(&self, key: &str) -> Option<Bytes> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Stored {
            value: String,
            create_index: u64,
            modify_index: u64,
            session: Option<String>,
        }
        let answer = self.0.ask(Method::GET, &format!("/v1/kv/{key}?consistent"), Bytes::new()).await;
        let [stored]: [Stored; 1] = serde_json::from_slice(&answer).ok()?;
        assert!(stored.create_index <= stored.modify_index && stored.session.is_none(), "it is not bound");
        Some(STANDARD.decode(stored.value).expect("it is Base64").into())
    }

    async fn state(&self, key: &str) -> i64 {
        self.0.state(key).await
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let unchanged = json!({ "Verb": "check-index", "Key": key, "Index": state });
        self.commit(&[unchanged, self.set(key, &value), free(key)]).await
    }

    async fn lock_pair(&self, key: &str) {
        let queue = reserved(key);
        let place = self.place(&queue, 0);
        let state = self.enter(&queue, &place).await;
        self.leave(&place, state).await;
    }

    /// With flags as long as quorate's, which the server tells with each entry.
    async fn fill_alike(&self, prefix: &str, count: usize) -> bool {
        for nth in 0..count {
            let flags = u64::MAX / 2 - u64::try_from(nth).expect("a small number");
            let (key, value) = (format!("{prefix}/{nth:05}"), STANDARD.encode(VALUE));
            self.commit(&[json!({ "Verb": "set", "Key": key, "Value": value, "Flags": flags })]).await;
        }
        true
    }

    async fn list_alike(&self, prefix: &str) -> usize {
        self.0.list(prefix).await
    }

    async fn hand_over_alike(&self, queue: &str, idle: Duration) -> Option<Duration> {
        let queue = reserved(queue);
        let [first, second] = [0, 1].map(|nth| self.place(&queue, nth));
        let state = self.enter(&queue, &first).await;
        let next = self.enter(&queue, &second).await;
        let mut changes = self.0.watch(&first).await?;
        let told = async {
            changes.next().await;
            assert_eq!(self.0.list(&queue).await, 1, "it is the first");
        };
        let took = after(idle, self.leave(&first, state), told).await;
        self.leave(&second, next).await;
        Some(took)
    }

    async fn crowd_alike(&self, clients: usize) -> Option<Crowd> {
        let mut each = Vec::new();
        for _ in 0..clients {
            each.push(self.another().await);
        }
        Some(Box::new(each))
    }

    async fn watch_alike(&self, key: &str) -> Option<Changes> {
        self.0.watch(key).await
    }
}

#[async_trait]
impl Waiters for Vec<Alike> {
    /// With as many watches at the server as have places.
    async fn stand(&self, queue: &str, count: usize) -> Turns {
        let at = |nth: usize| &self[nth % self.len()];
        let place = |nth: usize| at(nth).place(queue, nth);
        let first = at(0).enter(queue, &place(0)).await;
        let mut waiting = JoinSet::new();
        for nth in 1..=count {
            let state = at(nth).enter(queue, &place(nth)).await;
            let mut changes = at(nth).0.watch(&place(nth - 1)).await.expect("it tells");
            let (alike, queue, own) = (at(nth).clone(), queue.to_owned(), place(nth));
            waiting.spawn(async move {
                changes.next().await;
                assert_eq!(alike.0.list(&queue).await, count + 1 - nth, "it is the first");
                alike.leave(&own, state).await;
            });
        }
        let (alike, held) = (at(0).clone(), place(0));
        let turns = async move {
            alike.leave(&held, first).await;
            waiting.join_all().await;
        };
        turns.boxed()
    }
}
