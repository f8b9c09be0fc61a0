//! What goes wrong with a file, told as the one [`Error`].

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::kv::{Error, ErrorKind, Outcome};

/// SQLite found that its file is no longer the one at the path. It shares its primary code with a read-only file.
const MOVED: i32 = 1032;

/// Why a piece of work on the file failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite failed before the commit; what the transaction did was rolled back.
    Sqlite(rusqlite::Error),
    /// SQLite failed in the commit itself.
    Commit(rusqlite::Error),
    /// One of the files beside it failed.
    Io(io::Error),
    /// The work was refused, before it changed anything, by an answer that happens to be an error.
    Told(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

/// The one place that says what kind of failure it was, and whether it may have taken effect.
pub(super) fn classify(fault: Fault, path: &Path) -> Error {
    let (kind, what) = match &fault {
        Fault::Told(error) => return error.clone(),
        Fault::Io(error) => of_io(error.kind()),
        Fault::Sqlite(error) | Fault::Commit(error) => of_sqlite(error),
    };
    let error = Error::new(kind, outcome(&fault), format!("{}: {what}", path.display()));
    match fault {
        Fault::Told(error) => error,
        Fault::Io(source) => error.because(source),
        Fault::Sqlite(source) | Fault::Commit(source) => error.because(source),
    }
}

/// A commit that failed may stand in the log all the same, to be found after a crash; only a lock that was not got
/// is known to have stopped it before it wrote.
fn outcome(fault: &Fault) -> Outcome {
    match fault {
        Fault::Commit(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => {
            Outcome::Unknown
        }
        _ => Outcome::NotApplied,
    }
}

fn of_io(kind: io::ErrorKind) -> (ErrorKind, &'static str) {
    use io::ErrorKind as Io;
    match kind {
        Io::PermissionDenied => (ErrorKind::Unauthorized, "it, or its directory, may not be written"),
        Io::ReadOnlyFilesystem => (ErrorKind::Unauthorized, "it is on a read-only file system"),
        Io::NotFound => (ErrorKind::InvalidInput, "no such directory"),
        Io::NotADirectory => (ErrorKind::InvalidInput, "its parent is not a directory"),
        Io::IsADirectory => (ErrorKind::InvalidInput, "it is a directory"),
        Io::InvalidFilename => (ErrorKind::InvalidInput, "it is no valid file name"),
        Io::Unsupported => (ErrorKind::Unsupported, "the embedded store needs Linux, with /proc"),
        Io::StorageFull | Io::QuotaExceeded => (ErrorKind::Unavailable, "the disk is full"),
        _ => (ErrorKind::Unavailable, "the file system failed"),
    }
}

fn of_sqlite(error: &rusqlite::Error) -> (ErrorKind, &'static str) {
    if error.sqlite_error().is_some_and(|error| error.extended_code == MOVED) {
        return (ErrorKind::Internal, "it was moved or deleted while it was open");
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Unavailable, "another program keeps it locked")
        }
        Some(ErrorCode::DiskFull) => (ErrorKind::Unavailable, "the disk is full"),
        Some(ErrorCode::SystemIoFailure) => (ErrorKind::Unavailable, "the file system failed"),
        Some(ErrorCode::CannotOpen) => (ErrorKind::Unavailable, "it cannot be opened"),
        Some(ErrorCode::OutOfMemory) => (ErrorKind::Unavailable, "out of memory"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            (ErrorKind::Unauthorized, "it, or its directory, may not be written")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (ErrorKind::Internal, "it is damaged; restore it, or move it away with all that was locked by it")
        }
        _ => (ErrorKind::Internal, "an unexpected failure"),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn sqlite(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn each_failure_says_what_to_do() {
        let cases = [
            (ffi::SQLITE_BUSY, ErrorKind::Unavailable),
            (ffi::SQLITE_FULL, ErrorKind::Unavailable),
            (ffi::SQLITE_IOERR_FSYNC, ErrorKind::Unavailable),
            (ffi::SQLITE_CANTOPEN, ErrorKind::Unavailable),
            (ffi::SQLITE_READONLY, ErrorKind::Unauthorized),
            (ffi::SQLITE_READONLY_DBMOVED, ErrorKind::Internal),
            (ffi::SQLITE_CORRUPT, ErrorKind::Internal),
            (ffi::SQLITE_CONSTRAINT, ErrorKind::Internal),
        ];
        for (code, kind) in cases {
            let error = classify(Fault::Sqlite(sqlite(code)), Path::new("/tmp/x"));
            assert_eq!(error.kind(), kind, "{code}");
            assert_eq!(error.outcome(), Outcome::NotApplied, "{code}");
            assert!(error.to_string().contains("/tmp/x: "), "{error}");
        }
        let cases = [
            (io::ErrorKind::PermissionDenied, ErrorKind::Unauthorized),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Unauthorized),
            (io::ErrorKind::NotFound, ErrorKind::InvalidInput),
            (io::ErrorKind::IsADirectory, ErrorKind::InvalidInput),
            (io::ErrorKind::StorageFull, ErrorKind::Unavailable),
            (io::ErrorKind::Unsupported, ErrorKind::Unsupported),
        ];
        for (io, kind) in cases {
            assert_eq!(classify(Fault::Io(io.into()), Path::new("x")).kind(), kind, "{io}");
        }
    }

    #[test]
    fn only_a_failed_commit_is_unknown() {
        let outcome = |fault| classify(fault, Path::new("x")).outcome();
        assert_eq!(outcome(Fault::Commit(sqlite(ffi::SQLITE_IOERR_FSYNC))), Outcome::Unknown);
        assert_eq!(outcome(Fault::Commit(sqlite(ffi::SQLITE_FULL))), Outcome::Unknown);
        assert_eq!(outcome(Fault::Commit(sqlite(ffi::SQLITE_BUSY))), Outcome::NotApplied);
        assert_eq!(outcome(Fault::Sqlite(sqlite(ffi::SQLITE_FULL))), Outcome::NotApplied);
    }
}
