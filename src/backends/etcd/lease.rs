//! Sessions are leases.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::try_join;

use super::connection::Connection;
use super::endpoints::{Endpoints, Kind};
use super::keys;
use crate::kv::{ErrorKind, Grant, Outcome, Renewal, Result, SessionId};

/// How many lives are remembered.
const REMEMBERED: usize = 1024;

/// The lives of the sessions that are renewed here. The client does not say what etcd answers to a first keep-alive; it
/// is always what was granted.
#[derive(Debug, Default)]
pub(super) struct Lives(Mutex<BTreeMap<i64, Duration>>);

impl Lives {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<i64, Duration>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn learn(&self, lease: i64, ttl: Duration) {
        self.with(|lives| {
            // Sessions that ended unnoticed leave theirs behind. A life that was forgotten is asked for.
            if lives.len() >= REMEMBERED {
                lives.clear();
            }
            lives.insert(lease, ttl)
        });
    }
}

pub(super) async fn grant(endpoints: &Endpoints, ttl: Duration) -> Result<Grant> {
    // One whose answer is lost has nothing bound to it, and ends by itself.
    let granting = endpoints.call(Kind::Repeatable, "grant", |connection: Arc<Connection>| async move {
        connection.lease().grant(whole_seconds(ttl), None).await
    });
    let granted = if endpoints.have_been_entered() {
        granting.await?
    } else {
        // Anybody is granted a session, also who is let in nowhere.
        let let_in =
            endpoints.enter(|connection: Arc<Connection>| async move { connection.is_let_in().await });
        let ((), granted) = try_join(let_in, granting.map(Ok)).await?;
        granted?
    };
    let (id, ttl) = (keys::session(granted.id()), seconds(granted.ttl()));
    let id = id.ok_or_else(|| {
        crate::kv::Error::new(ErrorKind::Internal, Outcome::Unknown, "a lease without a name was granted")
    })?;
    Ok(Grant { id, ttl })
}

/// One keep-alive, on a stream of its own: there is none that could be dead for long without anybody noticing.
pub(super) async fn renew(endpoints: &Endpoints, lives: &Lives, session: &SessionId) -> Result<Renewal> {
    let Some(lease) = keys::lease(session) else { return Ok(Renewal::Lost) };
    let known = lives.with(|lives| lives.get(&lease).copied());
    let renewed = endpoints.call(Kind::Repeatable, "renew", |connection: Arc<Connection>| async move {
        let (mut keeper, mut told) = connection.lease().keep_alive(lease).await?;
        if let Some(ttl) = known {
            return Ok(ttl);
        }
        keeper.keep_alive().await?;
        match told.message().await?.map(|answer| answer.ttl()) {
            Some(ttl) if ttl > 0 => Ok(seconds(ttl)),
            Some(_) => Err(etcd_client::Error::LeaseKeepAliveError("lease not found".into())),
            None => Err(etcd_client::Error::WatchError("the stream ended".into())),
        }
    });
    match renewed.await {
        Ok(ttl) => {
            if known.is_none() {
                lives.learn(lease, ttl);
            }
            Ok(Renewal::Renewed { ttl })
        }
        Err(error) if error.kind() == ErrorKind::SessionLost => {
            lives.with(|lives| lives.remove(&lease));
            Ok(Renewal::Lost)
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn revoke(endpoints: &Endpoints, lives: &Lives, session: &SessionId) -> Result<()> {
    let Some(lease) = keys::lease(session) else { return Ok(()) };
    lives.with(|lives| lives.remove(&lease));
    let revoked = endpoints.call(Kind::Repeatable, "revoke", |connection: Arc<Connection>| async move {
        connection.lease().revoke(lease).await
    });
    match revoked.await {
        Err(error) if error.kind() != ErrorKind::SessionLost => Err(error),
        _ => Ok(()),
    }
}

/// Leases live for whole seconds; never for less than was asked.
fn whole_seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(keys::number(ttl))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_asked_for_in_whole_seconds() {
        for (millis, asked) in [(1, 1), (1000, 1), (1001, 2), (15_000, 15)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), asked);
        }
    }

    #[test]
    fn lives_do_not_pile_up() {
        let lives = Lives::default();
        for lease in 0..10_000 {
            lives.learn(lease, Duration::from_secs(1));
        }
        assert!(lives.with(|lives| lives.len()) <= REMEMBERED);
        assert_eq!(lives.with(|lives| lives.get(&9_999).copied()), Some(Duration::from_secs(1)));
    }
}
