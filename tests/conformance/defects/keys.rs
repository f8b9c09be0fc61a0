//! Breaks lines 8 and 13: what a key is, and what lies below one.

use std::collections::BTreeSet;

use async_trait::async_trait;
use quorate::backends::Memory;
use quorate::kv::{Entry, Error, Fence, Key, Result, Store, Txn, Version, Write};

use super::{Defect, Flaw, READ, defects};

pub(super) fn defects() -> Vec<Defect> {
    defects![
        8: PercentIsAnEscape,
        8: CaseIsFolded,
        8: SpaceIsTrimmed,
        8: DotsAreSteps,
        8: WildcardsInPrefixes,
        8: AccentsAreComposed,
        8: KeysAreShort,
        13: DeletesWithTheChildren,
        13: DeletesWithTheParent,
        13: ImplicitParentsAreRead,
        13: ImplicitParentsAreListed,
        13: ListsThePrefixItself,
        13: DeletesThePrefixItself,
        13: ListsByBytes,
        13: ListsInByteOrder,
        13: ListsTheReserved,
        13: CountsNothing,
    ]
}

/// The key that stands for another, where that can be told.
fn mangled(key: &Key, mangle: impl Fn(&str) -> String) -> Key {
    let text: Vec<_> = key.segments().map(mangle).collect();
    Key::decode(&text.join("/")).unwrap_or_else(|_| key.clone())
}

macro_rules! mangles {
    ($($flaw:ident: $mangle:expr),* $(,)?) => {$(
        #[derive(Default)]
        struct $flaw;

        impl Flaw for $flaw {
            fn key(&self, key: &Key) -> Key {
                mangled(key, $mangle)
            }
        }
    )*};
}

mangles! {
    PercentIsAnEscape: |segment| segment.replace("%25", "%").replace("%61", "a"),
    CaseIsFolded: str::to_lowercase,
    SpaceIsTrimmed: |segment| if segment.trim().is_empty() { segment.into() } else { segment.trim().into() },
    DotsAreSteps: |segment| if segment == "." { "..".into() } else { segment.into() },
    AccentsAreComposed: |segment| segment.replace("a\u{308}", "ä").replace("e\u{301}", "é"),
}

#[derive(Default)]
struct WildcardsInPrefixes;

#[async_trait]
impl Flaw for WildcardsInPrefixes {
    async fn list(&self, memory: &Memory, prefix: &Key) -> Result<Vec<Entry>> {
        let above = prefix.parent().unwrap_or_else(Key::root);
        let wild = prefix.name().contains(['%', '*']);
        memory.list(if wild { &above } else { prefix }, READ).await
    }
}

/// Takes no key that would be too long a file name.
#[derive(Default)]
struct KeysAreShort;

#[async_trait]
impl Flaw for KeysAreShort {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let long = txn.puts().iter().find(|put| put.key.as_str().len() > 255);
        long.map_or(Ok(()), |put| Err(Error::invalid("the key is too long").on(&put.key)))?;
        memory.commit(txn).await
    }
}

#[derive(Default)]
struct DeletesWithTheChildren;

#[async_trait]
impl Flaw for DeletesWithTheChildren {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let deletes = txn.deletes().to_vec();
        let write = memory.commit(txn).await?;
        for key in deletes {
            memory.delete_prefix(&key).await?;
        }
        Ok(write)
    }
}

/// A parent that has lost its last child goes too.
#[derive(Default)]
struct DeletesWithTheParent;

#[async_trait]
impl Flaw for DeletesWithTheParent {
    async fn commit(&self, memory: &Memory, txn: Txn) -> Result<Write> {
        let parents: Vec<_> = txn.deletes().iter().filter_map(Key::parent).collect();
        let write = memory.commit(txn).await?;
        for parent in parents {
            if !parent.is_root() && memory.list(&parent, READ).await?.is_empty() {
                let _ = memory.commit(Txn::new().delete(&parent)).await?;
            }
        }
        Ok(write)
    }
}

fn implied(key: Key) -> Entry {
    Entry::new(key, "".into(), Version::new(0), Fence::new(0), None)
}

#[derive(Default)]
struct ImplicitParentsAreRead;

#[async_trait]
impl Flaw for ImplicitParentsAreRead {
    async fn get(&self, memory: &Memory, key: &Key) -> Result<Option<Entry>> {
        let found = memory.get(key, READ).await?;
        let parent = found.is_none() && !memory.list(key, READ).await?.is_empty();
        Ok(if parent { Some(implied(key.clone())) } else { found })
    }
}

#[derive(Default)]
struct ImplicitParentsAreListed;

#[async_trait]
impl Flaw for ImplicitParentsAreListed {
    async fn list(&self, memory: &Memory, prefix: &Key) -> Result<Vec<Entry>> {
        let mut entries = memory.list(prefix, READ).await?;
        let known: BTreeSet<_> = entries.iter().map(|entry| entry.key.clone()).collect();
        let parents: BTreeSet<_> = known.iter().filter_map(Key::parent).collect();
        let implicit = parents.into_iter().filter(|key| prefix.covers(key) && !known.contains(key));
        entries.extend(implicit.map(implied));
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }
}

#[derive(Default)]
struct ListsThePrefixItself;

#[async_trait]
impl Flaw for ListsThePrefixItself {
    async fn list(&self, memory: &Memory, prefix: &Key) -> Result<Vec<Entry>> {
        let own = memory.get(prefix, READ).await?;
        Ok(own.into_iter().chain(memory.list(prefix, READ).await?).collect())
    }
}

#[derive(Default)]
struct DeletesThePrefixItself;

#[async_trait]
impl Flaw for DeletesThePrefixItself {
    async fn delete_prefix(&self, memory: &Memory, prefix: &Key) -> Result<u64> {
        let _ = memory.commit(Txn::new().delete(prefix)).await?;
        memory.delete_prefix(prefix).await
    }
}

#[derive(Default)]
struct ListsByBytes;

#[async_trait]
impl Flaw for ListsByBytes {
    async fn list(&self, memory: &Memory, prefix: &Key) -> Result<Vec<Entry>> {
        let above = prefix.parent().unwrap_or_else(Key::root);
        let mut entries = memory.list(&above, READ).await?;
        entries.retain(|entry| entry.key.as_str().starts_with(prefix.as_str()) && entry.key != *prefix);
        Ok(entries)
    }
}

#[derive(Default)]
struct ListsInByteOrder;

#[async_trait]
impl Flaw for ListsInByteOrder {
    async fn list(&self, memory: &Memory, prefix: &Key) -> Result<Vec<Entry>> {
        let mut entries = memory.list(prefix, READ).await?;
        entries.sort_by(|a, b| a.key.as_str().cmp(b.key.as_str()));
        Ok(entries)
    }
}

#[derive(Default)]
struct ListsTheReserved;

#[async_trait]
impl Flaw for ListsTheReserved {
    async fn list(&self, memory: &Memory, prefix: &Key) -> Result<Vec<Entry>> {
        let mut entries = memory.list(&prefix.join(&Key::decode("_quorate")?)?, READ).await?;
        entries.extend(memory.list(prefix, READ).await?);
        Ok(entries)
    }
}

#[derive(Default)]
struct CountsNothing;

#[async_trait]
impl Flaw for CountsNothing {
    async fn delete_prefix(&self, memory: &Memory, prefix: &Key) -> Result<u64> {
        memory.delete_prefix(prefix).await.map(|_| 0)
    }
}
