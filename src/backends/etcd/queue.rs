//! Queues: places below a key, in the order they were made in.
//!
//! The place of a session is `QUEUE/<lease>-<ticket>`, bound to the lease. A native queue is one of etcd's own
//! `concurrency` package, whose places are `QUEUE/<lease>`: its clients wait for whatever was made below the key before
//! theirs and take what was made first for the holder, by any name, so our places may keep their tickets, without
//! which two locks of one session would not exclude each other.

use std::sync::Arc;

use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, PutOptions, SortOrder, SortTarget,
    Txn as EtcdTxn, TxnOp,
};

use super::connection::Connection;
use super::endpoints::{Endpoints, Kind};
use super::keys::{self, Range};
use super::reads::{broken, found, revision, told};
use super::txn::lease_of;
use crate::kv::{
    Entered, Entry, Error, ErrorKind, Fence, Key, Outcome, Place, PlaceRef, Queue, Result, SessionId, Ticket,
};

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
    let lease = lease_of(session)?;
    let raw = keys::encode(&key);
    // Ours will be the newest, and is among what is found.
    let asked = limit.saturating_add(1);
    let ask = |connection: Arc<Connection>| {
        let bound = PutOptions::new().with_lease(lease);
        let request = EtcdTxn::new()
            .when([Compare::create_revision(&*raw, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(&*raw, value.clone(), Some(bound)), newest(queue, asked, None)])
            .or_else([TxnOp::get(&*raw, Some(GetOptions::new().with_keys_only()))]);
        async move { connection.kv().txn(request).await }
    };
    let answer = endpoints.call(Kind::Once, "enter", ask).await?;
    let place = |fence| Place {
        queue: queue.clone(),
        key: key.clone(),
        fence,
        session: session.clone(),
        ticket: *ticket,
    };
    let (succeeded, made) = (answer.succeeded(), revision(answer.header())?);
    let mut answers = told(answer).map(found);
    if !succeeded {
        let standing = answers.next().unwrap_or_default().into_iter().next();
        let standing = standing.ok_or_else(|| broken("a place neither stood nor was made"))?;
        return again(endpoints, place(keys::fence(standing.create_revision())), limit).await;
    }
    let place = place(keys::fence(made));
    let seen = answers.nth(1).unwrap_or_default();
    let ahead = match Ahead::of(queue, place.fence, seen, asked, limit) {
        Ahead::All(ahead) => ahead,
        Ahead::TooFew => return again(endpoints, place, limit).await,
    };
    Ok(Entered { place, ahead })
}

/// A place that stood already, or has something else than places ahead of it.
async fn again(endpoints: &Endpoints, place: Place, limit: usize) -> Result<Entered> {
    match ahead(endpoints, &place, limit).await {
        Ok(Some(ahead)) => Ok(Entered { place, ahead }),
        // Somebody deleted it meanwhile. Asked again, it is made anew.
        Ok(None) => Err(Error::new(ErrorKind::Unavailable, Outcome::Unknown, "the place was deleted")),
        // The place stands.
        Err(error) => Err(error.unsettled()),
    }
}

/// What stands ahead of a place; `None` when the place does not stand.
pub(super) async fn ahead(
    endpoints: &Endpoints,
    place: &Place,
    limit: usize,
) -> Result<Option<Vec<PlaceRef>>> {
    let mut most = limit;
    loop {
        let ask = |connection: Arc<Connection>| {
            let own = TxnOp::get(keys::encode(&place.key), Some(GetOptions::new().with_keys_only()));
            let request = EtcdTxn::new().and_then([own, newest(&place.queue, most, Some(place.fence))]);
            async move { connection.kv().txn(request).await }
        };
        let answer = endpoints.call(Kind::Repeatable, "ahead", ask).await?;
        let mut answers = told(answer).map(found);
        let own = answers.next().unwrap_or_default().into_iter().find_map(keys::entry);
        let stands =
            own.is_some_and(|own| own.fence == place.fence && own.session.as_ref() == Some(&place.session));
        if !stands {
            return Ok(None);
        }
        let seen = answers.next().unwrap_or_default();
        match Ahead::of(&place.queue, place.fence, seen, most, limit) {
            Ahead::All(ahead) => return Ok(Some(ahead)),
            Ahead::TooFew => most = usize::MAX,
        }
    }
}

