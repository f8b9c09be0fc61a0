//! What comes in, cut into replies.

use std::io;

use redis::{Value, parse_redis_value};

/// So much is read at a time.
const PIECE: usize = 16 * 1024;

/// More than this is not kept for the next reply.
const KEPT: usize = 256 * 1024;

/// How deep arrays may lie in each other.
const DEPTH: usize = 8;

/// Bytes that were received, and how far they were looked at.
#[derive(Debug, Default)]
pub(super) struct Replies {
    buffer: Vec<u8>,
    /// Where what was received ends.
    end: usize,
    /// Where the reply begins that comes next.
    start: usize,
    /// How far that reply was seen, and how many of its parts begin there. No part is looked at twice.
    seen: usize,
    missing: usize,
}

impl Replies {
    /// Where to put what is received.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end && self.buffer.len() > KEPT {
            self.buffer = Vec::new();
        } else {
            self.buffer.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end, self.seen) = (0, self.end - self.start, self.seen - self.start);
        if self.buffer.len() < self.end + PIECE {
            self.buffer.resize((2 * self.end).max(self.end + PIECE), 0);
        }
        &mut self.buffer[self.end..]
    }

    /// So much was put there.
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// The next reply, once it is there as a whole.
    pub(super) fn next(&mut self) -> io::Result<Option<Value>> {
        if self.start == self.end {
            return Ok(None);
        }
        if self.seen == self.start {
            self.missing = 1;
        }
        let bytes = &self.buffer[..self.end];
        while self.missing > 0 {
            let Some((line, mut at)) = line(bytes, self.seen) else { return Ok(None) };
            self.missing -= 1;
            match line.first() {
                Some(b'*') => self.missing += length(line)?.unwrap_or(0),
                Some(b'$') => at += length(line)?.map_or(0, |length| length + 2),
                _ => {}
            }
            if at > self.end {
                self.missing += 1;
                return Ok(None);
            }
            self.seen = at;
        }
        let value = value(bytes, &mut self.start, DEPTH)?;
        self.seen = self.start;
        Ok(Some(value))
    }
}

/// Reads a value that is there as a whole.
fn value(bytes: &[u8], at: &mut usize, depth: usize) -> io::Result<Value> {
    let (line, next) = line(bytes, *at).ok_or_else(|| bad("half a reply"))?;
    *at = next;
    match line.first() {
        Some(b'$') => Ok(match length(line)? {
            None => Value::Nil,
            Some(length) => {
                *at += length + 2;
                Value::BulkString(bytes[next..next + length].to_vec())
            }
        }),
        Some(b'*') => Ok(match length(line)? {
            None => Value::Nil,
            Some(_) if depth == 0 => return Err(bad("too deep")),
            Some(length) => {
                Value::Array((0..length).map(|_| value(bytes, at, depth - 1)).collect::<Result<_, _>>()?)
            }
        }),
        Some(b':') => Ok(Value::Int(number(line)?)),
        // States and errors are seldom; the crate knows what errors mean.
        _ => parse_redis_value(&bytes[next - line.len() - 2..next]).map_err(io::Error::other),
    }
}

/// The line that begins at `at`, and where the next does.
fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| *byte == b'\r').filter(|end| end + 1 < rest.len())?;
    Some((&rest[..end], at + end + 2))
}

fn number(line: &[u8]) -> io::Result<i64> {
    let digits = line.get(1..).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| bad("no number"))
}

/// None for what is not there.
fn length(line: &[u8]) -> io::Result<Option<usize>> {
    match number(line)? {
        -1 => Ok(None),
        length => usize::try_from(length)
            .ok()
            .filter(|length| *length <= MOST)
            .map(Some)
            .ok_or_else(|| bad("no length")),
    }
}

/// What Redis itself allows a string to be long.
const MOST: usize = 512 * 1024 * 1024;

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is not how Redis answers: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: &[u8] =
        b"*3\r\n$5\r\na\r\nbc\r\n:-7\r\n*2\r\n$-1\r\n$0\r\n\r\n+OK\r\n-MOVED 1 h:2\r\n*0\r\n*-1\r\n:12\r\n";

    fn expected() -> Vec<Value> {
        let inner = Value::Array(vec![Value::Nil, Value::BulkString(Vec::new())]);
        let first = Value::Array(vec![Value::BulkString(b"a\r\nbc".to_vec()), Value::Int(-7), inner]);
        let moved = parse_redis_value(b"-MOVED 1 h:2\r\n").unwrap();
        vec![first, Value::Okay, moved, Value::Array(Vec::new()), Value::Nil, Value::Int(12)]
    }

    fn fed(bytes: &[u8], piece: usize) -> io::Result<Vec<Value>> {
        let (mut replies, mut all) = (Replies::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            replies.room()[..piece.len()].copy_from_slice(piece);
            replies.filled(piece.len());
            while let Some(reply) = replies.next()? {
                all.push(reply);
            }
        }
        Ok(all)
    }

    #[test]
    fn replies_are_the_same_however_they_come_in() {
        for piece in 1..=MANY.len() {
            assert_eq!(fed(MANY, piece).unwrap(), expected(), "in pieces of {piece}");
        }
    }

    #[test]
    fn large_replies_are_not_kept() {
        let mut text = format!("${}\r\n", 3 * KEPT).into_bytes();
        text.extend(vec![b'x'; 3 * KEPT]);
        text.extend(b"\r\n:1\r\n");
        let (mut replies, mut count) = (Replies::default(), 0);
        for piece in text.chunks(1000) {
            replies.room()[..piece.len()].copy_from_slice(piece);
            replies.filled(piece.len());
            while replies.next().unwrap().is_some() {
                count += 1;
            }
        }
        assert_eq!(count, 2);
        replies.room();
        assert_eq!(replies.buffer.len(), PIECE);
    }

    #[test]
    fn nonsense_is_no_reply() {
        for text in ["HTTP/1.1 400\r\n", "$x\r\n", "$-2\r\n", ":\r\n", "*99999999999\r\n"] {
            assert!(fed(text.as_bytes(), 100).is_err(), "{text:?}");
        }
        let deep = "*1\r\n".repeat(DEPTH + 1) + ":1\r\n";
        assert!(fed(deep.as_bytes(), 1000).is_err());
    }
}
