//! Queues: ephemeral nodes below a directory, in the order of the numbers that the server gives them.
//!
//! A place is `QUEUE/<session>-<ticket>.<attempt>-lock-<number>`. In a native queue all that Curator and kazoo name so is
//! a place, too; they go by the number and leave the rest of a name alone.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use zookeeper_client::{Acls, Client, CreateMode, Error as Zk, MultiWriteError, MultiWriteResult, Stat};

use super::connection::{Kind, barrier};
use super::facts::{Counter, Fact};
use super::lease::Live;
use super::nodes::{How, Make, Missing, Recent, made, make};
use super::reads::{RESERVED, names_in, unexpected, value_in};
use super::{BACKEND, Store, Via, keys};
use crate::kv::{
    Entered, Entry, Error, ErrorKind, Key, Outcome, Place, PlaceRef, Queue, Result, SessionId, Ticket,
};

/// Who misses no more than this makes it all at once.
const FEW: usize = 3;

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
    let mut bold = true;
    loop {
        let Some(made) = make_place(store, &live, queue, ticket, &value, bold).await? else {
            bold = false;
            continue;
        };
        let key = queue.key().child(&made.name)?;
        let place = Place {
            queue: queue.clone(),
            fence: keys::fence(made.czxid),
            session: session.clone(),
            ticket: *ticket,
            key,
        };
        let mut ahead = nearest(queue, &made.name, made.names).peekable();
        if limit == 0 || ahead.peek().is_none() {
            return Ok(Entered { place, ahead: Vec::new() });
        }
        return match seen(&Via::Session(&live), queue, ahead, limit).await {
            Ok(Some(ahead)) => Ok(Entered { place, ahead }),
            Ok(None) => again(store, place, limit).await,
            // The place stands.
            Err(error) => Err(error.unsettled()),
        };
    }
}

/// A place that was made.
struct Made {
    name: String,
    /// When.
    czxid: i64,
    /// All that stand in the directory, if others than this do.
    names: Vec<String>,
}

