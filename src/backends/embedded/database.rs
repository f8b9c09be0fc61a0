//! The file, open: every write behind the gate, every answer about a file that is still there.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::bell::{Bell, Gate, Inside, Listener};
use super::error::Fault;
use super::host::{self, Ear};
use super::schema;
use super::tables::Tables;
use crate::kv::{Error, ErrorKind, Outcome};

type Result<T> = std::result::Result<T, Fault>;

/// How long SQLite waits for programs that do not pass the gate, such as its own shell.
const BUSY: Duration = Duration::from_secs(2);

/// How long the write-ahead log must be, in bytes, for the last one who closes the file to copy it there. A shorter one
/// is read faster by whoever opens the file next than it is copied, which the disk must confirm twice.
const LONG_LOG: u64 = 512 * 1024;

/// The change log is trimmed once in so many changes.
const TRIM_EVERY: i64 = 1_000;

/// How long a change must last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    /// Over a power failure: it is on disk before it is answered.
    Always,
    /// No longer than the host is up, like sessions, for which waiting for the disk would be in vain.
    ThisBoot,
}

/// One process's hold on the file.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    gate: Gate,
    bell: Bell,
    path: PathBuf,
    identity: (u64, u64),
    highest: Cell<i64>,
    /// How long a change lasts as the connection is set now; `None` while it was not set.
    synced: Cell<Option<Lasting>>,
}

/// After a write: rings for it, and lets the next one in, once this is dropped.
#[derive(Debug)]
pub(super) struct Written<'a> {
    _inside: Inside<'a>,
    rings: Option<&'a Bell>,
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        self.rings.into_iter().for_each(Bell::ring);
    }
}

impl Database {
    /// Opens the file at `path`, and makes it if there is none. Once inside the gate it asks whether to go on, and
    /// does nothing, returning `None`, if not.
    pub(super) fn open(path: &Path, go_on: impl FnOnce() -> bool) -> Result<Option<Self>> {
        let path = resolve(path)?;
        let gate_path = beside(&path, "-lock");
        // A file that is none of ours gets no others beside it, and is not touched. One that has its gate is ours, or is just
        // being made; should it have been replaced, that shows once it is open.
        if !path.metadata().is_ok_and(|metadata| metadata.len() == 0) && !gate_path.exists() {
            schema::probe(&path)?;
        }
        let gate = Gate::open(&gate_path)?;
        let inside = gate.enter()?;
        if !go_on() {
            return Ok(None);
        }
        let (connection, identity) = connect(&path)?;
        let bell = Bell::open(beside(&path, "-bell"))?;
        drop(inside);
        let (highest, synced) = (Cell::new(0), Cell::new(None));
        Ok(Some(Self { connection, gate, bell, path, identity, highest, synced }))
    }

    /// Does `work` in a transaction that shows no session that is over.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Tables<'_>) -> Result<T>) -> Result<T> {
        self.check_file()?;
        loop {
            let transaction = Transaction::begin(&self.connection, "BEGIN")?;
            let tables = Tables::new(&self.connection);
            if !tables.due()? {
                return work(&tables);
            }
            drop(transaction);
            self.write(Lasting::ThisBoot, |_| Ok(()))?;
        }
    }

    /// Ends the sessions that are over and does `work`, all or nothing, and has it as safe as it is to be when this
    /// returns. The log is one file: what waits for the disk takes along all that was written before it.
    ///
    /// Who asked for it can be answered before those who listen, or wait for their turn, are woken.
    pub(super) fn write<T>(
        &self,
        lasting: Lasting,
        work: impl FnOnce(&Tables<'_>) -> Result<T>,
    ) -> Result<(T, Written<'_>)> {
        let inside = self.gate.enter()?;
        self.check_file()?;
        if self.synced.get() != Some(lasting) {
            schema::sync(&self.connection, lasting)?;
            self.synced.set(Some(lasting));
        }
        let transaction = Transaction::begin(&self.connection, "BEGIN IMMEDIATE")?;
        let tables = Tables::new(&self.connection);
        let before = tables.revision()?;
        if before < self.highest.get() {
            return Err(regressed(before, self.highest.get()));
        }
        tables.reap()?;
        let made = work(&tables)?;
        let after = tables.made().unwrap_or(before);
        if after / TRIM_EVERY != before / TRIM_EVERY {
            tables.trim(after)?;
        }
        transaction.commit().map_err(Fault::Commit)?;
        self.highest.set(after);
        Ok((made, Written { _inside: inside, rings: (after != before).then_some(&self.bell) }))
    }

    /// Every commit after this revision is heard.
    pub(super) fn listen(&self) -> Result<(Listener, i64)> {
        let _inside = self.gate.enter()?;
        let listener = self.bell.listen()?;
        Ok((listener, Tables::new(&self.connection).revision()?))
    }

    /// What hears of commits, while one [listens](Self::listen).
    pub(super) fn ear(&self) -> Option<Ear> {
        self.bell.ear()
    }

    /// The last one to close copies a long log into the file, which is a write like any other. If the gate is taken,
    /// that is left to the next who opens it: a stopped process must not keep this one from ending.
    pub(super) fn close(self) {
        let inside = self.gate.try_enter();
        if inside.is_none() || !has_long_log(&self.path) {
            // Should it fail, the log is copied after all, and SQLite's own lock keeps that apart from writers.
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        drop(self.connection);
    }

    /// Fails once the file is gone from its path: whoever went on with it would be alone there.
    fn check_file(&self) -> Result<()> {
        match host::identity(&self.path) {
            Ok(identity) if identity == self.identity => Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(_) | Err(_) => Err(moved()),
        }
    }
}

/// A transaction, undone unless it is committed. What begins and ends it is compiled once, which rusqlite's own is each time.
struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    fn begin(connection: &'a Connection, how: &'static str) -> rusqlite::Result<Self> {
        connection.prepare_cached(how)?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit()
            && let Err(error) = self.0.prepare_cached("ROLLBACK").and_then(|mut end| end.execute([]))
        {
            tracing::warn!(backend = super::BACKEND, %error, "a transaction was not undone");
        }
    }
}

