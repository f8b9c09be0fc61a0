//! Line 7: what a watch tells.

use std::collections::BTreeMap;

use super::bench::{Bench, applied, put, same};
use super::case::{Case, Checked, cases, ensure};
use super::watcher::Watching;
use crate::kv::{Event, Key, Result, Scope, Txn, WatchStore};

pub(super) fn cases() -> Vec<Case<dyn WatchStore>> {
    cases![
        7: a_watch_starts_with_what_is_there,
        7: a_watch_may_start_with_nothing,
        7: every_kind_of_change_is_told,
        7: an_identical_value_is_told,
        7: a_prefix_is_watched_by_whole_segments,
        7: a_key_is_watched_alone,
        7: reserved_keys_are_not_told_above,
        7: every_change_of_a_commit_is_told,
        7: two_watchers_are_told_the_same,
        7: a_dropped_watch_disturbs_nobody,
        8: odd_keys_are_told_as_put,
        8: odd_prefixes_are_watched_literally,
    ]
}

type Watched = Bench<dyn WatchStore>;

async fn a_watch_starts_with_what_is_there(bench: &Watched) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let mut made = Vec::new();
    for text in ["p/b", "p/a", "p/a/c", "p/a!"] {
        made.push(put(&ours, &bench.key(text)?, text).await?);
    }
    put(&ours, &bench.key("p")?, "the prefix itself").await?;
    put(&ours, &bench.key("pq/x")?, "beside it").await?;
    made.sort_by(|a, b| a.key.cmp(&b.key));
    let first = Watching::idle(bench, &theirs, Scope::Prefix(bench.key("p")?)).next().await?;
    same("the first event of a prefix", &first, &Event::Snapshot(made.clone()))?;
    let first = Watching::idle(bench, &theirs, Scope::Key(made[0].key.clone())).next().await?;
    same("the first event of a key", &first, &Event::Snapshot(vec![made.remove(0)]))
}

async fn a_watch_may_start_with_nothing(bench: &Watched) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let key = bench.key("missing/deep/k")?;
    for scope in [
        Scope::Key(key.clone()),
        Scope::Prefix(bench.key("missing")?),
        Scope::Prefix(bench.key("missing/deep")?),
    ] {
        let mut watching = Watching::idle(bench, &theirs, scope);
        same("the first event", &watching.next().await?, &Event::Snapshot(vec![]))?;
        let made = put(&ours, &key, "1").await?;
        watching.until("the entry is told", |view| view.get(&key) == Some(&made)).await?;
        applied(&ours, Txn::new().delete(&key)).await?;
        watching.until("the delete is told", BTreeMap::is_empty).await?;
    }
    Ok(())
}

async fn every_kind_of_change_is_told(bench: &Watched) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let key = bench.key("p/k")?;
    for scope in [Scope::Key(key.clone()), Scope::Prefix(bench.key("p")?)] {
        let mut watching = Watching::open(bench, &theirs, scope).await?;
        for round in 0..5 {
            // Made, changed, deleted, made again: each is told before the next is done.
            for value in ["made", "changed", ""] {
                let entry = put(&ours, &key, &format!("{value}{round}")).await?;
                watching.until("the put is told", |view| view.get(&key) == Some(&entry)).await?;
            }
            if round % 2 == 0 {
                applied(&ours, Txn::new().delete(&key)).await?;
            } else {
                ours.delete_prefix(&bench.key("p")?).await?;
            }
            watching.until("the delete is told", BTreeMap::is_empty).await?;
        }
        // Made again at once: where nothing may be left out, the delete is told in between.
        put(&ours, &key, "same").await?;
        applied(&ours, Txn::new().delete(&key)).await?;
        let again = put(&ours, &key, "same").await?;
        let events = watching.until("the second life is told", |view| view.get(&key) == Some(&again)).await?;
        let resynced = events.iter().any(|event| matches!(event, Event::Snapshot(_)));
        let deleted = events.contains(&Event::Delete(key.clone()));
        ensure!(deleted || resynced || theirs.limits().coalesces, "a delete was left out: {events:?}");
        applied(&ours, Txn::new().delete(&key)).await?;
    }
    Ok(())
}

async fn an_identical_value_is_told(bench: &Watched) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("k")?;
    let mut watching = Watching::open(bench, &store, Scope::Key(key.clone())).await?;
    for _ in 0..3 {
        let entry = put(&store, &key, "same").await?;
        watching.until("the put is told", |view| view.get(&key) == Some(&entry)).await?;
    }
    Ok(())
}

/// Changes what the watch must not tell, then something it must: whatever strays comes before that.
async fn tells_only(bench: &Watched, scope: Scope, outside: &[Key], inside: &Key) -> Checked {
    let store = bench.open().await?;
    let mut watching = Watching::open(bench, &store, scope).await?;
    for key in outside {
        put(&store, key, "outside").await?;
        applied(&store, Txn::new().delete(key)).await?;
        put(&store, key, "outside").await?;
    }
    let last = put(&store, inside, "inside").await?;
    watching.until("the change inside is told", |view| view.get(inside) == Some(&last)).await?;
    same("what the watch knows", &watching.view.len(), &1)
}

