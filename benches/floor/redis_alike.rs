//! Redis by hand again, with the requests that the contract takes: the store's own scripts, which check, number and tell what
//! they write, and one read of an entry beside the state of the store. Nothing of the store's client is around them: no
//! deadline, no retry, no look at whether the server forgot something.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use redis::aio::MultiplexedConnection;
use redis::{Client, FromRedisValue, Value, cmd};
use tokio::time::Instant;

use super::redis::Redis;
use super::{Changes, Operations, VALUE, member, reserved};
use crate::work::after;

#[path = "../../src/backends/redis/scripts.rs"]
#[allow(dead_code, reason = "not all of them are compared")]
mod scripts;

use self::scripts::{AHEAD, COMMIT, ENTER, GRANT, LEAVE, LIST, PUT, Script};

/// What all of the store's keys lie beside. What stands there is below names of our own.
const META: &str = "{quorate}:meta";

/// Where the scripts publish what they write to a key.
const CHANNEL: &str = "{quorate}:w:";

/// Stands for the number of its own that each client gives to each of its writes.
const STAMP: &str = "9876543210987654321";

/// How many are registered in one commit, and how many commits are under way.
const REGISTERED: (usize, usize) = (128, 3);

/// What a session is called, as long as what quorate draws: the server copies the names of places many times, and takes a nanosecond
/// for each byte.
const SESSION: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A session that outlives any run: a week.
const TTL: &str = "604800000";

pub(crate) struct Alike {
    client: Client,
    link: MultiplexedConnection,
    /// The life of the store, and a revision that it had.
    epoch: String,
    revision: String,
    session: String,
}

impl Alike {
    pub(crate) async fn of(raw: &Redis) -> Self {
        let nobody = String::new();
        let (client, link) = (raw.client.clone(), raw.link.clone());
        let revision = "0".to_owned();
        let fresh = Self { client, link, epoch: nobody.clone(), revision, session: nobody };
        let (state, _, session): (String, String, String) =
            fresh.run(&GRANT, &[SESSION, TTL.as_bytes()]).await;
        let (id, epoch) = state.split_once(' ').expect("a state");
        let (revision, _) = id.split_once('-').expect("a stamp");
        Self { epoch: epoch.to_owned(), revision: revision.to_owned(), session, ..fresh }
    }

    /// Runs a script, which the server may have to be told first.
    async fn run<T: FromRedisValue>(&self, script: &Script, arguments: &[&[u8]]) -> T {
        let known = [self.epoch.as_bytes(), self.revision.as_bytes(), STAMP.as_bytes()];
        let arguments = [&known[..], arguments].concat();
        let link = &mut self.link.clone();
        match script.by_name(META, &arguments).query_async(link).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                script.in_full(META, &arguments).query_async(link).await.expect("it answers")
            }
            answer => answer.expect("it answers"),
        }
    }

    /// A place of ours in a queue.
    fn place(&self, queue: &str, nth: u32) -> String {
        format!("{queue}/{}-x{nth:032x}", self.session)
    }

    /// Its fence, and who stands ahead.
    async fn enter(&self, queue: &str, place: &str) -> (String, Vec<Value>) {
        let arguments: [&[u8]; 6] =
            [self.session.as_bytes(), queue.as_bytes(), place.as_bytes(), &VALUE, b"1", b"0"];
        let (_, _, fence, ahead): (String, String, String, Vec<Value>) = self.run(&ENTER, &arguments).await;
        (fence, ahead)
    }

    async fn leave(&self, queue: &str, place: &str, fence: &str) {
        let arguments = [place.as_bytes(), fence.as_bytes(), queue.as_bytes()];
        let (_, status): (String, String) = self.run(&LEAVE, &arguments).await;
        assert_eq!(status, "ok", "it is ours");
    }

    /// What stands at a key: its version, and its value.
    async fn entry(&self, key: &str) -> Option<(i64, Bytes)> {
        let entry = format!("{{quorate}}:e:{key}");
        let found = cmd("MGET").arg(META).arg(entry).query_async(&mut self.link.clone()).await;
        let (_, stored): (String, Option<Vec<u8>>) = found.expect("it answers");
        let stored = Bytes::from(stored?);
        let head = stored.iter().position(|byte| *byte == b'\n').expect("an entry");
        let marks = std::str::from_utf8(&stored[..head]).expect("an entry");
        let version = marks.split(' ').nth(1).expect("a version").parse().expect("a number");
        Some((version, stored.slice(head + 1..)))
    }
}

#[async_trait]
impl Operations for Alike {
    async fn put(&self, key: &str, value: Bytes) {
        let (_, status, _): (String, String, String) = self.run(&PUT, &[key.as_bytes(), &value]).await;
        assert_eq!(status, "applied");
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        self.entry(key).await.map(|(_, value)| value)
    }

