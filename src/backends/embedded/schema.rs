//! The layout of the file: made, recognised, and told from files that are none of ours.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::database::{Lasting, beside};
use super::error::Fault;
use super::host;
use super::tables::Tables;
use crate::kv::{Error, ErrorKind, Outcome};

/// "quor", in the header of every file of ours.
const APPLICATION: i32 = 0x7175_6F72;
/// The layout below.
const VERSION: i32 = 1;

/// How many KiB of the file a process keeps in its own memory. The system has it all in its own.
const CACHE: i32 = 512;

/// A key is its text with NUL for `/`, so that its order as bytes is the order of keys; see
/// [`tables`](super::tables). `parent` is set for bound entries only: it finds the places of a queue by fence. The
/// numbers of `change` are the store's revisions, one for each entry put or deleted; versions and fences are drawn
/// from them. The newest row is never deleted, so that no number comes twice. Files of earlier versions have `entry` with
/// numbered rows and an index of the keys beside it, which the queries do not tell from this.
pub(super) const LAYOUT: &str = "
    CREATE TABLE host (boot TEXT NOT NULL);
    CREATE TABLE session (id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL, deadline INTEGER NOT NULL);
    CREATE INDEX session_by_deadline ON session (deadline);
    CREATE TABLE entry (
        key BLOB NOT NULL PRIMARY KEY, version INTEGER NOT NULL, fence INTEGER NOT NULL,
        session INTEGER, parent BLOB, value BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX entry_by_session ON entry (session) WHERE session IS NOT NULL;
    CREATE INDEX entry_by_place ON entry (parent, fence) WHERE parent IS NOT NULL;
    CREATE TABLE change (revision INTEGER PRIMARY KEY, key BLOB NOT NULL, deleted INTEGER NOT NULL);
";

/// Fails for whatever must not be opened; nothing and an empty file are fine. It looks without touching: no lock is
/// taken, no journal is played back.
///
/// It goes through SQLite because closing a file that SQLite has open elsewhere in the process would take its locks
/// away.
pub(super) fn probe(path: &Path) -> Result<(), Fault> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory).into());
        }
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    if size == 0 {
        return Ok(());
    }
    let uri =
        format!("file:{}?immutable=1", percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match Connection::open_with_flags(uri, flags).and_then(|connection| header(&connection)) {
        Ok((APPLICATION, version)) => known(version),
        // Whoever was copying the log into the file may have been killed. Opening it in earnest mends that, or tells.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) && has_journal(path) => {
            Ok(())
        }
        Err(error) if error.sqlite_error_code() != Some(ErrorCode::NotADatabase) => Err(error.into()),
        Ok(_) | Err(_) => Err(foreign()),
    }
}

/// Whether there is anything to mend the file from.
fn has_journal(path: &Path) -> bool {
    let holds_something = |suffix| beside(path, suffix).metadata().is_ok_and(|metadata| metadata.len() > 0);
    holds_something("-wal") || holds_something("-journal")
}

/// Makes the layout, unless it is there, and forgets what was bound to an earlier boot. Inside the gate, for a file
/// that was [probed](probe) or has a gate.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), Fault> {
    let header = header(connection).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => foreign(),
        _ => error.into(),
    })?;
    match header {
        (0, 0) => {}
        (APPLICATION, version) => known(version)?,
        _ => return Err(foreign()),
    }
    connection.pragma_update(None, "cache_size", -CACHE)?;
    if header == (0, 0) {
        sync(connection, Lasting::Always)?;
        if connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? > 0 {
            return Err(foreign());
        }
        // Before the log is switched on, so that the header of the file itself says whose it is.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        transaction.execute_batch(LAYOUT)?;
        transaction.execute("INSERT INTO host VALUES (?1)", [host::boot()?])?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let message = "this file system has no shared memory, which SQLite's write-ahead log needs";
        return Err(Error::new(ErrorKind::Unsupported, Outcome::NotApplied, message).into());
    }
    let boot = host::boot()?;
    if connection.query_row("SELECT boot FROM host", [], |row| row.get::<_, String>(0))? != boot {
        sync(connection, Lasting::Always)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Tables::new(&transaction).end_all_sessions()?;
        transaction.execute("UPDATE host SET boot = ?1", [boot])?;
        transaction.commit()?;
    }
    Ok(())
}

/// How later transactions are committed. In a write-ahead log `FULL` waits for the disk at each commit, and `NORMAL`
/// only before it is copied into the file, so that either way no commit is torn and none overtakes another.
/// <https://sqlite.org/pragma.html#pragma_synchronous>
pub(super) fn sync(connection: &Connection, lasting: Lasting) -> rusqlite::Result<()> {
    let mode = match lasting {
        Lasting::Always => "FULL",
        Lasting::ThisBoot => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", mode)
}

fn header(connection: &Connection) -> rusqlite::Result<(i32, i32)> {
    let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((application, version))
}

fn known(version: i32) -> Result<(), Fault> {
    if version == VERSION {
        return Ok(());
    }
    let message = format!("the file has layout {version}, and this version of quorate knows {VERSION} only");
    Err(Error::new(ErrorKind::Unsupported, Outcome::NotApplied, message).into())
}

fn foreign() -> Fault {
    Error::invalid("the file is not a quorate store; nothing was changed").into()
}