/// Removes the place. By its key alone: no other ticket has that, nor is the ticket used again while this request may be
/// under way, and a condition would cost the server half as much again.
pub(super) async fn leave(endpoints: &Endpoints, place: &Place) -> Result<bool> {
    let ask = |connection: Arc<Connection>| {
        let key = keys::encode(&place.key);
        async move { connection.kv().delete(key, Some(DeleteOptions::new().with_prev_key())).await }
    };
    let answer = endpoints.call(Kind::Once, "leave", ask).await?;
    Ok(answer.prev_kvs().iter().any(|before| keys::fence(before.create_revision()) == place.fence))
}

/// Reads what was made below a queue, newest first, no more than `most`; only what was made before `fence`, if there is
/// one.
fn newest(queue: &Queue, most: usize, fence: Option<Fence>) -> TxnOp {
    let Range { start, end } = keys::below(queue.key());
    let options = GetOptions::new()
        .with_range(end)
        .with_sort(SortTarget::Create, SortOrder::Descend)
        // 0 is no limit.
        .with_limit(i64::try_from(most).unwrap_or_default())
        .with_keys_only();
    let before = fence.and_then(|fence| i64::try_from(fence.get()).ok()).map(|fence| fence - 1);
    let options = match before {
        Some(before) => options.with_max_create_revision(before),
        None => options,
    };
    TxnOp::get(start, Some(options))
}

/// The places ahead among what was seen.
enum Ahead {
    All(Vec<PlaceRef>),
    /// More was there than was seen, and among that may be places.
    TooFew,
}

impl Ahead {
    /// `asked` entries at most were asked for, and `limit` places are wanted; `seen` is newest first.
    fn of(queue: &Queue, fence: Fence, seen: Vec<KeyValue>, asked: usize, limit: usize) -> Self {
        let more = seen.len() >= asked;
        let places = seen.into_iter().filter_map(keys::entry).filter_map(|entry| read_place(queue, &entry));
        let ahead: Vec<_> = places.filter(|place| place.fence < fence).take(limit).collect();
        if more && ahead.len() < limit { Self::TooFew } else { Self::All(ahead) }
    }
}

/// A place of ours, or in a native queue one of another client.
pub(super) fn read_place(queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
    if let Some(ours) = queue.read_place(entry) {
        return Some(ours);
    }
    let name = entry.key.strip(queue.key()).filter(|_| queue.is_native())?;
    let lease = entry.session.as_ref()?;
    (name.as_str() == lease.as_str()).then(|| PlaceRef {
        key: entry.key.clone(),
        fence: entry.fence,
        ticket: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Key, Mode, Random, Version};

    fn entry(key: &str, session: Option<&str>) -> Entry {
        let key = Key::decode(key).unwrap();
        Entry::new(key, Bytes::new(), Version::new(1), Fence::new(1), session.map(SessionId::new))
    }

    #[test]
    fn a_native_queue_counts_what_its_layout_calls_a_place() {
        let native = Queue::native(Key::new("jobs").unwrap());
        let ticket = Ticket::new(Mode::Shared, &Random::seeded(1));
        let cases = [
            (entry("jobs/694d", Some("694d")), true),
            (entry(&format!("jobs/694d-{ticket}"), Some("694d")), true),
            (entry("jobs/694d", Some("694e")), false),
            (entry("jobs/694d", None), false),
            (entry("jobs/deep/694d", Some("694d")), false),
            (entry("jobs/config", Some("694d")), false),
        ];
        for (entry, counts) in &cases {
            assert_eq!(read_place(&native, entry).is_some(), *counts, "{:?}", entry.key);
        }
        assert_eq!(read_place(&native, &cases[0].0).unwrap().mode(), Mode::Exclusive);
        assert_eq!(read_place(&native, &cases[1].0).unwrap().ticket, Some(ticket));
        let own = Queue::lock("jobs").unwrap();
        assert!(read_place(&own, &entry("_quorate/lock/jobs/694d", Some("694d"))).is_none());
    }
}
