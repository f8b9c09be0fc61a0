//! The queries, inside a transaction that somebody else begins and ends.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::error::Fault;
use super::host;
use crate::kv::{
    Entry, Error, Event, Fence, Key, Place, PlaceRef, Put, Queue, Rejection, Renewal, Scope, SessionId, Txn,
    Version, Write,
};

type Result<T> = std::result::Result<T, Fault>;

/// How many changes are kept for those who listen; who fell behind further takes a fresh snapshot.
pub(super) const KEPT_CHANGES: i64 = 10_000;

const AHEAD: &str = "SELECT key, version, fence, session, x'' FROM entry WHERE parent = ?1 AND fence < ?2 ORDER BY fence DESC";

/// The file as one transaction sees it, at one moment.
#[derive(Debug)]
pub(super) struct Tables<'a> {
    connection: &'a Connection,
    now: i64,
    /// The number of the last change that was made here.
    made: Cell<Option<i64>>,
}

/// One row of the change log.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) revision: i64,
    /// What to tell; `None` when a later change of the same key follows.
    pub(super) event: Option<Event>,
}

impl<'a> Tables<'a> {
    /// The time of the transaction is now.
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, now: host::now(), made: Cell::new(None) }
    }

    /// The number of the last change; 0 before the first.
    pub(super) fn revision(&self) -> Result<i64> {
        self.one("SELECT coalesce(max(revision), 0) FROM change", [], |row| row.get(0))
    }

    /// The number of the last change that was made by these; `None` if none was.
    pub(super) fn made(&self) -> Option<i64> {
        self.made.get()
    }

    /// The changes after `seen`, oldest first, at most `limit`.
    pub(super) fn changes(&self, seen: i64, limit: usize) -> Result<Vec<Change>> {
        let sql = "SELECT change.key, version, fence, session, value, revision, deleted FROM change
            LEFT JOIN entry ON entry.key = change.key AND version = revision
            WHERE revision > ?1 ORDER BY revision LIMIT ?2";
        self.all(sql, params![seen, count(limit)], |row| {
            let event = match (row.get(6)?, row.get::<_, Option<i64>>(1)?) {
                (true, _) => Some(Event::Delete(decode(row.get_ref(0)?.as_blob()?)?)),
                (false, Some(_)) => Some(Event::Put(entry(row)?)),
                (false, None) => None,
            };
            Ok(Change { revision: row.get(5)?, event })
        })
    }

    /// Forgets changes that are too old to be asked for.
    pub(super) fn trim(&self, revision: i64) -> Result<()> {
        self.run("DELETE FROM change WHERE revision <= ?1", [revision - KEPT_CHANGES]).map(drop)
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.maybe(
            "SELECT key, version, fence, session, value FROM entry WHERE key = ?1",
            [encode(key)],
            entry,
        )
    }

    pub(super) fn covered(&self, scope: &Scope) -> Result<Vec<Entry>> {
        let prefix = match scope {
            Scope::Key(key) => return Ok(self.get(key)?.into_iter().collect()),
            Scope::Prefix(prefix) => prefix,
        };
        let sql =
            "SELECT key, version, fence, session, value FROM entry WHERE key >= ?1 AND key < ?2 ORDER BY key";
        let mut last = None;
        let mut entries =
            self.all(sql, below(prefix), |row| entry(row).map(|entry| entry.sharing(&mut last)))?;
        entries.retain(|entry| prefix.covers(&entry.key));
        Ok(entries)
    }

    pub(super) fn commit(&self, txn: &Txn) -> Result<Write> {
        txn.session().map_or(Ok(()), |session| self.alive(session))?;
        for check in txn.checks() {
            let found = self.get(check.key())?;
            if !check.holds(found.as_ref()) {
                return Ok(Write::Rejected(Rejection { key: check.key().clone(), found }));
            }
        }
        for key in txn.deletes() {
            self.delete(key)?;
        }
        txn.puts().iter().map(|put| self.put(put)).collect::<Result<_>>().map(Write::Applied)
    }

    pub(super) fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        let sql = "SELECT key FROM entry WHERE key >= ?1 AND key < ?2 ORDER BY key";
        let keys = self.all(sql, below(prefix), |row| decode(row.get_ref(0)?.as_blob()?))?;
        let mut deleted = 0;
        for key in keys.iter().filter(|key| prefix.covers(key)) {
            self.delete(key)?;
            deleted += 1;
        }
        Ok(deleted)
    }

    fn put(&self, put: &Put) -> Result<Entry> {
        let revision = self.log(&put.key, false)?;
        let session = put.session.as_ref().map(number).transpose()?;
        // What a statement returns SQLite keeps in a table of its own until all is done, which takes longer than a look.
        let known = self.maybe("SELECT fence FROM entry WHERE key = ?1", [encode(&put.key)], |row| {
            row.get::<_, i64>(0)
        })?;
        if known.is_some() {
            let sql = "UPDATE entry SET version = ?2, session = ?3, parent = ?4, value = ?5 WHERE key = ?1";
            let (key, parent) = (encode(&put.key), parent(&put.key, session));
            self.run(sql, params![key, revision, session, parent, &*put.value])?;
        } else {
            self.insert(&put.key, revision, session, &put.value)?;
        }
        let fence = known.unwrap_or(revision);
        let (version, fence) =
            (Version::new(revision.unsigned_abs().into()), Fence::new(fence.unsigned_abs()));
        Ok(Entry::new(put.key.clone(), put.value.clone(), version, fence, put.session.clone()))
    }

    fn insert(&self, key: &Key, revision: i64, session: Option<i64>, value: &[u8]) -> Result<()> {
        let sql =
            "INSERT INTO entry (key, version, fence, session, parent, value) VALUES (?1, ?2, ?2, ?3, ?4, ?5)";
        self.run(sql, params![encode(key), revision, session, parent(key, session), value]).map(drop)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        if self.run("DELETE FROM entry WHERE key = ?1", [encode(key)])? > 0 {
            self.log(key, true)?;
        }
        Ok(())
    }

    fn log(&self, key: &Key, deleted: bool) -> Result<i64> {
        self.run("INSERT INTO change (key, deleted) VALUES (?1, ?2)", params![encode(key), deleted])?;
        let revision = self.connection.last_insert_rowid();
        self.made.set(Some(revision));
        Ok(revision)
    }

    /// Whether a session is over that nobody has ended yet.
    pub(super) fn due(&self) -> Result<bool> {
        Ok(self.next_deadline()?.is_some_and(|deadline| deadline <= self.now))
    }

    pub(super) fn next_deadline(&self) -> Result<Option<i64>> {
        self.one("SELECT min(deadline) FROM session", [], |row| row.get(0))
    }

    /// Ends the sessions that are over. Only this makes them so for anybody.
    pub(super) fn reap(&self) -> Result<()> {
        let sql = "SELECT id FROM session WHERE deadline <= ?1 ORDER BY deadline";
        self.all(sql, [self.now], |row| row.get(0))?.into_iter().try_for_each(|id| self.end(id))
    }

    pub(super) fn end_all_sessions(&self) -> Result<()> {
        self.all("SELECT id FROM session", [], |row| row.get(0))?.into_iter().try_for_each(|id| self.end(id))
    }

    pub(super) fn revoke(&self, session: &SessionId) -> Result<()> {
        number(session).map_or(Ok(()), |id| self.end(id))
    }

    fn end(&self, id: i64) -> Result<()> {
        let sql =
            "INSERT INTO change (key, deleted) SELECT key, 1 FROM entry WHERE session = ?1 ORDER BY key";
        if self.run(sql, [id])? > 0 {
            self.made.set(Some(self.connection.last_insert_rowid()));
        }
        self.run("DELETE FROM entry WHERE session = ?1", [id])?;
        self.run("DELETE FROM session WHERE id = ?1", [id]).map(drop)
    }

    /// Opens a session named by chance: a counter would start over with a new file, and so name two sessions alike.
    pub(super) fn grant(&self, nonce: u128, ttl: Duration) -> Result<SessionId> {
        // 63 bits of it, which always fit.
        let id = i64::try_from(nonce >> 65).unwrap_or_default();
        let ttl = nanos(ttl);
        let deadline = self.now.saturating_add(ttl);
        self.run("INSERT INTO session VALUES (?1, ?2, ?3)", params![id, ttl, deadline])?;
        Ok(name(id))
    }

    pub(super) fn renew(&self, session: &SessionId) -> Result<Renewal> {
        let Ok(id) = number(session) else { return Ok(Renewal::Lost) };
        let ttl = self.maybe("SELECT ttl FROM session WHERE id = ?1", [id], |row| row.get::<_, i64>(0))?;
        let Some(ttl) = ttl else { return Ok(Renewal::Lost) };
        let deadline = self.now.saturating_add(ttl);
        self.run("UPDATE session SET deadline = ?2 WHERE id = ?1", params![id, deadline])?;
        Ok(Renewal::Renewed { ttl: Duration::from_nanos(ttl.unsigned_abs()) })
    }

    fn alive(&self, session: &SessionId) -> Result<()> {
        let id = number(session)?;
        match self.maybe("SELECT 1 FROM session WHERE id = ?1", [id], |_| Ok(()))? {
            Some(()) => Ok(()),
            None => Err(gone(session)),
        }
    }

    /// The place at `key`, made unless it stands there.
    pub(super) fn enter(&self, key: &Key, value: &Bytes, session: &SessionId) -> Result<Fence> {
        self.alive(session)?;
        if let Some((fence, _)) = self.standing(key)? {
            return Ok(fence);
        }
        let revision = self.log(key, false)?;
        self.insert(key, revision, Some(number(session)?), value)?;
        Ok(Fence::new(revision.unsigned_abs()))
    }

    /// Removes the place, and says whether it stood.
    pub(super) fn leave(&self, place: &Place) -> Result<bool> {
        let sql = "DELETE FROM entry WHERE key = ?1 AND fence = ?2";
        let stood = self.run(sql, params![encode(&place.key), place.fence.get().cast_signed()])? > 0;
        if stood {
            self.log(&place.key, true)?;
        }
        Ok(stood)
    }

    pub(super) fn stands(&self, place: &Place) -> Result<bool> {
        let own = self.standing(&place.key)?;
        Ok(own
            .is_some_and(|(fence, session)| fence == place.fence && session.as_ref() == Some(&place.session)))
    }

    fn standing(&self, key: &Key) -> Result<Option<(Fence, Option<SessionId>)>> {
        self.maybe("SELECT fence, session FROM entry WHERE key = ?1", [encode(key)], |row| {
            let (fence, session): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok((Fence::new(fence.unsigned_abs()), session.map(name)))
        })
    }

    /// What stands ahead of `fence`, nearest first; reads no more than it tells, nor any value.
    pub(super) fn ahead(&self, queue: &Queue, fence: Fence, limit: usize) -> Result<Vec<PlaceRef>> {
        let mut statement = self.connection.prepare_cached(AHEAD)?;
        let rows = statement.query_map(params![encode(queue.key()), fence.get().cast_signed()], entry)?;
        let places = rows.filter_map(|row| row.map(|entry| queue.read_place(&entry)).transpose());
        Ok(places.take(limit).collect::<rusqlite::Result<_>>()?)
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        Ok(self.connection.prepare_cached(sql)?.query_row(params, read)?)
    }

    fn maybe<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.connection.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_map(params, read)?.collect::<rusqlite::Result<_>>()?)
    }
}

