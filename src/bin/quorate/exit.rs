//! How the command ends.

use std::process::ExitCode;

use quorate::kv::{Error, ErrorKind};

/// A good end, or a plain answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    /// All went well.
    pub(crate) const OK: Self = Self(0);
    /// The answer is no: nobody leads, no such key, it is there already.
    pub(crate) const NO: Self = Self(1);
    /// It was lost while the command ran.
    pub(crate) const LOST: Self = Self(76);

    /// The end of a process that ended with this status.
    pub(crate) const fn status(code: u8) -> Self {
        Self(code)
    }

    /// The end of a process that a signal ended, as a shell tells it.
    pub(crate) fn signalled(signal: i32) -> Self {
        Self(128_u8.saturating_add(u8::try_from(signal).unwrap_or(127)))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// A bad end, and what is said about it.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// It was not asked for in a way that can be done.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// The lock was not acquired in time.
    pub(crate) fn not_acquired(message: impl Into<String>) -> Self {
        Self { code: 75, message: message.into() }
    }

    /// The command cannot be run, for this reason that shells have a code for.
    pub(crate) fn command(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Says it on stderr.
    pub(crate) fn tell(self) -> ExitCode {
        crate::output::note(&self.message);
        ExitCode::from(self.code)
    }
}

/// The operating system refused something that it seldom refuses.
#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
pub(crate) fn system(error: std::io::Error) -> Failure {
    Failure { code: 71, message: format!("the system refused: {error}") }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::Unsupported => 2,
            ErrorKind::Unavailable | ErrorKind::WatchLost => 69,
            ErrorKind::SessionLost | ErrorKind::FenceRegression => 76,
            ErrorKind::Unauthorized => 77,
            _ => 70,
        };
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self { code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate::kv::Outcome;

    #[test]
    fn every_kind_of_error_has_its_code() {
        for (kind, code) in [
            (ErrorKind::InvalidInput, 2),
            (ErrorKind::Unsupported, 2),
            (ErrorKind::Unavailable, 69),
            (ErrorKind::WatchLost, 69),
            (ErrorKind::Internal, 70),
            (ErrorKind::SessionLost, 76),
            (ErrorKind::FenceRegression, 76),
            (ErrorKind::Unauthorized, 77),
        ] {
            let error = Error::new(kind, Outcome::NotApplied, "it failed").because("for a reason");
            let failure = Failure::from(error);
            assert_eq!(failure.code, code, "{kind}");
            assert!(failure.message.contains("it failed") && failure.message.contains("for a reason"));
        }
    }
}
