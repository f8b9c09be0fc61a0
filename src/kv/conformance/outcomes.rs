//! Line 9: an error that says it was not applied had and will have no effect.

use std::sync::Arc;

use futures_util::future::{join, join_all};

use super::bench::{Bench, GRACE, get, listed, nothing_at, patience, put, refused, same};
use super::case::{Case, Checked, Violation, cases, ensure};
use super::queues::Waiter;
use crate::kv::{Consistency, Coordinator, ErrorKind, Key, Outcome, Result, Store, Ticket, Txn, Write};

pub(super) fn store_cases() -> Vec<Case<dyn Store>> {
    cases![
        9: what_is_refused_has_no_effect,
        9: what_says_it_was_not_applied_was_not,
        9: an_acknowledged_write_lasts_through_trouble,
    ]
}

pub(super) fn cases() -> Vec<Case> {
    cases![
        9: what_is_refused_for_its_session_has_no_effect,
        9: an_enter_that_says_it_was_not_applied_was_not,
    ]
}

async fn what_is_refused_has_no_effect(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let limits = store.limits();
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    put(&store, &a, "stood").await?;
    let before = store.list(bench.prefix(), Consistency::Linearizable).await?;
    let large = vec![7; limits.max_value + 1];
    let long = bench.key(&"k".repeat(limits.max_key))?;
    let refusals = [
        Txn::new().put(&b, "1").put(&a, "1").put(&a, "2"),
        Txn::new().put(&b, "1").delete(&a).delete(&a),
        Txn::new().put(&b, "1").put(&a, large.clone()),
        Txn::new().delete(&a).put(&b, large),
        Txn::new().put(&b, "1").put(&long, "1"),
        Txn::new().put(&b, "1").put(&Key::root(), "1"),
    ];
    for txn in refusals {
        let what = format!("{txn:?}");
        refused(&what, store.commit(txn).await, ErrorKind::InvalidInput)?;
        same("what stands", &store.list(bench.prefix(), Consistency::Linearizable).await?, &before)?;
    }
    // Nor later.
    bench.pause(GRACE).await;
    same("what stands later", &store.list(bench.prefix(), Consistency::Linearizable).await?, &before)
}

async fn what_is_refused_for_its_session_has_no_effect(bench: &Bench<dyn Coordinator>) -> Checked {
    let waiter = Waiter::new(bench).await?;
    let (store, dead) = (&waiter.store, &waiter.session);
    let (a, b, queue) = (bench.key("a")?, bench.key("b")?, bench.queue("q")?);
    store.revoke(dead).await?;
    refused(
        "a put bound to the dead",
        store.commit(Txn::new().put_bound(&a, "1", dead)).await,
        ErrorKind::SessionLost,
    )?;
    if store.limits().max_txn_ops > 1 {
        let mixed = Txn::new().put(&b, "1").put_bound(&a, "1", dead);
        refused("a mixed commit", store.commit(mixed).await, ErrorKind::SessionLost)?;
    }
    let entered = store.enter(&queue, dead, &bench.ticket(), "".into(), 1).await;
    refused("an enter of the dead", entered, ErrorKind::SessionLost)?;
    let large = vec![7; store.limits().max_value + 1];
    let alive = bench.long_grant(store).await?.id;
    let entered = store.enter(&queue, &alive, &bench.ticket(), large.into(), 1).await;
    refused("an enter with a value over the limit", entered, ErrorKind::InvalidInput)?;
    bench.pause(GRACE).await;
    nothing_at(store, &a).await?;
    nothing_at(store, &b).await?;
    same("what stands in the queue", &listed(store, queue.key()).await?, &vec![])
}

/// Creates many entries while there is trouble, and what became of each.
async fn through_trouble(bench: &Bench<dyn Store>) -> Checked<Vec<(Key, Result<Write>)>> {
    let store = bench.open().await?;
    let mut tries = Vec::new();
    for round in 0..5 {
        let keys: Vec<Key> =
            (0..10).map(|index| bench.key(&format!("r{round}/k{index}"))).collect::<Checked<_>>()?;
        let writes = keys.iter().map(|key| store.commit(Txn::new().absent(key).put(key, "1")));
        // A try in front and one behind: the trouble falls among them.
        let (first, (troubled, rest)) = join(
            store.commit(Txn::new().put(&bench.key("front")?, "1")),
            join(bench.disturb(), join_all(writes)),
        )
        .await;
        drop(first);
        tries.extend(keys.into_iter().zip(rest));
        if !troubled? {
            break;
        }
    }
    Ok(tries)
}

async fn what_says_it_was_not_applied_was_not(bench: &Bench<dyn Store>) -> Checked {
    let tries = through_trouble(bench).await?;
    bench.pause(GRACE).await;
    let store = calm(bench).await?;
    for (key, write) in tries {
        if let Err(error) = write
            && error.outcome() == Outcome::NotApplied
        {
            let found = get(&store, &key).await?;
            ensure!(found.is_none(), "a create failed and said it was not applied, but it was: {error}");
        }
    }
    Ok(())
}

async fn an_acknowledged_write_lasts_through_trouble(bench: &Bench<dyn Store>) -> Checked {
    let tries = through_trouble(bench).await?;
    let store = calm(bench).await?;
    for (key, write) in tries {
        match write {
            Ok(Write::Applied(made)) => {
                same("an acknowledged entry", &get(&store, &key).await?.as_ref(), &made.first())?;
            }
            Ok(Write::Rejected(rejection)) => {
                return Err(Violation::new(format!(
                    "nobody else makes {key:?}, yet it was rejected: {rejection:?}"
                )));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// A client, once the store answers again.
async fn calm<S: Store + ?Sized>(bench: &Bench<S>) -> Checked<Arc<S>> {
    let store = bench.open().await?;
    let probe = bench.key("probe")?;
    let (store, probe) = (&store, &probe);
    let answers = || async move { Ok(store.get(probe, Consistency::Linearizable).await.is_ok()) };
    bench.eventually("the store answers after trouble", patience(&store.limits()), answers).await?;
    Ok(Arc::clone(store))
}

async fn an_enter_that_says_it_was_not_applied_was_not(bench: &Bench<dyn Coordinator>) -> Checked {
    let waiter = Waiter::new(bench).await?;
    let queue = bench.queue("q")?;
    let tickets: Vec<Ticket> = (0..10).map(|_| bench.ticket()).collect();
    let enters =
        tickets.iter().map(|ticket| waiter.store.enter(&queue, &waiter.session, ticket, "".into(), 0));
    let (troubled, entered) = join(bench.disturb(), join_all(enters)).await;
    troubled?;
    bench.pause(GRACE).await;
    calm(bench).await?;
    let places = waiter.places(&queue).await?;
    for (ticket, entered) in tickets.iter().zip(entered) {
        let stands = places.iter().any(|place| place.ticket == Some(*ticket));
        match entered {
            Ok(entered) => {
                let lost = waiter.store.ahead(&entered.place, 0).await?.is_none();
                ensure!(stands != lost, "the place {:?} is both there and gone", entered.place.key);
            }
            Err(error) if error.outcome() == Outcome::NotApplied => {
                ensure!(!stands, "an enter failed and said it was not applied, but it was: {error}");
            }
            Err(_) => {}
        }
    }
    Ok(())
}
