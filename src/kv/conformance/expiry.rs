//! Line 5, in time: bound entries go within the ttl and its slack, and not before the ttl.

use std::sync::Arc;

use super::bench::{Bench, LOOK, applied, get, gone_by, nothing_at, put, same, standing};
use super::case::{Case, Checked, Violation, cases, ensure};
use super::watcher::Watching;
use crate::kv::{Coordinator, Event, Grant, Instant, Key, Renewal, Scope, Txn};

pub(super) fn cases() -> Vec<Case> {
    cases![
        5: what_is_bound_goes_with_an_expired_session,
        5: what_is_bound_goes_with_a_vanished_client,
        5: a_renewed_session_lives_on,
        6: a_write_bound_to_an_expired_session_is_refused,
        6: the_old_sessions_expiry_leaves_what_was_bound_anew,
        7: expiry_is_told_as_a_delete,
        7: the_end_of_a_session_is_told,
        12: a_place_goes_with_an_expired_session,
    ]
}

/// Watches the entry go, and sees that it is not too early after `sent`, nor too late after `answered`: when the
/// last renewal, or the grant, was asked for and acknowledged.
async fn goes_in_time(
    bench: &Bench<dyn Coordinator>,
    store: &Arc<dyn Coordinator>,
    key: &Key,
    granted: &Grant,
    (sent, answered): (Instant, Instant),
) -> Checked {
    let latest = answered + gone_by(&store.limits(), granted);
    loop {
        let began = bench.now();
        if get(store, key).await?.is_none() {
            let lived = bench.now().since(sent);
            ensure!(
                lived >= granted.ttl,
                "{key:?} was gone after {lived:?}, before its ttl of {:?}",
                granted.ttl
            );
            return Ok(());
        }
        let over = gone_by(&store.limits(), granted);
        ensure!(
            began < latest,
            "{key:?} still stands {over:?} after the last renewal, its ttl is {:?}",
            granted.ttl
        );
        bench.pause(LOOK).await;
    }
}

async fn what_is_bound_goes_with_an_expired_session(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let (bound, free) = (bench.key("bound")?, bench.key("free")?);
    let (granted, sent) = bench.grant(&ours).await?;
    let answered = bench.now();
    applied(&ours, Txn::new().put_bound(&bound, "1", &granted.id)).await?;
    let free = put(&ours, &free, "1").await?;
    goes_in_time(bench, &theirs, &bound, &granted, (sent, answered)).await?;
    same("the renewal of an expired session", &ours.renew(&granted.id).await?, &Renewal::Lost)?;
    nothing_at(&ours, &bound).await?;
    same("what was not bound", &standing(&theirs, &free.key).await?, &free)?;
    ours.revoke(&granted.id).await?;
    Ok(())
}

async fn what_is_bound_goes_with_a_vanished_client(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let key = bench.key("bound")?;
    let (granted, _) = bench.grant(&ours).await?;
    applied(&ours, Txn::new().put_bound(&key, "1", &granted.id)).await?;
    drop(ours);
    let within = gone_by(&theirs.limits(), &granted);
    bench
        .eventually("what a vanished client had bound goes", within, || async {
            Ok(get(&theirs, &key).await?.is_none())
        })
        .await
}

async fn a_renewed_session_lives_on(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("bound")?;
    // On a starved machine a renewal may come too late; then nothing was learnt, and it is tried again.
    for _ in 0..4 {
        let (mut granted, mut sent) = bench.grant(&store).await?;
        applied(&store, Txn::new().put_bound(&key, "1", &granted.id)).await?;
        let until = sent + granted.ttl * 5 / 2;
        loop {
            bench.pause(granted.ttl / 4).await;
            let asked = bench.now();
            let Renewal::Renewed { ttl } = store.renew(&granted.id).await? else {
                let answered = bench.now();
                ensure!(
                    answered.since(sent) >= granted.ttl,
                    "a session was lost {:?} after a renewal, its ttl is {:?}",
                    answered.since(sent),
                    granted.ttl
                );
                break;
            };
            granted.ttl = ttl;
            sent = asked;
            if asked >= until {
                let found = get(&store, &key).await?;
                ensure!(
                    found.is_some() || bench.now().since(sent) >= granted.ttl,
                    "what is bound to a renewed session is gone"
                );
                return goes_in_time(bench, &store, &key, &granted, (sent, bench.now())).await;
            }
        }
    }
    Err(Violation::new("the machine is too busy to renew a session in time"))
}

