//! The floors: each server's own operations, by hand, through the client that the field uses.
//!
//! A floor does the least work that has the same effect. It keeps no promise beside that: no deadline, no retry, no
//! unknown outcome, and a failure ends the run.

#[cfg(any(feature = "consul", feature = "etcd", feature = "zookeeper"))]
mod asked;
#[cfg(feature = "consul")]
pub(crate) mod consul;
#[cfg(feature = "consul")]
pub(crate) mod consul_alike;
#[cfg(feature = "etcd")]
pub(crate) mod etcd;
#[cfg(feature = "etcd")]
pub(crate) mod etcd_alike;
#[cfg(feature = "embedded")]
pub(crate) mod file;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "redis")]
pub(crate) mod redis_alike;
#[cfg(feature = "zookeeper")]
pub(crate) mod zookeeper;
#[cfg(feature = "zookeeper")]
pub(crate) mod zookeeper_alike;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

/// What is put everywhere: 64 bytes.
pub(crate) const VALUE: Bytes =
    Bytes::from_static(b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");

/// What is registered: the key and the value of one of many instances, as quorate has them.
pub(crate) fn member(prefix: &str, nth: usize) -> (String, Bytes) {
    let id = format!("member-{nth:05}");
    let value = format!(r#"{{"service":"crowd","id":"{id}","address":"10.0.0.1:8080"}}"#);
    (format!("{prefix}/_quorate/service/crowd/{id}"), value.into())
}

/// One item for each change of a key, once what stands there now has been read.
pub(crate) type Changes = BoxStream<'static, ()>;

/// From when the first leaves a queue until all who wait there have had their turn.
pub(crate) type Turns = BoxFuture<'static, ()>;

/// Clients that wait in a queue.
pub(crate) type Crowd = Box<dyn Waiters>;

/// A queue whose name is about as long as what quorate makes.
#[cfg(any(feature = "consul", feature = "redis"))]
fn reserved(key: &str) -> String {
    format!("bench0/_quorate/{key}")
}

/// Several clients that wait in a queue.
#[async_trait]
pub(crate) trait Waiters: Send + Sync {
    /// Has one stand in a queue and so many wait behind it, each of whom watches the place ahead.
    async fn stand(&self, queue: &str, count: usize) -> Turns;
}

/// Single operations.
#[async_trait]
pub(crate) trait Operations: Send + Sync {
    async fn put(&self, key: &str, value: Bytes);

    /// The newest, and not what may be stale.
    async fn get(&self, key: &str) -> Option<Bytes>;

    /// What tells this state of an entry from the next.
    async fn state(&self, key: &str) -> i64;

    /// Puts a value if the entry is in this state, and returns the next one.
    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64;

    /// Takes a lock that nobody wants, on a session that stands, and gives it back: two writes.
    async fn lock_pair(&self, key: &str);

    /// Puts so many entries below a prefix, in the contract's own layout, if listing that takes other requests than the
    /// floor's; says whether it does.
    async fn fill_alike(&self, _prefix: &str, _count: usize) -> bool {
        false
    }

    /// How many entries are below it, all of which are read.
    async fn list_alike(&self, _prefix: &str) -> usize {
        0
    }

    /// From the begin of leaving a queue to when the place behind knows that it is the first, after having been quiet for
    /// `idle`.
    async fn hand_over_alike(&self, _queue: &str, _idle: Duration) -> Option<Duration> {
        None
    }

    /// So many clients that wait in a queue. Nothing where a [single hand-over](Self::hand_over_alike) stands for all of them.
    async fn crowd_alike(&self, _clients: usize) -> Option<Crowd> {
        None
    }

    /// [Watches](Floor::watch) what this puts as the contract has it told, if that is another way than the floor's.
    async fn watch_alike(&self, _key: &str) -> Option<Changes> {
        None
    }

    /// [Registers](Floor::register) with the contract's own requests, if these are others than the floor's.
    async fn register_alike(&self, _prefix: &str, _count: usize) -> Option<Duration> {
        None
    }
}

/// All that a server does for us.
#[async_trait]
pub(crate) trait Floor: Operations {
    async fn delete(&self, key: &str);

    /// Puts so many entries below a prefix.
    async fn fill(&self, prefix: &str, count: usize);

    /// How many entries are below it, all of which are read.
    async fn list(&self, prefix: &str) -> usize;

    /// Watches a key as another client. Nothing where the server tells nobody.
    async fn watch(&self, key: &str) -> Option<Changes>;

    /// Binds so many entries to a new session, in batches as large as the server takes, and says how long that took. Then
    /// it ends the session.
    async fn register(&self, prefix: &str, count: usize) -> Duration;

    /// Opens its connections anew, where what one of them does hangs on a lot that is drawn as it opens; says whether.
    async fn reopen(&self) -> bool {
        false
    }

    /// How many requests the server has got so far, as it counts them; nothing where there is no server.
    async fn requests(&self) -> Option<u64>;
}
