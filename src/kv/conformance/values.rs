//! Line 11: values come back as they were put, and what is too much is refused.

use bytes::Bytes;

use super::bench::{
    Bench, applied, get, listed, nothing_at, put, refused, rejected, same, standing, write_one,
};
use super::case::{Case, Checked, cases, ensure};
use crate::kv::{Consistency, ErrorKind, Key, Store, Txn};

pub(super) fn cases() -> Vec<Case<dyn Store>> {
    cases![
        11: values_come_back_as_put,
        11: the_largest_value_comes_back,
        11: an_empty_value_is_an_entry,
        11: a_larger_value_is_refused,
        11: a_longer_key_is_refused,
        11: more_operations_are_refused,
        11: more_bytes_are_refused,
        11: a_full_commit_is_taken,
        11: a_key_appears_once_in_a_commit,
    ]
}

/// Bytes of every kind, none repeating soon.
fn bytes(len: usize) -> Bytes {
    (0..len).map(|index| u8::try_from((index + index / 251) % 256).unwrap_or_default()).collect()
}

async fn comes_back(bench: &Bench<dyn Store>, value: Bytes) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let key = bench.key("values/v")?;
    let made = write_one(&ours, Txn::new().put(&key, value.clone())).await?;
    let found = standing(&theirs, &key).await?;
    let listed = theirs.list(&bench.key("values")?, Consistency::Linearizable).await?;
    for (what, entry) in [("answer", Some(&made)), ("read", Some(&found)), ("list", listed.first())] {
        let len = entry.map(|entry| entry.value.len());
        ensure!(
            entry.is_some_and(|entry| entry.value == value),
            "{} bytes: the {what} has {len:?}",
            value.len()
        );
    }
    Ok(())
}

async fn values_come_back_as_put(bench: &Bench<dyn Store>) -> Checked {
    let max = bench.open().await?.limits().max_value;
    for len in [0, 1, 2, 255, 256, 257, 4095, 65536] {
        if len <= max {
            comes_back(bench, bytes(len)).await?;
        }
    }
    for byte in 0..=u8::MAX {
        comes_back(bench, Bytes::copy_from_slice(&[byte])).await?;
    }
    comes_back(bench, Bytes::from_static(b"\0\0\r\n{\"json\": null}\xff\xfe")).await
}

async fn the_largest_value_comes_back(bench: &Bench<dyn Store>) -> Checked {
    let max = bench.open().await?.limits().max_value;
    comes_back(bench, bytes(max)).await?;
    comes_back(bench, Bytes::from(vec![0; max])).await
}

async fn an_empty_value_is_an_entry(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("empty/e")?;
    let made = put(&store, &key, "").await?;
    same("what is read", &get(&store, &key).await?, &Some(made.clone()))?;
    same("what is listed", &listed(&store, &bench.key("empty")?).await?, &vec![key.clone()])?;
    rejected(&store, Txn::new().absent(&key).put(&key, "1"), &key).await?;
    applied(&store, Txn::new().version(&key, made.version).put(&key, "1")).await?;
    applied(&store, Txn::new().put(&key, "")).await?;
    same("the value", &standing(&store, &key).await?.value.len(), &0)?;
    same("what delete_prefix counts", &store.delete_prefix(&bench.key("empty")?).await?, &1)
}

/// Commits what must be refused, and sees that nothing changed.
async fn unchanged(bench: &Bench<dyn Store>, what: &str, txn: Txn) -> Checked {
    let store = bench.open().await?;
    let before = store.list(bench.prefix(), Consistency::Linearizable).await?;
    refused(what, store.commit(txn).await, ErrorKind::InvalidInput)?;
    let after = store.list(bench.prefix(), Consistency::Linearizable).await?;
    same(&format!("what stands after {what} was refused"), &after, &before)
}

async fn a_larger_value_is_refused(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (key, other) = (bench.key("large")?, bench.key("other")?);
    put(&store, &key, "stood").await?;
    let large = bytes(store.limits().max_value + 1);
    unchanged(bench, "a value over the limit", Txn::new().put(&key, large.clone())).await?;
    unchanged(bench, "a commit with a value over the limit", Txn::new().put(&other, "1").put(&key, large))
        .await
}

async fn a_longer_key_is_refused(bench: &Bench<dyn Store>) -> Checked {
    let max = bench.open().await?.limits().max_key;
    let long = bench.key(&"k".repeat(max))?;
    let other = bench.key("other")?;
    unchanged(bench, "a key over the limit", Txn::new().put(&long, "1")).await?;
    unchanged(bench, "a delete of a key over the limit", Txn::new().put(&other, "1").delete(&long)).await?;
    unchanged(bench, "a check of a key over the limit", Txn::new().put(&other, "1").absent(&long)).await
}

async fn more_operations_are_refused(bench: &Bench<dyn Store>) -> Checked {
    let max = bench.open().await?.limits().max_txn_ops;
    if max > 10_000 {
        return Ok(()); // So many are an amount of bytes, not of operations.
    }
    let keys: Vec<_> = (0..=max).map(|index| bench.key(&format!("k{index}"))).collect::<Checked<_>>()?;
    let puts = keys.iter().fold(Txn::new(), |txn, key| txn.put(key, ""));
    unchanged(bench, "a commit of too many puts", puts).await?;
    let (last, rest) = (&keys[max], &keys[..max]);
    let checks = rest.iter().fold(Txn::new(), Txn::absent).put(last, "");
    unchanged(bench, "a commit of too many checks", checks).await
}

async fn more_bytes_are_refused(bench: &Bench<dyn Store>) -> Checked {
    let limits = bench.open().await?.limits();
    let count = limits.max_txn_bytes / limits.max_value.max(1) + 1;
    if count > limits.max_txn_ops {
        return Ok(()); // No commit can have so many.
    }
    let value = bytes(limits.max_value);
    let keys: Vec<_> = (0..count).map(|index| bench.key(&format!("k{index}"))).collect::<Checked<_>>()?;
    let puts = keys.iter().fold(Txn::new(), |txn, key| txn.put(key, value.clone()));
    unchanged(bench, "a commit of too many bytes", puts).await
}

async fn a_full_commit_is_taken(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let max = store.limits().max_txn_ops.min(512);
    let prefix = bench.key("full")?;
    let keys: Vec<Key> =
        (0..max).map(|index| prefix.child(&format!("k{index:03}"))).collect::<Result<_, _>>()?;
    let made = applied(&store, keys.iter().fold(Txn::new(), |txn, key| txn.put(key, "1"))).await?;
    same("what a full commit made", &store.list(&prefix, Consistency::Linearizable).await?, &made)?;
    applied(&store, keys.iter().fold(Txn::new(), Txn::delete)).await?;
    same("what a full commit left", &listed(&store, &prefix).await?, &vec![])
}

async fn a_key_appears_once_in_a_commit(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("twice")?;
    let doubled = [
        ("two puts of a key", Txn::new().put(&key, "1").put(&key, "2")),
        ("a put and a delete of a key", Txn::new().put(&key, "1").delete(&key)),
        ("two deletes of a key", Txn::new().delete(&key).delete(&key)),
    ];
    for (what, txn) in doubled.clone() {
        unchanged(bench, what, txn).await?;
    }
    nothing_at(&store, &key).await?;
    let made = put(&store, &key, "0").await?;
    for (what, txn) in doubled {
        unchanged(bench, what, txn).await?;
    }
    if store.limits().max_txn_ops >= 3 {
        let checked_twice = Txn::new().version(&key, made.version).stands(&key, made.fence).put(&key, "1");
        applied(&store, checked_twice).await?;
    }
    Ok(())
}