    async fn state(&self, key: &str) -> i64 {
        self.entry(key).await.expect("it stands").0
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let version = state.to_string();
        let arguments: [&[u8]; 4] = [key.as_bytes(), &value, b"version", version.as_bytes()];
        let (state, status, _): (String, String, String) = self.run(&PUT, &arguments).await;
        assert_eq!(status, "applied", "nobody else writes");
        state.split_once('-').expect("a stamp").0.parse().expect("a number")
    }

    /// A place in a queue, with who stands ahead in the same answer; then it goes.
    async fn lock_pair(&self, key: &str) {
        let queue = reserved(key);
        let place = self.place(&queue, 1);
        let (fence, ahead) = self.enter(&queue, &place).await;
        assert!(ahead.is_empty(), "nobody else is there");
        self.leave(&queue, &place, &fence).await;
    }

    async fn hand_over_alike(&self, queue: &str, idle: Duration) -> Option<Duration> {
        let queue = &reserved(queue);
        let [first, second] = [1, 2].map(|nth| self.place(queue, nth));
        let (fence, _) = self.enter(queue, &first).await;
        let (next, _) = self.enter(queue, &second).await;
        let mut changes = self.watch_alike(&first).await?;
        let told = async {
            changes.next().await;
            let own = [self.session.as_bytes(), queue.as_bytes(), second.as_bytes(), next.as_bytes(), b"1"];
            let (_, _, ahead): (String, String, Vec<Value>) = self.run(&AHEAD, &own).await;
            assert!(ahead.is_empty(), "it is the first");
        };
        let took = after(idle, self.leave(queue, &first, &fence), told).await;
        self.leave(queue, &second, &next).await;
        Some(took)
    }

    async fn register_alike(&self, prefix: &str, count: usize) -> Option<Duration> {
        let (size, abreast) = REGISTERED;
        let commit = async |first: usize| {
            let some: Vec<_> = (first..count).take(size).map(|nth| member(prefix, nth)).collect();
            let puts = some.len().to_string();
            let head = [self.session.as_bytes(), b"0", puts.as_bytes(), b"0"];
            let puts = some.iter().flat_map(|(key, value)| [key.as_bytes(), b"1", value]);
            let arguments: Vec<_> = head.into_iter().chain(puts).collect();
            let answer: Vec<String> = self.run(&COMMIT, &arguments).await;
            assert_eq!(answer[1], "applied");
        };
        let began = Instant::now();
        let firsts = stream::iter((0..count).step_by(size));
        firsts.map(commit).buffer_unordered(abreast).collect::<()>().await;
        let took = began.elapsed();
        let keys: Vec<_> = (0..count).map(|nth| member(prefix, nth).0).collect();
        for some in keys.chunks(size) {
            let deletes = some.len().to_string();
            let head = [self.session.as_bytes(), b"0", b"0", deletes.as_bytes()];
            let arguments: Vec<_> = head.into_iter().chain(some.iter().map(String::as_bytes)).collect();
            let answer: Vec<String> = self.run(&COMMIT, &arguments).await;
            assert_eq!(answer[1], "applied");
        }
        Some(took)
    }

    async fn fill_alike(&self, prefix: &str, count: usize) -> bool {
        for nth in 0..count {
            self.put(&format!("{prefix}/{nth:05}"), VALUE).await;
        }
        true
    }

    /// What is published says what stands there now.
    async fn watch_alike(&self, key: &str) -> Option<Changes> {
        let mut events = self.client.get_async_pubsub().await.expect("it serves");
        events.subscribe(format!("{CHANNEL}{key}")).await.expect("it is watched");
        Some(events.into_on_message().map(|_| ()).boxed())
    }

    /// The names, of which there are too many for a script to read what stands there too; and then that.
    async fn list_alike(&self, prefix: &str) -> usize {
        let ends = ["[\0", "(\0_quorate", "[\0_quorate\x01", "(\x01"].map(|end| {
            let (kind, rest) = end.split_at(1);
            [kind, prefix, rest].concat()
        });
        let [first, before, behind, last] = ends.each_ref().map(String::as_bytes);
        let arguments: [&[u8]; 5] = [first, before, behind, last, b"64"];
        let (_, status, names): (String, String, Vec<String>) = self.run(&LIST, &arguments).await;
        assert_eq!(status, "many");
        let mut read = cmd("MGET").arg(META).to_owned();
        for name in &names {
            read.arg(format!("{{quorate}}:e:{}", name.replace('\0', "/")));
        }
        let found: Vec<Vec<u8>> = read.query_async(&mut self.link.clone()).await.expect("it answers");
        found.len() - 1
    }
}
