//! Line 7: changes in order, nothing missed at the end, trouble survived.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join;

use super::bench::{Bench, applied, put, same};
use super::case::{Case, Checked, Violation, cases, ensure};
use super::watcher::Watching;
use crate::kv::{Entry, Event, Key, Result, Scope, Txn, WatchStore};

pub(super) fn cases() -> Vec<Case<dyn WatchStore>> {
    cases![
        7: changes_are_told_in_order,
        7: nothing_is_missed_while_others_write,
        7: a_slow_watcher_is_told_the_end,
        7: a_watch_survives_trouble,
        7: a_watch_survives_a_restart,
    ]
}

/// The number an entry counts, as the writers here put it.
fn count(value: &[u8]) -> Checked<u32> {
    let number = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Violation::new(format!("a value came as {value:?}, which nobody put")))
}

/// Follows the counts of each key: they go up, one by one where nothing may be left out.
#[derive(Default)]
struct Counts {
    told: BTreeMap<Key, u32>,
}

impl Counts {
    fn told(&mut self, event: &Event, coalesces: bool) -> Checked {
        match event {
            Event::Snapshot(entries) => {
                for entry in entries {
                    let (now, before) = (count(&entry.value)?, self.told.get(&entry.key));
                    ensure!(
                        before.is_none_or(|before| *before <= now),
                        "a snapshot goes back from {before:?} to {now}"
                    );
                    self.told.insert(entry.key.clone(), now);
                }
            }
            Event::Put(entry) => {
                let (now, before) =
                    (count(&entry.value)?, self.told.get(&entry.key).copied().unwrap_or_default());
                ensure!(now > before, "{:?} counts {now} after {before}", entry.key);
                ensure!(coalesces || now == before + 1, "between {before} and {now} something was left out");
                self.told.insert(entry.key.clone(), now);
            }
            Event::Delete(key) => return Err(Violation::new(format!("nobody deleted {key:?}"))),
        }
        Ok(())
    }
}

async fn changes_are_told_in_order(bench: &Bench<dyn WatchStore>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let key = bench.key("p/k")?;
    for scope in [Scope::Key(key.clone()), Scope::Prefix(bench.key("p")?)] {
        let mut watching = Watching::open(bench, &theirs, scope).await?;
        let mut counts = Counts::default();
        let mut last = None;
        for number in 1..=50 {
            last = Some(put(&ours, &key, &number.to_string()).await?);
        }
        for event in watching.until("the last is told", |view| view.get(&key) == last.as_ref()).await? {
            counts.told(&event, theirs.limits().coalesces)?;
        }
        applied(&ours, Txn::new().delete(&key)).await?;
        watching.until("the delete is told", BTreeMap::is_empty).await?;
    }
    Ok(())
}

async fn nothing_is_missed_while_others_write(bench: &Bench<dyn WatchStore>) -> Checked {
    let clients = [bench.open().await?, bench.open().await?];
    let prefix = bench.key("p")?;
    let write = async {
        for number in 1..=60 {
            for writer in 0..4 {
                let key = prefix.child(&format!("k{writer}"))?;
                put(&clients[writer % 2], &key, &number.to_string()).await?;
            }
            // Without this, a store that answers at once would leave the watchers no turn in between.
            bench.pause(std::time::Duration::from_millis(1)).await;
        }
        Ok::<_, Violation>(())
    };
    let first = prefix.child("k0")?;
    let watch = async {
        let mut watchers = Vec::new();
        for round in 0..12 {
            let store = &clients[usize::from(round % 2 == 0)];
            let mut watching = Watching::idle(bench, store, Scope::Prefix(prefix.clone()));
            let mut counts = Counts::default();
            // Each starts between other writes than the one before, and follows for a while at once.
            let coalesces = store.limits().coalesces;
            counts.told(&watching.next().await?, coalesces)?;
            let reached = |view: &BTreeMap<Key, Entry>| {
                let number = view.get(&first).and_then(|entry| count(&entry.value).ok());
                number.is_some_and(|number| number >= round * 5)
            };
            for event in watching.until("the writers have come further", reached).await? {
                counts.told(&event, coalesces)?;
            }
            watchers.push((watching, counts, Arc::clone(store)));
        }
        Ok(watchers)
    };
    let ((), watchers) = try_join(write, watch).await?;
    for (mut watching, mut counts, store) in watchers {
        for event in watching.converges(&store).await? {
            counts.told(&event, store.limits().coalesces)?;
        }
        same("the last counts", &counts.told.values().copied().collect(), &vec![60; 4])?;
    }
    Ok(())
}

async fn a_slow_watcher_is_told_the_end(bench: &Bench<dyn WatchStore>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let prefix = bench.key("p")?;
    let gone = put(&ours, &prefix.child("gone")?, "1").await?.key;
    let mut watching = Watching::open(bench, &theirs, Scope::Prefix(prefix.clone())).await?;
    // Nothing later tells of these again, so whoever forgets the oldest changes forgets them.
    put(&ours, &prefix.child("early")?, "1").await?;
    applied(&ours, Txn::new().delete(&gone)).await?;
    let width = theirs.limits().max_txn_ops.clamp(1, 50);
    let keys: Vec<Key> = (0..width).map(|index| prefix.child(&format!("k{index}"))).collect::<Result<_>>()?;
    // More than any mailbox holds, while nobody looks. The last changes are of every kind.
    for round in 0..(4000 / width).min(400) {
        applied(&ours, keys.iter().fold(Txn::new(), |txn, key| txn.put(key, round.to_string()))).await?;
    }
    applied(&ours, Txn::new().delete(&keys[0])).await?;
    put(&ours, &prefix.child("last")?, "1").await?;
    watching.converges(&ours).await?;
    // And it is awake again.
    let made = put(&ours, &keys[0], "again").await?;
    watching.until("a later change is told", |view| view.get(&keys[0]) == Some(&made)).await.map(drop)
}

async fn a_watch_survives_trouble(bench: &Bench<dyn WatchStore>) -> Checked {
    survives(bench, false).await
}

async fn a_watch_survives_a_restart(bench: &Bench<dyn WatchStore>) -> Checked {
    survives(bench, true).await
}

async fn survives(bench: &Bench<dyn WatchStore>, restart: bool) -> Checked {
    let store = bench.open().await?;
    let prefix = bench.key("p")?;
    let mut watching = Watching::open(bench, &store, Scope::Prefix(prefix.clone())).await?;
    for round in 0..3 {
        let (stays, goes) = (prefix.child(&format!("stays{round}"))?, prefix.child("goes")?);
        written(bench, &store, Txn::new().put(&goes, "1")).await?;
        watching.converges(&store).await?;
        let troubled = if restart { bench.restart().await? } else { bench.disturb().await? };
        if !troubled {
            return Ok(());
        }
        written(bench, &store, Txn::new().put(&stays, "1")).await?;
        written(bench, &store, Txn::new().delete(&goes)).await?;
        watching.converges(&bench.open().await?).await?;
        same("what is told after trouble", &watching.view.contains_key(&stays), &true)?;
    }
    Ok(())
}

/// Commits, again if need be: right after trouble a request may still fail.
async fn written(bench: &Bench<dyn WatchStore>, store: &Arc<dyn WatchStore>, txn: Txn) -> Checked {
    let within = super::bench::patience(&store.limits());
    let txn = &txn;
    bench
        .eventually("a write applies after trouble", within, || async {
            Ok(store.commit(txn.clone()).await.is_ok())
        })
        .await
}
