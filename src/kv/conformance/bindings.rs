//! Line 6: the last put decides the binding, and nothing is bound to the dead.

use std::sync::Arc;

use super::bench::{Bench, applied, listed, nothing_at, put, refused, same, standing, write_one};
use super::case::{Case, Checked, cases};
use crate::kv::{Coordinator, ErrorKind, SessionId, Txn};

pub(super) fn cases() -> Vec<Case> {
    cases![
        6: a_write_bound_to_a_revoked_session_is_refused,
        6: the_last_put_decides_the_binding,
        6: a_deleted_entry_is_bound_no_more,
        6: the_session_that_was_left_takes_nothing_along,
        6: a_commit_binds_to_at_most_one_session,
        3: a_version_does_not_survive_the_session,
        4: fences_grow_over_sessions,
    ]
}

/// Sees that nothing can be bound to a session that is gone, and that the tries left nothing.
pub(super) async fn refuses_the_dead(
    bench: &Bench<dyn Coordinator>,
    store: &Arc<dyn Coordinator>,
    dead: &SessionId,
) -> Checked {
    let (fresh, stood, other) =
        (bench.key("dead/fresh")?, bench.key("dead/stood")?, bench.key("dead/other")?);
    let before = put(store, &stood, "stood").await?;
    let tries = [
        ("a put", Txn::new().put_bound(&fresh, "late", dead)),
        ("a create", Txn::new().absent(&fresh).put_bound(&fresh, "late", dead)),
        ("an overwrite", Txn::new().put_bound(&stood, "late", dead)),
        ("a replace", Txn::new().version(&stood, before.version).put_bound(&stood, "late", dead)),
        ("a mixed commit", Txn::new().put(&other, "late").put_bound(&fresh, "late", dead)),
        ("a commit that deletes", Txn::new().delete(&stood).put_bound(&fresh, "late", dead)),
    ];
    for (what, txn) in tries {
        let ops = txn.checks().len() + txn.puts().len() + txn.deletes().len();
        if ops > store.limits().max_txn_ops {
            continue;
        }
        let what = format!("{what} bound to a dead session");
        refused(&what, store.commit(txn).await, ErrorKind::SessionLost)?;
        nothing_at(store, &fresh).await?;
        nothing_at(store, &other).await?;
        same(&format!("what stood before {what}"), &standing(store, &stood).await?, &before)?;
    }
    Ok(())
}

async fn a_write_bound_to_a_revoked_session_is_refused(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let granted = bench.long_grant(&store).await?;
    applied(&store, Txn::new().put_bound(&bench.key("alive")?, "1", &granted.id)).await?;
    store.revoke(&granted.id).await?;
    refuses_the_dead(bench, &store, &granted.id).await
}

async fn the_last_put_decides_the_binding(bench: &Bench<dyn Coordinator>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let (first, second) = (bench.long_grant(&ours).await?.id, bench.long_grant(&theirs).await?.id);
    let key = bench.key("rebound")?;
    let bindings = [
        None,
        Some((&ours, &first)),
        None,
        Some((&ours, &first)),
        Some((&theirs, &second)),
        Some((&theirs, &second)),
    ];
    for (step, binding) in bindings.into_iter().enumerate() {
        let value = step.to_string();
        let (store, txn) = match binding {
            Some((store, session)) => (store, Txn::new().put_bound(&key, value.clone(), session)),
            None => (&ours, Txn::new().put(&key, value.clone())),
        };
        let made = write_one(store, txn).await?;
        same("the binding in the answer", &made.session.as_ref(), &binding.map(|(_, session)| session))?;
        same("the entry that is read", &standing(&ours, &key).await?, &made)?;
    }
    ours.revoke(&first).await?;
    same("the binding that was last", &standing(&ours, &key).await?.session, &Some(second.clone()))?;
    theirs.revoke(&second).await?;
    nothing_at(&ours, &key).await
}

