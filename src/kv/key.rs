//! Keys: validated and normalised once, the same on every store.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use super::{Error, Result};

/// The segment that is quorate's own, wherever in a key it stands.
pub(crate) const RESERVED: &str = "_quorate";

/// The name of an entry: segments joined by `/`.
///
/// One leading and one trailing `/` are dropped, so `/a/b/`, `a/b` and `/a/b` are the same key; the empty key is
/// the *root*, a prefix that holds everything and names no entry. An empty segment, a NUL and the segment
/// `_quorate` (which is this crate's own) are refused. All else is data: spaces, unicode, `%`, `*`, `..`.
///
/// Keys are ordered by segment: `a`, `a/b`, `a!`, although `!` sorts before `/` as a byte. Cloning is cheap, and so is taking
/// the beginning [off](Self::strip): the text is shared, and so it may be with a few dozen others of the same answer.
///
/// ```
/// use quorate::kv::Key;
///
/// let key = Key::new("/config/db/")?;
/// assert_eq!(key.as_str(), "config/db");
/// assert!(Key::new("config")?.covers(&key));
/// assert!(!key.covers(&key), "a key is not under itself");
/// assert!(Key::new("a//b").is_err());
/// # Ok::<(), quorate::kv::Error>(())
/// ```
#[derive(Clone)]
pub struct Key {
    /// The key is a part of it; around it may stand what was taken off, or other keys of the same answer.
    text: Arc<str>,
    start: u32,
    end: u32,
}

/// How many keys of one answer share a text at most: whoever keeps one keeps the text of so many.
#[cfg(any(test, feature = "etcd"))]
const TOGETHER: usize = 32;

impl Key {
    /// Reads a key a user gave. Fails with [`ErrorKind::InvalidInput`](super::ErrorKind::InvalidInput), naming the
    /// segment, when it is no valid key.
    pub fn new(text: &str) -> Result<Self> {
        let key = Self::decode(text)?;
        if key.segments().any(|segment| segment == RESERVED) {
            return Err(Error::invalid(format!(
                "key {text:?}: the segment {RESERVED:?} is reserved, choose another name"
            )));
        }
        Ok(key)
    }

    /// For backends: reads a key back from a store, where reserved segments stand too.
    pub fn decode(text: &str) -> Result<Self> {
        let trimmed = text.strip_prefix('/').unwrap_or(text);
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        // "//" is one leading and one trailing slash around nothing, or an empty segment; it is the latter.
        if trimmed.is_empty() && text.len() <= 1 {
            return Ok(Self::root());
        }
        if let Some(key) = Self::stored(trimmed) {
            return Ok(key);
        }
        let what = if trimmed.contains('\0') { "a NUL" } else { "an empty segment" };
        Err(Error::invalid(format!("key {text:?} contains {what}")))
    }

    /// For backends: the key that stands in a store as just this text; `None` if that is none, or the root. Lists are long,
    /// and this is quicker than to normalise each.
    pub(crate) fn stored(text: &str) -> Option<Self> {
        if is_normal(text) { Self::of(text).ok() } else { None }
    }

    /// For backends: the same of what stands below this key as just this text.
    #[cfg(any(test, feature = "zookeeper"))]
    pub(crate) fn stored_below(&self, text: &str) -> Option<Self> {
        if is_normal(text) { self.with(text).ok() } else { None }
    }

    /// For backends: the same for all of a long answer, each with what it stands in; what is no key is left out. Some keys
    /// share a text, which spares the others the allocation of one.
    #[cfg(any(test, feature = "etcd"))]
    pub(crate) fn stored_in<T>(
        found: Vec<T>,
        text: impl Fn(&T) -> Option<&str>,
        mut take: impl FnMut(Self, T),
    ) {
        let mut found = found.into_iter();
        let mut texts = String::new();
        while !found.as_slice().is_empty() {
            texts.clear();
            let mut ends = [None; TOGETHER];
            for (end, one) in ends.iter_mut().zip(found.as_slice()) {
                if let Some(text) = text(one).filter(|text| is_normal(text)) {
                    texts.push_str(text);
                    *end = u32::try_from(texts.len()).ok();
                }
            }
            let (shared, mut start) = (Arc::from(&*texts), 0);
            for (end, one) in ends.into_iter().zip(found.by_ref()) {
                if let Some(end) = end {
                    take(Self { text: Arc::clone(&shared), start, end }, one);
                    start = end;
                }
            }
        }
    }

