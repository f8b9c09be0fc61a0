//! What goes wrong on the way to ZooKeeper and back, told as the one [`Error`].

use zookeeper_client::Error as Zk;

use crate::kv::{Error, ErrorKind, Outcome};

/// What may help when a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing: the answer would be the same.
    None,
    /// To ask again: the connection finds another server by itself.
    Again,
    /// To connect anew.
    Anew,
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

    /// Nothing was sent, as no server was there to send it to.
    pub(super) fn disconnected() -> Self {
        let why = "no server could be connected to in time";
        Self::new(ErrorKind::Unavailable, Outcome::NotApplied, Cure::Anew, why)
    }

    /// It was sent, and not answered in time.
    pub(super) fn silent() -> Self {
        let why = "the server did not answer in time";
        Self::new(ErrorKind::Unavailable, Outcome::Unknown, Cure::Anew, why)
    }
}

/// The one place that says what kind of failure it was, whether the request may have taken effect, and what may help.
///
/// Only what a server answers, or what was never sent, is certain. All else is unknown, among it what the client calls by
/// no name: "no response from connection in 1600ms".
pub(super) fn classify(error: Zk) -> Fault {
    use {Cure as C, ErrorKind as K, Outcome as O};
    let (kind, outcome, cure) = match &error {
        Zk::NoAuth | Zk::InvalidAcl | Zk::AuthFailed => (K::Unauthorized, O::NotApplied, C::None),
        // Answered by a server, or met when nothing can be sent any more.
        Zk::SessionExpired | Zk::ClientClosed => (K::SessionLost, O::NotApplied, C::Anew),
        Zk::SessionMoved | Zk::NotReadOnly | Zk::Throttled => (K::Unavailable, O::NotApplied, C::Again),
        // Only connecting fails so.
        Zk::NoHosts | Zk::Timeout => (K::Unavailable, O::NotApplied, C::Anew),
        Zk::QuotaExceeded => (K::Unavailable, O::NotApplied, C::None),
        Zk::Unimplemented => (K::Unsupported, O::NotApplied, C::None),
        Zk::BadArguments(_) | Zk::MarshallingError => (K::InvalidInput, O::NotApplied, C::None),
        // Answers that whoever asks makes sense of; here nobody expected them.
        Zk::NoNode | Zk::NodeExists | Zk::BadVersion | Zk::NotEmpty | Zk::NoChildrenForEphemerals => {
            (K::Internal, O::NotApplied, C::None)
        }
        _ => (K::Unavailable, O::Unknown, C::Again),
    };
    let fault = Fault::new(kind, outcome, cure, error.to_string());
    Fault { error: fault.error.because(error), ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_says_what_to_do() {
        use {Cure as C, ErrorKind as K, Outcome as O};
        for (error, kind, outcome, cure) in [
            (Zk::NoAuth, K::Unauthorized, O::NotApplied, C::None),
            (Zk::SessionExpired, K::SessionLost, O::NotApplied, C::Anew),
            (Zk::SessionMoved, K::Unavailable, O::NotApplied, C::Again),
            (Zk::NoHosts, K::Unavailable, O::NotApplied, C::Anew),
            (Zk::Unimplemented, K::Unsupported, O::NotApplied, C::None),
            (Zk::NodeExists, K::Internal, O::NotApplied, C::None),
            (Zk::ConnectionLoss, K::Unavailable, O::Unknown, C::Again),
            (Zk::UnexpectedErrorCode(-2), K::Unavailable, O::Unknown, C::Again),
            (Zk::UnexpectedError("a hang".into()), K::Unavailable, O::Unknown, C::Again),
        ] {
            let fault = classify(error.clone());
            let told = (fault.error.kind(), fault.error.outcome(), fault.cure);
            assert_eq!(told, (kind, outcome, cure), "{error}");
        }
        assert_eq!(Fault::silent().error.outcome(), O::Unknown);
        assert_eq!(Fault::disconnected().error.outcome(), O::NotApplied);
    }
}