async fn a_deleted_entry_is_bound_no_more(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let (first, second) = (bench.long_grant(&store).await?.id, bench.long_grant(&store).await?.id);
    let (free, other, swept) = (bench.key("k/free")?, bench.key("k/other")?, bench.key("swept/k")?);
    for key in [&free, &other, &swept] {
        applied(&store, Txn::new().put_bound(key, "old", &first)).await?;
    }
    applied(&store, Txn::new().delete(&free)).await?;
    applied(&store, Txn::new().delete(&other)).await?;
    store.delete_prefix(&bench.key("swept")?).await?;
    put(&store, &free, "new").await?;
    put(&store, &swept, "new").await?;
    applied(&store, Txn::new().put_bound(&other, "new", &second)).await?;
    store.revoke(&first).await?;
    for key in [&free, &other, &swept] {
        same("what was made anew", &standing(&store, key).await?.value.as_ref(), &b"new".as_slice())?;
    }
    store.revoke(&second).await?;
    nothing_at(&store, &other).await?;
    standing(&store, &free).await.map(drop)
}

async fn the_session_that_was_left_takes_nothing_along(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let (first, second) = (bench.long_grant(&store).await?.id, bench.long_grant(&store).await?.id);
    let (moved, freed, stayed) = (bench.key("moved")?, bench.key("freed")?, bench.key("stayed")?);
    for key in [&moved, &freed, &stayed] {
        applied(&store, Txn::new().put_bound(key, "old", &first)).await?;
    }
    applied(&store, Txn::new().put_bound(&moved, "new", &second)).await?;
    put(&store, &freed, "new").await?;
    store.revoke(&first).await?;
    same("what is left", &listed(&store, bench.prefix()).await?, &vec![freed.clone(), moved.clone()])?;
    store.revoke(&second).await?;
    same("what is left at last", &listed(&store, bench.prefix()).await?, &vec![freed])
}

async fn a_commit_binds_to_at_most_one_session(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    if store.limits().max_txn_ops < 2 {
        return Ok(());
    }
    let (first, second) = (bench.long_grant(&store).await?.id, bench.long_grant(&store).await?.id);
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    let mixed = Txn::new().put_bound(&a, "1", &first).put_bound(&b, "1", &second);
    refused("a commit bound to two sessions", store.commit(mixed).await, ErrorKind::InvalidInput)?;
    nothing_at(&store, &a).await?;
    nothing_at(&store, &b).await?;
    // One session, and nobody's beside it, is fine.
    let made = applied(&store, Txn::new().put(&b, "2").put_bound(&a, "2", &first)).await?;
    let bindings: Vec<_> = made.into_iter().map(|entry| entry.session).collect();
    same("the bindings", &bindings, &vec![None, Some(first.clone())])?;
    store.revoke(&first).await?;
    same("what is left", &listed(&store, bench.prefix()).await?, &vec![b])
}

async fn a_version_does_not_survive_the_session(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("bound")?;
    let mut old = None;
    for _ in 0..3 {
        let session = bench.long_grant(&store).await?.id;
        let made = write_one(&store, Txn::new().absent(&key).put_bound(&key, "same", &session)).await?;
        if let Some(old) = old.replace(made.version) {
            super::bench::rejected(&store, Txn::new().version(&key, old).delete(&key), &key).await?;
        }
        store.revoke(&session).await?;
    }
    Ok(())
}

async fn fences_grow_over_sessions(bench: &Bench<dyn Coordinator>) -> Checked {
    let clients = [bench.open().await?, bench.open().await?];
    let (key, queue) = (bench.key("bound")?, bench.queue("q")?);
    let (mut last, mut last_place) = (None, None);
    for round in 0..10 {
        let store = &clients[round % 2];
        let session = bench.long_grant(store).await?.id;
        let made = write_one(store, Txn::new().absent(&key).put_bound(&key, "same", &session)).await?;
        let place = store.enter(&queue, &session, &bench.ticket(), "".into(), 1).await?.place;
        let grown =
            last.is_none_or(|last| made.fence > last) && last_place.is_none_or(|last| place.fence > last);
        super::case::ensure!(
            grown,
            "fences {} and {} do not grow past {last:?} and {last_place:?}",
            made.fence,
            place.fence
        );
        (last, last_place) = (Some(made.fence), Some(place.fence));
        store.revoke(&session).await?;
    }
    Ok(())
}
