//! Breaks lines 1 to 4: reads, races, versions, fences.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use quorate::backends::Memory;
use quorate::kv::{
    Check, Entered, Entry, Error, ErrorKind, Fence, Key, Outcome, Place, Result, Store, Txn, Version, Write,
};

use super::{Defect, Enter, Flaw, READ, defects};

pub(super) fn defects() -> Vec<Defect> {
    defects![
        1: StaleReads,
        1: StaleLists,
        1: UnreadAnswers,
        2: CreateOverwrites,
        2: CreateInTwoSteps,
        2: LostRaceIsAnError,
        3: VersionOfTheValue,
        3: VersionOfTheLife,
        3: VersionUnchecked,
        4: FenceNeverMoves,
        4: FenceFalls,
        4: FenceMovesWithTheValue,
        4: FenceStandsByName,
    ]
}

/// Every other read of a key is the one before.
#[derive(Default)]
struct StaleReads(Mutex<BTreeMap<Key, Option<Entry>>>);

#[async_trait]
impl Flaw for StaleReads {
    async fn get(&self, memory: &Memory, key: &Key) -> Result<Option<Entry>> {
        let stale = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(stale) = stale {
            return Ok(stale);
        }
        let found = memory.get(key, READ).await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), found.clone());
        Ok(found)
    }
}

/// Every other list of a prefix is the one before.
#[derive(Default)]
struct StaleLists(Mutex<BTreeMap<Key, Vec<Entry>>>);

#[async_trait]
impl Flaw for StaleLists {
    async fn list(&self, memory: &Memory, prefix: &Key) -> Result<Vec<Entry>> {
        let stale = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(prefix);
        if let Some(stale) = stale {
            return Ok(stale);
        }
        let found = memory.list(prefix, READ).await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(prefix.clone(), found.clone());
        Ok(found)
    }
}

/// A commit answers with its entries in the order of their keys.
#[derive(Default)]
struct UnreadAnswers;

#[async_trait]
impl Flaw for UnreadAnswers {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        Ok(memory.commit(txn).await?.map(|mut entries| {
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            entries
        }))
    }
}

/// The same write with other checks.
async fn rechecked<F>(memory: &Memory, txn: Txn, recheck: F) -> Result<Txn>
where
    F: Fn(Check, Option<Entry>) -> Option<Check> + Send,
{
    let mut changed = Txn::new();
    for check in txn.checks() {
        let found = memory.get(check.key(), READ).await?;
        if let Some(check) = recheck(check.clone(), found) {
            changed = changed.check(check);
        }
    }
    let changed = txn.puts().iter().cloned().fold(changed, Txn::entry);
    Ok(txn.deletes().iter().fold(changed, Txn::delete))
}

#[derive(Default)]
struct CreateOverwrites;

#[async_trait]
impl Flaw for CreateOverwrites {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let keep = |check, _| (!matches!(check, Check::Absent(_))).then_some(check);
        memory.commit(rechecked(memory, txn, keep).await?).await
    }
}

/// Looks, and then puts whatever has come to stand there meanwhile.
#[derive(Default)]
struct CreateInTwoSteps;

#[async_trait]
impl Flaw for CreateInTwoSteps {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        for check in txn.checks() {
            if !check.holds(memory.get(check.key(), READ).await?.as_ref()) {
                return memory.commit(txn).await;
            }
        }
        tokio::task::yield_now().await;
        memory.commit(rechecked(memory, txn, |_, _| None).await?).await
    }
}

#[derive(Default)]
struct LostRaceIsAnError;

#[async_trait]
impl Flaw for LostRaceIsAnError {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        match memory.commit(txn).await? {
            Write::Rejected(_) => {
                Err(Error::new(ErrorKind::Unavailable, Outcome::NotApplied, "somebody was faster"))
            }
            applied @ Write::Applied(_) => Ok(applied),
        }
    }
}

