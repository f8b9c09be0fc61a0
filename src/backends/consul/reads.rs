//! Reads: what a key or a prefix covers, and at which index.

use std::time::Duration;

use http::StatusCode;

use super::endpoints::{Endpoints, Kind};
use super::error::broken;
use super::http::{Answer, Ask, Lane};
use super::keys::{self, Stored};
use super::parts;
use crate::kv::{Consistency, Entry, Error, ErrorKind, Key, Outcome, Result, Scope};

/// What stands in a scope, in key order, the reserved part below it included.
pub(super) struct Found {
    /// Of two answers about the same scope, the one with the larger index is the newer; but a store that lost data begins
    /// anew, and one that forgot what was deleted long ago goes back a little.
    pub(super) index: u64,
    pub(super) entries: Vec<Entry>,
}

/// Looks now.
pub(super) async fn found(
    endpoints: &Endpoints,
    operation: &'static str,
    scope: &Scope,
    read: Consistency,
) -> Result<Found> {
    let mode = match read {
        Consistency::Linearizable => "consistent",
        Consistency::Local => "stale",
    };
    let ask = Ask { for_entries: true, ..query(scope, mode) };
    let (answer, index) = answer(endpoints, operation, ask).await?;
    sorted(answer.entries, index, scope)
}

/// Looks once what is there is newer than `index`, or after this time; `None` when nothing is newer by then.
pub(super) async fn changed(
    endpoints: &Endpoints,
    scope: &Scope,
    index: u64,
    wait: Duration,
) -> Result<Option<Found>> {
    // The leader answers what it has applied, and need not ask the others whether it still leads, as it would once more when
    // something changes: who leads no more has nothing to tell, and is left when the time is up.
    let query = query(scope, "").with("index", &index.to_string());
    let query = query.with("wait", &format!("{}ms", wait.as_millis())).on(Lane::Long(wait + wait / 16));
    let query = Ask { for_entries: true, ..query };
    let (answer, now) = answer(endpoints, "watch", query).await?;
    // All is told again nevertheless.
    if now == index { Ok(None) } else { sorted(answer.entries, now, scope).map(Some) }
}

fn query(scope: &Scope, mode: &str) -> Ask {
    match scope {
        Scope::Key(key) => Ask::get(format!("/v1/kv/{}", keys::encode(key)), mode),
        Scope::Prefix(prefix) => {
            Ask::get(format!("/v1/kv/{}", keys::encode_below(prefix)), mode).with("recurse", "")
        }
    }
}

/// An answer and its index.
async fn answer(endpoints: &Endpoints, operation: &'static str, ask: Ask) -> Result<(Answer, u64)> {
    let answer = endpoints
        .call(Kind::Repeatable, operation, ask, |answer| answer.status == StatusCode::NOT_FOUND)
        .await?;
    let index = answer.index.ok_or_else(|| {
        let why = "something else than Consul answered: no index is told";
        Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why).at(super::BACKEND, operation)
    })?;
    Ok((answer, index))
}

fn sorted(mut entries: Vec<Entry>, index: u64, scope: &Scope) -> Result<Found> {
    match scope {
        Scope::Key(key) if entries.iter().any(|entry| entry.key != *key) => {
            return Err(broken("an answer about another key"));
        }
        _ => entries.sort_unstable_by(|a, b| a.key.cmp(&b.key)),
    }
    Ok(Found { index, entries })
}

/// What stands at a key.
pub(super) async fn get(
    endpoints: &Endpoints,
    operation: &'static str,
    key: &Key,
    read: Consistency,
) -> Result<Option<Entry>> {
    if key.is_root() {
        return Ok(None);
    }
    let found = found(endpoints, operation, &Scope::Key(key.clone()), read).await?;
    Ok(found.entries.into_iter().next())
}

/// Takes in all that stands below a prefix, in the server's order.
pub(super) async fn each_below(
    endpoints: &Endpoints,
    operation: &'static str,
    prefix: &Key,
    take: impl FnMut(&Stored<'_>),
) -> Result<()> {
    let (answer, _) =
        answer(endpoints, operation, query(&Scope::Prefix(prefix.clone()), "consistent")).await?;
    if answer.status == StatusCode::NOT_FOUND { Ok(()) } else { parts::each(answer.parts, take) }
}

/// What a prefix covers, in key order.
pub(super) async fn list(
    endpoints: &Endpoints,
    operation: &'static str,
    prefix: &Key,
    read: Consistency,
) -> Result<Vec<Entry>> {
    let found = found(endpoints, operation, &Scope::Prefix(prefix.clone()), read).await?;
    Ok(found.entries.into_iter().filter(|entry| prefix.covers(&entry.key)).collect())
}
