//! The files beside the database: the gate that writers pass one by one, and the bell they ring.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::host::{self, Ear};

/// Lets writers in one at a time, in the kernel's order. SQLite's own lock is a race of naps that starves some.
///
/// Only fairness rests on it; should somebody delete the file, SQLite's lock still keeps writers apart.
#[derive(Debug)]
pub(super) struct Gate(File);

impl Gate {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        side_file(path).map(Self)
    }

    /// Waits for its turn; there is no bound, for want of one in the kernel's call.
    pub(super) fn enter(&self) -> io::Result<Inside<'_>> {
        loop {
            match self.0.lock() {
                Ok(()) => return Ok(Inside(&self.0)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Enters if nobody is inside.
    pub(super) fn try_enter(&self) -> Option<Inside<'_>> {
        self.0.try_lock().ok().map(|()| Inside(&self.0))
    }
}

/// Dropping it lets the next writer in.
#[derive(Debug)]
pub(super) struct Inside<'a>(&'a File);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Unlocking a file that is open and locked does not fail.
        let _ = self.0.unlock();
    }
}

/// Rung after each commit that changed entries. Listeners hold it shared, so that a writer sees whether there are
/// any, and spares itself the ring.
#[derive(Debug)]
pub(super) struct Bell {
    file: File,
    path: PathBuf,
}

impl Bell {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: side_file(&path)?, path })
    }

    /// Inside the gate, after a commit.
    pub(super) fn ring(&self) {
        let rung = match self.file.try_lock() {
            // Nobody listens. Who starts to does so inside the gate, and then looks at what was committed.
            Ok(()) => self.file.unlock(),
            Err(TryLockError::WouldBlock) => host::touch(&self.file),
            Err(TryLockError::Error(error)) => Err(error),
        };
        if let Err(error) = rung {
            // Listeners also look now and then by themselves.
            tracing::debug!(backend = super::BACKEND, %error, "the bell was not rung");
        }
    }

    /// Inside the gate: from now on the bell is rung after each commit.
    pub(super) fn listen(&self) -> io::Result<Listener> {
        let shared = side_file(&self.path)?;
        shared.lock_shared()?;
        Ok(Listener { _shared: shared })
    }

    /// What hears the bell. `None` where the host has no more to give: then only looking now and then is left.
    ///
    /// Make it once for each process, and only if it is to be used for a while: the kernel takes some ten milliseconds
    /// to close it, be it at the end of the process (`fsnotify_wait_marks_destroyed` in its source).
    pub(super) fn ear(&self) -> Option<Ear> {
        let ear = Ear::new(&self.path).inspect_err(|error| {
            tracing::warn!(backend = super::BACKEND, %error, "no inotify; changes are looked for instead");
        });
        ear.ok()
    }
}

/// Has the bell rung until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    _shared: File,
}

fn side_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backends::embedded::host::{Wake, wait};

    #[test]
    fn the_bell_is_rung_only_while_somebody_listens_and_is_heard() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("bell");
        let touched = || path.metadata().unwrap().len() > 0;
        let bell = Bell::open(path.clone()).unwrap();
        bell.ring();
        assert!(!touched());
        let listener = bell.listen().unwrap();
        let ear = bell.ear();
        bell.ring();
        assert!(touched());
        let (start, wake) = (host::now(), Wake::new().unwrap());
        wait(&wake, ear.as_ref(), Some(Duration::from_mins(1))).unwrap();
        assert!(host::now() - start < 60_000_000_000, "it was heard, not timed out");
        drop(listener);
        std::fs::write(&path, "").unwrap();
        bell.ring();
        assert!(!touched());
    }

    #[test]
    fn one_at_a_time_is_inside_the_gate() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("gate");
        let (one, other) = (Gate::open(&path).unwrap(), Gate::open(&path).unwrap());
        let inside = one.enter().unwrap();
        assert!(other.try_enter().is_none());
        drop(inside);
        assert!(other.try_enter().is_some());
    }
}
