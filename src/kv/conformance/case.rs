//! What a case is, what it asks, and what it answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::Bench;
use crate::kv::clock::until;
use crate::kv::{Coordinator, Error, Key, Result};

/// What is put to the test: one store, and how to open clients of it.
#[async_trait]
pub trait Subject<S: ?Sized + Send + Sync + 'static = dyn Coordinator>:
    fmt::Debug + Send + Sync + 'static
{
    /// A new, independent client of the same data, perhaps in another process. A session is used only through the
    /// client that granted it.
    async fn open(&self) -> Result<Arc<S>>;

    /// A prefix nothing stands below and nobody else uses. Asked for once by each run of a case; of names made from
    /// it, queues are made.
    fn prefix(&self) -> Key;

    /// Stops the store and starts it again on the data it had, so that the cases can ask what lasts; returns once it
    /// answers again. Clients that were open must find it again. `false`: it cannot be done, and those cases pass unasked.
    async fn restart(&self) -> Result<bool> {
        Ok(false)
    }

    /// Makes trouble once, such that requests under way may fail and watches may be cut, and that is over soon: a
    /// connection breaks, a server changes its leader. `false`: it cannot be done.
    async fn disturb(&self) -> Result<bool> {
        Ok(false)
    }
}

/// How a case was answered.
pub(super) type Checked<T = ()> = std::result::Result<T, Violation>;

/// A case, as it is written.
pub(super) type Ask<S> = for<'a> fn(&'a Bench<S>) -> BoxFuture<'a, Checked>;

/// How long a case may take: a store that hangs breaks the line that the case is about.
const LONGEST: Duration = Duration::from_mins(10);

type Asked<S> = Arc<dyn Subject<S>>;

type Run<S> = Box<dyn Fn(Asked<S>) -> BoxFuture<'static, Checked> + Send + Sync>;

/// One question about one line of the contract.
pub struct Case<S: ?Sized + Send + Sync + 'static = dyn Coordinator> {
    /// What it asks, as a name for a test; no two cases share one.
    pub name: &'static str,
    /// The line of the contract, from 1.
    pub line: u8,
    run: Run<S>,
}

impl<S: ?Sized + Send + Sync + 'static> Case<S> {
    pub(super) fn new(line: u8, name: &'static str, ask: Ask<S>) -> Self {
        let run: Run<S> = Box::new(move |subject| {
            Box::pin(async move {
                let bench = Bench::new(subject);
                let deadline = bench.now() + LONGEST;
                let answer = until(&*bench.clock(), deadline, ask(&bench)).await;
                answer.unwrap_or_else(|| Err(Violation::new(format!("no end of it within {LONGEST:?}"))))
            })
        });
        Self { name, line, run }
    }

    /// Asks the subject. Takes some multiples of a session's ttl and slack at most; a store that hangs is found
    /// guilty after ten minutes. Dropping it is safe; what it had made stays in the store.
    pub async fn run(&self, subject: Arc<dyn Subject<S>>) -> Result<(), Violation> {
        (self.run)(subject).await.map_err(|violation| Violation {
            line: self.line,
            case: self.name,
            ..violation
        })
    }

    /// The same case for subjects that offer more.
    pub(super) fn lift<T: ?Sized + Send + Sync + 'static>(self, narrow: fn(Asked<T>) -> Asked<S>) -> Case<T> {
        let run = self.run;
        Case { name: self.name, line: self.line, run: Box::new(move |subject| run(narrow(subject))) }
    }
}

impl<S: ?Sized + Send + Sync + 'static> fmt::Debug for Case<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case(line {}: {})", self.line, self.name)
    }
}

/// How a store broke the contract.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Violation {
    /// The line it broke, from 1.
    pub line: u8,
    /// The case that found out.
    pub case: &'static str,
    /// What happened, and what should have.
    pub what: String,
}

impl Violation {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { line: 0, case: "", what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, case, what } = self;
        write!(f, "line {line} of the contract, {case}: {what}")
    }
}

impl std::error::Error for Violation {}

impl From<Error> for Violation {
    fn from(error: Error) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
        Self::new(format!("the store failed where it must not: {error}{cause}"))
    }
}

/// Answers with a violation unless something holds.
macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::kv::conformance::Violation::new(format!($($what)+)));
        }
    };
}

/// A list of cases, each of a line and named after its function.
macro_rules! cases {
    ($($line:literal: $case:ident),* $(,)?) => {
        vec![$($crate::kv::conformance::Case::new($line, stringify!($case), |bench| Box::pin($case(bench)))),*]
    };
}

pub(super) use {cases, ensure};
