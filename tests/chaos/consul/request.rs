//! Reads what stands in a log: `MessagePack`, in which texts and other bytes are the same.

use rmpv::Value;

pub(super) fn decode(mut encoded: &[u8]) -> Value {
    rmpv::decode::read_value(&mut encoded).expect("the log can be read")
}

pub(super) fn field<'a>(of: &'a Value, name: &str) -> &'a Value {
    const NOTHING: &Value = &Value::Nil;
    let pairs = of.as_map().map(Vec::as_slice).unwrap_or_default();
    pairs.iter().find(|(key, _)| key.as_str() == Some(name)).map_or(NOTHING, |(_, value)| value)
}

pub(super) fn number(of: &Value, name: &str) -> u64 {
    field(of, name).as_u64().unwrap_or(0)
}

pub(super) fn bytes<'a>(of: &'a Value, name: &str) -> &'a [u8] {
    field(of, name).as_slice().unwrap_or_default()
}

pub(super) fn text(of: &Value, name: &str) -> String {
    String::from_utf8_lossy(bytes(of, name)).into_owned()
}