    /// The root: the prefix of every key.
    #[must_use]
    pub fn root() -> Self {
        Self { text: Arc::from(""), start: 0, end: 0 }
    }

    fn of(text: impl Into<Arc<str>>) -> Result<Self> {
        let text = text.into();
        match u32::try_from(text.len()) {
            Ok(end) => Ok(Self { text, start: 0, end }),
            Err(_) => Err(Error::invalid(format!("a key of {} bytes is too long for any store", text.len()))),
        }
    }

    /// A key of quorate's own, below the reserved segment; every part becomes one segment, whatever it contains.
    pub(crate) fn reserved<const N: usize>(kind: &str, parts: [&str; N]) -> Result<Self> {
        let mut text = format!("{RESERVED}/{kind}");
        for part in parts {
            text.push('/');
            text.push_str(&escape(part)?);
        }
        Self::of(text)
    }

    /// This key with one more segment below it.
    pub fn child(&self, segment: &str) -> Result<Self> {
        if segment.contains('/') {
            return Err(Error::invalid(format!("segment {segment:?} contains a '/'")));
        }
        if is_normal(segment) && segment != RESERVED {
            return self.with(segment);
        }
        self.join(&Self::new(segment)?)
    }

    /// `other` below this key, as inside a chroot.
    pub fn join(&self, other: &Self) -> Result<Self> {
        match (self.is_root(), other.is_root()) {
            (true, _) => Ok(other.clone()),
            (_, true) => Ok(self.clone()),
            _ => self.with(other.as_str()),
        }
    }

    /// The key of this text below this one. The text is normal, so that it is not empty.
    fn with(&self, below: &str) -> Result<Self> {
        if self.is_root() {
            return Self::of(below);
        }
        let above = self.as_str();
        let mut text = String::with_capacity(above.len() + 1 + below.len());
        text.extend([above, "/", below]);
        Self::of(text)
    }

    /// Whether it is right below `prefix`.
    pub(crate) fn is_child_of(&self, prefix: &Self) -> bool {
        self.below(prefix).is_some_and(|name| !name.is_empty() && !name.contains('/'))
    }

    /// What remains of this key below `prefix`, if it is `prefix` or below it.
    #[must_use]
    pub fn strip(&self, prefix: &Self) -> Option<Self> {
        let start = self.start_below(prefix)?;
        Some(Self { text: Arc::clone(&self.text), start, ..*self })
    }

    /// The same of a key that is needed no longer; the key itself if nothing remains.
    pub(crate) fn into_stripped(self, prefix: &Self) -> std::result::Result<Self, Self> {
        match self.start_below(prefix) {
            Some(start) => Ok(Self { start, ..self }),
            None => Err(self),
        }
    }

    /// Where in its text begins what remains below `prefix`.
    fn start_below(&self, prefix: &Self) -> Option<u32> {
        match self.below(prefix) {
            // No part of it is longer than it.
            Some(rest) => Some(self.end - u32::try_from(rest.len()).ok()?),
            None => (self == prefix).then_some(self.end),
        }
    }

    /// The text below `prefix`, if it is strictly below it or both are the root.
    fn below(&self, prefix: &Self) -> Option<&str> {
        if prefix.is_root() {
            return Some(self.as_str());
        }
        self.as_str().strip_prefix(prefix.as_str())?.strip_prefix('/')
    }

    /// Whether `list`, `watch` and `delete_prefix` of this prefix cover `key`: it is strictly below, and not in a
    /// reserved part that this prefix does not name.
    #[must_use]
    pub fn covers(&self, key: &Self) -> bool {
        key.below(self).is_some_and(|rest| !rest.is_empty() && !names_reserved(rest))
    }

    /// The key above this one; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let (above, _) = self.as_str().rsplit_once('/').unwrap_or_default();
        let end = self.start + u32::try_from(above.len()).ok()?;
        Some(Self { text: Arc::clone(&self.text), end, ..*self })
    }

    /// The segments, first to last; none for the root.
    #[must_use]
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.as_str().split('/').filter(|segment| !segment.is_empty())
    }

    /// The last segment; `""` for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.as_str().rsplit_once('/').map_or(self.as_str(), |(_, name)| name)
    }

    /// The normalised text, without a leading or trailing `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // It begins and ends where a key does.
        self.text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.as_str().is_empty()
    }
}

