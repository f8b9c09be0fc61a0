//! Line 8: keys are data.

use super::bench::{Bench, applied, get, listed, nothing_at, put, same, standing};
use super::case::{Case, Checked, cases, ensure};
use crate::kv::{Consistency, Key, Store, Txn};

pub(super) fn cases() -> Vec<Case<dyn Store>> {
    cases![
        8: odd_keys_come_back_as_put,
        8: odd_keys_are_told_apart,
        8: odd_prefixes_match_only_themselves,
        8: odd_segments_nest,
        8: the_longest_key_is_taken,
    ]
}

/// Segments that some store or other would read as something else.
pub(super) const ODD: [&str; 52] = [
    " ",
    " lead",
    "trail ",
    "two  spaces",
    "*",
    "**",
    "?",
    "[ab]",
    "[^a]",
    "{a,b}",
    "%",
    "%%",
    "%2F",
    "%2f",
    "%25",
    "%zz",
    "_",
    "__",
    "_quorate2",
    "_Quorate",
    ".",
    "..",
    "...",
    ".hidden",
    "=",
    "a=b",
    "-",
    "--flag",
    "\\",
    "\\n",
    "\"",
    "'",
    "`",
    "a'; DROP TABLE entries; --",
    "$HOME",
    "#",
    "&a=b",
    "+",
    ":",
    ";",
    "~",
    "|",
    "\n",
    "\r\n",
    "\t",
    "\u{1}",
    "\u{7f}",
    "é",
    "e\u{301}",
    "日本",
    "🦀",
    "\u{10ffff}",
];

async fn odd_keys_come_back_as_put(bench: &Bench<dyn Store>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    for odd in ODD {
        let key = bench.key("odd")?.child(odd)?;
        let made = put(&ours, &key, odd).await?;
        same("the key in the answer", &made.key, &key)?;
        same("the entry at an odd key", &get(&theirs, &key).await?, &Some(made))?;
    }
    let mut expected: Vec<_> =
        ODD.iter().map(|odd| bench.key("odd")?.child(odd).map_err(Into::into)).collect::<Checked<_>>()?;
    expected.sort();
    same("the list of odd keys", &listed(&theirs, &bench.key("odd")?).await?, &expected)?;
    for key in &expected {
        applied(&theirs, Txn::new().delete(key)).await?;
        nothing_at(&ours, key).await?;
    }
    same("the list after deletes", &listed(&ours, &bench.key("odd")?).await?, &vec![])
}

async fn odd_keys_are_told_apart(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let alike = [
        "a", "A", "a ", " a", "%61", "a%", "a*", "a?", "a.", "a/.", "a/..", "./a", "%2Fa", "ä", "a\u{308}",
        "á",
    ];
    let keys: Vec<_> = alike.iter().map(|text| bench.key(text)).collect::<Checked<_>>()?;
    for (key, text) in keys.iter().zip(alike) {
        applied(&store, Txn::new().absent(key).put(key, text)).await?;
    }
    for (key, text) in keys.iter().zip(alike) {
        same("the value at its key", &standing(&store, key).await?.value.as_ref(), &text.as_bytes())?;
    }
    for (count, key) in keys.iter().enumerate() {
        applied(&store, Txn::new().delete(key)).await?;
        same("the entries left", &listed(&store, bench.prefix()).await?.len(), &(keys.len() - count - 1))?;
    }
    Ok(())
}

async fn odd_prefixes_match_only_themselves(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    for (index, odd) in
        ["*", "?", "%", "_", "a*", "a?", "a%", "a_", "[ab]", ".", "a.*", "{a,ab}"].into_iter().enumerate()
    {
        let room = bench.key(&format!("room{index}"))?;
        let (literal, other) = (room.child(odd)?, [room.child("a")?, room.child("ab")?, room.child("abc")?]);
        put(&store, &literal.child("x")?, "literal").await?;
        for other in &other {
            put(&store, &other.child("x")?, "other").await?;
        }
        same("the list of an odd prefix", &listed(&store, &literal).await?, &vec![literal.child("x")?])?;
        same("what delete_prefix of an odd prefix counts", &store.delete_prefix(&literal).await?, &1)?;
        let left: Vec<_> = other.iter().map(|other| other.child("x")).collect::<Result<_, _>>()?;
        same("what an odd delete_prefix leaves", &listed(&store, &room).await?, &left)?;
    }
    Ok(())
}

async fn odd_segments_nest(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let mut key = bench.key("nest")?;
    for odd in ODD.iter().take(12) {
        key = key.child(odd)?;
        let made = put(&store, &key, odd).await?;
        same("the key in the answer", &made.key, &key)?;
        same("the nested entry", &standing(&store, &key).await?, &made)?;
    }
    same("the depth", &listed(&store, &bench.key("nest")?).await?.len(), &12)
}

async fn the_longest_key_is_taken(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let max = store.limits().max_key.min(64 * 1024);
    let room = max.saturating_sub(bench.prefix().as_str().len() + 1);
    ensure!(room > 2, "keys of {max} bytes leave no room below the prefix {:?}", bench.prefix());
    let deep: String = std::iter::repeat_n("d/", room / 2).collect();
    // Signs of three bytes, which encodings may make longer still.
    let wide: String =
        std::iter::repeat_n('%', room % 3).chain(std::iter::repeat_n('日', room / 3)).collect();
    for text in
        ["k".repeat(room), wide, format!("{}e", deep.get(..room - 1 - (room - 1) % 2).unwrap_or("d/"))]
    {
        let key = bench.key(&text)?;
        let made = put(&store, &key, "long").await?;
        same("the entry at a long key", &standing(&store, &key).await?, &made)?;
        let entries = store.list(bench.prefix(), Consistency::Linearizable).await?;
        same("the list", &entries, &vec![made])?;
        applied(&store, Txn::new().delete(&key)).await?;
    }
    Ok(())
}

/// The parent of a key, as everybody has one.
pub(super) fn parent(key: &Key) -> Key {
    key.parent().unwrap_or_else(Key::root)
}
