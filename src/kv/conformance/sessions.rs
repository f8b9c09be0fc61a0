//! Line 5, at the end of a session that is revoked: what is bound to it goes, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use super::bench::{Bench, applied, listed, nothing_at, put, refused, same, short_ttl, standing, write_one};
use super::case::{Case, Checked, cases, ensure};
use crate::kv::{Coordinator, ErrorKind, Renewal, Txn};

pub(super) fn cases() -> Vec<Case> {
    cases![
        5: what_is_bound_goes_with_a_revoked_session,
        5: many_entries_hang_on_one_session,
        5: a_revoked_session_cannot_be_renewed,
        5: a_session_is_told_its_life,
        5: a_ttl_outside_the_range_is_refused,
        13: parents_and_children_are_bound_each_on_its_own,
    ]
}

async fn what_is_bound_goes_with_a_revoked_session(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let (first, second) = (bench.long_grant(&ours).await?, bench.long_grant(&theirs).await?);
    let (a, b, free) = (bench.key("k/a")?, bench.key("k/b")?, bench.key("k/free")?);
    let made = write_one(&ours, Txn::new().put_bound(&a, "a", &first.id)).await?;
    same("the binding in the answer", &made.session, &Some(first.id.clone()))?;
    same("the entry another client reads", &standing(&theirs, &a).await?, &made)?;
    let kept = write_one(&theirs, Txn::new().put_bound(&b, "b", &second.id)).await?;
    let free = put(&theirs, &free, "free").await?;
    ours.revoke(&first.id).await?;
    nothing_at(&theirs, &a).await?;
    nothing_at(&ours, &a).await?;
    same("what is bound to another session", &standing(&ours, &b).await?, &kept)?;
    same("what is left", &listed(&ours, &bench.key("k")?).await?, &vec![b.clone(), free.key])?;
    theirs.revoke(&second.id).await?;
    nothing_at(&ours, &b).await
}

async fn many_entries_hang_on_one_session(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let session = bench.long_grant(&store).await?.id;
    let prefix = bench.key("many")?;
    for index in 0..100 {
        let key = prefix.child(&format!("k{index:03}"))?;
        applied(&store, Txn::new().put_bound(&key, "1", &session)).await?;
    }
    same("how many stand", &listed(&store, &prefix).await?.len(), &100)?;
    store.revoke(&session).await?;
    same("what outlives the session", &listed(&store, &prefix).await?, &vec![])
}

async fn a_revoked_session_cannot_be_renewed(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let (gone, other) = (bench.long_grant(&store).await?, bench.long_grant(&store).await?);
    let renewal = store.renew(&gone.id).await?;
    ensure!(matches!(renewal, Renewal::Renewed { ttl } if !ttl.is_zero()), "a live session: {renewal:?}");
    // A session that is gone is no error.
    for _ in 0..2 {
        store.revoke(&gone.id).await?;
        same("the renewal of a revoked session", &store.renew(&gone.id).await?, &Renewal::Lost)?;
    }
    let renewal = store.renew(&other.id).await?;
    ensure!(matches!(renewal, Renewal::Renewed { .. }), "another session was lost with it");
    Ok(store.revoke(&other.id).await?)
}

async fn a_session_is_told_its_life(bench: &Bench<dyn Coordinator>) -> Checked {
    let clients = [bench.open().await?, bench.open().await?];
    let ttl = short_ttl(&clients[0].limits());
    let mut names = BTreeSet::new();
    for round in 0..6 {
        let store = &clients[round % 2];
        let grant = store.grant(ttl).await?;
        ensure!(!grant.ttl.is_zero(), "a session was granted a life of nothing");
        ensure!(!grant.id.as_str().contains('/'), "the session's name {} would be two segments", grant.id);
        ensure!(names.insert(grant.id.clone()), "two sessions are both called {}", grant.id);
        store.revoke(&grant.id).await?;
    }
    Ok(())
}

async fn a_ttl_outside_the_range_is_refused(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let limits = store.limits();
    ensure!(!limits.ttl.contains(&Duration::ZERO), "the limits offer a life of nothing");
    refused("a ttl of nothing", store.grant(Duration::ZERO).await, ErrorKind::InvalidInput)?;
    for ttl in [limits.ttl.start().mul_f64(0.5), limits.ttl.end().saturating_add(Duration::from_secs(1))] {
        refused(&format!("a ttl of {ttl:?}"), store.grant(ttl).await, ErrorKind::InvalidInput)?;
    }
    let shortest = store.grant(*limits.ttl.start()).await?;
    Ok(store.revoke(&shortest.id).await?)
}

async fn parents_and_children_are_bound_each_on_its_own(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let (above, below) = (bench.long_grant(&store).await?.id, bench.long_grant(&store).await?.id);
    let (parent, child, leaf) = (bench.key("p")?, bench.key("p/c")?, bench.key("p/c/l")?);
    applied(&store, Txn::new().put_bound(&parent, "parent", &above)).await?;
    applied(&store, Txn::new().put_bound(&child, "child", &below)).await?;
    put(&store, &leaf, "leaf").await?;
    same(
        "what is below the bound parent",
        &listed(&store, &parent).await?,
        &vec![child.clone(), leaf.clone()],
    )?;
    store.revoke(&above).await?;
    nothing_at(&store, &parent).await?;
    standing(&store, &child).await?;
    store.revoke(&below).await?;
    nothing_at(&store, &child).await?;
    standing(&store, &leaf).await?;
    same("what is left", &listed(&store, bench.prefix()).await?, &vec![leaf])
}
