//! One life of a claim.

use super::SessionId;

/// One life of a claim: everything held hangs on one, and many things hang on the same one.
#[derive(Clone, Debug)]
pub struct Session {
    id: SessionId,
}

impl Session {
    /// Its name in the store.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }
}
