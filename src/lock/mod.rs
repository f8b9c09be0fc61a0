//! Locks: the one contention algorithm, and what is built on it.
//!
//! Whoever wants a lock enters a queue in the store, one round trip, and holds once nothing stands ahead. Waiters
//! watch only the place ahead of them, so a release wakes one of them, and every wake looks again, linearizably, at
//! the waiter's own place: ownership is never inferred.
//!
//! Holding is never proof. A process can be paused at any moment and go on after its lease has ended; so every
//! [`Guard`] has a [`fence`](Guard::fence), a number that only grows, for whatever the lock protects to check.

mod guard;
mod held;
mod mutex;
mod queue;
mod roll;

pub use guard::{Guard, Release};
pub use mutex::Mutex;
pub use roll::Claim;

pub(crate) use guard::put as guarded_put;
pub(crate) use held::Held;
pub(crate) use queue::{Acquired, acquire, try_acquire};
pub(crate) use roll::roll;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_faults;
