//! Breaks lines 3 and 4: versions and fences.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use quorate::backends::Memory;
use quorate::kv::{Check, Entered, Entry, Fence, Key, Place, Result, Store, Txn, Version, Write};

use super::writes::rechecked;
use super::{Defect, Enter, Flaw, READ, defects};

pub(super) fn defects() -> Vec<Defect> {
    defects![
        3: VersionOfTheValue,
        3: VersionOfTheLife,
        3: VersionUnchecked,
        3: VersionOfNothingHolds,
        3: ReplaceInTwoSteps,
        3: VersionRestarts,
        4: FenceNeverMoves,
        4: FenceFalls,
        4: FenceMovesWithTheValue,
        4: FenceStandsByName,
        4: FenceRestarts,
    ]
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

/// What is not there has every version.
#[derive(Default)]
struct VersionOfNothingHolds;

#[async_trait]
impl Flaw for VersionOfNothingHolds {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let recheck = |check, found: Option<Entry>| match (check, found) {
            (Check::Version(..), None) => None,
            (check, _) => Some(check),
        };
        memory.commit(rechecked(memory, txn, recheck).await?).await
    }
}

/// Looks at the version, and then overwrites whatever has come meanwhile.
#[derive(Default)]
struct ReplaceInTwoSteps;

#[async_trait]
impl Flaw for ReplaceInTwoSteps {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        for check in txn.checks() {
            if !check.holds(memory.get(check.key(), READ).await?.as_ref()) {
                return memory.commit(txn).await;
            }
        }
        tokio::task::yield_now().await;
        let keep = |check, _| matches!(check, Check::Absent(_)).then_some(check);
        memory.commit(rechecked(memory, txn, keep).await?).await
    }
}

/// How far a memory store has counted.
async fn counted(memory: &Memory) -> Result<u64> {
    let write = memory.commit(Txn::new().put(&Key::new("counted")?, "")).await?;
    let made = write.applied().unwrap_or_default();
    Ok(made.first().and_then(|entry| u64::try_from(entry.version.raw()).ok()).unwrap_or_default())
}

/// A restart counts versions from the start.
#[derive(Default)]
struct VersionRestarts(AtomicU64);

#[async_trait]
impl Flaw for VersionRestarts {
    fn show(&self, mut entry: Entry) -> Entry {
        let before = self.0.load(Ordering::Relaxed);
        entry.version = Version::new(entry.version.raw().wrapping_sub(before.into()));
        entry
    }

    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        commit_as_shown(self, memory, txn).await
    }

    async fn restart(&self, memory: &Memory) -> Result<()> {
        self.0.store(counted(memory).await?, Ordering::Relaxed);
        Ok(())
    }
}

/// A restart counts fences from the start.
#[derive(Default)]
struct FenceRestarts(AtomicU64);

#[async_trait]
impl Flaw for FenceRestarts {
    fn show(&self, mut entry: Entry) -> Entry {
        let before = self.0.load(Ordering::Relaxed);
        entry.fence = Fence::new(entry.fence.get().wrapping_sub(before));
        entry
    }

    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        commit_as_shown(self, memory, txn).await
    }

    async fn restart(&self, memory: &Memory) -> Result<()> {
        self.0.store(counted(memory).await?, Ordering::Relaxed);
        Ok(())
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
pub(super) struct FenceStandsByName;

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