/// The text with NUL, which no key contains, for `/`: ordered as bytes, these are in key order, and what is below a
/// prefix is one range.
fn encode(key: &Key) -> Vec<u8> {
    key.as_str().bytes().map(|byte| if byte == b'/' { 0 } else { byte }).collect()
}

/// What finds a place of a queue, and so anything that is bound, by fence.
fn parent(key: &Key, session: Option<i64>) -> Option<Vec<u8>> {
    session.and(key.parent()).as_ref().map(encode)
}

fn decode(bytes: &[u8]) -> rusqlite::Result<Key> {
    let text: Vec<_> = bytes.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    let unreadable = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, error);
    let text = String::from_utf8(text).map_err(|error| unreadable(error.into()))?;
    Key::decode(&text).map_err(|error| unreadable(error.into()))
}

/// From the first key strictly below the prefix up to, but not with, the first after all of them.
fn below(prefix: &Key) -> [Vec<u8>; 2] {
    if prefix.is_root() {
        // No UTF-8 contains this byte.
        return [Vec::new(), vec![0xFF]];
    }
    let with = |end| encode(prefix).into_iter().chain([end]).collect();
    [with(0), with(1)]
}

/// Reads `key, version, fence, session, value`.
fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let (version, fence): (i64, i64) = (row.get(1)?, row.get(2)?);
    let session = row.get::<_, Option<i64>>(3)?.map(name);
    let (version, fence) = (Version::new(version.unsigned_abs().into()), Fence::new(fence.unsigned_abs()));
    let value = Bytes::from(row.get::<_, Vec<u8>>(4)?);
    Ok(Entry::new(decode(row.get_ref(0)?.as_blob()?)?, value, version, fence, session))
}

