//! The one error: what happened, to which key, on which store, whether it may have taken effect, what to do.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::Key;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error a caller's own code may fail with, as the work of a term or a provider does.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What kind of failure it is; each says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store did not answer, or could not. Try again later; the request itself was fine.
    Unavailable,
    /// The session, and with it everything bound to it, is gone. Open another and start over.
    SessionLost,
    /// A watch was cut. Watch again; the next snapshot tells what was missed.
    WatchLost,
    /// The store went back in time: a fence below the highest seen. Stop, and find out what was restored or wiped.
    FenceRegression,
    /// The store refused who we are, or what we may do. Mend the credentials or the permissions.
    Unauthorized,
    /// The request can never succeed as it stands. Mend the input that the message names.
    InvalidInput,
    /// This store cannot do that. Choose another store, or do without.
    Unsupported,
    /// The store, or this crate, broke its own rules. Report it, with the message.
    Internal,
}

impl ErrorKind {
    fn advice(self) -> &'static str {
        match self {
            Self::Unavailable => "try again later",
            Self::SessionLost => "open a new session and start over",
            Self::WatchLost => "watch again",
            Self::FenceRegression => "stop, and find out whether the store was wiped or restored",
            Self::Unauthorized => "check the credentials and permissions",
            Self::InvalidInput => "correct the input",
            Self::Unsupported => "use a store that offers it",
            Self::Internal => "please report it",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "store unavailable",
            Self::SessionLost => "session lost",
            Self::WatchLost => "watch lost",
            Self::FenceRegression => "fence regression",
            Self::Unauthorized => "unauthorized",
            Self::InvalidInput => "invalid input",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal error",
        })
    }
}

/// Whether a failed request may have changed the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It had no effect and will have none.
    NotApplied,
    /// It may have taken effect, or may yet.
    Unknown,
}

/// A request that was not answered. A lost race or a missing key is no error but an answer.
///
/// Cloning is cheap. `Display` tells the whole story but for the [source](StdError::source), which it leaves to
/// whoever prints the chain.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    backend: &'static str,
    operation: &'static str,
    key: Option<Key>,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of a backend: its kind, whether the request may have taken effect, and what happened.
    pub fn new(kind: ErrorKind, outcome: Outcome, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            outcome,
            backend: "",
            operation: "",
            key: None,
            message: message.into(),
            source: None,
        }))
    }

    /// Input that is refused before anything is sent.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, Outcome::NotApplied, message)
    }

    /// A write, or a turn, that was refused because what it hung on is gone.
    pub(crate) fn session_lost(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::SessionLost, Outcome::NotApplied, message)
    }

    /// The same error, saying on which store and in which operation it happened, unless it says so already.
    #[must_use]
    pub fn at(mut self, backend: &'static str, operation: &'static str) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        if inner.backend.is_empty() {
            inner.backend = backend;
        }
        if inner.operation.is_empty() {
            inner.operation = operation;
        }
        self
    }

    /// The same error, saying which key it was about.
    #[must_use]
    pub fn on(mut self, key: &Key) -> Self {
        Arc::make_mut(&mut self.0).key = Some(key.clone());
        self
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::from(source.into()));
        self
    }

    /// The same error, now of unknown outcome: for a request that did reach the store.
    #[must_use]
    pub fn unsettled(mut self) -> Self {
        Arc::make_mut(&mut self.0).outcome = Outcome::Unknown;
        self
    }

    /// What kind of failure, and so what to do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the request may have changed the store.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The key it was about, where there was one.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        self.0.key.as_ref()
    }

    /// The store it happened on (`"etcd"`, `"embedded"`), or `""` before one was asked.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.0.backend
    }

    /// The operation it happened in (`"commit"`), or `""`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Whether the same request may succeed later. It says nothing about the outcome of this one.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::WatchLost)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, outcome, backend, operation, key, message, .. } = &*self.0;
        if !backend.is_empty() {
            write!(f, "{backend}: ")?;
        }
        if !operation.is_empty() {
            write!(f, "{operation} ")?;
        }
        if let Some(key) = key {
            write!(f, "{key:?} ")?;
        }
        write!(f, "{kind}: {message}")?;
        if *outcome == Outcome::Unknown {
            write!(f, "; it may have taken effect")?;
        }
        write!(f, "; {}", kind.advice())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_whole_story() {
        let error = Error::new(ErrorKind::Unavailable, Outcome::Unknown, "no reply within 2s")
            .at("etcd", "commit")
            .on(&Key::new("a/b").unwrap())
            .because("connection reset")
            .at("namespace", "put");
        assert_eq!(
            error.to_string(),
            "etcd: commit \"a/b\" store unavailable: no reply within 2s; it may have taken effect; try again later"
        );
        assert_eq!(error.source().unwrap().to_string(), "connection reset");
    }
}
