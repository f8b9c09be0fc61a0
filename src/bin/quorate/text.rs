//! Bytes and text that anybody may have written, as something to print.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// The same in one line that no terminal takes for a command: what is printable as it is, the rest as Rust escapes it.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' || character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Adds bytes to an object: as text under `name`, or, where they are no text, in base64 under `name_base64`.
pub(crate) fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_it_is_it_is_one_printable_line() {
        for (bytes, shown) in [
            (&b"plain text"[..], "plain text"),
            ("caf\u{e9} \u{1f600}".as_bytes(), "caf\u{e9} \u{1f600}"),
            (b"two\nlines\tand \\", "two\\nlines\\tand \\\\"),
            (b"\x1b[31m\x00", "\\u{1b}[31m\\u{0}"),
            (b"a\xff\xfez", "a\\xff\\xfez"),
            (b"", ""),
        ] {
            assert_eq!(escaped(bytes), shown);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_told_apart() {
        let mut object = Map::new();
        insert_bytes(&mut object, "value", "caf\u{e9}\n".as_bytes());
        insert_bytes(&mut object, "data", &[0xff, 0, 0x10]);
        let expected = serde_json::json!({"value": "caf\u{e9}\n", "data_base64": "/wAQ"});
        assert_eq!(Value::Object(object), expected);
    }
}