/// Whether a text is a key as it stands, and not the root. Of a long list each is asked, so it is counted, for which many
/// bytes are compared at once, and not looked for.
fn is_normal(text: &str) -> bool {
    let bytes = text.as_bytes();
    let [first, rest @ ..] = bytes else { return false };
    let is_slash = |byte: u8| byte == b'/';
    let empty_segments = bytes.iter().zip(rest).filter(|(byte, next)| is_slash(**byte) && is_slash(**next));
    !is_slash(*first) && !text.ends_with('/') && !bytes.contains(&0) && empty_segments.count() == 0
}

/// Whether a segment is the reserved one. Most texts have no `_` at all, which is seen sooner.
fn names_reserved(text: &str) -> bool {
    text.as_bytes().contains(&b'_') && text.split('/').any(|segment| segment == RESERVED)
}

/// One name as one segment: `/` and `%` are written as `%2F` and `%25`, and the reserved word loses its magic.
pub(crate) fn escape(name: &str) -> Result<String> {
    if name.is_empty() || name.contains('\0') {
        return Err(Error::invalid(format!("name {name:?} is empty or contains a NUL")));
    }
    if name == RESERVED {
        return Ok(name.replace('_', "%5F"));
    }
    Ok(name.replace('%', "%25").replace('/', "%2F"))
}

