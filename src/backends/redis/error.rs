//! What goes wrong on the way to Redis and back, told as the one [`Error`].

use redis::{ErrorKind as Kind, RedisError};

use crate::kv::{BoxError, Error, ErrorKind, Outcome};

/// What may help when a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing: the answer would be the same.
    None,
    /// To ask again on the same connection after a while.
    Later,
    /// To connect anew, wherever the primary is then.
    Anew,
    /// To ask this server, which has our slot of the cluster.
    Moved(String),
}

/// A failed request, and what may help.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) error: Error,
    pub(super) cure: Cure,
}

impl Fault {
    pub(super) fn new(kind: ErrorKind, outcome: Outcome, cure: Cure, message: impl Into<String>) -> Self {
        Self { error: Error::new(kind, outcome, message), cure }
    }

    /// No answer in time, from a server that was asked or is still to be connected to.
    pub(super) fn silent(address: &str, asked: bool) -> Self {
        let (outcome, what) = if asked {
            (Outcome::Unknown, "did not answer in time")
        } else {
            (Outcome::NotApplied, "could not be connected to in time")
        };
        Self::new(ErrorKind::Unavailable, outcome, Cure::Anew, format!("{address} {what}"))
    }

    /// A connection that could not be made; nothing was asked yet.
    pub(super) fn unreachable(address: &str, error: impl Into<BoxError>) -> Self {
        let error = error.into();
        let why = format!("{address}: {}", root(&*error));
        let fault = Self::new(ErrorKind::Unavailable, Outcome::NotApplied, Cure::Anew, why);
        Self { error: fault.error.because(error), ..fault }
    }
}

/// The one place that says what kind of failure it was, whether the request may have taken effect, and what may help.
pub(super) fn classify(error: RedisError, address: &str) -> Fault {
    use {Cure as C, ErrorKind as K, Outcome as O};
    let (kind, outcome, cure) = match (error.kind(), error.code()) {
        (Kind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
            (K::Unauthorized, O::NotApplied, C::Anew)
        }
        // A script that was stopped at its first command did nothing; at a later one it may have done half.
        (_, Some("NOPERM")) if said(&error, "script:") => (K::Unauthorized, O::Unknown, C::None),
        (_, Some(_))
            if said(&error, "user executing the script can't") || said(&error, "ACL failure in script") =>
        {
            (K::Unauthorized, O::Unknown, C::None)
        }
        // A cluster is moving our slot away, key by key. The script stopped at the first that is gone.
        (_, Some(_)) if said(&error, "non local key") => (K::Unavailable, O::Unknown, C::Later),
        (_, Some("NOPERM")) => (K::Unauthorized, O::NotApplied, C::None),
        (_, Some("MOVED")) => (K::Unavailable, O::NotApplied, moved(&error, address)),
        // It is no primary any more: another is.
        (_, Some("READONLY")) => (K::Unavailable, O::NotApplied, C::Anew),
        // These are said before a script runs, or at its first write, and its first write is its first effect.
        (
            _,
            Some(
                "ASK" | "BUSY" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "MISCONF" | "NOREPLICAS" | "OOM"
                | "TRYAGAIN",
            ),
        ) => (K::Unavailable, O::NotApplied, C::Later),
        (_, Some(_)) if said(&error, "unknown command") => (K::Unsupported, O::NotApplied, C::None),
        (_, Some(_)) if said(&error, "max number of clients") => (K::Unavailable, O::NotApplied, C::Anew),
        (_, Some(_)) => (K::Internal, O::Unknown, C::None),
        (Kind::InvalidClientConfig | Kind::Client, None) => (K::InvalidInput, O::NotApplied, C::None),
        _ => (K::Unavailable, O::Unknown, C::Anew),
    };
    let fault = Fault::new(kind, outcome, cure, format!("{address}: {error}"));
    Fault { error: fault.error.because(error), ..fault }
}

