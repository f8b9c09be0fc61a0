//! Sessions. They hang on a node of the catalog that is no machine: a session on a server's node ends with that server.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::BACKEND;
use super::endpoints::{Endpoints, Kind, no_other};
use super::error::broken;
use super::http::{Answer, Ask, Lane};
use crate::connect::parse_duration;
use crate::kv::{Error, ErrorKind, Grant, Outcome, Renewal, Result, SessionId};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wish<'a> {
    node: &'a str,
    /// No health check ends it, by its old name and by its new one.
    checks: [&'static str; 0],
    node_checks: [&'static str; 0],
    behavior: &'static str,
    lock_delay: &'static str,
    #[serde(rename = "TTL")]
    ttl: String,
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Node<'a> {
    node: &'a str,
    /// Every node has one; nobody goes there.
    address: &'static str,
}

pub(super) async fn grant(endpoints: &Endpoints, node: &str, ttl: Duration) -> Result<Grant> {
    #[derive(Deserialize)]
    struct Made {
        #[serde(rename = "ID")]
        id: String,
    }
    let wish = Wish {
        node,
        checks: [],
        node_checks: [],
        behavior: "delete",
        // Its keys may be taken anew at once: whether one should wait is decided elsewhere, and the same on every store.
        lock_delay: "0s",
        ttl: format!("{}ms", ttl.as_millis()),
        name: "quorate",
    };
    let wish = json(&wish)?;
    // One whose answer is lost has nothing bound to it, and ends by itself.
    let create = || {
        let ask = Ask::put("/v1/session/create", wish.clone()).on(Lane::Vital);
        endpoints.call(Kind::Repeatable, "grant", ask, misses_its_node)
    };
    let mut answer = create().await?;
    if misses_its_node(&answer) {
        register(endpoints, node).await?;
        answer = create().await?;
    }
    if misses_its_node(&answer) {
        let why = format!("the node {node:?}, which sessions hang on, was registered and is not there");
        return Err(Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why).at(BACKEND, "grant"));
    }
    let made: Made = answer.read()?;
    Ok(Grant { id: SessionId::new(made.id), ttl })
}

fn misses_its_node(answer: &Answer) -> bool {
    answer.status == StatusCode::INTERNAL_SERVER_ERROR
        && String::from_utf8_lossy(answer.body()).contains("Missing node registration")
}

async fn register(endpoints: &Endpoints, node: &str) -> Result<()> {
    let ask = Ask::put("/v1/catalog/register", json(&Node { node, address: "127.0.0.1" })?);
    let registered = endpoints.call(Kind::Repeatable, "grant", ask, no_other).await;
    registered.map(drop).map_err(|error| {
        let why = format!(
            "the node {node:?}, which sessions hang on, is not in the catalog and cannot be registered"
        );
        Error::new(error.kind(), error.outcome(), why).because(error).at(BACKEND, "grant")
    })
}

pub(super) async fn renew(endpoints: &Endpoints, session: &SessionId) -> Result<Renewal> {
    #[derive(Deserialize)]
    struct Life {
        #[serde(rename = "TTL")]
        ttl: String,
    }
    if !is_one(session) {
        return Ok(Renewal::Lost);
    }
    let ask = Ask::put(format!("/v1/session/renew/{session}"), "").on(Lane::Vital);
    let answer = endpoints.call(Kind::Repeatable, "renew", ask, is_gone).await?;
    if is_gone(&answer) {
        return Ok(Renewal::Lost);
    }
    let lives: Vec<Life> = answer.read()?;
    let life = lives.first().ok_or_else(|| broken("a session was renewed and has no life"))?;
    Ok(Renewal::Renewed { ttl: parse_duration("the life of a session", &life.ttl)? })
}

/// The words are looked at too: a proxy that leads nowhere has the same status.
fn is_gone(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND
        && String::from_utf8_lossy(answer.body()).starts_with("Session id ")
}

pub(super) async fn revoke(endpoints: &Endpoints, session: &SessionId) -> Result<()> {
    if !is_one(session) {
        return Ok(());
    }
    let ask = Ask::put(format!("/v1/session/destroy/{session}"), "").on(Lane::Vital);
    endpoints.call(Kind::Repeatable, "revoke", ask, no_other).await.map(drop)
}

/// Whether a session has not ended.
pub(super) async fn lives(endpoints: &Endpoints, session: &SessionId) -> Result<bool> {
    #[derive(Deserialize)]
    struct Alive {}
    if !is_one(session) {
        return Ok(false);
    }
    let ask = Ask::get(format!("/v1/session/info/{session}"), "consistent");
    let answer = endpoints.call(Kind::Repeatable, "session", ask, no_other).await?;
    Ok(!answer.read::<Option<Vec<Alive>>>()?.unwrap_or_default().is_empty())
}

/// Whether this can name a session of this store at all.
fn is_one(session: &SessionId) -> bool {
    let text = session.as_str();
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

pub(super) fn json(body: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(body).map_err(|error| broken("a request without a form").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_session_is_not_asked_for() {
        assert!(is_one(&SessionId::new("adf4238a-882b-9ddc-4a9d-5b6758e4159e")));
        for text in
            ["", "s-1", "adf4238a-882b-9ddc-4a9d-5b6758e4159/", "../../../../../../../../v1/kv/aaaaaaa"]
        {
            assert!(!is_one(&SessionId::new(text)), "{text}");
        }
    }
}
