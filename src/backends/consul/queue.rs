//! Queues: places below a key, in the order they were made in, each held by its session.
//!
//! There is no native layout: a lock of `consul lock` is one key, which whoever is fastest takes when it is free. It has
//! no order, so nobody could be told what stands ahead; and it is not made anew for its next holder, who would have the
//! fence of the last.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::endpoints::Endpoints;
use super::error::broken;
use super::keys::{self, Stored};
use super::ops::{self, Done, Op, Told};
use super::{BACKEND, lost, reads, session};
use crate::kv::{
    Entered, Error, ErrorKind, Fence, Key, Outcome, Place, PlaceRef, Queue, Result, SessionId, Ticket,
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
    key: Key,
    value: Bytes,
    limit: usize,
) -> Result<Entered> {
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
        let place = place(ops::last(told, &key)?.fence());
        let mut standing = Standing::new(queue, &key, place.fence);
        for told in told {
            standing.see(&told.kv);
        }
        Ok(Entered { ahead: standing.ahead_of(place.fence, limit), place })
    };
    match ops::send(endpoints, "enter", ops, entered).await? {
        Done::Applied(entered) => Ok(entered),
        Done::Failed(0) => {
            let mut standing = Standing::new(queue, &key, Fence::new(u64::MAX));
            standing.look(endpoints).await.map_err(Error::unsettled)?;
            let own = standing.own.take().filter(|(_, holder)| holder.as_ref() == Some(session));
            // Somebody deleted it meanwhile. Asked again, it is made anew.
            let (own, _) = own.ok_or_else(|| {
                Error::new(ErrorKind::Unavailable, Outcome::Unknown, "the place was deleted")
            })?;
            Ok(Entered { place: place(own), ahead: standing.ahead_of(own, limit) })
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
    let mut standing = Standing::new(&place.queue, &place.key, place.fence);
    standing.look(endpoints).await?;
    let own = (place.fence, Some(place.session.clone()));
    let stands = standing.own.as_ref() == Some(&own);
    Ok(stands.then(|| standing.ahead_of(place.fence, limit)))
}

/// What stands in a queue, as far as it matters to one place: of the many behind it no more than the fence is read.
struct Standing<'a> {
    queue: &'a Queue,
    at: String,
    before: Fence,
    /// The fence of what stands at the place's key, and who holds it.
    own: Option<(Fence, Option<SessionId>)>,
    ahead: BTreeMap<Fence, PlaceRef>,
}

impl<'a> Standing<'a> {
    fn new(queue: &'a Queue, own: &Key, before: Fence) -> Self {
        Self { queue, at: keys::encode(own), before, own: None, ahead: BTreeMap::new() }
    }

    async fn look(&mut self, endpoints: &Endpoints) -> Result<()> {
        reads::each_below(endpoints, "ahead", self.queue.key(), |stored| self.see(stored)).await
    }

    fn see(&mut self, stored: &Stored<'_>) {
        let fence = stored.fence();
        if stored.is_at(&self.at) {
            self.own = Some((fence, stored.session()));
        } else if fence < self.before {
            let place = stored.entry().and_then(|entry| self.queue.read_place(&entry));
            self.ahead.extend(place.map(|place| (fence, place)));
        }
    }

    /// The places before this fence, nearest first.
    fn ahead_of(self, fence: Fence, limit: usize) -> Vec<PlaceRef> {
        self.ahead.into_values().rev().filter(|place| place.fence < fence).take(limit).collect()
    }
}
