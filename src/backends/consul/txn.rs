//! Writes as the server's transactions.
//!
//! What a write has to say depends on what stands there, which a client does not know: a put onto an entry that is bound
//! must take it from its session. So it is first said as is right where nobody stands in the way, in such a way that the
//! server refuses it where that is wrong; then what stands there is read, and it is said anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::endpoints::Endpoints;
use super::keys;
use super::ops::{self, Done, MAX_OPS, Op, Told};
use super::{BACKEND, lost, reads, session};
use crate::kv::{
    Check, Consistency, Entry, Error, ErrorKind, Fence, Key, Outcome, Put, Rejection, Result, SessionId, Txn,
    Write,
};

/// How often a write is said anew while others change what it is about.
const ROUNDS: usize = 32;

/// How many entries are remembered.
const REMEMBERED: usize = 1024;

/// At which index entries were last written here since they were made: a check that an entry stands needs to know, and
/// where nothing is known it was not.
#[derive(Debug, Default)]
pub(super) struct Rewritten(Mutex<BTreeMap<(Key, Fence), u64>>);

impl Rewritten {
    fn index(&self, key: &Key, fence: Fence) -> u64 {
        self.with(|known| known.get(&(key.clone(), fence)).copied()).unwrap_or(fence.get())
    }

    fn learn(&self, entry: &Entry) {
        let index = keys::index(entry.version);
        let at = (entry.key.clone(), entry.fence);
        self.with(|known| {
            if index == entry.fence.get() {
                return;
            }
            // What is forgotten costs a read.
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(at, index);
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<(Key, Fence), u64>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an operation is there for.
enum Aim<'a> {
    Check(&'a Check),
    Put(&'a Put),
    Delete,
}

/// Applies a write: one round trip, unless it is about bound entries of others, or about some that others rewrite.
pub(super) async fn commit(endpoints: &Endpoints, rewritten: &Rewritten, txn: &Txn) -> Result<Write> {
    // What was found to stand in the way.
    let mut seen = BTreeMap::new();
    for _ in 0..ROUNDS {
        let (ops, aims): (Vec<_>, Vec<_>) = translate(rewritten, txn, &seen).into_iter().unzip();
        let made = |told: &[Told<'_>]| {
            let entries = txn.puts().iter().map(|put| {
                let stored = ops::last(told, &put.key)?;
                let (version, fence) = (stored.version(), stored.fence());
                let entry =
                    Entry::new(put.key.clone(), put.value.clone(), version, fence, put.session.clone());
                rewritten.learn(&entry);
                Ok(entry)
            });
            entries.collect()
        };
        let failed = match ops::send(endpoints, "commit", ops, made).await? {
            Done::Applied(entries) => return Ok(Write::Applied(entries)),
            Done::Failed(at) => at,
        };
        match aims.get(failed) {
            Some(Aim::Check(check)) => {
                let found = look(endpoints, check.key()).await?;
                match (&found, check) {
                    (Some(entry), Check::Stands(..)) if check.holds(Some(entry)) => rewritten.learn(entry),
                    _ => return Ok(Write::Rejected(Rejection { key: check.key().clone(), found })),
                }
            }
            Some(Aim::Put(put)) => {
                let found = look(endpoints, &put.key).await?;
                let holder = found.and_then(|entry| entry.session);
                if let Some(own) = &put.session
                    && (holder.is_none() || holder == put.session)
                    && !session::lives(endpoints, own).await?
                {
                    return Err(lost(own));
                }
                seen.insert(put.key.clone(), holder);
            }
            Some(Aim::Delete) | None => return Err(super::error::broken("a delete was refused")),
        }
    }
    let why = "what the write is about changes faster than it can be looked at";
    Err(Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why))
}

/// The operations that are right if `seen` still holds, and fail otherwise.
fn translate<'a>(
    rewritten: &Rewritten,
    txn: &'a Txn,
    seen: &BTreeMap<Key, Option<SessionId>>,
) -> Vec<(Op, Aim<'a>)> {
    let mut ops = Vec::new();
    for check in txn.checks() {
        let op = match check {
            Check::Absent(key) => Op::absent(key),
            Check::Version(key, version) => Op::unchanged(key, keys::index(*version)),
            Check::Stands(key, fence) => Op::unchanged(key, rewritten.index(key, *fence)),
        };
        ops.push((op, Aim::Check(check)));
    }
    for put in txn.puts() {
        let holder = seen.get(&put.key).and_then(Option::as_ref);
        let said = match (&put.session, holder) {
            // Fails afterwards, and so altogether, if somebody holds it.
            (None, None) => vec![Op::set(&put.key, &put.value), Op::free(&put.key)],
            (None, Some(holder)) => vec![Op::unlock(&put.key, &put.value, holder)],
            (Some(session), Some(holder)) if holder != session => {
                vec![Op::unlock(&put.key, &put.value, holder), Op::lock(&put.key, &put.value, session)]
            }
            (Some(session), _) => vec![Op::lock(&put.key, &put.value, session)],
        };
        ops.extend(said.into_iter().map(|op| (op, Aim::Put(put))));
    }
    ops.extend(txn.deletes().iter().map(|key| (Op::delete(key), Aim::Delete)));
    ops
}

async fn look(endpoints: &Endpoints, key: &Key) -> Result<Option<Entry>> {
    reads::get(endpoints, "commit", key, Consistency::Linearizable).await
}

/// Deletes what `prefix` covers, as many at a time as fit: the server's own way to delete a tree would take along what is
/// reserved below it, and what is none of ours.
pub(super) async fn delete_prefix(endpoints: &Endpoints, prefix: &Key) -> Result<u64> {
    let covered = reads::list(endpoints, "delete_prefix", prefix, Consistency::Linearizable).await?;
    let mut count = 0;
    for some in covered.chunks(MAX_OPS) {
        let deletes: Vec<_> = some.iter().map(|entry| Op::delete(&entry.key)).collect();
        let done = ops::send(endpoints, "delete_prefix", deletes, |_| Ok(())).await;
        done.map_err(|error| if count > 0 { error.unsettled() } else { error }.at(BACKEND, "delete_prefix"))?;
        count += some.len() as u64;
    }
    Ok(count)
}
