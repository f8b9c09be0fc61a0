//! Entries, as they are printed.

use quorate::kv::Entry;
use serde_json::{Map, Value};

use crate::exit::Failure;
use crate::output::{self, Format};
use crate::text::{escaped, insert_bytes};

pub(super) fn list(format: Format, entries: &[Entry]) -> Result<(), Failure> {
    match format {
        Format::Json => entries.iter().try_for_each(|entry| output::json(&object(entry))),
        Format::Human if entries.is_empty() => Ok(()),
        Format::Human => {
            let mut rows = vec![vec!["KEY".to_owned(), "VALUE".to_owned()]];
            rows.extend(entries.iter().map(|entry| cells(entry).to_vec()));
            output::table(&rows)
        }
    }
}

pub(super) fn object(entry: &Entry) -> Value {
    let mut object = Map::new();
    object.insert("key".into(), entry.key.as_str().into());
    insert_bytes(&mut object, "value", &entry.value);
    object.insert("version".into(), entry.version.to_string().into());
    object.insert("fence".into(), entry.fence.get().into());
    object.insert("bound".into(), entry.session.is_some().into());
    object.insert("session".into(), entry.session.as_ref().map(ToString::to_string).into());
    Value::Object(object)
}

pub(super) fn cells(entry: &Entry) -> [String; 2] {
    [escaped(entry.key.as_str().as_bytes()), escaped(&entry.value)]
}
