//! Queues: ephemeral nodes below a directory, in the order of the numbers that the server gives them.
//!
//! A place is `QUEUE/<session>-<ticket>.<attempt>-lock-<number>`. In a native queue all that Curator and kazoo name so is
//! a place, too; they go by the number and leave the rest of a name alone.

use bytes::Bytes;
use zookeeper_client::{Client, CreateMode, Error as Zk, Stat};

use super::connection::{Kind, barrier};
use super::facts::{Fact, PLACES};
use super::lease::Live;
use super::nodes::{Make, Missing, made, make};
use super::reads::RESERVED;
use super::{BACKEND, Store, Via, keys};
use crate::kv::{
    Entered, Entry, Error, ErrorKind, Key, Outcome, Place, PlaceRef, Queue, Result, SessionId, Ticket,
};

/// Enters, and sees what stands ahead, in one flight; in a second, if anything does, who that is.
pub(super) async fn enter(
    store: &Store,
    queue: &Queue,
    session: &SessionId,
    ticket: &Ticket,
    value: Bytes,
    limit: usize,
) -> Result<Entered> {
    let live = store.lives.live(session)?;
    if live.remember(ticket)
        && let Some(place) = find(&live, queue, ticket).await?
    {
        return again(store, place, limit).await;
    }
    loop {
        let Some((name, stat, names)) = make_place(store, &live, queue, ticket, &value).await? else {
            continue;
        };
        let key = queue.key().child(&name)?;
        let place = Place {
            queue: queue.clone(),
            fence: keys::fence(stat.czxid),
            session: session.clone(),
            ticket: *ticket,
            key,
        };
        let ahead = nearest(queue, &name, names);
        if limit == 0 || ahead.is_empty() {
            return Ok(Entered { place, ahead: Vec::new() });
        }
        return match seen(&Via::Session(&live), queue, &ahead, limit).await {
            Ok(Some(ahead)) => Ok(Entered { place, ahead }),
            Ok(None) => again(store, place, limit).await,
            // The place stands.
            Err(error) => Err(error.unsettled()),
        };
    }
}

/// Makes the place; `None` when a directory was missing after all.
async fn make_place(
    store: &Store,
    live: &Live,
    queue: &Queue,
    ticket: &Ticket,
    value: &Bytes,
) -> Result<Option<(String, Stat, Vec<String>)>> {
    let directory = keys::directory(queue.key());
    let stem = keys::place_stem(&live.id, ticket, live.attempt());
    let path = keys::below(&directory, &stem);
    let generation = store.places.get();
    let counter = generation.is_none().then(|| Make::Counter(PLACES.to_owned()));
    let makes = store.nodes.missing(counter.into_iter().chain([Make::Directory(directory.clone())]));
    let acls = store.ensemble.settled.acls();
    let made = live.call(Kind::Once, "enter", |client: Client| {
        let (directory, path, makes, value) = (directory.clone(), path.clone(), makes.clone(), value.clone());
        async move {
            let making = make(&client, acls, &makes);
            // Asked first: as long as it stays the same, no place was made but by entering.
            let count = generation.is_none().then(|| client.check_stat(PLACES));
            let created = client.create(&path, &value, &CreateMode::EphemeralSequential.with_acls(acls));
            let names = client.get_children(&directory);
            let missing = made(making).await;
            let count = match count {
                Some(count) => count.await.ok().flatten().map(|stat| stat.version),
                None => generation,
            };
            let (stat, number) = match created.await {
                Ok(created) => created,
                Err(Zk::NoNode) if missing.as_ref().map_or(true, Missing::is_curable) => return Ok(None),
                Err(error) => return Err(missing.map_or(error.clone(), |missing| missing.explain(error))),
            };
            // What was made stands, whatever becomes of the rest.
            let names = names.await.map_err(|_| Zk::ConnectionLoss)?.0;
            Ok(Some((stat, number.to_string(), names, count)))
        }
    });
    match made.await {
        Ok(Some((stat, number, names, count))) => {
            store.nodes.remember(makes);
            if let Some(generation) = count {
                store.places.set(generation);
                let fact = Fact { czxid: stat.czxid, owner: stat.ephemeral_owner, generation };
                store.facts.learn(&format!("{path}{number}"), fact);
            }
            Ok(Some((format!("{stem}{number}"), stat, names)))
        }
        Ok(None) => {
            store.nodes.forget([directory.as_str()]);
            Ok(None)
        }
        Err(error) => {
            if error.outcome() == Outcome::NotApplied {
                live.forget(ticket);
            }
            Err(error)
        }
    }
}

