//! What clients ask of plain keys and are told, for the checker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use quorate::kv::{Entry, Key, Outcome, Result, StoreExt, Write};

use super::Dropping;
use crate::linearizable::{self, Found, Id, Operation, Reply};
use crate::world::{History, Link, must, say};

/// The history of each key.
pub(crate) type Histories = Arc<StdMutex<BTreeMap<Key, linearizable::History>>>;

/// One client, all of whose operations are recorded.
#[derive(Clone)]
pub(crate) struct Recorded {
    pub(crate) process: usize,
    pub(crate) link: Arc<Link>,
    pub(crate) history: History,
    pub(crate) histories: Histories,
}

/// An operation under way. The network may double it, and then it may take effect twice: the second time is an
/// operation of its own, of which nobody is ever told. A dropped future leaves both unknown.
#[derive(Clone, Copy)]
struct Sent {
    once: Id,
    again: Id,
    /// How many requests had been doubled when it was sent.
    doubled: u64,
}

impl Recorded {
    /// Asks for one operation, and is done with it after so many polls.
    pub(crate) async fn ask(&self, key: &Key, operation: Operation, polls: usize) -> Option<Reply> {
        let sent = self.send(key, operation.clone());
        let reply = Dropping { future: Box::pin(self.perform(key, operation)), polls }.await?;
        self.told(key, sent, &reply);
        reply.ok()
    }

    async fn perform(&self, key: &Key, operation: Operation) -> Result<Reply> {
        let (link, name) = (&self.link, key.clone());
        Ok(match operation {
            Operation::Get => Reply::Read(link.fetch(name).await?.as_ref().map(found)),
            Operation::Put(value) => written(&link.put(name, value).await?),
            Operation::Create(value) => answer(link.create(name, value).await?.map(|entry| written(&entry))),
            Operation::Replace(version, value) => {
                answer(link.replace(name, version, value).await?.map(|entry| written(&entry)))
            }
            Operation::Delete => link.delete(name).await.map(|()| Reply::Deleted)?,
            Operation::DeleteIf(version) => {
                answer(link.delete_if(name, version).await?.map(|()| Reply::Deleted))
            }
        })
    }

    /// Updates to what `value` makes, each a new value, or leaves all as it is when that is nothing. Every round is
    /// a read and a conditional write; what the next round found is what the write was rejected for.
    pub(crate) async fn update(
        &self,
        key: &Key,
        value: impl Fn() -> Option<String> + Send + Sync,
        polls: usize,
    ) {
        let (mut sent, mut rounds) = (Some(self.send(key, Operation::Get)), 0);
        let change = |standing: Option<&Entry>| {
            let found = standing.map(found);
            let reply = if rounds == 0 { Reply::Read(found) } else { Reply::Rejected(found) };
            if let Some(sent) = sent.take() {
                self.told(key, sent, &Ok(reply));
            }
            rounds += 1;
            let value = value().map(bytes::Bytes::from)?;
            sent = Some(self.send(
                key,
                match standing {
                    Some(entry) => Operation::Replace(entry.version, value.clone()),
                    None => Operation::Create(value.clone()),
                },
            ));
            Some(value)
        };
        let updated = Dropping { future: Box::pin(self.link.update(key.clone(), change)), polls }.await;
        let (Some(updated), Some(sent)) = (updated, sent) else { return };
        must!(self.history, !matches!(updated, Ok(None)), "an update of {key} wrote, and shows nothing");
        if let Some(reply) = updated.map(|entry| entry.as_ref().map(written)).transpose() {
            self.told(key, sent, &reply);
        }
    }

    fn send(&self, key: &Key, operation: Operation) -> Sent {
        let doubled = self.link.doubled();
        say!(self.history, "p{} asks {key}: {operation}", self.process);
        self.note(key, |history, now| Sent {
            once: history.invoke(self.process, operation.clone(), now),
            again: history.invoke(self.process, operation, now),
            doubled,
        })
    }

    fn told(&self, key: &Key, sent: Sent, reply: &Result<Reply>) {
        match reply {
            Ok(reply) => say!(self.history, "p{} is told of {key}: {reply}", self.process),
            Err(error) => say!(self.history, "p{} is told of {key}: {error}", self.process),
        }
        self.note(key, |history, now| {
            match reply {
                Ok(reply) => history.complete(sent.once, reply.clone(), now),
                Err(error) if error.outcome() == Outcome::NotApplied => history.not_applied(sent.once),
                Err(_) => return history.unknown(sent.once),
            }
            // Whatever was answered takes no effect afterwards; so if it was doubled, it was so by now.
            if self.link.doubled() == sent.doubled {
                history.not_applied(sent.again);
            }
        });
        if let Err(error) = reply {
            must!(self.history, error.is_transient(), "p{} got {error}", self.process);
        }
    }

    fn note<T>(
        &self,
        key: &Key,
        note: impl FnOnce(&mut linearizable::History, std::time::Duration) -> T,
    ) -> T {
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        note(histories.entry(key.clone()).or_default(), self.history.now())
    }
}

fn found(entry: &Entry) -> Found {
    Found { value: entry.value.clone(), version: entry.version, fence: entry.fence }
}

fn written(entry: &Entry) -> Reply {
    Reply::Written(entry.version, entry.fence)
}

fn answer(write: Write<Reply>) -> Reply {
    match write {
        Write::Applied(reply) => reply,
        Write::Rejected(rejection) => Reply::Rejected(rejection.found.as_ref().map(found)),
    }
}
