//! Sessions: keys with a life.

use std::time::Duration;

use super::BACKEND;
use super::history::regressed;
use super::reply::{number, odd, text};
use super::scripts::{GRANT, RENEW, REVOKE};
use super::servers::{Kind, Servers};
use crate::kv::{Grant, Renewal, Result, SessionId};

pub(super) async fn grant(servers: &Servers, ttl: Duration) -> Result<Grant> {
    let (nonce, millis) = (servers.history().nonce(), ttl.as_millis().to_string());
    let mut reply = servers.call(Kind::Once, "grant", &GRANT, &[nonce.as_bytes(), millis.as_bytes()]).await?;
    let id = reply.next().ok_or_else(|| odd("no session")).and_then(text);
    let id = id.map_err(|fault| fault.error.at(BACKEND, "grant"))?;
    Ok(Grant {
        id: SessionId::new(id),
        ttl: Duration::from_millis(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
    })
}

pub(super) async fn renew(servers: &Servers, session: &SessionId) -> Result<Renewal> {
    let mut reply = servers.call(Kind::Repeatable, "renew", &RENEW, &[session.as_str().as_bytes()]).await?;
    match &*reply.status {
        "lost" => Ok(Renewal::Lost),
        "void" => Err(regressed().at(BACKEND, "renew")),
        _ => {
            let ttl = reply.next().ok_or_else(|| odd("no ttl")).and_then(number);
            let ttl = ttl.map_err(|fault| fault.error.at(BACKEND, "renew"))?;
            Ok(Renewal::Renewed { ttl: Duration::from_millis(ttl) })
        }
    }
}

/// The session is dead with the first answer; what it leaves goes in batches.
pub(super) async fn revoke(servers: &Servers, session: &SessionId) -> Result<()> {
    while servers.call(Kind::Repeatable, "revoke", &REVOKE, &[session.as_str().as_bytes()]).await?.status
        == "more"
    {}
    Ok(())
}