/// The place of a ticket that was tried before. Behind all that was sent on the session's connection, so that what is not
/// found will not come to be.
async fn find(live: &Live, queue: &Queue, ticket: &Ticket) -> Result<Option<Place>> {
    let directory = keys::directory(queue.key());
    let names = live.call(Kind::Repeatable, "enter", |client: Client| {
        let directory = directory.clone();
        async move {
            let settled = barrier(&client);
            let names = client.get_children(&directory);
            settled.await?;
            children(names.await)
        }
    });
    let ours = |name: &String| keys::place_owner(name) == Some((live.id.clone(), *ticket));
    let Some(name) = names.await?.into_iter().find(ours) else { return Ok(None) };
    let path = keys::below(&directory, &name);
    let stat = live.call(Kind::Repeatable, "enter", |client: Client| {
        let path = path.clone();
        async move { client.check_stat(&path).await }
    });
    Ok(match stat.await? {
        Some(stat) => Some(Place {
            queue: queue.clone(),
            key: queue.key().child(&name)?,
            fence: keys::fence(stat.czxid),
            session: live.id.clone(),
            ticket: *ticket,
        }),
        None => None,
    })
}

/// A place that stood already, or whose neighbours left while they were looked at.
async fn again(store: &Store, place: Place, limit: usize) -> Result<Entered> {
    match ahead(store, &place, limit).await {
        Ok(Some(ahead)) => Ok(Entered { place, ahead }),
        // Somebody deleted it meanwhile. Asked again, it is made anew.
        Ok(None) => {
            let why = "the place was deleted";
            Err(Error::new(ErrorKind::Unavailable, Outcome::Unknown, why).at(BACKEND, "enter"))
        }
        Err(error) => Err(error.unsettled()),
    }
}

/// What stands ahead of a place: one flight where nothing does; `None` when the place does not stand.
pub(super) async fn ahead(store: &Store, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
    let (directory, own) = (keys::directory(place.queue.key()), keys::node(&place.key));
    loop {
        let looked = store.ensemble.call(Kind::Repeatable, "ahead", |client: Client| {
            let (directory, own) = (directory.clone(), own.clone());
            async move {
                let settled = barrier(&client);
                let own = client.check_stat(&own);
                let names = client.get_children(&directory);
                settled.await?;
                Ok((own.await?, children(names.await)?))
            }
        });
        let (own, names) = looked.await?;
        let stands = own.is_some_and(|own| {
            keys::fence(own.czxid) == place.fence
                && keys::session(own.ephemeral_owner).as_ref() == Some(&place.session)
        });
        if !stands {
            return Ok(None);
        }
        let ahead = nearest(&place.queue, place.key.name(), names);
        if limit == 0 || ahead.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if let Some(ahead) = seen(&Via::Shared(&store.ensemble), &place.queue, &ahead, limit).await? {
            return Ok(Some(ahead));
        }
    }
}

/// Removes the place. By its name alone, which is given once: it has the ticket in it.
pub(super) async fn leave(store: &Store, place: &Place) -> Result<bool> {
    let node = keys::node(&place.key);
    let deleted = store.ensemble.call(Kind::Once, "leave", |client: Client| {
        let node = node.clone();
        async move {
            match client.delete(&node, None).await {
                Ok(()) => Ok(true),
                Err(Zk::NoNode) => Ok(false),
                Err(error) => Err(error),
            }
        }
    });
    let deleted = deleted.await?;
    store.facts.forget(&node);
    store.lives.left(&place.session, &place.ticket);
    Ok(deleted)
}

/// The places ahead of one, by name, nearest first. Numbers wrap around, so it is their distance that counts.
fn nearest(queue: &Queue, own: &str, names: Vec<String>) -> Vec<(Key, String)> {
    let Some(own) = keys::sequence(own) else { return Vec::new() };
    let distance = |name: &String| keys::sequence(name).map(|other| own.wrapping_sub(other));
    let mut ahead: Vec<_> = names
        .into_iter()
        .filter(|name| queue.is_native() || keys::place_owner(name).is_some())
        .filter_map(|name| Some((distance(&name).filter(|distance| *distance > 0)?, name)))
        .collect();
    ahead.sort_unstable();
    let directory = keys::directory(queue.key());
    let keyed = ahead.into_iter().filter_map(|(_, name)| {
        let path = keys::below(&directory, &name);
        match keys::decode(&path)? {
            keys::Is::Entry(key) => Some((key, path)),
            keys::Is::Directory(_) => None,
        }
    });
    keyed.collect()
}

