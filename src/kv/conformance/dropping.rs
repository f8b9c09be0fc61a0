//! Line 10: a dropped future leaves no effect or its full effect.

use std::pin::pin;
use std::task::Poll;

use super::bench::{Bench, applied, get, listed, patience, put, same, short_ttl, standing};
use super::case::{Case, Checked, cases, ensure};
use super::queues::{Waiter, seen};
use crate::kv::{Consistency, Coordinator, Renewal, Store, Txn};

pub(super) fn store_cases() -> Vec<Case<dyn Store>> {
    cases![
        10: a_dropped_commit_applies_whole_or_not_at_all,
        10: a_dropped_conditional_commit_applies_whole_or_not_at_all,
        10: a_dropped_read_does_not_spoil_the_next,
        10: a_rejected_commit_changes_nothing,
    ]
}

pub(super) fn cases() -> Vec<Case> {
    cases![
        10: a_dropped_enter_leaves_a_place_to_be_found_or_none,
        10: a_dropped_revoke_ends_the_session_or_does_not,
        10: a_dropped_grant_or_renewal_does_no_harm,
    ]
}

/// Polls at which a future is dropped, at most: none of ours should take more.
const MOST_POLLS: usize = 40;

/// Drops the future when it has been pending this often, which may be before its first poll; its output if it was
/// ready before.
async fn dropped_after<T>(polls: usize, future: impl Future<Output = T> + Send) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn a_dropped_commit_applies_whole_or_not_at_all(bench: &Bench<dyn Store>) -> Checked {
    dropped_commits(bench, |txn, _| txn).await
}

async fn a_dropped_conditional_commit_applies_whole_or_not_at_all(bench: &Bench<dyn Store>) -> Checked {
    dropped_commits(bench, Txn::absent).await
}

async fn dropped_commits(bench: &Bench<dyn Store>, checked: fn(Txn, &crate::kv::Key) -> Txn) -> Checked {
    let store = bench.open().await?;
    if store.limits().max_txn_ops < 4 {
        return Ok(());
    }
    for polls in 0..MOST_POLLS {
        let room = bench.key(&format!("p{polls}"))?;
        let (a, b, old) = (room.child("a")?, room.child("b")?, room.child("old")?);
        put(&store, &old, "old").await?;
        let txn = checked(Txn::new().put(&a, "new").put(&b, "new").delete(&old), &a);
        let finished = dropped_after(polls, store.commit(txn)).await.transpose()?.is_some();
        // What was sent may still be on its way, so it may take a moment until all parts agree.
        let (store, room) = (&store, &room);
        let (whole, none) = (vec![a, b], vec![old]);
        let settles = || {
            let (whole, none) = (&whole, &none);
            async move {
                let stands = listed(store, room).await?;
                Ok(stands == *whole || stands == *none && !finished)
            }
        };
        let within = patience(&store.limits());
        bench
            .eventually(
                &format!("a commit dropped at poll {polls} shows whole or not at all"),
                within,
                settles,
            )
            .await?;
        if finished {
            return Ok(());
        }
    }
    Ok(())
}

async fn a_dropped_read_does_not_spoil_the_next(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (first, second) =
        (put(&store, &bench.key("p/a")?, "a").await?, put(&store, &bench.key("p/b")?, "b").await?);
    let both = vec![first.clone(), second.clone()];
    let prefix = bench.key("p")?;
    for polls in 0..10 {
        // Whoever pipelines must not hand the answer of one request to the next.
        let read = Consistency::Linearizable;
        dropped_after(polls, store.get(&first.key, read)).await.transpose()?;
        same("the read after a dropped one", &standing(&store, &second.key).await?, &second)?;
        dropped_after(polls, store.list(&prefix, read)).await.transpose()?;
        same("the read after a dropped list", &standing(&store, &first.key).await?, &first)?;
        dropped_after(polls, store.get(&second.key, read)).await.transpose()?;
        same("the list after a dropped read", &store.list(&prefix, read).await?, &both)?;
    }
    Ok(())
}

