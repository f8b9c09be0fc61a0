//! Writes as etcd transactions.

use std::sync::Arc;

use etcd_client::{
    Compare, CompareOp, DeleteOptions, PutOptions, Txn as EtcdTxn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::connection::Connection;
use super::endpoints::{Endpoints, Kind};
use super::keys::{self, Range};
use super::reads::{broken, found, ranges, revision, told};
use super::{MAX_OPS, lost};
use crate::kv::{
    Check, Consistency, Entry, Fence, Key, Put, Rejection, Result, SessionId, Txn, Version, Write,
};

/// A revision that nothing was ever made at.
const NEVER: i64 = -1;

/// Applies a write: one transaction, one round trip.
pub(super) async fn commit(endpoints: &Endpoints, txn: &Txn) -> Result<Write> {
    let lease = txn.session().map(lease_of).transpose()?.unwrap_or_default();
    match (txn.checks(), txn.puts(), txn.deletes()) {
        ([], [put], []) => return put_alone(endpoints, put, lease).await,
        ([], [], [key]) => return delete_alone(endpoints, key).await,
        _ => {}
    }
    let ask = |connection: Arc<Connection>| {
        let request = translate(txn, lease);
        async move { connection.kv().txn(request).await }
    };
    let answer = endpoints.call(Kind::Once, "commit", ask).await?;
    if answer.succeeded() { applied(txn, &answer) } else { rejected(txn, answer) }
}

/// What is neither conditional nor one of several needs no transaction, which costs the server more.
async fn put_alone(endpoints: &Endpoints, put: &Put, lease: i64) -> Result<Write> {
    let ask = |connection: Arc<Connection>| {
        let (key, options) = (keys::encode(&put.key), bound(put, lease).with_prev_key());
        async move { connection.kv().put(key, put.value.clone(), Some(options)).await }
    };
    let answer = endpoints.call(Kind::Once, "commit", ask).await?;
    let before = answer.prev_key().map(|before| keys::fence(before.create_revision()));
    Ok(Write::Applied(vec![entry(put, revision(answer.header())?, before)]))
}

async fn delete_alone(endpoints: &Endpoints, key: &Key) -> Result<Write> {
    let ask = |connection: Arc<Connection>| {
        let key = keys::encode(key);
        async move { connection.kv().delete(key, None).await }
    };
    endpoints.call(Kind::Once, "commit", ask).await.map(|_| Write::Applied(Vec::new()))
}

/// The lease to bind to; a session that is none cannot live here.
pub(super) fn lease_of(session: &SessionId) -> Result<i64> {
    keys::lease(session).ok_or_else(|| lost(session))
}

fn translate(txn: &Txn, lease: i64) -> EtcdTxn {
    let checks: Vec<_> = txn.checks().iter().map(compare).collect();
    let looks: Vec<_> =
        txn.checks().iter().map(|check| TxnOp::get(keys::encode(check.key()), None)).collect();
    let puts = txn.puts().iter().map(|put| {
        // An entry that is overwritten keeps its fence, and only what stood there before tells it.
        let known = known_fence(txn, &put.key, Fence::new(0)).is_some();
        let options = bound(put, lease);
        let options = if known { options } else { options.with_prev_key() };
        TxnOp::put(keys::encode(&put.key), put.value.clone(), Some(options))
    });
    let deletes = txn.deletes().iter().map(|key| TxnOp::delete(keys::encode(key), None));
    EtcdTxn::new().when(checks).and_then(puts.chain(deletes).collect::<Vec<_>>()).or_else(looks)
}

fn bound(put: &Put, lease: i64) -> PutOptions {
    PutOptions::new().with_lease(if put.session.is_some() { lease } else { 0 })
}

fn compare(check: &Check) -> Compare {
    let equal = CompareOp::Equal;
    // A key that does not stand has the revisions 0, which therefore must not be asked for.
    let revision = |number: Option<i64>| number.filter(|number| *number > 0).unwrap_or(NEVER);
    match check {
        Check::Absent(key) => Compare::create_revision(keys::encode(key), equal, 0),
        Check::Version(key, version) => {
            Compare::mod_revision(keys::encode(key), equal, revision(i64::try_from(version.raw()).ok()))
        }
        Check::Stands(key, fence) => {
            Compare::create_revision(keys::encode(key), equal, revision(i64::try_from(fence.get()).ok()))
        }
    }
}

/// The fence of an entry that is put, as far as the checks tell; `made` if they tell that it is made now.
fn known_fence(txn: &Txn, key: &Key, made: Fence) -> Option<Fence> {
    txn.checks().iter().filter(|check| check.key() == key).find_map(|check| match check {
        Check::Absent(_) => Some(made),
        Check::Stands(_, fence) => Some(*fence),
        Check::Version(..) => None,
    })
}

fn applied(txn: &Txn, answer: &TxnResponse) -> Result<Write> {
    let revision = revision(answer.header())?;
    let made = keys::fence(revision);
    let entries = txn.puts().iter().zip(answer.op_responses()).map(|(put, answer)| {
        let TxnOpResponse::Put(answer) = answer else {
            return Err(broken("a put was answered by something else"));
        };
        let before = || answer.prev_key().map(|before| keys::fence(before.create_revision()));
        Ok(entry(put, revision, known_fence(txn, &put.key, made).or_else(before)))
    });
    entries.collect::<Result<_>>().map(Write::Applied)
}

/// What a put has made at this revision, or if it stood before, with the fence that it had then.
fn entry(put: &Put, revision: i64, fence: Option<Fence>) -> Entry {
    let version = Version::new(u128::from(keys::number(revision)));
    let fence = fence.unwrap_or(keys::fence(revision));
    Entry::new(put.key.clone(), put.value.clone(), version, fence, put.session.clone())
}

/// The first check that did not hold, judged by what the same transaction saw.
fn rejected(txn: &Txn, answer: TxnResponse) -> Result<Write> {
    for (check, seen) in txn.checks().iter().zip(told(answer)) {
        let found = found(seen).into_iter().find_map(keys::entry);
        if !check.holds(found.as_ref()) {
            return Ok(Write::Rejected(Rejection { key: check.key().clone(), found }));
        }
    }
    Err(broken("a transaction was refused although all its checks hold"))
}

/// Deletes what `prefix` covers. One step where all that stands below it is covered, which is all but always so.
pub(super) async fn delete_prefix(endpoints: &Endpoints, prefix: &Key) -> Result<u64> {
    let (revision, covered, all) = survey(endpoints, prefix).await?;
    if covered.is_empty() {
        return Ok(0);
    }
    if all {
        let parts = keys::around_reserved(prefix);
        // Unless something was put since: it might not be ours to delete.
        let unchanged = parts.iter().map(|Range { start, end }| {
            Compare::mod_revision(start.clone(), CompareOp::Less, revision + 1).with_range(end.clone())
        });
        let deletes = parts.iter().map(|Range { start, end }| {
            TxnOp::delete(start.clone(), Some(DeleteOptions::new().with_range(end.clone())))
        });
        let request =
            EtcdTxn::new().when(unchanged.collect::<Vec<_>>()).and_then(deletes.collect::<Vec<_>>());
        let answer = write(endpoints, request).await?;
        if answer.succeeded() {
            return Ok(deleted(&answer));
        }
    }
    let mut count = 0;
    for some in covered.chunks(MAX_OPS) {
        let deletes: Vec<_> = some.iter().map(|key| TxnOp::delete(keys::encode(key), None)).collect();
        let answer = write(endpoints, EtcdTxn::new().and_then(deletes)).await;
        count += deleted(&answer.map_err(|error| if count > 0 { error.unsettled() } else { error })?);
    }
    Ok(count)
}

/// What stands below `prefix` and is covered, whether that is all that stands there, and at which revision.
async fn survey(endpoints: &Endpoints, prefix: &Key) -> Result<(i64, Vec<Key>, bool)> {
    let (revision, found) =
        ranges(endpoints, "delete_prefix", &keys::around_reserved(prefix), Consistency::Linearizable, true)
            .await?;
    let all = found.len();
    let covered: Vec<_> =
        found.iter().filter_map(|raw| keys::decode(raw.key())).filter(|key| prefix.covers(key)).collect();
    let complete = covered.len() == all;
    Ok((revision, covered, complete))
}

async fn write(endpoints: &Endpoints, request: EtcdTxn) -> Result<TxnResponse> {
    let ask = |connection: Arc<Connection>| {
        let request = request.clone();
        async move { connection.kv().txn(request).await }
    };
    endpoints.call(Kind::Once, "delete_prefix", ask).await
}

fn deleted(answer: &TxnResponse) -> u64 {
    let counts = answer.op_responses().into_iter().map(|answer| match answer {
        TxnOpResponse::Delete(answer) => keys::number(answer.deleted()),
        _ => 0,
    });
    counts.sum()
}
