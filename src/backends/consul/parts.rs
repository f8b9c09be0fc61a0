//! What a read tells, taken from its answer as that comes in, part by part: a long answer never stands in memory beside
//! all that it tells.

use bytes::Bytes;

use super::error::broken;
use super::keys::Stored;
use crate::kv::Result;

const OTHER: &str = "an answer of another form than Consul's";

/// Hands out each of the list that an answer is.
pub(super) fn each(parts: Vec<Bytes>, mut take: impl FnMut(&Stored<'_>)) -> Result<()> {
    let mut list = List::default();
    for part in parts {
        list.take(&part, &mut take)?;
    }
    list.end()
}

/// What may come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Begin,
    FirstOrEnd,
    Another,
    CommaOrEnd,
    End,
}

/// A list that comes in.
#[derive(Default)]
pub(super) struct List {
    unread: Vec<u8>,
    next: Next,
}

impl List {
    /// Takes the next part in, and hands out what has become whole.
    pub(super) fn take(&mut self, part: &[u8], mut each: impl FnMut(&Stored<'_>)) -> Result<()> {
        self.unread.extend_from_slice(part);
        let read = self.read(&mut each)?;
        self.unread.drain(..read);
        Ok(())
    }

    /// Fails unless all of it has come.
    pub(super) fn end(&self) -> Result<()> {
        if self.next == Next::End && self.unread.is_empty() { Ok(()) } else { Err(broken(OTHER)) }
    }

    /// Reads as far as what is there is complete, and says how far that was.
    fn read(&mut self, each: &mut impl FnMut(&Stored<'_>)) -> Result<usize> {
        let text = match str::from_utf8(&self.unread) {
            Ok(text) => text,
            // A part may end within a character.
            Err(error) if error.error_len().is_none() => {
                let (whole, _) = self.unread.split_at(error.valid_up_to());
                str::from_utf8(whole).map_err(|error| broken(OTHER).because(error))?
            }
            Err(error) => return Err(broken(OTHER).because(error)),
        };
        let mut rest = text.trim_ascii_start();
        while let Some(first) = rest.bytes().next() {
            let mark = match (self.next, first) {
                (Next::Begin, b'[') => Next::FirstOrEnd,
                (Next::CommaOrEnd, b',') => Next::Another,
                (Next::FirstOrEnd | Next::CommaOrEnd, b']') => Next::End,
                (Next::FirstOrEnd | Next::Another, b'{') => {
                    let mut one = serde_json::Deserializer::from_str(rest).into_iter::<Stored<'_>>();
                    match one.next() {
                        Some(Ok(stored)) => each(&stored),
                        Some(Err(error)) if !error.is_eof() => return Err(broken(OTHER).because(error)),
                        // The next part has the rest of it.
                        Some(Err(_)) | None => break,
                    }
                    rest = rest.split_at(one.byte_offset()).1.trim_ascii_start();
                    self.next = Next::CommaOrEnd;
                    continue;
                }
                _ => return Err(broken(OTHER)),
            };
            rest = rest.split_at(1).1.trim_ascii_start();
            self.next = mark;
        }
        Ok(text.len() - rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys in an answer that comes in parts of this length.
    fn keys(text: &str, part: usize) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let parts = text.as_bytes().chunks(part).map(Bytes::copy_from_slice).collect();
        each(parts, |stored| {
            keys.extend(stored.key().map(|key| key.to_string()));
        })?;
        Ok(keys)
    }

    fn stored(key: &str) -> String {
        format!(
            r#"{{"LockIndex":0,"Key":"{key}","Flags":7,"Value":"ewogfQ==","CreateIndex":1,"ModifyIndex":2}}"#
        )
    }

    #[test]
    fn a_list_is_the_same_however_it_is_cut() {
        let (a, b, c) = (stored("a"), stored(r"u\u0062/\\"), stored("ü\\\"}]"));
        let long = format!(" [\n{a} ,{b},\t{c},{}]\r\n", stored("d"));
        for (text, told) in [("[]", vec![]), (&*format!("[{a}]"), vec!["a"]), (&*long, vec!["a", "d"])] {
            for part in 1..=text.len() {
                assert_eq!(keys(text, part).unwrap(), told, "{text} by {part}");
            }
        }
    }

    #[test]
    fn what_is_no_whole_list_is_refused() {
        let a = stored("a");
        let cases = [
            String::new(),
            "null".into(),
            "[".into(),
            format!("[{a}"),
            format!("[{a},]"),
            format!("[{a}{a}]"),
            format!("[,{a}]"),
            format!("[{a}]]"),
            format!("[{a}] x"),
            format!("[{}]", &a[..a.len() - 1]),
            a.clone(),
            r#"[{"Key":1}]"#.into(),
            "[1]".into(),
            "<html>".into(),
        ];
        for text in &cases {
            for part in [1, 2, 7, 1000] {
                assert!(keys(text, part).is_err(), "{text} by {part}");
            }
        }
        assert!(each(vec![Bytes::from_static(b"[\"\xff\"]")], |_| ()).is_err());
        assert!(each(vec![Bytes::from_static(b"[]\xc3")], |_| ()).is_err());
    }
}
