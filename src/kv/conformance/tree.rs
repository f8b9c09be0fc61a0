//! Line 13: parents and children, and what a prefix covers.

use super::bench::{Bench, applied, get, listed, nothing_at, put, refused, same, standing, write_one};
use super::case::{Case, Checked, cases, ensure};
use crate::kv::{Consistency, ErrorKind, Key, Store, Txn};

pub(super) fn cases() -> Vec<Case<dyn Store>> {
    cases![
        13: parents_and_children_both_hold_values,
        13: an_implicit_parent_is_no_entry,
        13: an_implicit_parent_can_be_made,
        13: a_prefix_covers_whole_segments,
        13: lists_are_in_segment_order,
        13: a_leaf_covers_nothing,
        13: deleting_one_leaves_parents_and_children,
        13: delete_prefix_deletes_what_it_covers,
        13: reserved_keys_are_hidden_from_above,
        13: the_root_is_no_entry,
    ]
}

async fn keys(bench: &Bench<dyn Store>, texts: &[&str]) -> Checked<Vec<Key>> {
    let store = bench.open().await?;
    let mut keys = Vec::new();
    for text in texts {
        let key = bench.key(text)?;
        put(&store, &key, text).await?;
        keys.push(key);
    }
    Ok(keys)
}

async fn parents_and_children_both_hold_values(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    // First the parent, then the children, and the other way round.
    for texts in [["a", "a/b", "a/b/c"], ["z/y/x", "z/y", "z"]] {
        for key in keys(bench, &texts).await? {
            let value = standing(&store, &key).await?.value;
            let own = key.strip(bench.prefix()).unwrap_or_else(Key::root);
            same("the value at its own level", &value.as_ref(), &own.as_str().as_bytes())?;
        }
    }
    same(
        "what is below",
        &listed(&store, &bench.key("a")?).await?,
        &vec![bench.key("a/b")?, bench.key("a/b/c")?],
    )?;
    same("what is below", &listed(&store, &bench.key("z/y")?).await?, &vec![bench.key("z/y/x")?])
}

async fn an_implicit_parent_is_no_entry(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let deep = bench.key("above/below/leaf")?;
    put(&store, &deep, "1").await?;
    for text in ["above", "above/below"] {
        nothing_at(&store, &bench.key(text)?).await?;
        same("what is below", &listed(&store, &bench.key(text)?).await?, &vec![deep.clone()])?;
    }
    same("what is listed", &listed(&store, bench.prefix()).await?, &vec![deep.clone()])?;
    applied(&store, Txn::new().delete(&deep)).await?;
    for text in ["above", "above/below", "above/below/leaf"] {
        nothing_at(&store, &bench.key(text)?).await?;
    }
    same("what is listed when the child is gone", &listed(&store, bench.prefix()).await?, &vec![])
}

async fn an_implicit_parent_can_be_made(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (parent, child) = (bench.key("above")?, bench.key("above/leaf")?);
    let leaf = put(&store, &child, "leaf").await?;
    // Only something that is no entry can be created.
    let made = write_one(&store, Txn::new().absent(&parent).put(&parent, "")).await?;
    same("the parent", &get(&store, &parent).await?, &Some(made.clone()))?;
    same("the child", &standing(&store, &child).await?, &leaf)?;
    applied(&store, Txn::new().version(&parent, made.version).delete(&parent)).await?;
    nothing_at(&store, &parent).await?;
    same("the child", &standing(&store, &child).await?, &leaf)
}

async fn a_prefix_covers_whole_segments(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    keys(bench, &["foo", "foo/a", "foo/b/c", "foobar", "foobar/a", "foo!", "fo", "foo0/x"]).await?;
    let expected = vec![bench.key("foo/a")?, bench.key("foo/b/c")?];
    same("what the prefix covers", &listed(&store, &bench.key("foo")?).await?, &expected)?;
    same("what delete_prefix counts", &store.delete_prefix(&bench.key("foo")?).await?, &2)?;
    let left: Vec<_> = ["fo", "foo", "foo!", "foo0/x", "foobar", "foobar/a"]
        .map(|text| bench.key(text))
        .into_iter()
        .collect::<Checked<_>>()?;
    same("what it leaves", &listed(&store, bench.prefix()).await?, &left)
}

