//! What this client has seen of the store, and whether it still stands there.
//!
//! A server that failed over, or was restored, has forgotten what came last. The revisions of that are then given again, to
//! other writes. So each is stamped by whoever writes it: where the last that was seen bears another stamp, another life of the
//! store begins, and everybody is told.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::{RedisError, Value};

use super::changes::Told;
use super::connection::Connection;
use super::error::{Cure, Fault, classify};
use super::options::RedisOptions;
use super::reply::Reply;
use super::scripts::{Script, VERIFY};
use crate::kv::{Error, ErrorKind, Outcome, Random, Result};

/// What all scripts are told, and what their answers say of the life of the store.
pub(super) struct History {
    /// The key that all others lie beside.
    meta: String,
    random: Random,
    known: Mutex<Known>,
}

/// Which life of the store we know, and the highest revision we have seen in it, with its stamp.
#[derive(Clone, Debug, Default)]
struct Known {
    epoch: String,
    highest: u64,
    stamp: u64,
}

impl History {
    pub(super) fn new(options: &RedisOptions) -> Self {
        Self { meta: options.meta(), random: Random::from_os(), known: Mutex::default() }
    }

    pub(super) fn meta(&self) -> &str {
        &self.meta
    }

    /// The stream of changes.
    pub(super) fn stream(&self) -> String {
        self.meta.replace("}:meta", "}:w")
    }

    /// A name that nobody else has.
    pub(super) fn nonce(&self) -> String {
        format!("{:032x}", self.random.nonce())
    }

    /// The life of the store that we know, and the highest revision we have seen in it.
    pub(super) fn seen(&self) -> (String, u64) {
        let Known { epoch, highest, .. } = self.known().clone();
        (epoch, highest)
    }

    /// Sees whether what we know stands on this server too; if not, whatever we ask it next is told so.
    pub(super) async fn verify(&self, connection: &Connection) -> Result<(), Fault> {
        let Known { epoch, stamp, .. } = self.known().clone();
        if epoch.is_empty() {
            return Ok(());
        }
        let asked = self.run(connection, &VERIFY, &[stamp.to_string().as_bytes()]).await;
        asked.map(drop).map_err(|error| classify(error, &connection.address))
    }

    /// Runs a script, which is told what we know.
    pub(super) async fn run(
        &self,
        connection: &Connection,
        script: &Script,
        arguments: &[&[u8]],
    ) -> Result<Value, RedisError> {
        let Known { epoch, highest, .. } = self.known().clone();
        let (highest, stamp) = (highest.to_string(), (self.random.nonce() >> 64).to_string());
        let mut all: Vec<&[u8]> = vec![epoch.as_bytes(), highest.as_bytes(), stamp.as_bytes()];
        all.extend(arguments);
        connection.run(script, &self.meta, &all).await
    }

    /// Takes an answer into account. One from another life of the store than that we knew is told, once.
    pub(super) fn learn(&self, value: Value) -> Result<Reply, Fault> {
        let reply = Reply::read(value)?;
        let mut known = self.known();
        // A late answer of a life that is over does not bring it back.
        if known.highest <= reply.revision {
            *known = Known { epoch: reply.epoch.clone(), highest: reply.revision, stamp: reply.stamp };
        }
        if reply.status == "regressed" {
            return Err(Fault { error: regressed(), cure: Cure::None });
        }
        Ok(reply)
    }

    /// Takes into account what the stream told of this life of the store.
    pub(super) fn hear(&self, epoch: &str, told: &Told) {
        let mut known = self.known();
        if known.epoch == epoch && known.highest < told.revision {
            (known.highest, known.stamp) = (told.revision, told.stamp);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in the store is not what stood there, although nobody removed it.
pub(super) fn regressed() -> Error {
    let why = "the server lost what it had acknowledged: it was restarted without its data, an older copy took its \
               place, or it failed over; every session of before is void";
    Error::new(ErrorKind::FenceRegression, Outcome::NotApplied, why)
}
