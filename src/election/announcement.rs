//! What a place in an election says: who it is, and its data.

use bytes::Bytes;

use crate::kv::{Error, Queue, Result};

/// The value of a place: the id, a line break, the data. In a native queue, which other clients read, only the data;
/// or the id where there is none.
pub(super) fn encode(queue: &Queue, id: &str, data: &Bytes) -> Bytes {
    if queue.is_native() {
        return if data.is_empty() { Bytes::copy_from_slice(id.as_bytes()) } else { data.clone() };
    }
    let mut value = Vec::with_capacity(id.len() + 1 + data.len());
    value.extend_from_slice(id.as_bytes());
    value.push(b'\n');
    value.extend_from_slice(data);
    value.into()
}

/// The id and data; where no id was told, the data is both.
pub(super) fn decode(queue: &Queue, value: &Bytes) -> (String, Bytes) {
    let end = value.iter().position(|byte| *byte == b'\n').filter(|_| !queue.is_native());
    match end {
        Some(end) => (text(&value[..end]), value.slice(end + 1..)),
        None => (text(value), value.clone()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Refuses an id that would not come back.
pub(super) fn check_id(id: &str) -> Result<()> {
    if id.is_empty() || id.contains(['\n', '\0']) {
        return Err(Error::invalid(format!("candidate id {id:?} is empty or contains a line break or NUL")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Key;

    #[test]
    fn id_and_data_come_back() {
        let queue = Queue::election("e").unwrap();
        for data in ["", "data", "two\nlines"] {
            let data = Bytes::from(data);
            assert_eq!(decode(&queue, &encode(&queue, "a", &data)), ("a".to_owned(), data));
        }
        assert!(check_id("a\nb").is_err() && check_id("").is_err());
    }

    #[test]
    fn native_clients_read_the_data_alone() {
        let native = Queue::native(Key::new("e").unwrap());
        assert_eq!(encode(&native, "a", &Bytes::from("two\nlines")), "two\nlines");
        assert_eq!(encode(&native, "a", &Bytes::new()), "a");
        assert_eq!(decode(&native, &Bytes::from("x\ny")), ("x\ny".to_owned(), Bytes::from("x\ny")));
    }
}