/// Whether the last one who closes the file is to copy its log; also where it cannot be told how long that is.
pub(super) fn has_long_log(path: &Path) -> bool {
    !beside(path, "-wal").metadata().is_ok_and(|log| log.len() < LONG_LOG)
}

/// Opens the file, and makes sure that it is the one at the path.
fn connect(path: &Path) -> Result<(Connection, (u64, u64))> {
    if !path.exists() {
        drop(std::fs::File::create_new(path)?);
    }
    let identity = host::identity(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Otherwise each statement that might use an index of some rows only is compiled anew for each value bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // What is refused is closed as it was found.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    schema::prepare(&mut connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    if host::identity(path)? != identity {
        return Err(moved());
    }
    Ok((connection, identity))
}

/// One name for the file, whichever link led there, so that all processes meet at the same gate.
fn resolve(path: &Path) -> Result<PathBuf> {
    let refuse = |why: String| Err(Error::invalid(format!("{}: {why}", path.display())).into());
    let Some(name) = path.file_name() else { return refuse("it names no file".into()) };
    if let Ok(path) = path.canonicalize() {
        return local(path);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match parent.canonicalize() {
        Ok(parent) => local(parent.join(name)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refuse(format!("there is no directory {}", parent.display()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses what other hosts may see.
fn local(path: PathBuf) -> Result<PathBuf> {
    let directory = path.parent().unwrap_or(&path);
    let why = match host::network(directory)? {
        Some(network) => format!("it is on {network}, where locks and shared memory do not hold"),
        None if host::shifted() => "this process is in a time namespace, with a boot clock of its own".into(),
        None => return Ok(path),
    };
    let message = format!("{}: {why}; the embedded store is for one host", path.display());
    Err(Error::new(ErrorKind::Unsupported, Outcome::NotApplied, message).into())
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn moved() -> Fault {
    let message =
        "the file was deleted or replaced while it was open; what stands there now is another store";
    Error::new(ErrorKind::Internal, Outcome::NotApplied, message).into()
}

fn regressed(found: i64, highest: i64) -> Fault {
    let message =
        format!("the file is at revision {found}, and was at {highest}: an older copy was put in its place");
    Error::new(ErrorKind::FenceRegression, Outcome::NotApplied, message).into()
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::super::error::classify;
    use super::*;
    use crate::kv::{Key, Scope, Txn};

    #[test]
    fn a_commit_waits_for_the_disk_unless_it_concerns_sessions_alone() {
        let directory = tempfile::TempDir::new().unwrap();
        let database = Database::open(&directory.path().join("store.db"), || true).unwrap().unwrap();
        for (lasting, mode) in [(Lasting::Always, 2), (Lasting::ThisBoot, 1), (Lasting::Always, 2)] {
            drop(database.write(lasting, |_| Ok(())).unwrap());
            let set: i32 =
                database.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
            assert_eq!(set, mode, "{lasting:?}");
        }
        database.close();
    }

    #[test]
    fn a_long_log_is_copied_at_the_close_and_a_short_one_is_left_to_the_next() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        let log = beside(&path, "-wal");
        let open = || Database::open(&path, || true).unwrap().unwrap();
        let key = Key::new("a").unwrap();
        for (size, left) in [(1, true), (600_000, false), (2, true)] {
            let database = open();
            let put = Txn::new().put(&key, vec![7; size]);
            assert!(database.write(Lasting::Always, |tables| tables.commit(&put)).unwrap().0.is_applied());
            database.close();
            assert_eq!(log.exists(), left, "{size} bytes");
            let database = open();
            let found = database.read(|tables| tables.get(&key)).unwrap().unwrap();
            assert_eq!(found.value.len(), size);
            database.close();
        }
    }

    #[test]
    fn a_full_disk_undoes_the_whole_write() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("store.db");
        let database = Database::open(&path, || true).unwrap().unwrap();
        database.connection.pragma_update(None, "max_page_count", 50).unwrap();
        let put = |name: &str, value: Vec<u8>| Txn::new().put(&Key::new(name).unwrap(), value);
        let commit =
            |txn: Txn| database.write(Lasting::Always, |tables| tables.commit(&txn)).map(|(made, _)| made);
        assert!(commit(put("small", vec![1])).unwrap().is_applied());
        let full = commit(put("a", vec![1]).put(&Key::new("big").unwrap(), vec![1; 1_000_000]));
        let error = classify(full.unwrap_err(), &path);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
        assert!(commit(put("b", vec![1])).unwrap().is_applied());
        let names = database.read(|tables| tables.covered(&Scope::Prefix(Key::root()))).unwrap();
        assert_eq!(names.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["b", "small"]);
        database.close();
    }
}
