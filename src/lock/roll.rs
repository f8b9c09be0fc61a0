//! Who stands in a queue.

use bytes::Bytes;

use crate::kv::{Consistency, Coordinator, Fence, Queue, Result, SessionId};

/// Somebody who holds a lock, or waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// Who, as [`SessionOptions::owner`](crate::kv::SessionOptions::owner) or its own client said.
    pub owner: String,
    /// The fence of its place; a holder's is what the protected resource sees.
    pub fence: Fence,
    /// The session it hangs on.
    pub session: Option<SessionId>,
    pub(crate) value: Bytes,
}

/// All places of a queue, first to last, in one linearizable read.
pub(crate) async fn roll<S: Coordinator + ?Sized>(store: &S, queue: &Queue) -> Result<Vec<Claim>> {
    let entries = store.list(queue.key(), Consistency::Linearizable).await?;
    let mut claims: Vec<_> = entries
        .into_iter()
        .filter(|entry| store.read_place(queue, entry).is_some())
        .map(|entry| Claim {
            owner: String::from_utf8_lossy(&entry.value).into_owned(),
            fence: entry.fence,
            session: entry.session,
            value: entry.value,
        })
        .collect();
    claims.sort_by_key(|claim| claim.fence);
    Ok(claims)
}
