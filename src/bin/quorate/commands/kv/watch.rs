//! `kv watch`

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use quorate::kv::{Clock, Coordinator, Entry, Event, Key, Random, Scope, SystemClock, Version, observe};
use serde_json::json;

use super::show;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::text::escaped;

/// What was told last, so that a fresh snapshot is told as what it changes.
type Told = BTreeMap<Key, Version>;

pub(super) async fn run(store: &Arc<dyn Coordinator>, format: Format, scope: Scope) -> Result<Exit, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut events = observe(store, scope, &clock, &Random::from_os());
    let mut told = Told::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => tell(format, event, &mut told)?,
            Err(error) if error.is_transient() => output::note(&error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Exit::OK)
}

fn tell(format: Format, event: Event, told: &mut Told) -> Result<(), Failure> {
    match event {
        Event::Snapshot(entries) => {
            let now: Told = entries.iter().map(|entry| (entry.key.clone(), entry.version)).collect();
            for gone in told.keys().filter(|key| !now.contains_key(key)) {
                deleted(format, gone)?;
            }
            for entry in entries.iter().filter(|entry| told.get(&entry.key) != Some(&entry.version)) {
                put(format, entry)?;
            }
            *told = now;
        }
        Event::Put(entry) => {
            put(format, &entry)?;
            told.insert(entry.key, entry.version);
        }
        Event::Delete(key) => {
            deleted(format, &key)?;
            told.remove(&key);
        }
    }
    Ok(())
}

fn put(format: Format, entry: &Entry) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let mut object = show::object(entry);
            object["event"] = "put".into();
            output::json(&object)
        }
        Format::Human => output::line(format!("put     {}", show::cells(entry).join("  ")).trim_end()),
    }
}

fn deleted(format: Format, key: &Key) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(&json!({"event": "delete", "key": key.as_str()})),
        Format::Human => output::line(&format!("delete  {}", escaped(key.as_str().as_bytes()))),
    }
}