fn said(error: &RedisError, what: &str) -> bool {
    error.detail().is_some_and(|detail| detail.contains(what))
}

/// Where our slot is now. A host that is left out is the one that was asked.
fn moved(error: &RedisError, address: &str) -> Cure {
    let Some((to, _)) = error.redirect_node() else { return Cure::Anew };
    match (to.strip_prefix(':'), address.rsplit_once(':')) {
        (Some(port), Some((host, _))) => Cure::Moved(format!("{host}:{port}")),
        _ => Cure::Moved(to.to_owned()),
    }
}

/// What lies at the bottom of it, such as a certificate that is not trusted.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn of(line: &str) -> (ErrorKind, Outcome, Cure) {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let fault = classify(value.extract_error().unwrap_err(), "h:1");
        assert!(fault.error.to_string().contains("h:1: "), "{}", fault.error);
        (fault.error.kind(), fault.error.outcome(), fault.cure)
    }

    #[test]
    fn each_answer_of_redis_says_what_to_do() {
        use {Cure as C, ErrorKind as K, Outcome as O};
        let moved = |to: &str| C::Moved(to.to_owned());
        for (line, kind, outcome, cure) in [
            ("NOAUTH Authentication required.", K::Unauthorized, O::NotApplied, C::Anew),
            ("WRONGPASS invalid username-password pair", K::Unauthorized, O::NotApplied, C::Anew),
            ("NOPERM this user has no permissions to run 'evalsha'", K::Unauthorized, O::NotApplied, C::None),
            ("NOPERM no permissions script: 12, on @user_script:3.", K::Unauthorized, O::Unknown, C::None),
            ("ERR The user executing the script can't run this", K::Unauthorized, O::Unknown, C::None),
            (
                "ERR ACL failure in script: User a has no permissions to run 'xadd' script: 12",
                K::Unauthorized,
                O::Unknown,
                C::None,
            ),
            (
                "ERR Script attempted to access a non local key in a cluster node script: 12",
                K::Unavailable,
                O::Unknown,
                C::Later,
            ),
            ("READONLY You can't write against a read only replica.", K::Unavailable, O::NotApplied, C::Anew),
            ("LOADING Redis is loading the dataset in memory", K::Unavailable, O::NotApplied, C::Later),
            ("BUSY Redis is busy running a script.", K::Unavailable, O::NotApplied, C::Later),
            (
                "OOM command not allowed when used memory > 'maxmemory'",
                K::Unavailable,
                O::NotApplied,
                C::Later,
            ),
            ("MISCONF Errors writing to the AOF file", K::Unavailable, O::NotApplied, C::Later),
            ("MOVED 3999 10.0.0.1:6381", K::Unavailable, O::NotApplied, moved("10.0.0.1:6381")),
            ("MOVED 3999 :6381", K::Unavailable, O::NotApplied, moved("h:6381")),
            ("ERR unknown command 'EVALSHA'", K::Unsupported, O::NotApplied, C::None),
            ("ERR max number of clients reached", K::Unavailable, O::NotApplied, C::Anew),
            ("ERR something in a script", K::Internal, O::Unknown, C::None),
            ("WRONGTYPE Operation against a key", K::Internal, O::Unknown, C::None),
        ] {
            assert_eq!(of(line), (kind, outcome, cure), "{line}");
        }
    }

    #[test]
    fn what_redis_did_not_answer_is_unknown_unless_it_was_never_sent() {
        use {Cure as C, ErrorKind as K, Outcome as O};
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let fault = classify(reset.into(), "h:1");
        let told = (fault.error.kind(), fault.error.outcome(), fault.cure);
        assert_eq!(told, (K::Unavailable, O::Unknown, C::Anew));
        assert_eq!(Fault::silent("h:1", true).error.outcome(), O::Unknown);
        assert_eq!(Fault::silent("h:1", false).error.outcome(), O::NotApplied);
    }
}
