//! Breaks lines 1 and 2: reads and races.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use quorate::backends::Memory;
use quorate::kv::{Check, Entry, Error, ErrorKind, Key, Outcome, Result, Store, Txn, Write};

use super::{Defect, Flaw, READ, defects};

pub(super) fn defects() -> Vec<Defect> {
    defects![
        1: StaleReads,
        1: StaleLists,
        1: UnreadAnswers,
        1: LocalReadsStandStill,
        1: DeletesMakeEntries,
        2: CreateOverwrites,
        2: CreateInTwoSteps,
        2: LostRaceIsAnError,
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

#[derive(Default)]
struct LocalReadsStandStill;

#[async_trait]
impl Flaw for LocalReadsStandStill {
    async fn get_local(&self, _: &Memory, _: &Key) -> Result<Option<Entry>> {
        Ok(None)
    }
}

/// Deletes what is not there by making it first.
#[derive(Default)]
struct DeletesMakeEntries;

#[async_trait]
impl Flaw for DeletesMakeEntries {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        if let ([], [], [key]) = (txn.checks(), txn.puts(), txn.deletes())
            && memory.get(key, READ).await?.is_none()
        {
            return memory.commit(Txn::new().put(key, "")).await;
        }
        memory.commit(txn).await
    }
}

/// The same write with other checks.
pub(super) async fn rechecked<F>(memory: &Memory, txn: Txn, recheck: F) -> Result<Txn>
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
