//! Reads: single keys, and ranges of them at one revision.

use std::sync::Arc;

use etcd_client::proto::PbTxnOpResponse;
use etcd_client::{
    GetOptions, GetResponse, KeyValue, KvClient, ResponseHeader, Txn as EtcdTxn, TxnOp, TxnResponse,
};

use super::connection::Connection;
use super::endpoints::{Endpoints, Kind};
use super::keys::{self, Range};
use crate::kv::{Consistency, Entry, Error, ErrorKind, Key, Outcome, Result, Scope};

/// What stands in some ranges, all seen at one revision, and which that was.
pub(super) async fn ranges(
    endpoints: &Endpoints,
    operation: &'static str,
    ranges: &[Range],
    read: Consistency,
    keys_only: bool,
) -> Result<(i64, Vec<KeyValue>)> {
    let options = GetOptions::new();
    let options = if keys_only { options.with_keys_only() } else { options };
    let options = if read == Consistency::Local { options.with_serializable() } else { options };
    let within = |range: &Range| options.clone().with_range(range.end.clone());
    if let [range] = ranges {
        let answer = endpoints.call(Kind::Repeatable, operation, |connection: Arc<Connection>| {
            let (start, options) = (range.start.clone(), within(range));
            async move { client(&connection, read).await?.get(start, Some(options)).await }
        });
        let mut answer = answer.await?;
        return Ok((revision(answer.header())?, answer.take_kvs()));
    }
    let gets = ranges.iter().map(|range| TxnOp::get(range.start.clone(), Some(within(range))));
    let request = EtcdTxn::new().and_then(gets.collect::<Vec<_>>());
    let answer = endpoints.call(Kind::Repeatable, operation, |connection: Arc<Connection>| {
        let request = request.clone();
        async move { client(&connection, read).await?.txn(request).await }
    });
    let answer = answer.await?;
    let revision = revision(answer.header())?;
    // Most of the time all of it is in one of them.
    let all = told(answer).map(found).reduce(|mut all, mut more| {
        all.append(&mut more);
        all
    });
    Ok((revision, all.unwrap_or_default()))
}

async fn client(connection: &Connection, read: Consistency) -> Result<KvClient, etcd_client::Error> {
    match read {
        Consistency::Linearizable => Ok(connection.kv()),
        Consistency::Local => connection.local().await,
    }
}

/// What a scope covers, in key order, and at which revision that was.
pub(super) async fn covered(
    endpoints: &Endpoints,
    operation: &'static str,
    scope: &Scope,
    read: Consistency,
) -> Result<(i64, Vec<Entry>)> {
    match scope {
        Scope::Key(key) => {
            let (revision, found) = ranges(endpoints, operation, &[keys::only(key)], read, false).await?;
            let entries = found.into_iter().filter_map(keys::entry).filter(|entry| entry.key == *key);
            Ok((revision, entries.collect()))
        }
        Scope::Prefix(prefix) => {
            let around = keys::around_reserved(prefix);
            let (revision, found) = ranges(endpoints, operation, &around, read, false).await?;
            Ok((revision, below(prefix, found)))
        }
    }
}

/// What a prefix covers of what was found below it, in key order.
fn below(prefix: &Key, found: Vec<KeyValue>) -> Vec<Entry> {
    let (mut last, mut entries) = (None, Vec::with_capacity(found.len()));
    Key::stored_in(found, keys::text, |key, found| {
        if prefix.covers(&key) {
            entries.push(keys::entry_at(key, found).sharing(&mut last));
        }
    });
    entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    entries
}

/// What stands at a key.
pub(super) async fn get(endpoints: &Endpoints, key: &Key, read: Consistency) -> Result<Option<Entry>> {
    let (_, entries) = covered(endpoints, "get", &Scope::Key(key.clone()), read).await?;
    Ok(entries.into_iter().next())
}

/// What each operation of a transaction told. The client's own way to ask copies all of it.
pub(super) fn told(answer: TxnResponse) -> impl Iterator<Item = PbTxnOpResponse> {
    answer.0.responses.into_iter().filter_map(|told| told.response)
}

/// What one read of a transaction saw.
pub(super) fn found(told: PbTxnOpResponse) -> Vec<KeyValue> {
    match told {
        PbTxnOpResponse::ResponseRange(range) => GetResponse(range).take_kvs(),
        _ => Vec::new(),
    }
}

/// The revision that an answer was given at.
pub(super) fn revision(header: Option<&ResponseHeader>) -> Result<i64> {
    header.map(ResponseHeader::revision).ok_or_else(|| broken("an answer without a header"))
}

/// An answer that etcd does not give.
pub(super) fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Internal, Outcome::Unknown, what)
}
