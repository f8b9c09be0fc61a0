//! Writes of entries.

use std::borrow::Cow;

use redis::Value;

use super::error::Fault;
use super::reply::{Reply, bytes, entry, number, odd};
use super::scripts::{COMMIT, DELETE_PREFIX, PUT};
use super::servers::{Kind, Servers};
use super::{BACKEND, lost};
use crate::kv::{Check, Entry, Fence, Key, Put, Rejection, Result, SessionId, Txn, Version, Write};

/// Commits, in one script; in two where one value is put that is not bound, over one that is or was.
pub(super) async fn commit(servers: &Servers, txn: &Txn) -> Result<Write> {
    let plain = match plain(txn) {
        Some((put, check)) => Some(put_plain(servers, put, check).await?),
        None => None,
    };
    let mut reply = match plain.filter(|reply| reply.status != "bound") {
        Some(reply) => reply,
        None => commit_all(servers, txn).await?,
    };
    let read = match (&*reply.status, txn.session()) {
        ("lost", Some(session)) => return Err(lost(session)),
        ("applied", _) => applied(txn, reply.state.revision, reply.rest),
        ("rejected", _) => rejected(txn, reply.next(), reply.next()),
        (other, _) => Err(odd(other)),
    };
    read.map_err(|fault| fault.error.at(BACKEND, "commit"))
}

/// The put that is all there is to do, if it binds nothing, and what is checked at its own key.
fn plain(txn: &Txn) -> Option<(&Put, Option<&Check>)> {
    match (txn.checks(), txn.puts(), txn.deletes()) {
        ([], [put], []) if put.session.is_none() => Some((put, None)),
        ([check], [put], []) if put.session.is_none() && *check.key() == put.key => Some((put, Some(check))),
        _ => None,
    }
}

async fn put_plain(servers: &Servers, put: &Put, check: Option<&Check>) -> Result<Reply> {
    let (key, value): (&[u8], &[u8]) = (put.key.as_str().as_bytes(), &put.value);
    let Some(check) = check else {
        return servers.call(Kind::Once, "commit", &PUT, &[key, value]).await;
    };
    let (kind, number) = told(check);
    servers.call(Kind::Once, "commit", &PUT, &[key, value, kind.as_bytes(), number.as_bytes()]).await
}

async fn commit_all(servers: &Servers, txn: &Txn) -> Result<Reply> {
    let arguments = arguments(txn);
    let arguments: Vec<&[u8]> = arguments.iter().map(AsRef::as_ref).collect();
    servers.call(Kind::Once, "commit", &COMMIT, &arguments).await
}

/// What is checked, as the scripts are told: its kind and its number.
fn told(check: &Check) -> (&'static str, String) {
    match check {
        Check::Absent(_) => ("absent", "0".to_owned()),
        Check::Version(_, version) => ("version", version.raw().to_string()),
        Check::Stands(_, fence) => ("stands", fence.get().to_string()),
    }
}

/// What the script is told, in its order.
fn arguments(txn: &Txn) -> Vec<Cow<'_, [u8]>> {
    fn text(text: &str) -> Cow<'_, [u8]> {
        Cow::Borrowed(text.as_bytes())
    }
    let number = |number: String| Cow::Owned(number.into_bytes());
    let counts = [txn.checks().len(), txn.puts().len(), txn.deletes().len()];
    let mut all = Vec::with_capacity(4 + 3 * (counts[0] + counts[1]) + counts[2]);
    all.push(text(txn.session().map_or("", SessionId::as_str)));
    all.extend(counts.map(|count| number(count.to_string())));
    for check in txn.checks() {
        let (kind, which) = told(check);
        all.extend([text(kind), text(check.key().as_str()), number(which)]);
    }
    for put in txn.puts() {
        let bound = if put.session.is_some() { "1" } else { "0" };
        all.extend([text(put.key.as_str()), text(bound), Cow::Borrowed(&*put.value)]);
    }
    all.extend(txn.deletes().iter().map(|key| text(key.as_str())));
    all
}

fn applied(txn: &Txn, revision: u64, fences: std::vec::IntoIter<Value>) -> Result<Write, Fault> {
    if fences.len() != txn.puts().len() {
        return Err(odd("not as many fences as puts"));
    }
    let made = txn.puts().iter().zip(fences).map(|(put, fence)| {
        let (version, fence) = (Version::new(revision.into()), Fence::new(number(fence)?));
        Ok(Entry::new(put.key.clone(), put.value.clone(), version, fence, put.session.clone()))
    });
    Ok(Write::Applied(made.collect::<Result<_, _>>()?))
}

fn rejected(txn: &Txn, nth: Option<Value>, found: Option<Value>) -> Result<Write, Fault> {
    let nth = nth.map(number).transpose()?.and_then(|nth| usize::try_from(nth).ok());
    let check = nth.and_then(|nth| txn.checks().get(nth.checked_sub(1)?));
    let key = check.ok_or_else(|| odd("no such check"))?.key().clone();
    let found = found.map(|found| entry(key.clone(), bytes(found)?)).transpose()?;
    Ok(Write::Rejected(Rejection { key, found }))
}

pub(super) async fn delete_prefix(servers: &Servers, prefix: &Key) -> Result<u64> {
    let prefix = prefix.as_str().as_bytes();
    let mut reply = servers.call(Kind::Once, "delete_prefix", &DELETE_PREFIX, &[prefix]).await?;
    let count = reply.next().ok_or_else(|| odd("no count")).and_then(number);
    count.map_err(|fault| fault.error.at(BACKEND, "delete_prefix"))
}
