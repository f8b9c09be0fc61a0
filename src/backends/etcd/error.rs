//! What goes wrong on the way to etcd and back, told as the one [`Error`].

use std::error::Error as StdError;

use tonic::{Code, ConnectError, Status};

use crate::kv::{Error, ErrorKind, Outcome};

/// What may help when a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing: the answer would be the same.
    None,
    /// To ask another member.
    Elsewhere,
    /// To connect, and to say who we are, anew.
    Anew,
}

/// A failed request, and what may help.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) error: Error,
    pub(super) cure: Cure,
}

impl Fault {
    fn new(kind: ErrorKind, outcome: Outcome, cure: Cure, message: impl Into<String>) -> Self {
        Self { error: Error::new(kind, outcome, message), cure }
    }

    /// No answer in time, from a member that was asked or is still to be connected to.
    pub(super) fn silent(member: &str, asked: bool) -> Self {
        let (outcome, what) = if asked {
            (Outcome::Unknown, "did not answer in time")
        } else {
            (Outcome::NotApplied, "could not be connected to in time")
        };
        Self::new(ErrorKind::Unavailable, outcome, Cure::Elsewhere, format!("{member} {what}"))
    }
}

/// The one place that says what kind of failure it was, whether the request may have taken effect, and what may help.
pub(super) fn classify(error: etcd_client::Error, member: &str) -> Fault {
    use etcd_client::Error as Etcd;
    use {Cure as C, ErrorKind as K, Outcome as O};
    let (kind, outcome, cure) = match &error {
        Etcd::GRpcStatus(status) => of_status(status),
        // Only connecting fails so, and nothing was asked yet.
        Etcd::TransportError(_) | Etcd::IoError(_) => (K::Unavailable, O::NotApplied, C::Elsewhere),
        Etcd::LeaseKeepAliveError(_) => (K::SessionLost, O::NotApplied, C::None),
        Etcd::InvalidArgs(_) | Etcd::InvalidUri(_) => (K::InvalidInput, O::NotApplied, C::None),
        Etcd::InvalidMetadataValue(_) => (K::Unauthorized, O::NotApplied, C::None),
        // A stream that ended before its first message.
        Etcd::WatchError(_) => (K::Unavailable, O::Unknown, C::Elsewhere),
        _ => (K::Internal, O::Unknown, C::Elsewhere),
    };
    let what = match &error {
        Etcd::GRpcStatus(status) => status.message().trim_start_matches(ETCD).to_owned(),
        other => other.to_string(),
    };
    let what = match root(&error) {
        Some(cause) if !what.contains(&cause) => format!("{what}: {cause}"),
        _ => what,
    };
    let fault = Fault::new(kind, outcome, cure, format!("{member}: {what}"));
    Fault { error: fault.error.because(error), ..fault }
}

/// What etcd itself answers starts so; the rest is said by the client on this side, or by a proxy.
const ETCD: &str = "etcdserver: ";

fn of_status(status: &Status) -> (ErrorKind, Outcome, Cure) {
    use {Cure as C, ErrorKind as K, Outcome as O};
    let message = status.message();
    let Some(told) = message.strip_prefix(ETCD) else {
        return match status.code() {
            _ if never_sent(status) => (K::Unavailable, O::NotApplied, C::Elsewhere),
            Code::ResourceExhausted if message.contains("larger than max") => {
                (K::InvalidInput, O::NotApplied, C::None)
            }
            Code::Unimplemented => (K::Unsupported, O::NotApplied, C::None),
            Code::Unauthenticated => (K::Unauthorized, O::NotApplied, C::Anew),
            Code::PermissionDenied => (K::Unauthorized, O::NotApplied, C::None),
            _ => (K::Unavailable, O::Unknown, C::Elsewhere),
        };
    };
    match told {
        "requested lease not found" => (K::SessionLost, O::NotApplied, C::None),
        // The member refused before it proposed anything.
        "no leader" | "too many requests" | "rpc not supported for learner" => {
            (K::Unavailable, O::NotApplied, C::Elsewhere)
        }
        "mvcc: database space exceeded" => (K::Unavailable, O::NotApplied, C::None),
        "invalid auth token" | "user name is empty" | "revision of auth store is old" => {
            (K::Unauthorized, O::NotApplied, C::Anew)
        }
        "permission denied"
        | "authentication failed, invalid user ID or password"
        | "authentication is not enabled"
        | "user name not found" => (K::Unauthorized, O::NotApplied, C::None),
        "corrupt cluster" => (K::Internal, O::Unknown, C::Elsewhere),
        _ => match status.code() {
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
                (K::InvalidInput, O::NotApplied, C::None)
            }
            Code::Unimplemented => (K::Unsupported, O::NotApplied, C::None),
            // A request timed out on its way to the leader, the leader changed, the server is stopping.
            _ => (K::Unavailable, O::Unknown, C::Elsewhere),
        },
    }
}

