//! Line 4: fences grow.

use super::bench::{Bench, applied, nothing_at, put, rejected, same, standing, write_one};
use super::case::{Case, Checked, cases, ensure};
use crate::kv::{Fence, FenceScope, Key, Store, Txn};

pub(super) fn cases() -> Vec<Case<dyn Store>> {
    cases![
        4: fences_grow_over_delete_and_create,
        4: fences_grow_over_delete_prefix,
        4: fences_grow_over_a_restart,
        4: fences_grow_store_wide_where_promised,
        4: an_overwrite_keeps_its_fence,
        4: a_fence_does_not_stand_once_the_entry_is_made_again,
    ]
}

/// Makes the entry, and sees that its fence is the largest so far.
async fn grown(store: &(impl Store + ?Sized), key: &Key, highest: &mut Option<Fence>) -> Checked<Fence> {
    let made = write_one(store, Txn::new().absent(key).put(key, "same")).await?;
    ensure!(
        highest.is_none_or(|highest| made.fence > highest),
        "{key:?} was made anew with fence {}, not above {highest:?}",
        made.fence
    );
    same("the fence that is read", &standing(store, key).await?.fence, &made.fence)?;
    *highest = Some(made.fence);
    Ok(made.fence)
}

async fn fences_grow_over_delete_and_create(bench: &Bench<dyn Store>) -> Checked {
    let clients = [bench.open().await?, bench.open().await?];
    let key = bench.key("hand-over")?;
    let mut highest = None;
    for round in 0..20 {
        grown(&clients[round % 2], &key, &mut highest).await?;
        for _ in 0..round % 3 {
            put(&clients[0], &key, "again").await?;
        }
        applied(&clients[(round / 2) % 2], Txn::new().delete(&key)).await?;
    }
    Ok(())
}

async fn fences_grow_over_delete_prefix(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (above, key) = (bench.key("tree")?, bench.key("tree/branch/leaf")?);
    let mut highest = None;
    for _ in 0..5 {
        grown(&store, &key, &mut highest).await?;
        // Nothing is left below, so a store may forget the whole directory, but not how far it had counted.
        store.delete_prefix(&above).await?;
    }
    Ok(())
}

async fn fences_grow_over_a_restart(bench: &Bench<dyn Store>) -> Checked {
    let key = bench.key("restart")?;
    let mut highest = None;
    for _ in 0..2 {
        let store = bench.open().await?;
        grown(&store, &key, &mut highest).await?;
        applied(&store, Txn::new().delete(&key)).await?;
        if !bench.restart().await? {
            return Ok(());
        }
    }
    grown(&bench.open().await?, &key, &mut highest).await.map(drop)
}

async fn fences_grow_store_wide_where_promised(bench: &Bench<dyn Store>) -> Checked {
    let clients = [bench.open().await?, bench.open().await?];
    if clients[0].limits().fence != FenceScope::Store {
        return Ok(());
    }
    let mut highest = None;
    for round in 0..20 {
        let key = bench.key(&format!("dir-{}/k{round}", round % 3))?;
        grown(&clients[round % 2], &key, &mut highest).await?;
    }
    Ok(())
}

async fn an_overwrite_keeps_its_fence(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (key, guarded) = (bench.key("stands")?, bench.key("guarded")?);
    let made = put(&store, &key, "0").await?;
    for value in ["1", "1", ""] {
        let overwritten = put(&store, &key, value).await?;
        same("the fence of an overwritten entry", &overwritten.fence, &made.fence)?;
        applied(&store, Txn::new().stands(&key, made.fence).put(&guarded, value.to_owned())).await?;
    }
    same("the guarded entry", &standing(&store, &guarded).await?.value.as_ref(), &b"".as_slice())
}

async fn a_fence_does_not_stand_once_the_entry_is_made_again(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (key, guarded) = (bench.key("stands")?, bench.key("guarded")?);
    let made = put(&store, &key, "same").await?;
    applied(&store, Txn::new().delete(&key)).await?;
    rejected(&store, Txn::new().stands(&key, made.fence).put(&guarded, "late"), &key).await?;
    put(&store, &key, "same").await?;
    rejected(&store, Txn::new().stands(&key, made.fence).put(&guarded, "late"), &key).await?;
    rejected(&store, Txn::new().stands(&key, made.fence).delete(&key), &key).await?;
    nothing_at(&store, &guarded).await
}
