//! Breaks lines 5 and 6: the ends of sessions, and what is bound to them.

use std::time::Duration;

use async_trait::async_trait;
use quorate::backends::Memory;
use quorate::kv::{ErrorKind, Grant, Put, Renewal, Result, SessionId, SessionStore, Store, Txn, Write};

use super::{Defect, Flaw, READ, defects};

pub(super) fn defects() -> Vec<Defect> {
    defects![
        5: RevokeIgnored,
        5: ExpiresLate,
        5: ExpiresEarly,
        5: RenewalIgnored,
        5: RenewalRevives,
        5: AnyTtl,
        5: OneNameForAll,
        6: DeadWritesStand,
        6: BindingSticks,
        6: BindingStaysWithTheFirst,
        6: TwoSessionsACommit,
        6: BindingForgotten,
    ]
}

#[derive(Default)]
struct RevokeIgnored;

#[async_trait]
impl Flaw for RevokeIgnored {
    async fn revoke(&self, _: &Memory, _: &SessionId) -> Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct ExpiresLate;

#[async_trait]
impl Flaw for ExpiresLate {
    async fn grant(&self, memory: &Memory, ttl: Duration) -> Result<Grant> {
        memory.limits().check_ttl(ttl)?;
        let grant = memory.grant((ttl + Duration::from_secs(3)).min(*memory.limits().ttl.end())).await?;
        Ok(Grant { ttl, ..grant })
    }
}

#[derive(Default)]
struct ExpiresEarly;

#[async_trait]
impl Flaw for ExpiresEarly {
    async fn grant(&self, memory: &Memory, ttl: Duration) -> Result<Grant> {
        memory.limits().check_ttl(ttl)?;
        let grant = memory.grant((ttl * 9 / 10).max(*memory.limits().ttl.start())).await?;
        Ok(Grant { ttl, ..grant })
    }
}

#[derive(Default)]
struct RenewalIgnored;

#[async_trait]
impl Flaw for RenewalIgnored {
    async fn renew(&self, memory: &Memory, session: &SessionId) -> Result<Renewal> {
        let alive = memory.sessions().contains(session);
        Ok(if alive { Renewal::Renewed { ttl: Duration::from_secs(1) } } else { Renewal::Lost })
    }
}

#[derive(Default)]
struct RenewalRevives;

#[async_trait]
impl Flaw for RenewalRevives {
    async fn renew(&self, memory: &Memory, session: &SessionId) -> Result<Renewal> {
        Ok(match memory.renew(session).await? {
            Renewal::Lost => Renewal::Renewed { ttl: Duration::from_secs(1) },
            renewed @ Renewal::Renewed { .. } => renewed,
        })
    }
}

/// Takes the nearest ttl it can.
#[derive(Default)]
struct AnyTtl;

#[async_trait]
impl Flaw for AnyTtl {
    async fn grant(&self, memory: &Memory, ttl: Duration) -> Result<Grant> {
        let range = memory.limits().ttl;
        memory.grant(ttl.clamp(*range.start(), *range.end())).await
    }
}

/// All sessions go by one name.
#[derive(Default)]
struct OneNameForAll;

#[async_trait]
impl Flaw for OneNameForAll {
    async fn grant(&self, memory: &Memory, ttl: Duration) -> Result<Grant> {
        Ok(Grant { id: SessionId::new("s1"), ..memory.grant(ttl).await? })
    }
}

/// The same write with other bindings.
fn rebound(txn: &Txn, mut bind: impl FnMut(&Put) -> Option<SessionId>) -> Txn {
    let checked = txn.checks().iter().cloned().fold(Txn::new(), Txn::check);
    let put = txn.puts().iter().fold(checked, |txn, put| {
        let session = bind(put);
        txn.entry(Put { session, ..put.clone() })
    });
    txn.deletes().iter().fold(put, Txn::delete)
}

/// A write whose session is gone is stored without one.
#[derive(Default)]
struct DeadWritesStand;

#[async_trait]
impl Flaw for DeadWritesStand {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        match memory.commit(txn.clone()).await {
            Err(error) if error.kind() == ErrorKind::SessionLost => {
                memory.commit(rebound(&txn, |_| None)).await
            }
            answer => answer,
        }
    }
}

/// A put that binds to nobody leaves the binding as it was.
#[derive(Default)]
struct BindingSticks;

#[async_trait]
impl Flaw for BindingSticks {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let mut bindings = Vec::new();
        for put in txn.puts() {
            let standing = memory.get(&put.key, READ).await?.and_then(|entry| entry.session);
            bindings.push(put.session.clone().or(standing));
        }
        let mut bindings = bindings.into_iter();
        memory.commit(rebound(&txn, |_| bindings.next().flatten())).await
    }
}

/// A put that binds to another session leaves the binding as it was.
#[derive(Default)]
struct BindingStaysWithTheFirst;

#[async_trait]
impl Flaw for BindingStaysWithTheFirst {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let mut bindings = Vec::new();
        for put in txn.puts() {
            let standing = memory.get(&put.key, READ).await?.and_then(|entry| entry.session);
            bindings.push(if put.session.is_some() { standing.or(put.session.clone()) } else { None });
        }
        let mut bindings = bindings.into_iter();
        memory.commit(rebound(&txn, |_| bindings.next().flatten())).await
    }
}

/// Binds a whole commit to the first session it names.
#[derive(Default)]
struct TwoSessionsACommit;

#[async_trait]
impl Flaw for TwoSessionsACommit {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let first = txn.session().cloned();
        memory.commit(rebound(&txn, |put| put.session.as_ref().and(first.clone()))).await
    }
}

/// Binds nothing, and shows it.
#[derive(Default)]
struct BindingForgotten;

#[async_trait]
impl Flaw for BindingForgotten {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        if let Some(session) = txn.session()
            && !memory.sessions().contains(session)
        {
            return memory.commit(txn).await;
        }
        memory.commit(rebound(&txn, |_| None)).await
    }
}