/// Whether there was no connection to send it on.
fn never_sent(status: &Status) -> bool {
    causes(status).any(<dyn StdError>::is::<ConnectError>)
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| StdError::source(*error))
}

/// What lies at the bottom of it, such as a certificate that is not trusted.
fn root(error: &etcd_client::Error) -> Option<String> {
    // The client's error does not tell its source itself.
    let source: &(dyn StdError + 'static) = match error {
        etcd_client::Error::GRpcStatus(status) => status,
        etcd_client::Error::TransportError(error) => error,
        _ => return None,
    };
    causes(source).skip(1).last().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: Code, message: &str) -> (ErrorKind, Outcome, Cure) {
        let fault = classify(Status::new(code, message).into(), "http://h:1");
        assert!(fault.error.to_string().contains("http://h:1: "), "{}", fault.error);
        (fault.error.kind(), fault.error.outcome(), fault.cure)
    }

    #[test]
    fn each_answer_of_etcd_says_what_to_do() {
        use {Code as Is, Cure as C, ErrorKind as K, Outcome as O};
        let cases = [
            (Is::NotFound, "requested lease not found", K::SessionLost, O::NotApplied, C::None),
            (Is::InvalidArgument, "request is too large", K::InvalidInput, O::NotApplied, C::None),
            (
                Is::InvalidArgument,
                "too many operations in txn request",
                K::InvalidInput,
                O::NotApplied,
                C::None,
            ),
            (Is::OutOfRange, "too large lease TTL", K::InvalidInput, O::NotApplied, C::None),
            (Is::ResourceExhausted, "mvcc: database space exceeded", K::Unavailable, O::NotApplied, C::None),
            (Is::ResourceExhausted, "too many requests", K::Unavailable, O::NotApplied, C::Elsewhere),
            (Is::Unavailable, "no leader", K::Unavailable, O::NotApplied, C::Elsewhere),
            (Is::Unavailable, "request timed out", K::Unavailable, O::Unknown, C::Elsewhere),
            (Is::Unavailable, "leader changed", K::Unavailable, O::Unknown, C::Elsewhere),
            (Is::Unavailable, "server stopped", K::Unavailable, O::Unknown, C::Elsewhere),
            (Is::PermissionDenied, "permission denied", K::Unauthorized, O::NotApplied, C::None),
            (Is::Unauthenticated, "invalid auth token", K::Unauthorized, O::NotApplied, C::Anew),
            (Is::InvalidArgument, "revision of auth store is old", K::Unauthorized, O::NotApplied, C::Anew),
            (Is::InvalidArgument, "user name is empty", K::Unauthorized, O::NotApplied, C::Anew),
            (Is::DataLoss, "corrupt cluster", K::Internal, O::Unknown, C::Elsewhere),
        ];
        for (code, told, kind, outcome, cure) in cases {
            assert_eq!(of(code, &format!("{ETCD}{told}")), (kind, outcome, cure), "{told}");
        }
    }

    #[test]
    fn what_etcd_did_not_answer_is_unknown_unless_it_was_never_sent() {
        use {Cure as C, ErrorKind as K, Outcome as O};
        for code in [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled, Code::OutOfRange] {
            assert_eq!(of(code, "connection reset"), (K::Unavailable, O::Unknown, C::Elsewhere), "{code}");
        }
        let refused = Status::from_error(Box::new(ConnectError("connection refused".into())));
        let fault = classify(refused.into(), "http://h:1");
        assert_eq!((fault.error.outcome(), fault.cure), (O::NotApplied, C::Elsewhere));
        assert_eq!(
            of(Code::ResourceExhausted, "grpc: received message larger than max (3 vs. 2)"),
            (K::InvalidInput, O::NotApplied, C::None)
        );
        assert_eq!(Fault::silent("m", true).error.outcome(), O::Unknown);
        assert_eq!(Fault::silent("m", false).error.outcome(), O::NotApplied);
    }
}
