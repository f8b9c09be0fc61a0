//! The store contract, and what is built on it once: sessions, watching, chroots.
//!
//! A **store** promises a few things exactly; a backend only translates a server into that promise. The traits are
//! [`Store`] (conditional writes), [`SessionStore`] (entries that die with their owner), [`WatchStore`] (changes
//! are told) and [`QueueStore`] (places in the server's own order); a [`Coordinator`] is all of them.
//!
//! # Keys
//!
//! [Keys](Key) are segments. A key is not under itself: `list`, `watch` and `delete_prefix` cover what is strictly
//! below a prefix, in segment order. The segment `_quorate` is this crate's own: users cannot name it, and whatever
//! stands below one is never seen or touched from a prefix above it.
//!
//! # The contract
//!
//! Every backend and every wrapper passes the same conformance cases, at least one for each line.
//!
//! 1. `get` and `list` with [`Consistency::Linearizable`] see every acknowledged write; with
//!    [`Consistency::Local`] they may be stale, as the backend's page says.
//! 2. A put with [`Check::Absent`] applies for exactly one of many racers. A lost race is an answer
//!    ([`Write::Rejected`]), not an error; it may carry what a later read saw.
//! 3. A [`Version`] is never valid again after the entry changed, also to an identical value, or was deleted and
//!    made again, across restarts of the store too.
//! 4. The [`Fence`] of a newly made entry is larger than that of every entry made before it in the same queue or at
//!    the same key, and store-wide where [`Limits::fence`] says so. Entries of one commit may share one. An entry
//!    that is overwritten keeps its fence, unless its binding changes, which may count as making it again.
//! 5. A bound entry is gone within its session's ttl and the stated [slack](Limits::expiry_slack) after the last
//!    renewal, and not before the ttl, except where the backend's page says why a server may. So every holder also
//!    watches its own place.
//! 6. A write bound to a dead session is refused with [`ErrorKind::SessionLost`], never stored unbound. The last put
//!    decides the binding: bound to unbound, unbound to bound, one session to another; a commit binds to at most
//!    one session.
//! 7. A watch tells a snapshot, then the changes of every key in order, with nothing missed at the end; values in
//!    between may be left out only where [`Limits::coalesces`] says so. Expiry shows as [`Event::Delete`]. Missing
//!    keys and empty prefixes can be watched. Broken connections, compaction and restarts are survived and show as
//!    a fresh [`Event::Snapshot`]; errors come in-stream.
//! 8. Keys with glob characters, spaces, unicode, `%`, `..` or `=` are data, the same on every store.
//! 9. An error with [`Outcome::NotApplied`] had and will have no effect; whatever was sent and not definitely
//!    answered is [`Outcome::Unknown`], and may take effect late, or twice. A request that was definitely answered
//!    takes no effect afterwards.
//! 10. A future dropped at any await leaves no effect, or the full effect.
//! 11. Values from 0 bytes to [`Limits::max_value`], binary too, come back as they were put; larger ones are refused
//!     before anything is sent. A key appears once among the puts and deletes of a commit.
//! 12. The places of one queue are totally ordered, by fences that grow along it; a place that leaves from the
//!     middle disturbs nobody's order and loses nobody's turn. Entering again with a standing ticket changes
//!     nothing and returns that place.
//! 13. A parent and its children can both hold values, bound or not; implicit parents are no entries.

pub(crate) mod backoff;
mod bad;
#[cfg(feature = "testing")]
pub mod chaos;
pub(crate) mod clock;
#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
pub mod counting;
#[cfg(test)]
pub(crate) mod dropping;
mod entry;
mod error;
mod event;
pub(crate) mod ext;
mod fanout;
pub(crate) mod key;
mod limits;
mod namespace;
mod observe;
mod queue;
mod random;
pub(crate) mod session;
pub(crate) mod settle;
mod store;
mod traced;
mod txn;
mod watched;

pub(crate) use bad::bad;
pub use clock::{Clock, Instant, SystemClock};
pub use entry::{Entry, Fence, SessionId, Version};
pub use error::{BoxError, Error, ErrorKind, Outcome, Result};
pub use event::{Event, Scope};
pub use ext::{IntoKey, StoreExt};
pub use fanout::{ErrorSignal, Fanout, Signal, Subscription};
pub use key::Key;
pub use limits::{Delivery, FenceScope, Limits};
pub use namespace::Namespaced;
pub use observe::{View, observe};
pub use queue::{Entered, Mode, Place, PlaceRef, Queue, Ticket};
pub use random::Random;
pub use session::{LossReason, Session, SessionOptions, SessionState, Sessions};
pub use store::{Consistency, Coordinator, Grant, QueueStore, Renewal, SessionStore, Store, WatchStore};
pub use traced::Traced;
pub use txn::{Check, Put, Rejection, Txn, Write};
pub use watched::Watched;
