//! Tickets to be used again.

use std::sync::{Mutex, PoisonError};

use crate::kv::Ticket;

/// How many are kept. More than so many places at a time are rare, and what is beyond is made anew.
const MOST: usize = 256;

/// The tickets of a session whose places are gone, and of whose requests none can be under way.
///
/// A deleted name stays in some stores for a while, in etcd until the next compaction and in Consul for 15 minutes, and
/// whoever enters a queue has the server walk over all that was deleted from it. Were each place of a new name, a lock would
/// get slower with each time that it is taken. What was given back last is used first, so that a session has no more
/// names in a queue than it ever had places at once.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Vec<Ticket>>);

impl Tickets {
    pub(super) fn take(&self) -> Option<Ticket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(super) fn give_back(&self, ticket: Ticket) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST {
            spare.push(ticket);
        }
    }
}
