//! What goes wrong on the way to Consul and back, told as the one [`Error`].

use std::error::Error as StdError;

use http::StatusCode;

use crate::kv::{Error, ErrorKind, Outcome};

/// What may help when a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing: the answer would be the same.
    None,
    /// To ask another agent, or the same a little later.
    Elsewhere,
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

    /// No answer in time, from an agent that was asked or is still to be.
    pub(super) fn silent(agent: &str, asked: bool) -> Self {
        let (outcome, what) = if asked {
            (Outcome::Unknown, "did not answer in time")
        } else {
            (Outcome::NotApplied, "could not be asked in time")
        };
        Self::new(ErrorKind::Unavailable, outcome, Cure::Elsewhere, format!("{agent} {what}"))
    }
}

/// What kind of failure it was that no answer came.
pub(super) fn unanswered(error: impl StdError + Send + Sync + 'static, agent: &str, sent: bool) -> Fault {
    let outcome = if sent { Outcome::Unknown } else { Outcome::NotApplied };
    // What lies at the bottom of it, such as a certificate that is not trusted.
    let causes = std::iter::successors(error.source(), |error| StdError::source(*error));
    let what = match causes.last() {
        Some(root) => format!("{agent}: {error}: {root}"),
        None => format!("{agent}: {error}"),
    };
    let fault = Fault::new(ErrorKind::Unavailable, outcome, Cure::Elsewhere, what);
    Fault { error: fault.error.because(error), ..fault }
}

/// What kind of failure an answer with this status is, whether the request may have taken effect, and what may help.
pub(super) fn classify(status: StatusCode, body: &[u8], agent: &str) -> Fault {
    let told = String::from_utf8_lossy(body);
    let told = told.trim();
    let (kind, outcome, cure) = judge(status, told);
    let told = told.chars().take(300).collect::<String>();
    Fault::new(kind, outcome, cure, format!("{agent} answered {status}: {told}"))
}

/// The words of Consul that say that a request was not carried out, only for now.
const NOT_NOW: [&str; 5] = [
    // No server knows a leader, or the one that was asked is none any more and says so before it proposes anything.
    "No cluster leader",
    "node is not the leader",
    // A server could not be reached by the agent.
    "No known Consul servers",
    "failed to get conn",
    // Just after the start.
    "Missing check",
];

/// The words of Consul that say that what was asked for makes no sense to it.
const NEVER: [&str; 4] = [
    "No path to datacenter",
    "Invalid Session TTL",
    "Missing node registration",
    "does not have associated TTL",
];

fn judge(status: StatusCode, told: &str) -> (ErrorKind, Outcome, Cure) {
    use {Cure as C, ErrorKind as K, Outcome as O};
    let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => (K::Unauthorized, O::NotApplied, C::None),
        // A server of TLS says so to who talks without it.
        StatusCode::BAD_REQUEST if told.contains("HTTPS server") => {
            (K::Unavailable, O::NotApplied, C::Elsewhere)
        }
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::URI_TOO_LONG => {
            (K::InvalidInput, O::NotApplied, C::None)
        }
        // Too many requests: refused at the door.
        StatusCode::TOO_MANY_REQUESTS => (K::Unavailable, O::NotApplied, C::Elsewhere),
        StatusCode::INTERNAL_SERVER_ERROR if says(&["Permission denied", "ACL not found"]) => {
            (K::Unauthorized, O::NotApplied, C::None)
        }
        StatusCode::INTERNAL_SERVER_ERROR if says(&NEVER) => (K::InvalidInput, O::NotApplied, C::None),
        StatusCode::INTERNAL_SERVER_ERROR if says(&NOT_NOW) => (K::Unavailable, O::NotApplied, C::Elsewhere),
        // The leader changed while it wrote, a server is stopping, or a proxy answers in its place.
        _ if status.is_server_error() => (K::Unavailable, O::Unknown, C::Elsewhere),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => (K::Unsupported, O::NotApplied, C::None),
        _ => (K::Internal, O::Unknown, C::Elsewhere),
    }
}

/// An answer that Consul does not give.
pub(super) fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Internal, Outcome::Unknown, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_consul_says_what_to_do() {
        use {Cure as C, ErrorKind as K, Outcome as O};
        let cases = [
            (403, "Permission denied", K::Unauthorized, O::NotApplied, C::None),
            (403, "ACL not found", K::Unauthorized, O::NotApplied, C::None),
            (500, "rpc error making call: Permission denied", K::Unauthorized, O::NotApplied, C::None),
            (400, "Missing key name", K::InvalidInput, O::NotApplied, C::None),
            (
                400,
                "Client sent an HTTP request to an HTTPS server.",
                K::Unavailable,
                O::NotApplied,
                C::Elsewhere,
            ),
            (413, "Transaction contains too many operations", K::InvalidInput, O::NotApplied, C::None),
            (
                429,
                "Your IP is issuing too many concurrent connections",
                K::Unavailable,
                O::NotApplied,
                C::Elsewhere,
            ),
            (500, "No cluster leader", K::Unavailable, O::NotApplied, C::Elsewhere),
            (
                500,
                "rpc error making call: node is not the leader",
                K::Unavailable,
                O::NotApplied,
                C::Elsewhere,
            ),
            (500, "Missing check 'serfHealth' registration", K::Unavailable, O::NotApplied, C::Elsewhere),
            (500, "leadership lost while committing log", K::Unavailable, O::Unknown, C::Elsewhere),
            (500, "rpc error making call: EOF", K::Unavailable, O::Unknown, C::Elsewhere),
            (500, "No path to datacenter", K::InvalidInput, O::NotApplied, C::None),
            (500, "CheckID \"x\" does not have associated TTL", K::InvalidInput, O::NotApplied, C::None),
            (503, "", K::Unavailable, O::Unknown, C::Elsewhere),
            (502, "bad gateway", K::Unavailable, O::Unknown, C::Elsewhere),
            (404, "404 page not found", K::Unsupported, O::NotApplied, C::None),
            (302, "", K::Internal, O::Unknown, C::Elsewhere),
        ];
        for (status, told, kind, outcome, cure) in cases {
            let fault = classify(StatusCode::from_u16(status).unwrap(), told.as_bytes(), "http://h:1");
            assert!(fault.error.to_string().contains("http://h:1 answered "), "{}", fault.error);
            assert_eq!(
                (fault.error.kind(), fault.error.outcome(), fault.cure),
                (kind, outcome, cure),
                "{told}"
            );
        }
    }

    #[test]
    fn what_was_sent_and_not_answered_is_unknown() {
        let lost = || std::io::Error::other("reset");
        assert_eq!(unanswered(lost(), "a", true).error.outcome(), Outcome::Unknown);
        assert_eq!(unanswered(lost(), "a", false).error.outcome(), Outcome::NotApplied);
        assert_eq!(Fault::silent("a", true).error.outcome(), Outcome::Unknown);
        assert_eq!(Fault::silent("a", false).error.outcome(), Outcome::NotApplied);
    }
}