async fn a_rejected_commit_changes_nothing(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    if store.limits().max_txn_ops < 5 {
        return Ok(());
    }
    let (kept, fresh, old) = (bench.key("kept")?, bench.key("fresh")?, bench.key("old")?);
    let stood = put(&store, &kept, "1").await?;
    put(&store, &old, "1").await?;
    let before = store.list(bench.prefix(), Consistency::Linearizable).await?;
    let change = Txn::new().put(&fresh, "2").put(&kept, "2").delete(&old);
    // The check that fails stands last, and first.
    let failing = [
        change.clone().absent(&fresh).absent(&kept),
        change.clone().absent(&kept).absent(&fresh),
        change.clone().stands(&kept, stood.fence).stands(&fresh, stood.fence),
    ];
    for txn in failing {
        let write = store.commit(txn.clone()).await?;
        ensure!(!write.is_applied(), "{txn:?} was applied although a check does not hold");
        same("what stands", &store.list(bench.prefix(), Consistency::Linearizable).await?, &before)?;
    }
    applied(&store, change.absent(&fresh).version(&kept, stood.version)).await?;
    same("what stands at last", &listed(&store, bench.prefix()).await?, &vec![fresh, kept])
}

async fn a_dropped_enter_leaves_a_place_to_be_found_or_none(bench: &Bench<dyn Coordinator>) -> Checked {
    let theirs = Waiter::new(bench).await?;
    for polls in 0..MOST_POLLS {
        let ours = Waiter::new(bench).await?;
        let queue = bench.queue(&format!("q{polls}"))?;
        let first = theirs.enter(bench, &queue).await?;
        let ticket = bench.ticket();
        let enter = || ours.store.enter(&queue, &ours.session, &ticket, "".into(), 9);
        let finished = dropped_after(polls, enter()).await.transpose()?.is_some();
        for place in ours.places(&queue).await? {
            let known = place == seen(&first) || place.ticket == Some(ticket);
            ensure!(
                known,
                "an enter dropped at poll {polls} left a place its ticket does not find: {place:?}"
            );
        }
        let found = enter().await?;
        same("what is ahead of the place that was found", &found.ahead, &vec![seen(&first)])?;
        same("the places", &ours.places(&queue).await?.len(), &2)?;
        ours.store.revoke(&ours.session).await?;
        same("the places the session leaves", &theirs.places(&queue).await?, &vec![seen(&first)])?;
        if finished {
            return Ok(());
        }
    }
    Ok(())
}

async fn a_dropped_revoke_ends_the_session_or_does_not(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    for polls in 0..MOST_POLLS {
        let session = bench.long_grant(&store).await?.id;
        let room = bench.key(&format!("p{polls}"))?;
        for index in 0..4 {
            let key = room.child(&format!("k{index}"))?;
            applied(&store, Txn::new().put_bound(&key, "1", &session)).await?;
        }
        let finished = dropped_after(polls, store.revoke(&session)).await.transpose()?.is_some();
        let (store, room, session) = (&store, &room, &session);
        let settles = || async move {
            let alive = store.renew(session).await? != Renewal::Lost;
            let left = listed(store, room).await?.len();
            Ok(if alive { left == 4 && !finished } else { left == 0 })
        };
        let within = patience(&store.limits());
        bench
            .eventually(&format!("a revoke dropped at poll {polls} ends all or nothing"), within, settles)
            .await?;
        store.revoke(session).await?;
        if finished {
            return Ok(());
        }
    }
    Ok(())
}

async fn a_dropped_grant_or_renewal_does_no_harm(bench: &Bench<dyn Coordinator>) -> Checked {
    let store = bench.open().await?;
    let session = bench.long_grant(&store).await?.id;
    let key = bench.key("bound")?;
    applied(&store, Txn::new().put_bound(&key, "1", &session)).await?;
    let ttl = short_ttl(&store.limits());
    for polls in 0..10 {
        if let Some(granted) = dropped_after(polls, store.grant(ttl)).await.transpose()? {
            store.revoke(&granted.id).await?;
        }
        dropped_after(polls, store.renew(&session)).await.transpose()?;
        let renewal = store.renew(&session).await?;
        ensure!(matches!(renewal, Renewal::Renewed { .. }), "a session was lost after a dropped request");
        let other = store.grant(ttl).await?.id;
        ensure!(other != session, "a grant after a dropped one gave the session {other} again");
        store.revoke(&other).await?;
        ensure!(get(&store, &key).await?.is_some(), "what is bound is gone after a dropped request");
    }
    Ok(store.revoke(&session).await?)
}
