//! Applies Consul's log of agreed requests to keys and sessions, as its servers do.

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rmpv::Value;
use serde_json::{Value as Json, json};

use super::request::{bytes, decode, field, number, text};
use crate::history::{Change, Stands};

/// The types of requests that change keys or sessions.
const DEREGISTER: u8 = 1;
const KEYS: u8 = 2;
const SESSION: u8 = 3;
const TRANSACTION: u8 = 8;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    value: Vec<u8>,
    flags: u64,
    session: String,
    created: u64,
    modified: u64,
    locked: u64,
}

#[derive(Clone, Debug)]
struct Session {
    node: String,
    deletes: bool,
}

/// What stands after the requests so far, and all that has changed on the way.
#[derive(Debug, Default)]
pub(super) struct Replay {
    keys: BTreeMap<String, Entry>,
    sessions: BTreeMap<String, Session>,
    history: Vec<Change>,
}

/// A request that was refused, and changed nothing.
struct Refused;

impl Replay {
    pub(super) fn into_history(self) -> Vec<Change> {
        self.history
    }

    /// All entries, as Consul shows them.
    pub(super) fn stands(&self) -> Vec<Json> {
        let shown = |(key, entry): (&String, &Entry)| {
            let value = BASE64_STANDARD.encode(&entry.value);
            let mut shown = json!({
                "Key": key, "Flags": entry.flags, "LockIndex": entry.locked,
                "Value": if entry.value.is_empty() { Json::Null } else { value.into() },
                "CreateIndex": entry.created, "ModifyIndex": entry.modified,
            });
            if !entry.session.is_empty() {
                shown["Session"] = entry.session.clone().into();
            }
            shown
        };
        let mut entries: Vec<_> = self.keys.iter().map(shown).collect();
        entries.sort_by_key(|entry| entry["Key"].to_string());
        entries
    }

    /// Applies what the log has at this index.
    pub(super) fn apply(&mut self, index: u64, logged: &[u8]) {
        let logged = decode(logged);
        // Others are about the servers themselves.
        if number(&logged, "Type") != 0 {
            return;
        }
        let Some((kind, request)) = bytes(&logged, "Data").split_first() else { return };
        let request = match *kind & 0x7f {
            DEREGISTER | KEYS | SESSION | TRANSACTION => decode(request),
            _ => return,
        };
        let before = (self.keys.clone(), self.sessions.clone(), self.history.len());
        let mut applied = Ok(());
        match *kind & 0x7f {
            DEREGISTER => self.deregister(index, &request),
            KEYS => applied = self.key(index, &text(&request, "Op"), field(&request, "DirEnt")),
            SESSION => self.session(index, &text(&request, "Op"), field(&request, "Session")),
            _ => applied = self.transaction(index, field(&request, "Ops")),
        }
        if applied.is_err() {
            (self.keys, self.sessions) = (before.0, before.1);
            self.history.truncate(before.2);
        }
    }

    /// All of it, or nothing.
    fn transaction(&mut self, index: u64, operations: &Value) -> Result<(), Refused> {
        for operation in operations.as_array().into_iter().flatten() {
            let (key, session) = (field(operation, "KV"), field(operation, "Session"));
            if key.is_map() {
                self.key(index, &text(key, "Verb"), field(key, "DirEnt"))?;
            } else if session.is_map() {
                self.end(index, &text(field(session, "Session"), "ID"));
            }
        }
        Ok(())
    }

    fn key(&mut self, index: u64, verb: &str, wanted: &Value) -> Result<(), Refused> {
        let key = text(wanted, "Key");
        let session = text(wanted, "Session");
        let stands = self.keys.get(&key).cloned();
        let modified = stands.as_ref().map_or(0, |entry| entry.modified);
        let holder = stands.as_ref().map(|entry| entry.session.clone()).unwrap_or_default();
        let mut next = Entry {
            value: bytes(wanted, "Value").to_vec(),
            flags: number(wanted, "Flags"),
            session: holder.clone(),
            created: stands.as_ref().map_or(index, |entry| entry.created),
            modified: index,
            locked: stands.as_ref().map_or(0, |entry| entry.locked),
        };
        let ensure = |good: bool| if good { Ok(()) } else { Err(Refused) };
        match verb {
            "set" => self.put(key, next),
            "cas" => {
                ensure(number(wanted, "ModifyIndex") == modified)?;
                self.put(key, next);
            }
            "lock" => {
                ensure(self.sessions.contains_key(&session) && (holder.is_empty() || holder == session))?;
                next.locked += u64::from(holder.is_empty());
                next.session = session;
                self.put(key, next);
            }
            "unlock" => {
                ensure(!session.is_empty() && holder == session)?;
                next.session.clear();
                self.put(key, next);
            }
            "delete" => self.delete(&key),
            "delete-cas" => {
                ensure(stands.is_none() || number(wanted, "ModifyIndex") == modified)?;
                self.delete(&key);
            }
            "delete-tree" => {
                let below: Vec<_> =
                    self.keys.keys().filter(|other| other.starts_with(&key)).cloned().collect();
                for key in below {
                    self.delete(&key);
                }
            }
            "check-index" => ensure(stands.is_some() && number(wanted, "ModifyIndex") == modified)?,
            "check-session" => ensure(stands.is_some() && holder == session)?,
            "check-not-exists" => ensure(stands.is_none())?,
            "get" => ensure(stands.is_some())?,
            "get-tree" | "get-or-empty" => {}
            other => panic!("the log has the verb {other:?}"),
        }
        Ok(())
    }

    fn put(&mut self, key: String, entry: Entry) {
        // What changes nothing moves no index.
        let same = |stands: &Entry| Entry { modified: entry.modified, ..stands.clone() } == entry;
        if self.keys.get(&key).is_some_and(same) {
            return;
        }
        let value = String::from_utf8_lossy(&entry.value).into_owned();
        let now = Some(Stands { fence: entry.created, value });
        self.history.push(Change { key: key.clone(), now });
        self.keys.insert(key, entry);
    }

    fn delete(&mut self, key: &str) {
        if self.keys.remove(key).is_some() {
            self.history.push(Change { key: key.to_owned(), now: None });
        }
    }

    fn session(&mut self, index: u64, verb: &str, wanted: &Value) {
        let id = text(wanted, "ID");
        match verb {
            "create" => {
                let deletes = text(wanted, "Behavior") == "delete";
                self.sessions.insert(id, Session { node: text(wanted, "Node"), deletes });
            }
            "destroy" => self.end(index, &id),
            other => panic!("the log has {other:?} of a session"),
        }
    }

    /// A session ends, and what it holds is deleted or set free.
    fn end(&mut self, index: u64, id: &str) {
        let Some(session) = self.sessions.remove(id) else { return };
        let held = self.keys.iter().filter(|(_, entry)| entry.session == id);
        let held: BTreeSet<_> = held.map(|(key, _)| key.clone()).collect();
        for key in held {
            if session.deletes {
                self.delete(&key);
            } else {
                let entry = Entry { session: String::new(), modified: index, ..self.keys[&key].clone() };
                self.put(key, entry);
            }
        }
    }

    /// A node goes, and its sessions with it.
    fn deregister(&mut self, index: u64, request: &Value) {
        if text(request, "ServiceID").is_empty() && text(request, "CheckID").is_empty() {
            let node = text(request, "Node");
            let on = self.sessions.iter().filter(|(_, session)| session.node == node);
            let on: Vec<_> = on.map(|(id, _)| id.clone()).collect();
            for id in on {
                self.end(index, &id);
            }
        }
    }
}
