//! Breaks line 11: sizes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use quorate::backends::Memory;
use quorate::kv::{Error, Key, Put, Result, Store, Txn, Write};

use super::outcomes::commit_parts;
use super::{Defect, Flaw, defects};

pub(super) fn defects() -> Vec<Defect> {
    defects![
        11: EmptyIsADelete,
        11: EmptyIsRefused,
        11: LongIsCut,
        11: TextOnly,
        11: TooLargeIsCut,
        11: LastPutWins,
        11: AnyNumberOfOperations,
        11: AnyLengthOfKey,
        11: AnyNumberOfBytes,
        11: OneOperationLess,
    ]
}

/// The same write with other values; `None` for those that become deletes.
fn revalued(txn: &Txn, value: impl Fn(&Bytes) -> Option<Bytes>) -> Txn {
    let checked = txn.checks().iter().cloned().fold(Txn::new(), Txn::check);
    let put = txn.puts().iter().fold(checked, |txn, put| match value(&put.value) {
        Some(value) => txn.entry(Put { value, ..put.clone() }),
        None => txn.delete(&put.key),
    });
    txn.deletes().iter().fold(put, Txn::delete)
}

#[derive(Default)]
struct EmptyIsADelete;

#[async_trait]
impl Flaw for EmptyIsADelete {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        memory.commit(revalued(&txn, |value| (!value.is_empty()).then(|| value.clone()))).await
    }
}

#[derive(Default)]
struct EmptyIsRefused;

#[async_trait]
impl Flaw for EmptyIsRefused {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        if txn.puts().iter().any(|put| put.value.is_empty()) {
            return Err(Error::invalid("an empty value"));
        }
        memory.commit(txn).await
    }
}

#[derive(Default)]
struct LongIsCut;

#[async_trait]
impl Flaw for LongIsCut {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        txn.validate(&memory.limits())?;
        memory.commit(revalued(&txn, |value| Some(value.slice(..value.len().min(0xffff))))).await
    }
}

#[derive(Default)]
struct TextOnly;

#[async_trait]
impl Flaw for TextOnly {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let text = |value: &Bytes| Some(String::from_utf8_lossy(value).into_owned().into());
        memory.commit(revalued(&txn, text)).await
    }
}

#[derive(Default)]
struct TooLargeIsCut;

#[async_trait]
impl Flaw for TooLargeIsCut {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let max = memory.limits().max_value;
        memory.commit(revalued(&txn, |value| Some(value.slice(..value.len().min(max))))).await
    }
}

#[derive(Default)]
struct LastPutWins;

#[async_trait]
impl Flaw for LastPutWins {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let checked = txn.checks().iter().cloned().fold(Txn::new(), Txn::check);
        let puts: BTreeMap<_, _> = txn.puts().iter().map(|put| (put.key.clone(), put.clone())).collect();
        let put = puts.into_values().fold(checked, Txn::entry);
        memory.commit(txn.deletes().iter().fold(put, Txn::delete)).await
    }
}

#[derive(Default)]
struct AnyNumberOfOperations;

#[async_trait]
impl Flaw for AnyNumberOfOperations {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        if txn.puts().len() + txn.checks().len() <= memory.limits().max_txn_ops {
            return memory.commit(txn).await;
        }
        commit_parts(memory, &txn).await
    }
}

#[derive(Default)]
struct AnyNumberOfBytes;

#[async_trait]
impl Flaw for AnyNumberOfBytes {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let bytes: usize = txn.puts().iter().map(|put| put.value.len()).sum();
        if bytes < memory.limits().max_txn_bytes {
            return memory.commit(txn).await;
        }
        commit_parts(memory, &txn).await
    }
}

#[derive(Default)]
struct OneOperationLess;

#[async_trait]
impl Flaw for OneOperationLess {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        if txn.puts().len() >= memory.limits().max_txn_ops {
            return Err(Error::invalid("so many operations are too many"));
        }
        memory.commit(txn).await
    }
}

#[derive(Default)]
struct AnyLengthOfKey;

impl Flaw for AnyLengthOfKey {
    fn key(&self, key: &Key) -> Key {
        let cut: String = key.as_str().chars().take(1000).collect();
        Key::decode(&cut).unwrap_or_else(|_| key.clone())
    }
}
