//! The server's transactions: a list of operations, all or none, in one request.

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::endpoints::{Endpoints, Kind};
use super::error::broken;
use super::http::Ask;
use super::keys::{self, Stored};
use crate::kv::{Error, ErrorKind, Key, Outcome, Result, SessionId};

/// The most operations in one transaction.
pub(super) const MAX_OPS: usize = 64;

/// The most bytes in one transaction, as it is sent.
const MAX_BODY: usize = 512 * 1024;

/// One operation.
#[derive(Debug, Serialize)]
pub(super) struct Op {
    #[serde(rename = "KV")]
    kv: Kv,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kv {
    verb: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

impl Op {
    fn new(verb: &'static str, key: String) -> Self {
        Self { kv: Kv { verb, key, value: None, flags: None, index: None, session: None } }
    }

    /// Writes, and so changes the index, even when all is as before: the server keeps it otherwise, and of two writers of
    /// one value both would believe that theirs was it. So each write has flags of its own.
    fn write(verb: &'static str, key: &Key, value: &Bytes) -> Self {
        let mut op = Self::new(verb, keys::encode(key));
        op.kv.value = Some(keys::value(value));
        // Drawn when it is sent.
        op.kv.flags = Some(0);
        op
    }

    fn held_by(mut self, session: &str) -> Self {
        self.kv.session = Some(session.to_owned());
        self
    }

    /// Fails where something stands.
    pub(super) fn absent(key: &Key) -> Self {
        Self::new("check-not-exists", keys::encode(key))
    }

    /// Fails unless what stands was last written at this index.
    pub(super) fn unchanged(key: &Key, index: u64) -> Self {
        let mut op = Self::new("check-index", keys::encode(key));
        op.kv.index = Some(index);
        op
    }

    /// Fails unless something stands there that no session holds.
    pub(super) fn free(key: &Key) -> Self {
        Self::new("check-session", keys::encode(key)).held_by("")
    }

    /// Writes, whoever holds what stands there, who goes on to do so.
    pub(super) fn set(key: &Key, value: &Bytes) -> Self {
        Self::write("set", key, value)
    }

    /// Writes, and holds. Fails where another session holds, or this one is gone.
    pub(super) fn lock(key: &Key, value: &Bytes, session: &SessionId) -> Self {
        Self::write("lock", key, value).held_by(session.as_str())
    }

    /// Writes, and holds no more. Fails unless this session holds.
    pub(super) fn unlock(key: &Key, value: &Bytes, session: &SessionId) -> Self {
        Self::write("unlock", key, value).held_by(session.as_str())
    }

    /// Deletes what stands there, if anything does.
    pub(super) fn delete(key: &Key) -> Self {
        Self::new("delete", keys::encode(key))
    }

    /// Tells what stands below.
    pub(super) fn read_below(prefix: &Key) -> Self {
        Self::new("get-tree", keys::encode_below(prefix))
    }
}

/// What one operation tells.
#[derive(Deserialize)]
pub(super) struct Told<'a> {
    #[serde(rename = "KV", borrow)]
    pub(super) kv: Stored<'a>,
}

/// What came of a transaction.
pub(super) enum Done<T> {
    /// All of it was done; what was read from what its operations tell.
    Applied(T),
    /// Nothing was done: this operation failed first.
    Failed(usize),
}

/// Sends a transaction, and reads what its operations tell, in their order, when all of it was done.
pub(super) async fn send<T>(
    endpoints: &Endpoints,
    operation: &'static str,
    mut ops: Vec<Op>,
    read: impl FnOnce(&[Told<'_>]) -> Result<T>,
) -> Result<Done<T>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer<'a> {
        #[serde(borrow)]
        results: Option<Vec<Told<'a>>>,
        errors: Option<Vec<Refusal>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Refusal {
        op_index: usize,
        what: String,
    }
    for flags in ops.iter_mut().filter_map(|op| op.kv.flags.as_mut()) {
        *flags = endpoints.draw();
    }
    let body = body(&ops)?;
    // Only matters where all operations read.
    let ask = Ask { query: "consistent".to_owned(), ..Ask::put("/v1/txn", body) };
    let answer =
        endpoints.call(Kind::Once, operation, ask, |answer| answer.status == StatusCode::CONFLICT).await?;
    let told: Answer<'_> = answer.read()?;
    if answer.status == StatusCode::OK {
        return read(&told.results.unwrap_or_default()).map(Done::Applied);
    }
    let mut refusals = told.errors.unwrap_or_default();
    if let Some(refusal) = refusals.iter().find(|refusal| refusal.what.contains("Permission denied")) {
        let why = format!("the token does not allow it: {}", refusal.what);
        return Err(Error::new(ErrorKind::Unauthorized, Outcome::NotApplied, why));
    }
    refusals.sort_by_key(|refusal| refusal.op_index);
    let first = refusals.first().ok_or_else(|| broken("a transaction was refused without a reason"))?;
    tracing::trace!(operation, what = first.what, "a transaction was refused");
    Ok(Done::Failed(first.op_index))
}

/// A transaction as it is sent; refused here where the server would refuse it.
fn body(ops: &[Op]) -> Result<Vec<u8>> {
    if ops.len() > MAX_OPS {
        let len = ops.len();
        return Err(Error::invalid(format!(
            "the transaction has {len} operations, over the limit of {MAX_OPS}"
        )));
    }
    let body = serde_json::to_vec(ops).map_err(|error| broken("a request without a form").because(error))?;
    if body.len() >= MAX_BODY {
        let len = body.len();
        return Err(Error::invalid(format!(
            "the transaction takes {len} bytes, over the limit of {MAX_BODY}"
        )));
    }
    Ok(body)
}

/// What was last told of a key.
pub(super) fn last<'a, 'b>(told: &'a [Told<'b>], key: &Key) -> Result<&'a Stored<'b>> {
    let raw = keys::encode(key);
    let found = told.iter().map(|told| &told.kv).rev().find(|stored| stored.is_at(&raw));
    found.ok_or_else(|| broken("a write was answered without what it wrote"))
}
