//! Redis through `redis`, over its multiplexed connection.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo as _, Script, cmd, pipe};
use tokio::time::Instant;

use super::{Changes, Floor, Operations, VALUE, member};

/// How many commands are sent at once.
const PIPELINE: usize = 1000;

pub(crate) struct Redis {
    pub(super) client: Client,
    pub(super) link: MultiplexedConnection,
    /// Counted apart from what it counts.
    counts: MultiplexedConnection,
    replace: Script,
}

impl Redis {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let info = format!("redis://{address}").into_connection_info().expect("an address");
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).expect("an address");
        let connect = || async { client.get_multiplexed_async_connection().await.expect("it serves") };
        let (link, counts) = (connect().await, connect().await);
        let told = cmd("CONFIG").arg("SET").arg("notify-keyspace-events").arg("K$g").to_owned();
        told.exec_async(&mut link.clone()).await.expect("it is told");
        let replace = Script::new(
            "if redis.call('HGET', KEYS[1], 'm') ~= ARGV[1] then return false end
             redis.call('HSET', KEYS[1], 'm', ARGV[1] + 1, 'v', ARGV[2])
             return ARGV[1] + 1",
        );
        Self { client, link, counts, replace }
    }
}

#[async_trait]
impl Operations for Redis {
    async fn put(&self, key: &str, value: Bytes) {
        let put = cmd("SET").arg(key).arg(&*value).to_owned();
        put.exec_async(&mut self.link.clone()).await.expect("it is put");
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        let found: Option<Vec<u8>> =
            cmd("GET").arg(key).query_async(&mut self.link.clone()).await.expect("it answers");
        found.map(Bytes::from)
    }

    /// A string has none: a hash with a number in it.
    async fn state(&self, key: &str) -> i64 {
        let hash = cmd("DEL").arg(key).to_owned();
        hash.exec_async(&mut self.link.clone()).await.expect("it answers");
        let made = cmd("HSET").arg(key).arg("m").arg(1).to_owned();
        made.exec_async(&mut self.link.clone()).await.expect("it is made");
        1
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let mut call = self.replace.prepare_invoke();
        call.key(key).arg(state).arg(&*value);
        let next: Option<i64> = call.invoke_async(&mut self.link.clone()).await.expect("it answers");
        next.expect("nobody else writes")
    }

    async fn lock_pair(&self, key: &str) {
        let take = cmd("SET").arg(key).arg(&*VALUE).arg("NX").arg("PX").arg(30_000).to_owned();
        let taken: Option<String> = take.query_async(&mut self.link.clone()).await.expect("it answers");
        assert!(taken.is_some(), "nobody else wants it");
        self.delete(key).await;
    }
}

#[async_trait]
impl Floor for Redis {
    async fn delete(&self, key: &str) {
        cmd("DEL").arg(key).exec_async(&mut self.link.clone()).await.expect("it is deleted");
    }

    async fn fill(&self, prefix: &str, count: usize) {
        for nth in 0..count {
            self.put(&format!("{prefix}/{nth:05}"), VALUE).await;
        }
    }

    /// The keys of one slot, and then all values in one request.
    async fn list(&self, prefix: &str) -> usize {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let scan = cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{prefix}/*"))
                .arg("COUNT")
                .arg(5000)
                .to_owned();
            let (next, some): (u64, Vec<Vec<u8>>) =
                scan.query_async(&mut self.link.clone()).await.expect("it answers");
            keys.extend(some);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let values: Vec<Vec<u8>> =
            cmd("MGET").arg(keys).query_async(&mut self.link.clone()).await.expect("it answers");
        values.len()
    }

    async fn watch(&self, key: &str) -> Option<Changes> {
        let mut events = self.client.get_async_pubsub().await.expect("it serves");
        events.subscribe(format!("__keyspace@0__:{key}")).await.expect("it is watched");
        let link = self.client.get_multiplexed_async_connection().await.expect("it serves");
        let key = key.to_owned();
        let changes = events.into_on_message().then(move |event| {
            let (key, mut link) = (key.clone(), link.clone());
            async move {
                if event.get_payload_bytes() != b"del" {
                    cmd("GET").arg(key).exec_async(&mut link).await.expect("it answers");
                }
            }
        });
        Some(changes.boxed())
    }

    async fn register(&self, prefix: &str, count: usize) -> Duration {
        let began = Instant::now();
        for first in (0..count).step_by(PIPELINE) {
            let mut puts = pipe();
            for (key, value) in (first..count).take(PIPELINE).map(|nth| member(prefix, nth)) {
                puts.cmd("SET").arg(key).arg(&*value).arg("PX").arg(30_000).ignore();
            }
            puts.exec_async(&mut self.link.clone()).await.expect("they are put");
        }
        let took = began.elapsed();
        let keys: Vec<_> = (0..count).map(|nth| member(prefix, nth).0).collect();
        cmd("DEL").arg(keys).exec_async(&mut self.link.clone()).await.expect("they are deleted");
        took
    }

    /// How often the server found something to read on a connection: commands that are sent at once count as one, and those
    /// that a script calls do not count.
    async fn requests(&self) -> Option<u64> {
        let stats: String =
            cmd("INFO").arg("stats").query_async(&mut self.counts.clone()).await.expect("it answers");
        let count = |line: &str| line.strip_prefix("total_reads_processed:")?.trim().parse::<u64>().ok();
        stats.lines().find_map(count)
    }
}
