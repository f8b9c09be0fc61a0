//! Breaks line 7: what a watch tells.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::future::ready;
use quorate::backends::Memory;
use quorate::kv::{Error, ErrorKind, Event, Key, Outcome, Scope, WatchStore};

use super::{Defect, Flaw, Told, defects};

pub(super) fn defects() -> Vec<Defect> {
    defects![
        7: DeletesUntold,
        7: NoSnapshot,
        7: GapAfterTheSnapshot,
        7: SameValueUntold,
        7: WatchesByBytes,
        7: EndsInSilence,
        7: TellsOnlyErrors,
        7: TroubleForgotten,
        7: EveryThirdLost,
        7: Backwards,
        7: OnlyTheFirstOfACommit,
        7: HeldBack,
        7: TellsTheReserved,
        7: TellsOfChildren,
    ]
}

/// Tells what the filter lets pass.
fn filtered(told: Told, mut pass: impl FnMut(&Event) -> bool + Send + 'static) -> Told {
    told.filter(move |told| ready(told.as_ref().map_or(true, &mut pass))).boxed()
}

#[derive(Default)]
struct DeletesUntold;

impl Flaw for DeletesUntold {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        filtered(memory.watch(scope), |event| !matches!(event, Event::Delete(_)))
    }
}

#[derive(Default)]
struct NoSnapshot;

impl Flaw for NoSnapshot {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        filtered(memory.watch(scope), |event| !matches!(event, Event::Snapshot(_)))
    }
}

/// The first change after a snapshot is missed.
#[derive(Default)]
struct GapAfterTheSnapshot;

impl Flaw for GapAfterTheSnapshot {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        let mut gap = false;
        filtered(memory.watch(scope), move |event| {
            let snapshot = matches!(event, Event::Snapshot(_));
            let missed = std::mem::replace(&mut gap, snapshot) && !snapshot;
            !missed
        })
    }
}

#[derive(Default)]
struct SameValueUntold;

impl Flaw for SameValueUntold {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        let mut values = BTreeMap::new();
        filtered(memory.watch(scope), move |event| match event {
            Event::Put(entry) => {
                values.insert(entry.key.clone(), entry.value.clone()) != Some(entry.value.clone())
            }
            Event::Delete(key) => {
                values.remove(key);
                true
            }
            Event::Snapshot(_) => true,
        })
    }
}

/// `foo` covers `foobar`.
#[derive(Default)]
struct WatchesByBytes;

impl Flaw for WatchesByBytes {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        let Scope::Prefix(prefix) = scope else { return memory.watch(scope) };
        let above = prefix.parent().unwrap_or_else(Key::root);
        let covers = move |key: &Key| key.as_str().starts_with(prefix.as_str()) && *key != prefix;
        memory
            .watch(Scope::Prefix(above))
            .filter_map(move |told| {
                ready(match told {
                    Ok(Event::Snapshot(entries)) => {
                        let entries = entries.into_iter().filter(|entry| covers(&entry.key)).collect();
                        Some(Ok(Event::Snapshot(entries)))
                    }
                    Ok(Event::Put(entry)) if !covers(&entry.key) => None,
                    Ok(Event::Delete(key)) if !covers(&key) => None,
                    told => Some(told),
                })
            })
            .boxed()
    }
}

/// After some changes the stream is over, and says nothing.
#[derive(Default)]
struct EndsInSilence;

impl Flaw for EndsInSilence {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        memory.watch(scope).take(10).boxed()
    }
}

/// Fails at once, however often it is watched again.
#[derive(Default)]
struct TellsOnlyErrors;

impl Flaw for TellsOnlyErrors {
    fn watch(&self, _: &Memory, _: Scope) -> Told {
        let error = Error::new(ErrorKind::WatchLost, Outcome::NotApplied, "cut");
        futures_util::stream::iter([Err(error)]).boxed()
    }
}

/// What was missed in trouble stays missed.
#[derive(Default)]
struct TroubleForgotten;

impl Flaw for TroubleForgotten {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        let mut started = false;
        filtered(memory.watch(scope), move |event| {
            !matches!(event, Event::Snapshot(_)) || !std::mem::replace(&mut started, true)
        })
    }
}

#[derive(Default)]
struct EveryThirdLost;

impl Flaw for EveryThirdLost {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        let mut count = 0;
        filtered(memory.watch(scope), move |event| {
            count += u32::from(matches!(event, Event::Put(_)));
            !matches!(event, Event::Put(_)) || count % 3 != 0
        })
    }
}

/// Every change is told again after the next.
#[derive(Default)]
struct Backwards;

impl Flaw for Backwards {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        let mut before: Option<Event> = None;
        memory
            .watch(scope)
            .flat_map(move |told| {
                let mut all = Vec::new();
                if let Ok(event) = &told {
                    let again = matches!(event, Event::Put(_)).then(|| before.clone()).flatten();
                    before = matches!(event, Event::Put(_)).then(|| event.clone());
                    all.push(Ok(event.clone()));
                    if let Some(again) = again {
                        all.push(Ok(again));
                        all.push(Ok(event.clone()));
                    }
                } else {
                    all.push(told);
                }
                futures_util::stream::iter(all)
            })
            .boxed()
    }
}

/// Of several changes of one version only the first is told.
#[derive(Default)]
struct OnlyTheFirstOfACommit;

impl Flaw for OnlyTheFirstOfACommit {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        let mut last = None;
        filtered(memory.watch(scope), move |event| match event {
            Event::Put(entry) => last.replace(entry.version) != Some(entry.version),
            _ => true,
        })
    }
}

/// A change is told only when the next one comes.
#[derive(Default)]
struct HeldBack;

impl Flaw for HeldBack {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        let mut held = None;
        memory
            .watch(scope)
            .filter_map(move |told| {
                let change = matches!(told, Ok(Event::Put(_) | Event::Delete(_)));
                ready(if change { held.replace(told) } else { Some(told) })
            })
            .boxed()
    }
}

/// A watch that also tells what is below a prefix, each entry as a change.
fn and_changes(memory: &Memory, scope: Scope, more: Key) -> Told {
    let more = memory.watch(Scope::Prefix(more)).flat_map(|told| {
        futures_util::stream::iter(match told {
            Ok(Event::Snapshot(entries)) => entries.into_iter().map(|entry| Ok(Event::Put(entry))).collect(),
            told => vec![told],
        })
    });
    futures_util::stream::select(memory.watch(scope), more).boxed()
}

#[derive(Default)]
struct TellsTheReserved;

impl Flaw for TellsTheReserved {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        let hidden = Key::decode("_quorate").and_then(|segment| scope.key().join(&segment));
        let hidden = hidden.unwrap_or_else(|_| Key::root());
        and_changes(memory, scope, hidden)
    }
}

/// A key is watched with what is below it.
#[derive(Default)]
struct TellsOfChildren;

impl Flaw for TellsOfChildren {
    fn watch(&self, memory: &Memory, scope: Scope) -> Told {
        match scope {
            Scope::Key(key) => and_changes(memory, Scope::Key(key.clone()), key),
            Scope::Prefix(_) => memory.watch(scope),
        }
    }
}
