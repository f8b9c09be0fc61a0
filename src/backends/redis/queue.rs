//! Queues: places below a key, in a sorted set by fence.
//!
//! The place of a session is `QUEUE/<session>-<ticket>`, bound to the session. Any entry of such a name and binding is one,
//! whoever put it there; a place that is bound otherwise, or deleted, leaves the queue in the same script.

use bytes::Bytes;
use redis::Value;

use super::error::Fault;
use super::options::Replicas;
use super::reply::{Reply, array, key, number, odd};
use super::scripts::{AHEAD, ENTER, LEAVE};
use super::servers::{Kind, Servers};
use super::{BACKEND, lost};
use crate::kv::{
    Entered, Error, ErrorKind, Fence, Key, Outcome, Place, PlaceRef, Queue, Result, SessionId, Ticket,
};

/// Locks of Redis have no layout that clients agree on.
pub(super) fn refuse_native(queue: &Queue) -> Result<()> {
    if queue.is_native() {
        let why = "Redis has no native queue of its own to share with other clients: what they call a lock is one key \
                   that its holder sets, with neither order nor fence";
        return Err(Error::new(ErrorKind::Unsupported, Outcome::NotApplied, why));
    }
    Ok(())
}

pub(super) async fn enter(
    servers: &Servers,
    queue: &Queue,
    session: &SessionId,
    ticket: &Ticket,
    at: Key,
    value: Bytes,
    limit: usize,
) -> Result<Entered> {
    let limit = limit.to_string();
    let waits = if servers.replicas.is_some() { "1" } else { "0" };
    let arguments: [&[u8]; 6] = [
        session.as_str().as_bytes(),
        queue.key().as_str().as_bytes(),
        at.as_str().as_bytes(),
        &value,
        limit.as_bytes(),
        waits.as_bytes(),
    ];
    let Some(wanted) = servers.replicas else {
        let reply = servers.call(Kind::Once, "enter", &ENTER, &arguments).await?;
        return entered(reply, queue, session, ticket, at);
    };
    let (reply, count) = servers.call_replicated("enter", &ENTER, &arguments, wanted).await?;
    let entered = entered(reply, queue, session, ticket, at)?;
    if count >= wanted.count {
        return Ok(entered);
    }
    Err(give_back(servers, &entered.place, count, wanted).await)
}

/// Leaves again, as too few replicas said in time that they have the place.
async fn give_back(servers: &Servers, place: &Place, count: u32, wanted: Replicas) -> Error {
    let left = leave(servers, place).await;
    let Replicas { count: of, within } = wanted;
    // Once it is gone it is as if it had never been: nobody was told that it was there but those behind it, for a moment.
    let (what, outcome) = match left {
        Ok(_) => ("it was given back", Outcome::NotApplied),
        Err(_) => ("it could not be given back", Outcome::Unknown),
    };
    let why = format!("{count} of {of} replicas had the place within {within:?}; {what}");
    Error::new(ErrorKind::Unavailable, outcome, why)
}

fn entered(
    mut reply: Reply,
    queue: &Queue,
    session: &SessionId,
    ticket: &Ticket,
    key: Key,
) -> Result<Entered> {
    if reply.status == "lost" {
        return Err(lost(session));
    }
    let mut read = || {
        let fence = Fence::new(number(reply.next().ok_or_else(|| odd("no fence"))?)?);
        Ok((fence, places(reply.next())?))
    };
    let (fence, ahead) = read().map_err(|fault: Fault| fault.error.at(BACKEND, "enter"))?;
    let place = Place { queue: queue.clone(), key, fence, session: session.clone(), ticket: *ticket };
    Ok(Entered { place, ahead })
}

/// What stands ahead of a place; `None` when the place does not stand.
pub(super) async fn ahead(servers: &Servers, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
    let (fence, limit) = (place.fence.to_string(), limit.to_string());
    let arguments: [&[u8]; 5] = [
        place.session.as_str().as_bytes(),
        place.queue.key().as_str().as_bytes(),
        place.key.as_str().as_bytes(),
        fence.as_bytes(),
        limit.as_bytes(),
    ];
    let mut reply = servers.call(Kind::Repeatable, "ahead", &AHEAD, &arguments).await?;
    if reply.status == "gone" {
        return Ok(None);
    }
    places(reply.next()).map(Some).map_err(|fault| fault.error.at(BACKEND, "ahead"))
}

/// Removes a place, and says whether it stood.
pub(super) async fn leave(servers: &Servers, place: &Place) -> Result<bool> {
    let fence = place.fence.to_string();
    let queue = place.queue.key();
    let arguments: [&[u8]; 3] = [place.key.as_str().as_bytes(), fence.as_bytes(), queue.as_str().as_bytes()];
    Ok(servers.call(Kind::Once, "leave", &LEAVE, &arguments).await?.status == "ok")
}

fn places(found: Option<Value>) -> Result<Vec<PlaceRef>, Fault> {
    let mut parts = array(found.ok_or_else(|| odd("no places"))?)?.into_iter();
    let mut places = Vec::new();
    while let (Some(at), Some(fence)) = (parts.next(), parts.next()) {
        let key = key(at)?;
        let ticket = key.name().rsplit_once('-').and_then(|(_, ticket)| ticket.parse().ok());
        places.push(PlaceRef { key, fence: Fence::new(number(fence)?), ticket });
    }
    Ok(places)
}
