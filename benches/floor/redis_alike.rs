//! Redis by hand again, with the requests that the contract takes: the store's own scripts, which check, number and tell what
//! they write, and one read of an entry beside the state of the store. Nothing of the store's client is around them: no
//! deadline, no retry, no look at whether the server forgot something.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use redis::aio::MultiplexedConnection;
use redis::{Client, FromRedisValue, Value, cmd};

use super::redis::Redis;
use super::{Changes, Operations, VALUE};

#[path = "../../src/backends/redis/scripts.rs"]
#[allow(dead_code, reason = "not all of them are compared")]
mod scripts;

use self::scripts::{ENTER, GRANT, LEAVE, LIST, PUT, Script};

/// What all of the store's keys lie beside. What stands there is below names of our own.
const META: &str = "{quorate}:meta";

/// Where the scripts publish what they write.
const CHANNEL: &str = "{quorate}:w";

/// Stands for the number of its own that each client gives to each of its writes.
const STAMP: &str = "9876543210987654321";

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
        let (state, _, session): (String, String, String) = fresh.run(&GRANT, &[b"f", TTL.as_bytes()]).await;
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
        let place = format!("{key}/{}-x00000000000000000000000000000001", self.session);
        let arguments: [&[u8]; 6] =
            [self.session.as_bytes(), key.as_bytes(), place.as_bytes(), &VALUE, b"1", b"0"];
        let (_, _, fence, ahead): (String, String, String, Vec<Value>) = self.run(&ENTER, &arguments).await;
        assert!(ahead.is_empty(), "nobody else is there");
        let left: (String, String) =
            self.run(&LEAVE, &[place.as_bytes(), fence.as_bytes(), key.as_bytes()]).await;
        assert_eq!(left.1, "ok", "it is ours");
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
        events.subscribe(CHANNEL).await.expect("it is watched");
        let key = format!("\0{key}\0");
        let ours = move |text: &[u8]| text.windows(key.len()).any(|part| part == key.as_bytes());
        let told = events
            .into_on_message()
            .filter_map(move |event| std::future::ready(ours(event.get_payload_bytes()).then_some(())));
        Some(told.boxed())
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