fn name(id: i64) -> SessionId {
    SessionId::new(format!("{id:016x}"))
}

fn number(session: &SessionId) -> Result<i64> {
    let number = u64::from_str_radix(session.as_str(), 16).map(u64::cast_signed);
    // A name that is not as we write it is nobody's, though it may read as a number.
    number.ok().filter(|id| name(*id) == *session).ok_or_else(|| gone(session))
}

fn gone(session: &SessionId) -> Fault {
    Error::session_lost(format!("session {session} is gone")).into()
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rusqlite::config::DbConfig;

    use super::super::schema;
    use super::*;

    #[test]
    fn a_place_is_found_by_an_index_however_long_the_queue() {
        let connection = Connection::open_in_memory().unwrap();
        // As the store has it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).unwrap();
        connection.execute_batch(schema::LAYOUT).unwrap();
        let plan = format!("EXPLAIN QUERY PLAN {AHEAD}");
        let plan: Vec<String> = connection
            .prepare(&plan)
            .unwrap()
            .query_map(params![b"q", 1], |row| row.get(3))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        assert_eq!(plan, ["SEARCH entry USING INDEX entry_by_place (parent=? AND fence<?)"]);
    }

    #[test]
    fn keys_are_ordered_as_bytes() {
        let mut keys = ["a", "a/b", "a/b/c", "a!", "a/é", "b"].map(|text| Key::new(text).unwrap());
        keys.sort_by_key(encode);
        assert!(keys.is_sorted());
        for key in &keys {
            assert_eq!(decode(&encode(key)).unwrap(), *key);
            let [from, to] = below(&Key::new("a").unwrap());
            assert_eq!((from..to).contains(&encode(key)), Key::new("a").unwrap().covers(key), "{key}");
        }
        assert!(decode(b"\xFF").is_err() && decode(b"a\0\0b").is_err());
    }

    #[test]
    fn only_names_as_we_write_them_are_sessions() {
        assert_eq!(number(&name(42)).unwrap(), 42);
        for text in ["", "2a", "+00000000000002a", "000000000000002A", "s1", "ffffffffffffffffff"] {
            assert!(number(&SessionId::new(text)).is_err(), "{text}");
        }
    }
}