/// The inverse of [`escape`].
pub(crate) fn unescape(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// By segment: a shorter key sorts before everything below it, and `a/b` before `a!`.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (self.as_str().as_bytes(), other.as_str().as_bytes());
        // Keys that are compared often have long beginnings in common.
        let blocks = ours.as_chunks::<8>().0.iter().zip(theirs.as_chunks::<8>().0);
        let common = 8 * blocks.take_while(|(ours, theirs)| ours == theirs).count();
        let fold = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        ours[common..].iter().map(fold).cmp(theirs[common..].iter().map(fold))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<&str> for Key {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(&text)
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_once() {
        for text in ["a/b", "/a/b", "a/b/", "/a/b/"] {
            assert_eq!(Key::new(text).unwrap().as_str(), "a/b");
        }
        assert_eq!(
            ["a", "/", "a/", "ü/b c"].map(|text| Key::new(text).unwrap().to_string()),
            ["a", "", "a", "ü/b c"]
        );
        assert!(Key::new("").unwrap().is_root());
        assert!(Key::new("/").unwrap().is_root());
    }

    #[test]
    fn a_child_is_one_segment_below() {
        let above = ["", "a", "a/b"].map(|text| Key::new(text).unwrap());
        assert_eq!(
            above.each_ref().map(|key| key.child("c d").unwrap().to_string()),
            ["c d", "a/c d", "a/b/c d"]
        );
        for none in ["x/y", "/x", "x/", "\0", RESERVED] {
            for above in &above {
                assert!(above.child(none).is_err(), "{none:?} below {above}");
            }
        }
        let stored = above.each_ref().map(|key| key.stored_below(RESERVED).unwrap().to_string());
        assert_eq!(stored, ["_quorate", "a/_quorate", "a/b/_quorate"]);
        for none in ["", "/x", "x/", "x//y", "\0"] {
            assert!(above.iter().all(|above| above.stored_below(none).is_none()), "{none:?}");
        }
    }

    #[test]
    fn the_keys_of_an_answer_are_what_each_is_by_itself() {
        let texts: Vec<_> = (0..100).map(|nth| format!("a/{nth}/ü")).collect();
        let lengths = [0, 1, TOGETHER - 1, TOGETHER, TOGETHER + 1, 2 * TOGETHER, 100];
        // Here and there something that is none: at the beginning, at the end, in a row, and all of it.
        let none: [fn(usize) -> bool; 5] =
            [|_| false, |nth| nth % 3 == 0, |nth| nth % 3 == 2, |nth| nth / 20 % 2 == 0, |_| true];
        for (length, is_none) in lengths.into_iter().flat_map(|length| none.map(|is_none| (length, is_none)))
        {
            let text = |nth: usize| if is_none(nth) { "a//b" } else { &*texts[nth] };
            let found: Vec<_> = (0..length).map(|nth| (nth, text(nth))).collect();
            let expected: Vec<_> =
                found.iter().filter_map(|(nth, text)| Some((Key::stored(text)?, *nth))).collect();
            let mut taken = Vec::new();
            Key::stored_in(found, |(_, text)| Some(text), |key, (nth, _)| taken.push((key, nth)));
            assert_eq!(taken, expected);
            let (prefix, above) = (Key::new("a").unwrap(), |key: &Key| key.parent().unwrap());
            for ((key, _), (alone, _)) in taken.iter().zip(&expected) {
                assert_eq!(key.strip(&prefix), alone.strip(&prefix));
                assert_eq!(above(key), above(alone));
                assert_eq!(above(&above(key)), prefix);
                assert_eq!(above(&above(key)).parent(), Some(Key::root()));
            }
        }
        let unread: Vec<_> = ["a", "b"].to_vec();
        let mut taken = Vec::new();
        Key::stored_in(unread, |text| Some(*text).filter(|text| *text == "b"), |key, _| taken.push(key));
        assert_eq!(taken, [Key::new("b").unwrap()]);
    }

    #[test]
    fn refuses_what_names_no_entry() {
        for text in ["a//b", "//", "//a", "a//", "a\0b", "_quorate", "a/_quorate/b"] {
            let error = Key::new(text).unwrap_err();
            assert_eq!(error.kind(), crate::kv::ErrorKind::InvalidInput, "{text:?}");
            assert!(error.to_string().contains("_quorate") || error.to_string().contains("key"), "{error}");
        }
    }

    #[test]
    fn a_text_is_normal_if_each_of_its_segments_is() {
        let mut texts = vec![String::new()];
        for length in 0..7 {
            let longest: Vec<_> = texts.iter().filter(|text| text.len() == length).cloned().collect();
            texts
                .extend(longest.iter().flat_map(|text| ["a", "/", "\0"].map(|next| format!("{text}{next}"))));
        }
        for text in &texts {
            let normal = text.split('/').all(|segment| !segment.is_empty() && !segment.contains('\0'));
            assert_eq!(is_normal(text), normal, "{text:?}");
        }
    }

    #[test]
    fn orders_and_covers_by_segment() {
        let key = |text| Key::new(text).unwrap();
        let mut keys = [key("a!"), key("a/b"), key("a"), key("b")];
        keys.sort();
        assert_eq!(keys, [key("a"), key("a/b"), key("a!"), key("b")]);
        assert!(key("a").covers(&key("a/b/c")));
        assert!(!key("a").covers(&key("ab")));
        assert!(!key("a").covers(&key("a")));
        assert!(Key::root().covers(&key("a")));
        let own = Key::reserved("lock", ["x"]).unwrap();
        assert!(!Key::root().covers(&own));
        assert!(Key::decode("_quorate/lock").unwrap().covers(&own));
    }

    #[test]
    fn names_become_one_segment_and_come_back() {
        for name in ["a/b", "%2F", "_quorate", "..", "ü *"] {
            let segment = escape(name).unwrap();
            assert!(!segment.contains('/') && segment != RESERVED);
            assert_eq!(unescape(&segment), name);
        }
        assert!(escape("").is_err());
    }

    #[test]
    fn strips_a_chroot() {
        let key = |text| Key::new(text).unwrap();
        assert_eq!(key("ns/a/b").strip(&key("ns")), Some(key("a/b")));
        assert_eq!(key("ns").strip(&key("ns")), Some(Key::root()));
        assert_eq!(key("nsa").strip(&key("ns")), None);
        assert_eq!(key("a").strip(&Key::root()), Some(key("a")));
        assert_eq!(Key::root().strip(&Key::root()), Some(Key::root()));
        // What was taken off plays no part any more.
        let rest = key("ns/a/b").strip(&key("ns")).unwrap();
        assert_eq!(rest.strip(&key("a")), Some(key("b")));
        assert_eq!(rest.strip(&key("ns")), None);
        assert!(key("a").covers(&rest) && !key("ns").covers(&rest) && key("a/b") <= rest);
        assert_eq!(rest.join(&key("c")).unwrap(), key("a/b/c"));
        assert!(std::collections::HashSet::from([key("a/b")]).contains(&rest));
        assert_eq!(key("ns").join(&Key::root()).unwrap(), key("ns"));
    }
}
