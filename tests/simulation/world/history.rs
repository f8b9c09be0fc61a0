//! What happened, in the world's own time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One line for each thing that happened, and what of it must not have.
#[derive(Clone, Debug)]
pub(crate) struct History(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: tokio::time::Instant,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    lines: Vec<String>,
    violation: Option<String>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { origin: tokio::time::Instant::now(), book: Mutex::default() }))
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.origin.elapsed()
    }

    pub(crate) fn say(&self, line: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {line}", self.now().as_secs_f64());
        self.book().lines.push(line);
    }

    /// The first one stays; the run is over for the oracle.
    pub(crate) fn violation(&self, what: fmt::Arguments<'_>) {
        self.say(format_args!("VIOLATION {what}"));
        let what = what.to_string();
        self.book().violation.get_or_insert(what);
    }

    /// Whether this was said in this very moment.
    pub(crate) fn said_now(&self, what: &str) -> bool {
        let line = format!("{:>9.3} {what}", self.now().as_secs_f64());
        self.book().lines.iter().rev().take(100).any(|said| *said == line)
    }

    pub(crate) fn found(&self) -> Option<String> {
        self.book().violation.clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.book().lines.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line of the history.
macro_rules! say {
    ($history:expr, $($line:tt)+) => { $history.say(format_args!($($line)+)) };
}

/// A violation unless something holds.
macro_rules! must {
    ($history:expr, $holds:expr, $($what:tt)+) => {
        if !$holds {
            $history.violation(format_args!($($what)+));
        }
    };
}

pub(crate) use {must, say};
