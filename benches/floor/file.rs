//! The embedded store's floor: SQLite by hand, as durable, on a connection that nobody else uses.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::time::Instant;

use super::{Changes, Floor, Operations, VALUE, member};

const PUT: &str = "INSERT INTO entries (key, value) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = version + 1";

pub(crate) struct Sqlite(Mutex<Connection>);

impl Sqlite {
    pub(crate) fn open(file: &Path) -> Self {
        let connection = Connection::open(file).expect("it opens");
        connection.pragma_update(None, "journal_mode", "wal").expect("it is set");
        connection.pragma_update(None, "synchronous", "full").expect("it is set");
        let table = "CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB, version INTEGER DEFAULT 0) WITHOUT ROWID";
        connection.execute(table, []).expect("it is made");
        Self(Mutex::new(connection))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> T {
        work(&mut self.0.lock().expect("nobody panicked")).expect("it works")
    }

    fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> usize {
        self.with(|connection| connection.prepare_cached(sql)?.execute(parameters))
    }
}

#[async_trait]
impl Operations for Sqlite {
    async fn put(&self, key: &str, value: Bytes) {
        self.execute(PUT, params![key, &*value]);
    }

    async fn get(&self, key: &str) -> Option<Bytes> {
        let found: Option<Vec<u8>> = self.with(|connection| {
            let mut read = connection.prepare_cached("SELECT value FROM entries WHERE key = ?")?;
            read.query_row([key], |row| row.get(0)).optional()
        });
        found.map(Bytes::from)
    }

    async fn state(&self, key: &str) -> i64 {
        self.with(|connection| {
            let mut read = connection.prepare_cached("SELECT version FROM entries WHERE key = ?")?;
            read.query_row([key], |row| row.get(0))
        })
    }

    async fn replace(&self, key: &str, state: i64, value: Bytes) -> i64 {
        let replace = "UPDATE entries SET value = ?, version = version + 1 WHERE key = ? AND version = ?";
        assert_eq!(self.execute(replace, params![&*value, key, state]), 1, "nobody else writes");
        state + 1
    }

    async fn lock_pair(&self, key: &str) {
        let taken =
            self.execute("INSERT OR IGNORE INTO entries (key, value) VALUES (?, ?)", params![key, &*VALUE]);
        assert_eq!(taken, 1, "nobody else wants it");
        self.delete(key).await;
    }
}

#[async_trait]
impl Floor for Sqlite {
    async fn delete(&self, key: &str) {
        self.execute("DELETE FROM entries WHERE key = ?", [key]);
    }

    async fn fill(&self, prefix: &str, count: usize) {
        self.register(prefix, count).await;
    }

    async fn list(&self, prefix: &str) -> usize {
        let (first, last) = (format!("{prefix}/"), format!("{prefix}0"));
        let values: Vec<(String, Vec<u8>)> = self.with(|connection| {
            let mut read =
                connection.prepare_cached("SELECT key, value FROM entries WHERE key > ? AND key < ?")?;
            read.query_map([first, last], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        });
        values.len()
    }

    async fn watch(&self, _key: &str) -> Option<Changes> {
        None
    }

    async fn register(&self, prefix: &str, count: usize) -> Duration {
        let began = Instant::now();
        self.with(|connection| {
            let commit = connection.transaction()?;
            {
                let mut put = commit.prepare_cached(PUT)?;
                for nth in 0..count {
                    let (key, value) = member(prefix, nth);
                    put.execute(params![key, &*value])?;
                }
            }
            commit.commit()
        });
        began.elapsed()
    }

    async fn requests(&self) -> Option<u64> {
        None
    }
}