async fn lists_are_in_segment_order(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    // As bytes `!` and `-` come before `/`, and `\u{1}` before everything.
    let texts = ["b", "a-", "a/b/c", "a!", "a\u{1}", "a", "a/b", "a/b!", "a/b/", "a0", "ab", "A", "é", "z"];
    let mut expected = keys(bench, &texts).await?;
    expected.sort();
    expected.dedup();
    same("the order of a list", &listed(&store, bench.prefix()).await?, &expected)
}

async fn a_leaf_covers_nothing(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let leaf = put(&store, &bench.key("leaf")?, "1").await?;
    same("the list of a leaf", &listed(&store, &leaf.key).await?, &vec![])?;
    same("what delete_prefix of a leaf counts", &store.delete_prefix(&leaf.key).await?, &0)?;
    same("the leaf", &standing(&store, &leaf.key).await?, &leaf)
}

async fn deleting_one_leaves_parents_and_children(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let all = keys(bench, &["a", "a/b", "a/b/c"]).await?;
    applied(&store, Txn::new().delete(&all[1])).await?;
    nothing_at(&store, &all[1]).await?;
    standing(&store, &all[0]).await?;
    standing(&store, &all[2]).await?;
    applied(&store, Txn::new().delete(&all[2])).await?;
    standing(&store, &all[0]).await?;
    same("what is left", &listed(&store, bench.prefix()).await?, &vec![all[0].clone()])?;
    let child = put(&store, &bench.key("a/b")?, "1").await?;
    applied(&store, Txn::new().version(&child.key, child.version).delete(&child.key)).await?;
    standing(&store, &all[0]).await.map(drop)
}

async fn delete_prefix_deletes_what_it_covers(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let mut texts: Vec<String> = (0..60).map(|index| format!("p/{}/k{index}", index % 7)).collect();
    texts.push("p".into());
    texts.push("q/k".into());
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    keys(bench, &texts).await?;
    same("what delete_prefix counts", &store.delete_prefix(&bench.key("p")?).await?, &60)?;
    same("what is left below", &listed(&store, &bench.key("p")?).await?, &vec![])?;
    same("what is left", &listed(&store, bench.prefix()).await?, &vec![bench.key("p")?, bench.key("q/k")?])?;
    same("what delete_prefix counts again", &store.delete_prefix(&bench.key("p")?).await?, &0)
}

async fn reserved_keys_are_hidden_from_above(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (hidden, below) = (bench.hidden("room/x")?, bench.hidden("room")?);
    let seen = put(&store, &bench.key("seen")?, "1").await?;
    let made = put(&store, &hidden, "ours").await?;
    same("what is seen from above", &listed(&store, bench.prefix()).await?, &vec![seen.key])?;
    for entry in store.list(&Key::root(), Consistency::Linearizable).await? {
        ensure!(Key::root().covers(&entry.key), "the root's list shows {:?}", entry.key);
    }
    same("what is seen by name", &listed(&store, &below).await?, &vec![hidden.clone()])?;
    same("what delete_prefix counts", &store.delete_prefix(bench.prefix()).await?, &1)?;
    same("what it must not touch", &standing(&store, &hidden).await?, &made)?;
    same("what delete_prefix counts by name", &store.delete_prefix(&below).await?, &1)?;
    nothing_at(&store, &hidden).await
}

async fn the_root_is_no_entry(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    put(&store, &bench.key("a")?, "1").await?;
    nothing_at(&store, &Key::root()).await?;
    refused(
        "a put at the root",
        store.commit(Txn::new().put(&Key::root(), "1")).await,
        ErrorKind::InvalidInput,
    )?;
    refused(
        "a delete of the root",
        store.commit(Txn::new().delete(&Key::root())).await,
        ErrorKind::InvalidInput,
    )?;
    standing(&store, &bench.key("a")?).await.map(drop)
}
