//! Line 3: a version is never valid again.

use futures_util::future::try_join_all;

use super::bench::{Bench, applied, get, nothing_at, put, rejected, same, standing, write_one};
use super::case::{Case, Checked, Violation, cases, ensure};
use crate::kv::{Entry, Key, Store, StoreExt, Txn};

pub(super) fn cases() -> Vec<Case<dyn Store>> {
    cases![
        3: a_version_holds_once,
        3: an_identical_value_makes_a_new_version,
        3: a_version_does_not_survive_a_delete,
        3: a_version_does_not_survive_a_delete_by_another,
        3: a_version_does_not_survive_delete_prefix,
        3: a_version_does_not_survive_a_restart_and_a_delete,
        3: a_conditional_delete_applies_once,
        3: a_version_of_nothing_does_not_hold,
        3: no_update_is_lost,
    ]
}

async fn a_version_holds_once(bench: &Bench<dyn Store>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let key = bench.key("chain")?;
    let mut seen = vec![put(&ours, &key, "0").await?.version];
    for step in 1..10 {
        let latest = seen[seen.len() - 1];
        let txn = Txn::new().version(&key, latest).put(&key, step.to_string());
        let entry = write_one(&ours, txn).await?;
        same("what is read", &get(&theirs, &key).await?.map(|found| found.version), &Some(entry.version))?;
        ensure!(!seen.contains(&entry.version), "version {} came back", entry.version);
        seen.push(entry.version);
        for stale in &seen[..seen.len() - 1] {
            rejected(&theirs, Txn::new().version(&key, *stale).put(&key, "stale"), &key).await?;
        }
    }
    same("the value", &standing(&theirs, &key).await?.value.as_ref(), &b"9".as_slice())
}

async fn an_identical_value_makes_a_new_version(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("same")?;
    let first = put(&store, &key, "same").await?;
    let second = put(&store, &key, "same").await?;
    ensure!(first.version != second.version, "putting the same value kept version {}", first.version);
    rejected(&store, Txn::new().version(&key, first.version).put(&key, "same"), &key).await?;
    applied(&store, Txn::new().version(&key, second.version).put(&key, "same")).await?;
    rejected(&store, Txn::new().version(&key, second.version).put(&key, "same"), &key).await
}

async fn a_version_does_not_survive_a_delete(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("again")?;
    let mut old = Vec::new();
    for _ in 0..5 {
        let entry = write_one(&store, Txn::new().absent(&key).put(&key, "same")).await?;
        for version in &old {
            rejected(&store, Txn::new().version(&key, *version).put(&key, "stale"), &key).await?;
            rejected(&store, Txn::new().version(&key, *version).delete(&key), &key).await?;
        }
        old.push(entry.version);
        same("what stands", &standing(&store, &key).await?, &entry)?;
        applied(&store, Txn::new().delete(&key)).await?;
        rejected(&store, Txn::new().version(&key, entry.version).put(&key, "same"), &key).await?;
        nothing_at(&store, &key).await?;
    }
    Ok(())
}

/// A client that remembers an entry has not heard of what others did to it.
async fn a_version_does_not_survive_a_delete_by_another(bench: &Bench<dyn Store>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let late: [fn(&Key, &Entry) -> Txn; 3] = [
        |key, old| Txn::new().version(key, old.version).put(key, "stale"),
        |key, old| Txn::new().version(key, old.version).delete(key),
        |key, old| Txn::new().stands(key, old.fence).put(key, "stale"),
    ];
    for (nth, late) in late.into_iter().enumerate() {
        let key = bench.key(&format!("anew/{nth}"))?;
        let old = put(&ours, &key, "same").await?;
        applied(&theirs, Txn::new().delete(&key)).await?;
        let new = put(&theirs, &key, "same").await?;
        rejected(&ours, late(&key, &old), &key).await?;
        same("what stands", &standing(&ours, &key).await?, &new)?;
    }
    Ok(())
}

async fn a_version_does_not_survive_delete_prefix(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("below/a")?;
    let old = put(&store, &key, "same").await?;
    store.delete_prefix(&bench.key("below")?).await?;
    let new = put(&store, &key, "same").await?;
    rejected(&store, Txn::new().version(&key, old.version).put(&key, "stale"), &key).await?;
    same("what stands", &standing(&store, &key).await?, &new)
}

async fn a_version_does_not_survive_a_restart_and_a_delete(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (key, kept) = (bench.key("restart")?, bench.key("kept")?);
    let mut old = put(&store, &key, "same").await?;
    put(&store, &kept, "kept").await?;
    for _ in 0..2 {
        applied(&store, Txn::new().delete(&key)).await?;
        if !bench.restart().await? {
            return Ok(());
        }
        let store = bench.open().await?;
        let new = put(&store, &key, "same").await?;
        rejected(&store, Txn::new().version(&key, old.version).put(&key, "stale"), &key).await?;
        same("what lasts", &standing(&store, &kept).await?.value.as_ref(), &b"kept".as_slice())?;
        old = new;
    }
    Ok(())
}

async fn a_conditional_delete_applies_once(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("delete-if")?;
    let old = put(&store, &key, "1").await?;
    let new = put(&store, &key, "2").await?;
    rejected(&store, Txn::new().version(&key, old.version).delete(&key), &key).await?;
    same("what stands", &standing(&store, &key).await?, &new)?;
    applied(&store, Txn::new().version(&key, new.version).delete(&key)).await?;
    nothing_at(&store, &key).await?;
    rejected(&store, Txn::new().version(&key, new.version).delete(&key), &key).await
}

async fn a_version_of_nothing_does_not_hold(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (key, other) = (bench.key("nothing")?, bench.key("other")?);
    let stranger = put(&store, &other, "1").await?;
    rejected(&store, Txn::new().version(&key, stranger.version).put(&key, "1"), &key).await?;
    rejected(&store, Txn::new().version(&key, stranger.version).put(&other, "2"), &key).await?;
    nothing_at(&store, &key).await?;
    same("the other entry", &standing(&store, &other).await?, &stranger)
}

async fn no_update_is_lost(bench: &Bench<dyn Store>) -> Checked {
    let clients = [bench.open().await?, bench.open().await?, bench.open().await?];
    let key = bench.key("count")?;
    let add = clients.iter().map(|store| {
        let key = &key;
        async move {
            for _ in 0..10 {
                let next =
                    |value: &[u8]| str::from_utf8(value).ok()?.parse().ok().map(|count: u32| count + 1);
                store
                    .update(key, |found| {
                        Some(found.map_or(Some(1), |entry| next(&entry.value))?.to_string().into())
                    })
                    .await?;
            }
            Ok::<_, Violation>(())
        }
    });
    try_join_all(add).await?;
    same("the sum", &standing(&clients[0], &key).await?.value.as_ref(), &b"30".as_slice())
}