/// The nearest of these, with their numbers: one flight. `None` when one of them is gone, and others are nearest now.
async fn seen(
    via: &Via<'_>,
    queue: &Queue,
    ahead: &[(Key, String)],
    limit: usize,
) -> Result<Option<Vec<PlaceRef>>> {
    let mut places = Vec::new();
    for some in ahead.chunks(limit) {
        let stats = via.call(Kind::Repeatable, "ahead", |client: Client| {
            let paths: Vec<_> = some.iter().map(|(_, path)| path.clone()).collect();
            async move {
                let asked: Vec<_> = paths.iter().map(|path| client.check_stat(path)).collect();
                let mut stats = Vec::with_capacity(asked.len());
                for stat in asked {
                    stats.push(stat.await?);
                }
                Ok(stats)
            }
        });
        for ((key, _), stat) in some.iter().zip(stats.await?) {
            let Some(stat) = stat else { return Ok(None) };
            let entry = keys::entry(key.clone(), Bytes::new(), &stat);
            places.extend(read_place(queue, &entry));
            if places.len() == limit {
                return Ok(Some(places));
            }
        }
    }
    Ok(Some(places))
}

fn children(answer: Result<(Vec<String>, Stat), Zk>) -> Result<Vec<String>, Zk> {
    match answer {
        Ok((names, _)) => Ok(names),
        Err(Zk::NoNode) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A place of ours, or in a native queue one of another client.
pub(super) fn read_place(queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
    let name = entry.key.strip(queue.key())?;
    if name.segments().count() != 1 || name.as_str() == RESERVED {
        return None;
    }
    keys::sequence(name.as_str())?;
    let ticket = match keys::place_owner(name.as_str()) {
        // Ours are bound to the session in their name.
        Some((session, ticket)) => Some(ticket).filter(|_| entry.session.as_ref() == Some(&session)),
        None => None,
    };
    (ticket.is_some() || queue.is_native() && keys::place_owner(name.as_str()).is_none()).then(|| PlaceRef {
        key: entry.key.clone(),
        fence: entry.fence,
        ticket,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Fence, Mode, Random, Version};

    fn entry(key: &str, session: Option<&str>) -> Entry {
        let key = Key::decode(key).unwrap();
        Entry::new(key, Bytes::new(), Version::new(1), Fence::new(1), session.map(SessionId::new))
    }

    #[test]
    fn a_native_queue_counts_what_its_layout_calls_a_place() {
        let native = Queue::native(Key::new("jobs").unwrap());
        let ticket = Ticket::new(Mode::Shared, &Random::seeded(1));
        let ours = format!("jobs/1000000000000001-{ticket}.0-lock-0000000003");
        let cases = [
            (entry("jobs/_c_5f-lock-0000000001", Some("2")), true),
            (entry("jobs/5f__lock__0000000001", None), true),
            (entry(&ours, Some("1000000000000001")), true),
            (entry(&ours, Some("1000000000000002")), false),
            (entry(&ours, None), false),
            (entry("jobs/deep/x-lock-0000000001", Some("2")), false),
            (entry("jobs/config", Some("2")), false),
        ];
        for (entry, counts) in &cases {
            assert_eq!(read_place(&native, entry).is_some(), *counts, "{:?}", entry.key);
        }
        assert_eq!(read_place(&native, &cases[0].0).unwrap().mode(), Mode::Exclusive);
        assert_eq!(read_place(&native, &cases[2].0).unwrap().ticket, Some(ticket));
        let own = Queue::lock("jobs").unwrap();
        assert!(read_place(&own, &entry("_quorate/lock/jobs/x-lock-0000000001", Some("2"))).is_none());
    }

    #[test]
    fn places_are_in_the_order_of_their_numbers_which_wrap_around() {
        let native = Queue::native(Key::new("jobs").unwrap());
        let names =
            ["a-lock-2147483647", "z-lock-0000000009", "k__lock__2147483646", "later-lock--2147483646", "x"];
        let ahead = nearest(&native, "me-lock--2147483648", names.map(str::to_owned).to_vec());
        let keys: Vec<_> = ahead.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["jobs/a-lock-2147483647", "jobs/k__lock__2147483646", "jobs/z-lock-0000000009"]);
    }
}
