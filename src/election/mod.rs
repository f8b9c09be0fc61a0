//! Elections: one of many leads, and all know who.
//!
//! A [`Candidate`] stands in the same kind of queue a [lock](crate::lock) has; whoever stands first leads, and its
//! [fence](Term::fence) is the number of the term. A [`Follower`] only looks. One actor keeps all states of a candidate,
//! so that what it says of itself and what followers see agree.

mod announcement;
mod candidate;
mod follower;
mod leadership;
mod standing;
mod term;

pub use candidate::{Candidate, Led};
pub use follower::{Follower, Leader};
pub use leadership::Leadership;
pub use standing::Status;
pub use term::Term;

#[cfg(test)]
mod tests;
