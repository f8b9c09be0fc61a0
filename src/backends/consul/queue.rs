//! Queues: places below a key, in the order they were made in, each held by its session.
//!
//! There is no native layout: a lock of `consul lock` is one key, which whoever is fastest takes when it is free. It has
//! no order, so nobody could be told what stands ahead; and it is not made anew for its next holder, who would have the
//! fence of the last.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::endpoints::Endpoints;
use super::error::broken;
use super::ops::{self, Done, Op, Told};
use super::{BACKEND, lost, reads, session};
use crate::kv::{
    Consistency, Entered, Entry, Error, ErrorKind, Fence, Outcome, Place, PlaceRef, Queue, Result, SessionId,
    Ticket,
};

/// Refuses a queue of another layout than ours.
pub(super) fn check(queue: &Queue) -> Result<()> {
    if !queue.is_native() {
        return Ok(());
    }
    let why = "Consul has no queue of its own to share: its native lock is one key, without an order and without a \
               fence that grows from holder to holder";
    Err(Error::new(ErrorKind::Unsupported, Outcome::NotApplied, why).at(BACKEND, "enter").on(queue.key()))
}

/// Enters, and sees what stands ahead, in one transaction.
pub(super) async fn enter(
    endpoints: &Endpoints,
    queue: &Queue,
    session: &SessionId,
    ticket: &Ticket,
    value: Bytes,
    limit: usize,
) -> Result<Entered> {
    let key = queue.place_key(session, ticket)?;
    // Whatever stands there already is ours, and a lock would rewrite it.
    let ops = vec![Op::absent(&key), Op::lock(&key, &value, session), Op::read_below(queue.key())];
    let place = |fence| Place {
        queue: queue.clone(),
        key: key.clone(),
        fence,
        session: session.clone(),
        ticket: *ticket,
    };
    let entered = |told: &[Told<'_>]| {
        let entries: Vec<_> = told.iter().filter_map(|told| told.kv.entry()).collect();
        let place = place(ops::last(told, &key)?.fence());
        let ahead = ahead_among(&place, &entries, limit);
        Ok(Entered { place, ahead })
    };
    match ops::send(endpoints, "enter", ops, entered).await? {
        Done::Applied(entered) => Ok(entered),
        Done::Failed(0) => {
            let standing = below(endpoints, queue).await.map_err(Error::unsettled)?;
            let own =
                standing.iter().find(|entry| entry.key == key && entry.session.as_ref() == Some(session));
            // Somebody deleted it meanwhile. Asked again, it is made anew.
            let own = own.ok_or_else(|| {
                Error::new(ErrorKind::Unavailable, Outcome::Unknown, "the place was deleted")
            })?;
            let place = place(own.fence);
            let ahead = ahead_among(&place, &standing, limit);
            Ok(Entered { place, ahead })
        }
        Done::Failed(_) if !session::lives(endpoints, session).await? => Err(lost(session)),
        Done::Failed(_) => Err(broken("a new place was refused to a session that lives")),
    }
}

/// What stands ahead of a place; `None` when the place does not stand.
pub(super) async fn ahead(
    endpoints: &Endpoints,
    place: &Place,
    limit: usize,
) -> Result<Option<Vec<PlaceRef>>> {
    let standing = below(endpoints, &place.queue).await?;
    let is_own = |entry: &&Entry| entry.key == place.key;
    let own = standing.iter().find(is_own);
    let stands =
        own.is_some_and(|own| own.fence == place.fence && own.session.as_ref() == Some(&place.session));
    Ok(stands.then(|| ahead_among(place, &standing, limit)))
}

async fn below(endpoints: &Endpoints, queue: &Queue) -> Result<Vec<Entry>> {
    reads::list(endpoints, "ahead", queue.key(), Consistency::Linearizable).await
}

/// The places before this one among what stands below its queue, nearest first.
fn ahead_among(place: &Place, standing: &[Entry], limit: usize) -> Vec<PlaceRef> {
    let places = standing.iter().filter_map(|entry| place.queue.read_place(entry));
    let before: BTreeMap<Fence, PlaceRef> =
        places.filter(|other| other.fence < place.fence).map(|other| (other.fence, other)).collect();
    before.into_values().rev().take(limit).collect()
}
