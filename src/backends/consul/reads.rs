//! Reads: what a key or a prefix covers, and at which index.

use std::time::Duration;

use http::StatusCode;

use super::endpoints::{Endpoints, Kind};
use super::error::broken;
use super::http::{Ask, Lane};
use super::keys::{self, Stored};
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
    ask(endpoints, operation, scope, query(scope, mode)).await
}

/// Looks once what is there is newer than `index`, or after this time.
pub(super) async fn changed(
    endpoints: &Endpoints,
    scope: &Scope,
    index: u64,
    wait: Duration,
) -> Result<Found> {
    let query = query(scope, "consistent").with("index", &index.to_string());
    let query = query.with("wait", &format!("{}ms", wait.as_millis())).on(Lane::Long(wait + wait / 16));
    ask(endpoints, "watch", scope, query).await
}

fn query(scope: &Scope, mode: &str) -> Ask {
    match scope {
        Scope::Key(key) => Ask::get(format!("/v1/kv/{}", keys::encode(key)), mode),
        Scope::Prefix(prefix) => {
            Ask::get(format!("/v1/kv/{}", keys::encode_below(prefix)), format!("recurse&{mode}"))
        }
    }
}

async fn ask(endpoints: &Endpoints, operation: &'static str, scope: &Scope, ask: Ask) -> Result<Found> {
    let answer = endpoints
        .call(Kind::Repeatable, operation, ask, |answer| answer.status == StatusCode::NOT_FOUND)
        .await?;
    let Some(index) = answer.index else {
        let why = "something else than Consul answered: no index is told";
        return Err(
            Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why).at(super::BACKEND, operation)
        );
    };
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(Found { index, entries: Vec::new() });
    }
    let stored: Vec<Stored> = answer.read()?;
    let mut entries: Vec<_> = stored.iter().filter_map(Stored::entry).collect();
    match scope {
        Scope::Key(key) if entries.iter().any(|entry| entry.key != *key) => {
            return Err(broken("an answer about another key"));
        }
        _ => entries.sort_by(|a, b| a.key.cmp(&b.key)),
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
