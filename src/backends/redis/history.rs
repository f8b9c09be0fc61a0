//! What this client has seen of the store, and whether it still stands there.
//!
//! A server that failed over, or was restored, has forgotten what came last. The revisions of that are then given again, to
//! other writes. So each is stamped by whoever writes it: where the last that was seen bears another stamp, another life of the
//! store begins, and everybody is told.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::{RedisError, Value};

use super::changes::Told;
use super::connection::Connection;
use super::error::{Cure, Fault, classify};
use super::options::RedisOptions;
use super::reply::{Reply, State};
use super::scripts::{Script, VERIFY};
use crate::kv::{Error, ErrorKind, Outcome, Random, Result};

/// What all scripts are told, and what their answers say of the life of the store.
pub(super) struct History {
    /// The key that all others lie beside.
    meta: String,
    random: Random,
    /// The highest revision that we have seen, and in which life of the store.
    known: Mutex<Option<State>>,
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

    /// The highest revision that we have seen, and in which life of the store.
    pub(super) fn seen(&self) -> Option<State> {
        *self.known()
    }

    /// Sees whether what we know stands on this server too; if not, whatever we ask it next is told so.
    pub(super) async fn verify(&self, connection: &Connection) -> Result<(), Fault> {
        let Some(State { stamp, .. }) = self.seen() else { return Ok(()) };
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
        // In one text: it lives as long as the request is under way.
        let mut known = String::with_capacity(3 * 20);
        let highest = match self.seen() {
            Some(State { epoch, revision, .. }) => {
                write_number(&mut known, epoch);
                let highest = known.len();
                write_number(&mut known, revision);
                highest
            }
            None => {
                known.push('0');
                0
            }
        };
        let stamp = known.len();
        write_number(&mut known, self.random.nonce() >> 64);
        let known = known.as_bytes();
        let mut all = Vec::with_capacity(3 + arguments.len());
        all.extend([&known[..highest], &known[highest..stamp], &known[stamp..]]);
        all.extend(arguments);
        connection.run(script, &self.meta, &all).await
    }

    /// Takes an answer into account. One from another life of the store than that we knew is told, once.
    pub(super) fn learn(&self, value: Value) -> Result<Reply, Fault> {
        let reply = Reply::read(value)?;
        self.see(reply.state);
        if reply.status == "regressed" {
            return Err(Fault { error: regressed(), cure: Cure::None });
        }
        Ok(reply)
    }

    /// Takes a plain command's answer into account, that was asked when we knew no more than `knew`. False where the scripts must
    /// say what it means: the store was emptied, or is another than the one we knew, or behind it.
    pub(super) fn trusts(&self, knew: Option<State>, state: Option<State>) -> bool {
        let (Some(knew), Some(state)) = (knew, state) else { return false };
        let same = knew.epoch == state.epoch && knew.revision <= state.revision;
        if same {
            self.see(state);
        }
        same
    }

    /// Takes into account what the stream told of this life of the store.
    pub(super) fn hear(&self, epoch: u64, told: &Told) {
        let mut known = self.known();
        if known.is_some_and(|known| known.epoch == epoch && known.revision < told.revision) {
            *known = Some(State { epoch, revision: told.revision, stamp: told.stamp });
        }
    }

    fn see(&self, state: State) {
        let mut known = self.known();
        // A late answer of a life that is over does not bring it back.
        if known.is_none_or(|known| known.revision <= state.revision) {
            *known = Some(state);
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<State>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_number(text: &mut String, number: impl fmt::Display) {
    // A text always takes what is written to it.
    let _ = write!(text, "{number}");
}

/// What stands in the store is not what stood there, although nobody removed it.
pub(super) fn regressed() -> Error {
    let why = "the server lost what it had acknowledged: it was restarted without its data, an older copy took its \
               place, or it failed over; every session of before is void";
    Error::new(ErrorKind::FenceRegression, Outcome::NotApplied, why)
}
