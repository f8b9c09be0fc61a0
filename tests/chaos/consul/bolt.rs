//! Reads a bucket of a `BoltDB` file, which is where Consul's servers keep their log.

use std::ops::Range;

use bytes::Buf;

/// What stands before every page: its number, its kind, how many elements it has, and how many pages it goes on for.
const HEADER: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;

/// All pairs of the bucket of this name, in the order of their keys.
pub(super) fn bucket<'a>(file: &'a [u8], name: &[u8]) -> Vec<(&'a [u8], &'a [u8])> {
    let (page_size, root) = newest_root(file);
    let mut buckets = Vec::new();
    walk(file, page_size, root, &mut buckets);
    let (_, bucket) = buckets.into_iter().find(|(key, _)| *key == name).expect("there is such a bucket");
    let (mut number, mut pairs) = (bucket, Vec::new());
    match number.get_u64_le() {
        // It is so small that its only page follows at once, behind a sequence number.
        0 => elements(&bucket[HEADER..], &mut pairs),
        root => walk(file, page_size, root, &mut pairs),
    }
    pairs
}

/// The size of a page, and where the newest tree begins: writers take turns with the first two pages.
fn newest_root(file: &[u8]) -> (usize, u64) {
    let meta = |at: usize| {
        let mut meta = &file[at + HEADER..];
        meta.advance(8); // A magic number, and a version.
        let page_size = usize::try_from(meta.get_u32_le()).expect("a size");
        meta.advance(4); // Flags.
        let root = meta.get_u64_le();
        meta.advance(24); // A sequence, the list of free pages, and how many pages there are.
        (meta.get_u64_le(), page_size, root)
    };
    let first = meta(0);
    let (_, page_size, root) = first.max(meta(first.1));
    (page_size, root)
}

fn walk<'a>(file: &'a [u8], page_size: usize, page: u64, pairs: &mut Vec<(&'a [u8], &'a [u8])>) {
    let page = &file[usize::try_from(page).expect("a page") * page_size..];
    let (kind, count) = kind(page);
    if kind == BRANCH {
        for number in 0..count {
            let mut element = &page[HEADER + number * 16 + 8..];
            walk(file, page_size, element.get_u64_le(), pairs);
        }
    } else {
        elements(page, pairs);
    }
}

fn elements<'a>(page: &'a [u8], pairs: &mut Vec<(&'a [u8], &'a [u8])>) {
    let (kind, count) = kind(page);
    assert_eq!(kind, LEAF, "what holds pairs is a leaf");
    for number in 0..count {
        let at = HEADER + number * 16;
        let mut element = &page[at + 4..];
        let mut next = || usize::try_from(element.get_u32_le()).expect("a place");
        let (position, key, value) = (at + next(), next(), next());
        let part = |part: Range<usize>| &page[part];
        pairs.push((part(position..position + key), part(position + key..position + key + value)));
    }
}

fn kind(page: &[u8]) -> (u16, usize) {
    let mut header = &page[8..];
    (header.get_u16_le(), header.get_u16_le().into())
}
