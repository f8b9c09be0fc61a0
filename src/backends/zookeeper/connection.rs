//! One connection to the ensemble, which is one session of the server's and finds another server when its own fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use zookeeper_client::{Client, Error as Zk, SessionState};

use super::error::{Cure, Fault, classify};
use super::host::{Host, gathered};
use super::options::Settled;
use crate::kv::{ErrorKind, Outcome};

/// Whether a request may be sent again when it is not known whether it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It may: a read, or a write that is the same twice.
    Repeatable,
    /// It may not.
    Once,
}

/// Opens a session that lives for about `ttl` without a heartbeat; each server is tried once. What goes unused is closed.
pub(super) async fn open(
    host: &Host,
    settled: &Settled,
    ttl: Duration,
    silence: Duration,
) -> Result<Client, Fault> {
    let connector = settled.connector();
    let connector = connector.with_session_timeout(ttl).with_connection_timeout(silence);
    let cluster = settled.cluster();
    let connected = host.run(async move { connector.with_fail_eagerly().connect(&cluster).await });
    let Some(connected) = connected.done().await else {
        let why = "the store has ended";
        return Err(Fault::new(ErrorKind::Internal, Outcome::NotApplied, Cure::None, why));
    };
    let client = connected.map_err(classify)?;
    if let Some(digest) = settled.digest() {
        // Not along with the connecting: a server that speaks TLS may answer this first, and the client takes the answer for
        // the session. It is sent by now, in front of all else, and the client says it again wherever it reconnects.
        drop(client.auth("digest", digest));
    }
    Ok(client)
}

/// Asks on a connection that is up, or comes up in time.
pub(super) async fn ask<T, F, Fut>(client: &Arc<Client>, end: Instant, ask: &F) -> Result<T, Fault>
where
    F: Fn(Arc<Client>) -> Fut + Sync,
    Fut: Future<Output = Result<T, Zk>>,
{
    up(client, end).await?;
    match timeout_at(end, gathered(ask(Arc::clone(client)))).await {
        Ok(answer) => answer.map_err(classify),
        Err(_) => Err(Fault::silent()),
    }
}

/// The client would keep requests for as long as nobody can be reached, and send them then: nothing is asked before.
async fn up(client: &Client, end: Instant) -> Result<(), Fault> {
    if client.state() == SessionState::SyncConnected {
        return Ok(());
    }
    let mut states = client.state_watcher();
    let mut state = states.peek_state();
    loop {
        match state {
            SessionState::SyncConnected => return Ok(()),
            SessionState::Expired => return Err(classify(Zk::SessionExpired)),
            SessionState::AuthFailed => return Err(classify(Zk::AuthFailed)),
            SessionState::Closed => return Err(classify(Zk::ClientClosed)),
            _ => state = timeout_at(end, states.changed()).await.map_err(|_| Fault::disconnected())?,
        }
    }
}

/// Whether a connection has ended for good.
pub(super) fn is_over(state: SessionState) -> bool {
    matches!(state, SessionState::Expired | SessionState::Closed | SessionState::AuthFailed)
}

/// A write that fails and changes nothing, yet goes through a majority like any other: what is read behind it on the same
/// connection has seen every write that was acknowledged before. `sync` promises less, as it asks the leader alone:
/// <https://issues.apache.org/jira/browse/ZOOKEEPER-2136>. It shows that the session lives, too, which a ping does not:
/// servers answer those themselves.
pub(super) fn barrier(client: &Client) -> impl Future<Output = Result<(), Zk>> + Send + 'static {
    let refused = client.delete("/_quorate-nothing", Some(i32::MAX));
    async move {
        match refused.await {
            Ok(()) | Err(Zk::NoNode | Zk::BadVersion | Zk::NotEmpty | Zk::NoAuth) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