/// Waits until the session, which nobody renews, must be gone.
async fn expired(bench: &Bench<dyn Coordinator>, store: &Arc<dyn Coordinator>, granted: &Grant) {
    bench.pause(gone_by(&store.limits(), granted)).await;
}

async fn a_write_bound_to_an_expired_session_is_refused(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let (granted, _) = bench.grant(&store).await?;
    expired(bench, &store, &granted).await;
    super::bindings::refuses_the_dead(bench, &store, &granted.id).await
}

async fn the_old_sessions_expiry_leaves_what_was_bound_anew(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let long = bench.long_grant(&store).await?;
    let (granted, _) = bench.grant(&store).await?;
    let (moved, freed, remade) = (bench.key("moved")?, bench.key("freed")?, bench.key("remade")?);
    for key in [&moved, &freed, &remade] {
        applied(&store, Txn::new().put_bound(key, "old", &granted.id)).await?;
    }
    applied(&store, Txn::new().put_bound(&moved, "new", &long.id)).await?;
    put(&store, &freed, "new").await?;
    applied(&store, Txn::new().delete(&remade)).await?;
    put(&store, &remade, "new").await?;
    expired(bench, &store, &granted).await;
    for key in [&moved, &freed, &remade] {
        same("what was bound anew", &standing(&store, key).await?.value.as_ref(), &b"new".as_slice())?;
    }
    store.revoke(&long.id).await?;
    nothing_at(&store, &moved).await?;
    standing(&store, &freed).await.map(drop)
}

async fn expiry_is_told_as_a_delete(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let key = bench.key("p/bound")?;
    let (granted, _) = bench.grant(&ours).await?;
    let made = applied(&ours, Txn::new().put_bound(&key, "1", &granted.id)).await?;
    let by_key = Watching::open(bench, &theirs, Scope::Key(key.clone())).await?;
    let by_prefix = Watching::open(bench, &ours, Scope::Prefix(bench.key("p")?)).await?;
    drop(ours);
    for mut watching in [by_key, by_prefix] {
        // Nobody asks the store anything meanwhile, so nobody but the store itself can notice.
        watching.extend(gone_by(&theirs.limits(), &granted));
        let events = watching.until("the expiry is told", std::collections::BTreeMap::is_empty).await?;
        let told = events.iter().all(|event| matches!(event, Event::Delete(gone) if *gone == key));
        let resynced = events.iter().any(|event| matches!(event, Event::Snapshot(_)));
        ensure!(told || resynced, "the expiry of {made:?} was told as {events:?}");
    }
    Ok(())
}

async fn the_end_of_a_session_is_told(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let prefix = bench.key("p")?;
    let mut watching = Watching::open(bench, &theirs, Scope::Prefix(prefix.clone())).await?;
    for _ in 0..3 {
        let session = bench.long_grant(&ours).await?.id;
        for name in ["a", "b", "c"] {
            applied(&ours, Txn::new().put_bound(&prefix.child(name)?, "1", &session)).await?;
        }
        watching.converges(&ours).await?;
        same("how many are told", &watching.view.len(), &3)?;
        ours.revoke(&session).await?;
        watching.until("the end of the session is told", std::collections::BTreeMap::is_empty).await?;
    }
    Ok(())
}

async fn a_place_goes_with_an_expired_session(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let queue = bench.queue("q")?;
    let long = bench.long_grant(&store).await?;
    let (granted, _) = bench.grant(&store).await?;
    let first = store.enter(&queue, &granted.id, &bench.ticket(), "first".into(), 9).await?.place;
    let second = store.enter(&queue, &long.id, &bench.ticket(), "second".into(), 9).await?;
    ensure!(
        second.ahead.len() == 1 || store.ahead(&first, 9).await?.is_none(),
        "nobody is ahead of the second place"
    );
    expired(bench, &store, &granted).await;
    same("the expired place", &store.ahead(&first, 9).await?, &None)?;
    same("what is ahead of the second", &store.ahead(&second.place, 9).await?, &Some(vec![]))?;
    store.revoke(&long.id).await?;
    same("the revoked place", &store.ahead(&second.place, 9).await?, &None)
}