/// Commits with versions as this flaw shows them.
async fn commit_as_shown(flaw: &impl Flaw, memory: &Memory, txn: Txn) -> Result<Write> {
    let recheck = |check, found: Option<Entry>| match (check, found) {
        (Check::Version(key, version), Some(entry)) if flaw.show(entry.clone()).version == version => {
            Some(Check::Version(key, entry.version))
        }
        (Check::Version(key, _), _) => Some(Check::Version(key, Version::new(u128::MAX))),
        (Check::Stands(key, fence), Some(entry)) if flaw.show(entry.clone()).fence == fence => {
            Some(Check::Stands(key, entry.fence))
        }
        (Check::Stands(key, _), _) => Some(Check::Stands(key, Fence::new(u64::MAX))),
        (check, _) => Some(check),
    };
    memory.commit(rechecked(memory, txn, recheck).await?).await
}

/// The version is made of the value, so it comes back with it.
#[derive(Default)]
struct VersionOfTheValue;

#[async_trait]
impl Flaw for VersionOfTheValue {
    fn show(&self, mut entry: Entry) -> Entry {
        let sum = entry
            .value
            .iter()
            .fold(7, |sum: u128, byte| sum.wrapping_mul(31).wrapping_add(u128::from(*byte)));
        entry.version = Version::new(sum);
        entry
    }

    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        commit_as_shown(self, memory, txn).await
    }
}

/// The version counts from the entry's making, so it starts again with it.
#[derive(Default)]
struct VersionOfTheLife;

#[async_trait]
impl Flaw for VersionOfTheLife {
    fn show(&self, mut entry: Entry) -> Entry {
        entry.version = Version::new(entry.version.raw() - u128::from(entry.fence.get()));
        entry
    }

    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        commit_as_shown(self, memory, txn).await
    }
}

/// A version holds while anything stands.
#[derive(Default)]
struct VersionUnchecked;

#[async_trait]
impl Flaw for VersionUnchecked {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let recheck = |check, found: Option<Entry>| match (check, found) {
            (Check::Version(key, _), Some(entry)) => Some(Check::Version(key, entry.version)),
            (check, _) => Some(check),
        };
        memory.commit(rechecked(memory, txn, recheck).await?).await
    }
}

#[derive(Default)]
struct FenceNeverMoves;

#[async_trait]
impl Flaw for FenceNeverMoves {
    fn show(&self, mut entry: Entry) -> Entry {
        entry.fence = Fence::new(1);
        entry
    }

    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        commit_as_shown(self, memory, txn).await
    }
}

#[derive(Default)]
struct FenceFalls;

#[async_trait]
impl Flaw for FenceFalls {
    fn show(&self, mut entry: Entry) -> Entry {
        entry.fence = Fence::new(u64::MAX - entry.fence.get());
        entry
    }

    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        commit_as_shown(self, memory, txn).await
    }

    async fn enter(&self, memory: &Memory, enter: Enter) -> Result<Entered> {
        let entered = enter.send(memory).await?;
        let fence = Fence::new(u64::MAX - entered.place.fence.get());
        Ok(Entered { place: Place { fence, ..entered.place }, ..entered })
    }
}

/// The fence follows the version.
#[derive(Default)]
struct FenceMovesWithTheValue;

#[async_trait]
impl Flaw for FenceMovesWithTheValue {
    fn show(&self, mut entry: Entry) -> Entry {
        entry.fence = Fence::new(u64::try_from(entry.version.raw()).unwrap_or(u64::MAX));
        entry
    }

    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        commit_as_shown(self, memory, txn).await
    }
}

/// A guard is looked for by name, so the next holder's will do.
#[derive(Default)]
struct FenceStandsByName;

#[async_trait]
impl Flaw for FenceStandsByName {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let recheck = |check, found: Option<Entry>| match (check, found) {
            (Check::Stands(key, _), Some(entry)) => Some(Check::Stands(key, entry.fence)),
            (check, _) => Some(check),
        };
        memory.commit(rechecked(memory, txn, recheck).await?).await
    }
}
