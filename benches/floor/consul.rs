//! Consul through hyper's own client, which does less for each request than those on top of it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::asked::counted;
use super::{Changes, Floor, Operations, VALUE, member};

/// What a transaction takes.
const OPERATIONS: usize = 64;

#[derive(Clone)]
pub(crate) struct Consul {
    pub(super) address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    watcher: Client<HttpConnector, Full<Bytes>>,
    /// What locks hang on.
    pub(super) session: String,
    pub(super) writes: Arc<AtomicU64>,
}

impl Consul {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let (client, watcher) = (client(), client());
        let mut consul = Self { address, client, watcher, session: String::new(), writes: Arc::default() };
        consul.session = consul.open().await;
        consul
    }

    async fn open(&self) -> String {
        let session = json!({ "TTL": "3600s", "Behavior": "delete", "LockDelay": "0s" });
        let made = self.ask(Method::PUT, "/v1/session/create", session.to_string()).await;
        let made: Value = serde_json::from_slice(&made).expect("it is JSON");
        made["ID"].as_str().expect("it has a name").to_owned()
    }

    pub(super) async fn ask(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Bytes {
        send(&self.client, self.address, method, path, body.into()).await.into_body()
    }

    pub(super) async fn commit(&self, operations: &[Value]) -> Value {
        let body = serde_json::to_vec(operations).expect("it can be written");
        let answer = self.ask(Method::PUT, "/v1/txn", body).await;
        let answer: Value = serde_json::from_slice(&answer).expect("it is JSON");
        assert_eq!(answer["Errors"], Value::Null, "nobody else writes");
        answer
    }
}

#[async_trait]
impl Operations for Consul {
    async fn put(&self, key: &str, value: Bytes) {
        // Others each time, as a write that changes nothing is told nobody.
        let flags = self.writes.fetch_add(1, Ordering::Relaxed);
        self.ask(Method::PUT, &format!("/v1/kv/{key}?flags={flags}"), value).await;
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        let path = format!("/v1/kv/{key}?consistent&raw");
        let answer = send(&self.client, self.address, Method::GET, &path, Bytes::new()).await;
        (answer.status() == 200).then(|| answer.into_body())
    }

    async fn state(&self, key: &str) -> i64 {
        let answer = self.ask(Method::GET, &format!("/v1/kv/{key}"), Bytes::new()).await;
        let answer: Value = serde_json::from_slice(&answer).expect("it is JSON");
        answer[0]["ModifyIndex"].as_i64().expect("an index")
    }

    /// As a transaction: `?cas` does not tell the next state, which would take a second request.
    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let value = STANDARD.encode(value);
        // Flags of its own, as a write that changes nothing leaves the state as it is.
        let cas = json!({ "Verb": "cas", "Key": key, "Value": value, "Flags": state, "Index": state });
        let answer = self.commit(&[json!({ "KV": cas })]).await;
        answer["Results"][0]["KV"]["ModifyIndex"].as_i64().expect("an index")
    }

    async fn lock_pair(&self, key: &str) {
        let taken = self.ask(Method::PUT, &format!("/v1/kv/{key}?acquire={}", self.session), VALUE).await;
        assert!(taken.starts_with(b"true"), "nobody else wants it");
        self.ask(Method::PUT, &format!("/v1/kv/{key}?release={}", self.session), Bytes::new()).await;
    }
}

#[async_trait]
impl Floor for Consul {
    async fn delete(&self, key: &str) {
        self.ask(Method::DELETE, &format!("/v1/kv/{key}"), Bytes::new()).await;
    }

    async fn fill(&self, prefix: &str, count: usize) {
        for nth in 0..count {
            self.put(&format!("{prefix}/{nth:05}"), VALUE).await;
        }
    }

    async fn list(&self, prefix: &str) -> usize {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Entry {
            key: String,
            value: String,
        }
        let path = format!("/v1/kv/{prefix}/?recurse&consistent");
        let answer = self.ask(Method::GET, &path, Bytes::new()).await;
        let entries: Vec<Entry> = serde_json::from_slice(&answer).expect("it is JSON");
        let values = entries.iter().map(|entry| STANDARD.decode(&entry.value).expect("it is Base64"));
        let values: Vec<_> = values.collect();
        values
            .iter()
            .zip(&entries)
            .filter(|(value, entry)| !value.is_empty() && !entry.key.is_empty())
            .count()
    }

    async fn watch(&self, key: &str) -> Option<Changes> {
        let (watcher, address, path) = (self.watcher.clone(), self.address, format!("/v1/kv/{key}"));
        let index = changed(&watcher, address, &path).await;
        let changes = stream::unfold((watcher, index), move |(watcher, index)| {
            let path = format!("{path}?index={index}&wait=60s");
            async move {
                let index = changed(&watcher, address, &path).await;
                Some(((), (watcher, index)))
            }
        });
        Some(changes.boxed())
    }

    async fn register(&self, prefix: &str, count: usize) -> Duration {
        let session = self.open().await;
        let lock = |nth| {
            let (key, value) = member(prefix, nth);
            let value = STANDARD.encode(value);
            json!({ "KV": { "Verb": "lock", "Key": key, "Value": value, "Session": session } })
        };
        let began = Instant::now();
        for first in (0..count).step_by(OPERATIONS) {
            let batch: Vec<_> = (first..count).take(OPERATIONS).map(lock).collect();
            self.commit(&batch).await;
        }
        let took = began.elapsed();
        self.ask(Method::PUT, &format!("/v1/session/destroy/{session}"), Bytes::new()).await;
        took
    }

    async fn requests(&self) -> Option<u64> {
        let request = |name: &str| {
            let asked = name.strip_prefix("consul_http_").and_then(|name| name.strip_suffix("_count"));
            asked.is_some_and(|asked| !asked.contains("agent"))
        };
        Some(counted(self.address, "/v1/agent/metrics?format=prometheus", request).await)
    }
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

async fn send(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
) -> Response<Bytes> {
    let mut uri = String::with_capacity(64);
    write!(uri, "http://{address}{path}").expect("a string grows");
    let request = Request::builder().method(method).uri(uri).body(Full::new(body)).expect("a request");
    let (head, body) = client.request(request).await.expect("it answers").into_parts();
    let body = body.collect().await.expect("it answers to the end").to_bytes();
    Response::from_parts(head, body)
}

/// Reads an entry, with the index that its next change will be after.
async fn changed(client: &Client<HttpConnector, Full<Bytes>>, address: SocketAddr, path: &str) -> String {
    let answer = send(client, address, Method::GET, path, Bytes::new()).await;
    answer.headers()["x-consul-index"].to_str().expect("a number").to_owned()
}
