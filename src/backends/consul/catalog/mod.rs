//! Consul's own catalog of services, which its DNS, its UI and other programs read.
//!
//! Registrations stand in the store, as on every other store; they are put into the catalog as well where that is asked
//! for ([`announce`]), and services that others put there can be seen ([`provider`]). This is the one part of a backend
//! that knows what an instance is.

pub(super) mod announce;
mod forms;
pub(super) mod provider;