/// Makes the place; `None` when a directory was missing after all. Who is `bold` and knows nothing of the store yet makes no
/// more than the queue's own directory, which alone is likely to be missing.
async fn make_place(
    store: &Store,
    live: &Live,
    queue: &Queue,
    ticket: &Ticket,
    value: &Bytes,
    bold: bool,
) -> Result<Option<Made>> {
    let directory = keys::directory(queue.key());
    let stem = keys::place_stem(&live.id, ticket, live.attempt());
    let path = keys::below(&directory, &stem);
    let generation = store.places.get();
    let counter = generation.is_none().then(|| Make::Counter(Counter::Places.path()));
    let needed = store.nodes.missing(counter.into_iter().chain([Make::Directory(&*directory)]));
    let mut makes = needed.clone();
    if bold && makes.len() > FEW {
        makes.retain(|make| make.path() == directory);
    }
    let acls = store.ensemble.settled.acls();
    let asking = Asking {
        directory: &directory,
        path: &path,
        value,
        native: queue.is_native(),
        names: !store.calm.is_calm(&directory),
    };
    let made = live.call(Kind::Once, "enter", |client: Arc<Client>| {
        let makes = &makes;
        async move {
            let making = make(&client, acls, makes, How::OneByOne)?;
            // Asked first: as long as it stays the same, no place was made but by entering.
            let count = generation.is_none().then(|| client.check_stat(Counter::Places.path()));
            let placed = asking.place(&client, acls)?;
            let missing = made(making).await;
            let count = match count {
                Some(count) => count.await.ok().flatten().map(|stat| stat.version),
                None => generation,
            };
            match placed.await {
                Ok(placed) => Ok(Some((placed, client.session_id().0, count))),
                Err(Zk::NoNode) if missing.as_ref().map_or(true, Missing::is_curable) => Ok(None),
                Err(error) => Err(missing.map_or(error.clone(), |missing| missing.explain(error))),
            }
        }
    });
    match made.await {
        Ok(Some(((czxid, number, names), owner, count))) => {
            // All that is above it stands, then, and the counter if it told its count.
            let stands = |make: &Make| count.is_some() || matches!(make, Make::Directory(_));
            store.nodes.remember(needed.into_iter().filter(stands));
            store.calm.learn(&directory, names.is_empty());
            if let Some(generation) = count {
                store.places.set(generation);
                let fact = Fact { czxid, owner, generation };
                store.facts.learn(&format!("{path}{number}"), fact);
            }
            Ok(Some(Made { name: format!("{stem}{number}"), czxid, names }))
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

/// What it takes to make a place.
#[derive(Clone, Copy)]
struct Asking<'a> {
    directory: &'a str,
    path: &'a str,
    value: &'a [u8],
    native: bool,
    /// Whether others may well stand there: then it is asked at once who.
    names: bool,
}

/// When a place was made, its number, and who stands in the queue if others do.
type Placed = (i64, String, Vec<String>);

impl<'a> Asking<'a> {
    /// Sends what makes the place. In a directory of ours that is written in the same transaction, as the answer then has the
    /// number of its children with it: who is alone need not ask for the names. What others keep in a directory of theirs is
    /// left alone.
    fn place(self, client: &'a Client, acls: Acls<'static>) -> Result<BoxFuture<'a, Result<Placed, Zk>>, Zk> {
        let mode = CreateMode::EphemeralSequential.with_acls(acls);
        if self.native {
            let created = client.create(self.path, self.value, &mode);
            let names = client.get_children(self.directory);
            let placed = async move {
                let (stat, number) = created.await?;
                Ok((stat.czxid, number.to_string(), standing(names.await)?))
            };
            return Ok(placed.boxed());
        }
        let mut writer = client.new_multi_writer();
        writer.add_create(self.path, self.value, &mode)?;
        writer.add_set_data(self.directory, b"", None)?;
        let written = writer.commit();
        let names = self.names.then(|| client.get_children(self.directory));
        let placed = async move {
            let written = written.await.map_err(|error| match error {
                MultiWriteError::OperationFailed { source, .. }
                | MultiWriteError::RequestFailed { source } => source,
            })?;
            let [MultiWriteResult::Create { path, .. }, MultiWriteResult::SetData { stat }] = &*written
            else {
                return Err(Zk::UnexpectedError("a place was answered by something else".to_owned()));
            };
            let number = path.strip_prefix(self.path).unwrap_or_default().to_owned();
            let names = match names {
                _ if stat.num_children == 1 => Vec::new(),
                Some(names) => standing(names.await)?,
                None => standing(client.get_children(self.directory).await)?,
            };
            Ok((stat.mzxid, number, names))
        };
        Ok(placed.boxed())
    }
}

/// What was made stands, whatever becomes of the rest.
fn standing(names: Result<(Vec<String>, Stat), Zk>) -> Result<Vec<String>, Zk> {
    names.map(|(names, _)| names).map_err(|_| Zk::ConnectionLoss)
}

/// The queues that nobody else stood in when they were last entered.
#[derive(Debug, Default)]
pub(super) struct Calm(Mutex<Recent>);

impl Calm {
    fn with<T>(&self, work: impl FnOnce(&mut Recent) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_calm(&self, directory: &str) -> bool {
        self.with(|calm| calm.contains(directory))
    }

    fn learn(&self, directory: &str, alone: bool) {
        self.with(|calm| {
            if !alone {
                calm.remove(directory);
            } else if !calm.contains(directory) {
                calm.insert(directory.to_owned());
            }
        });
    }
}

/// The place of a ticket that was tried before. Behind all that was sent on the session's connection, so that what is not
/// found will not come to be.
async fn find(live: &Live, queue: &Queue, ticket: &Ticket) -> Result<Option<Place>> {
    let directory = keys::directory(queue.key());
    let names = live.call(Kind::Repeatable, "enter", |client: Arc<Client>| {
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
    let stat = live.call(Kind::Repeatable, "enter", |client: Arc<Client>| {
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
    match rank(store, place, &directory, &own).await {
        Some(Rank::Gone) => return Ok(None),
        Some(Rank::First) => return Ok(Some(Vec::new())),
        None => {}
    }
    loop {
        let looked = store.ensemble.call(Kind::Repeatable, "ahead", |client: Arc<Client>| {
            let (directory, own) = (directory.clone(), own.clone());
            async move {
                let settled = barrier(&client);
                let mut reads = client.new_multi_reader();
                reads.add_get_data(&own)?;
                reads.add_get_children(&directory)?;
                let answers = reads.commit();
                settled.await?;
                let mut answers = answers.await?.into_iter();
                let Some((own, names)) = answers.next().zip(answers.next()) else { return Err(unexpected()) };
                Ok((value_in(own)?, names_in(names)?))
            }
        });
        let (own, names) = looked.await?;
        let stands = own.is_some_and(|(_, own)| {
            keys::fence(own.czxid) == place.fence
                && keys::session(own.ephemeral_owner).as_ref() == Some(&place.session)
        });
        if !stands {
            return Ok(None);
        }
        let mut ahead = nearest(&place.queue, place.key.name(), names).peekable();
        if limit == 0 || ahead.peek().is_none() {
            return Ok(Some(Vec::new()));
        }
        if let Some(ahead) = seen(&Via::Shared(&store.ensemble), &place.queue, ahead, limit).await? {
            return Ok(Some(ahead));
        }
    }
}

/// Where a place stands in its queue.
enum Rank {
    First,
    Gone,
}

/// Whether a place is the first, or gone, as it is when somebody waits for its turn; `None` when it is neither, or that was
/// not to be learnt.
///
/// That it stands is checked by a write, by way of the session's connection. Whether anything stands ahead is read by the
/// shared one at the same time, so that neither waits for the other (the client may send two requests on one connection one
/// by one). That read may be older than the write: it has seen the place, though, and so all that was made before it, and
/// what is gone from there does not come again.
async fn rank(store: &Store, place: &Place, directory: &str, own: &str) -> Option<Rank> {
    let live = store.lives.live(&place.session).ok()?;
    let stands = live.call(Kind::Repeatable, "ahead", |client: Arc<Client>| async move {
        let mut check = client.new_multi_writer();
        check.add_check_version(own, -1)?;
        match check.commit().await {
            Ok(_) => Ok(true),
            Err(MultiWriteError::OperationFailed { source: Zk::NoNode, .. }) => Ok(false),
            Err(
                MultiWriteError::OperationFailed { source, .. } | MultiWriteError::RequestFailed { source },
            ) => Err(source),
        }
    });
    let names = store.ensemble.call(Kind::Repeatable, "ahead", |client: Arc<Client>| async move {
        children(client.get_children(directory).await)
    });
    let (stands, names) = tokio::join!(stands, names);
    if !stands.ok()? {
        return Some(Rank::Gone);
    }
    let names = names.ok()?;
    let seen = names.iter().any(|name| name == place.key.name());
    (seen && nearest(&place.queue, place.key.name(), names).next().is_none()).then_some(Rank::First)
}

/// Removes the place. By its name alone, which is given once: it has the ticket in it.
pub(super) async fn leave(store: &Store, place: &Place) -> Result<bool> {
    let node = keys::node(&place.key);
    let deleted = store.ensemble.call(Kind::Once, "leave", |client: Arc<Client>| {
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

/// The places ahead of one, by name, nearest first. Numbers wrap around, so it is their distance that counts. Only what is asked for
/// is taken apart: whoever is next looks at all who wait behind, and at the nearest of those ahead whoever comes last.
fn nearest(queue: &Queue, own: &str, names: Vec<String>) -> impl Iterator<Item = (Key, String)> {
    let own = keys::sequence(own);
    let distance =
        |name: &str| Some(own?.wrapping_sub(keys::sequence(name)?)).filter(|distance| *distance > 0);
    let ahead = names.into_iter().filter_map(|name| Some((distance(&name)?, name)));
    let mut ahead: Vec<_> = ahead.collect();
    ahead.sort_unstable();
    let (directory, native) = (keys::directory(queue.key()), queue.is_native());
    let counts = move |name: &String| native || keys::place_owner(name).is_some();
    ahead.into_iter().map(|(_, name)| name).filter(counts).filter_map(move |name| {
        let path = keys::below(&directory, &name);
        match keys::decode(&path)? {
            keys::Is::Entry(key) => Some((key, path)),
            keys::Is::Directory(_) => None,
        }
    })
}

/// The nearest of these, with their numbers: one flight. `None` when one of them is gone, and others are nearest now.
async fn seen(
    via: &Via<'_>,
    queue: &Queue,
    mut ahead: impl Iterator<Item = (Key, String)>,
    limit: usize,
) -> Result<Option<Vec<PlaceRef>>> {
    let mut places = Vec::new();
    loop {
        let some: Vec<_> = ahead.by_ref().take(limit).collect();
        if some.is_empty() {
            return Ok(Some(places));
        }
        let stats = via.call(Kind::Repeatable, "ahead", |client: Arc<Client>| {
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
        let keys: Vec<_> = ahead.map(|(key, _)| key.to_string()).collect();
        assert_eq!(keys, ["jobs/a-lock-2147483647", "jobs/k__lock__2147483646", "jobs/z-lock-0000000009"]);
    }
}