async fn a_prefix_is_watched_by_whole_segments(bench: &Watched) -> Checked {
    let outside: Vec<_> = ["foo", "foobar", "foobar/a", "foo!", "fo", "fo/o"]
        .map(|text| bench.key(text))
        .into_iter()
        .collect::<Checked<_>>()?;
    tells_only(bench, Scope::Prefix(bench.key("foo")?), &outside, &bench.key("foo/a")?).await
}

async fn a_key_is_watched_alone(bench: &Watched) -> Checked {
    let outside: Vec<_> = ["foo/a", "foo/a/b", "foobar", "fo", "foo!"]
        .map(|text| bench.key(text))
        .into_iter()
        .collect::<Checked<_>>()?;
    tells_only(bench, Scope::Key(bench.key("foo")?), &outside, &bench.key("foo")?).await
}

async fn reserved_keys_are_not_told_above(bench: &Watched) -> Checked {
    let (hidden, below) = (bench.hidden("room/x")?, bench.hidden("room")?);
    let store = bench.open().await?;
    let mut by_name = Watching::open(bench, &store, Scope::Prefix(below)).await?;
    tells_only(
        bench,
        Scope::Prefix(bench.prefix().clone()),
        std::slice::from_ref(&hidden),
        &bench.key("seen")?,
    )
    .await?;
    by_name.converges(&store).await?;
    same("what is told by name", &by_name.view.keys().collect::<Vec<_>>(), &vec![&hidden])
}

async fn every_change_of_a_commit_is_told(bench: &Watched) -> Checked {
    let store = bench.open().await?;
    let count = store.limits().max_txn_ops.min(20);
    let prefix = bench.key("p")?;
    let keys: Vec<Key> = (0..count).map(|index| prefix.child(&format!("k{index}"))).collect::<Result<_>>()?;
    let mut watching = Watching::open(bench, &store, Scope::Prefix(prefix)).await?;
    applied(&store, keys.iter().fold(Txn::new(), |txn, key| txn.put(key, "1"))).await?;
    watching.converges(&store).await?;
    same("how many are told", &watching.view.len(), &count)?;
    applied(&store, keys.iter().fold(Txn::new(), Txn::delete)).await?;
    watching.until("the deletes are told", BTreeMap::is_empty).await.map(drop)
}

async fn two_watchers_are_told_the_same(bench: &Watched) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let prefix = bench.key("p")?;
    let mut watchers = Vec::new();
    for store in [&ours, &ours, &theirs] {
        watchers.push(Watching::open(bench, store, Scope::Prefix(prefix.clone())).await?);
    }
    for round in 0..20 {
        put(&ours, &prefix.child(&format!("k{}", round % 6))?, &round.to_string()).await?;
        if round % 4 == 3 {
            applied(&theirs, Txn::new().delete(&prefix.child(&format!("k{}", round % 5))?)).await?;
        }
    }
    for watching in &mut watchers {
        watching.converges(&ours).await?;
    }
    Ok(())
}

async fn a_dropped_watch_disturbs_nobody(bench: &Watched) -> Checked {
    let store = bench.open().await?;
    let (prefix, key) = (bench.key("p")?, bench.key("p/k")?);
    let mut watching = Watching::open(bench, &store, Scope::Prefix(prefix.clone())).await?;
    for round in 0..20 {
        drop(Watching::idle(bench, &store, Scope::Prefix(prefix.clone())));
        drop(Watching::open(bench, &store, Scope::Prefix(prefix.clone())).await?);
        drop(Watching::open(bench, &store, Scope::Key(key.clone())).await?);
        put(&store, &key, &round.to_string()).await?;
        watching.converges(&store).await?;
    }
    Ok(())
}

async fn odd_keys_are_told_as_put(bench: &Watched) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let prefix = bench.key("odd")?;
    let mut watching = Watching::open(bench, &theirs, Scope::Prefix(prefix.clone())).await?;
    for odd in super::keys::ODD {
        let made = put(&ours, &prefix.child(odd)?, odd).await?;
        watching.until("the odd key is told", |view| view.get(&made.key) == Some(&made)).await?;
    }
    // A later watch is told the same at once.
    let mut late = Watching::idle(bench, &ours, Scope::Prefix(prefix));
    late.next().await?;
    same("the snapshot of odd keys", &late.view, &watching.view)?;
    for key in late.view.keys() {
        applied(&theirs, Txn::new().delete(key)).await?;
    }
    watching.until("the deletes of odd keys are told", BTreeMap::is_empty).await.map(drop)
}

async fn odd_prefixes_are_watched_literally(bench: &Watched) -> Checked {
    for (index, odd) in ["*", "?", "%", "_", "[ab]", ".", "a*"].into_iter().enumerate() {
        let room = bench.key(&format!("room{index}"))?;
        let outside = [room.child("a")?.child("x")?, room.child("ab")?.child("x")?];
        let inside = room.child(odd)?.child("x")?;
        tells_only(bench, Scope::Prefix(super::keys::parent(&inside)), &outside, &inside).await?;
    }
    Ok(())
}
