//! Writes: one multi, which is one request, as long as what is known of the keys is true; else a look at them, and again.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;
use zookeeper_client::{Acls, Client, Error as Zk, MultiWriteError, MultiWriteResult, Stat};

use super::connection::Kind;
use super::error::classify;
use super::facts::{Fact, Seen, look};
use super::nodes::{How, made, make, survey};
use super::plan::{self, Plan};
use super::reads::{Behind, covered};
use super::subjects::Subjects;
use super::{BACKEND, Store, Via, keys};
use crate::kv::{Entry, Error, ErrorKind, Key, Outcome, Rejection, Result, Scope, Txn, Write};

/// How many deletes of a prefix are under way at once.
const DELETES: usize = 256;

/// What became of a multi, or of one's own part of it.
pub(super) enum Sent {
    /// The state of each node that its operations wrote.
    Applied(Vec<Option<Stat>>),
    /// The operation that failed, and why; nothing was applied.
    Refused(usize, Zk),
}

impl Sent {
    pub(super) fn applied(results: &[MultiWriteResult]) -> Self {
        let written = |result: &_| match result {
            MultiWriteResult::SetData { stat } => Some(*stat),
            _ => None,
        };
        Self::Applied(results.iter().map(written).collect())
    }
}

/// Applies a write, or says what is in its way.
pub(super) async fn commit(store: &Store, txn: &Txn) -> Result<Write> {
    if txn.subject().is_none() {
        return Ok(Write::Applied(Vec::new()));
    }
    let live = txn.session().map(|session| store.lives.live(session)).transpose()?;
    let via = live.as_deref().map_or(Via::Shared(&store.ensemble), Via::Session);
    let end = Instant::now() + store.ensemble.settled.times.request;
    let subjects = Subjects::of(txn);
    let mut guesses = plan::remembered(&store.facts, txn, &subjects);
    loop {
        let plan = guesses.and_then(|guesses| Plan::of(txn, &subjects, &guesses, &store.nodes));
        if let Some(mut plan) = plan {
            match send(store, &via, txn, &mut plan).await? {
                Sent::Applied(stats) => {
                    return applied(store, txn, &subjects, &plan, &stats).map(Write::Applied);
                }
                Sent::Refused(_, Zk::NoNode) if is_one_delete(txn) => {
                    return applied(store, txn, &subjects, &plan, &[]).map(Write::Applied);
                }
                Sent::Refused(at, error) => forget(store, &subjects, &plan, at, error)?,
            }
        }
        if Instant::now() >= end {
            let why = "others write there all the time";
            return Err(Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why));
        }
        let seen = look(store, &via, &subjects).await?;
        if let Some(rejection) = rejection(txn, &subjects, &seen) {
            return Ok(Write::Rejected(rejection));
        }
        guesses = Some(plan::seen(&seen, &subjects));
    }
}

/// Whether it is nothing but one delete, for which it is fine that there is nothing to delete.
fn is_one_delete(txn: &Txn) -> bool {
    txn.checks().is_empty() && txn.puts().is_empty() && txn.deletes().len() == 1
}

/// The first check that does not hold.
fn rejection(txn: &Txn, subjects: &Subjects<'_>, seen: &Seen) -> Option<Rejection> {
    txn.checks().iter().find_map(|check| {
        let found = subjects.number(check.key()).and_then(|at| seen.entry(subjects, at));
        (!check.holds(found.as_ref())).then(|| Rejection { key: check.key().clone(), found })
    })
}

async fn send(store: &Store, via: &Via<'_>, txn: &Txn, plan: &mut Plan<'_>) -> Result<Sent> {
    plan.makes = survey(&store.nodes, via, std::mem::take(&mut plan.makes)).await?;
    let under_way = store.grouped.set_off();
    // What demands something may well fail, and would take the others along.
    let goes_along = under_way.among_others && txn.checks().is_empty();
    let (plan, acls) = (&*plan, store.ensemble.settled.acls());
    let sent = via.call(Kind::Once, "commit", |client: Arc<Client>| async move {
        if let Some(parts) = goes_along.then(|| plan.overwrites()).flatten()
            && let Some(sent) = store.grouped.write(&client, parts).await?
        {
            return Ok(sent);
        }
        match write(&client, acls, plan, How::Together).await? {
            // It might have been applied, had all been made that is missing.
            (_, true) => Ok(write(&client, acls, plan, How::OneByOne).await?.0),
            (sent, _) => Ok(sent),
        }
    });
    let sent = sent.await?;
    if matches!(sent, Sent::Applied(_)) {
        store.nodes.remember(plan.makes.iter().cloned());
    }
    Ok(sent)
}

/// Sends it all, and says whether it was refused for something that was not made and might be one by one.
async fn write(client: &Client, acls: Acls<'static>, plan: &Plan<'_>, how: How) -> Result<(Sent, bool), Zk> {
    let mut writer = plan.writer(client, acls)?;
    let making = make(client, acls, &plan.makes, how)?;
    let written = writer.commit();
    let missing = made(making).await;
    match (written.await, missing) {
        (Ok(results), _) => Ok((Sent::applied(&results), false)),
        (Err(MultiWriteError::OperationFailed { index, source: Zk::NoNode }), Ok(missing))
            if missing.refused =>
        {
            Ok((Sent::Refused(index, Zk::NoNode), true))
        }
        (Err(MultiWriteError::OperationFailed { index, source }), Ok(missing)) => {
            Ok((Sent::Refused(index, missing.explain(source)), false))
        }
        (Err(MultiWriteError::OperationFailed { index, source }), Err(_)) => {
            Ok((Sent::Refused(index, source), false))
        }
        (Err(MultiWriteError::RequestFailed { source }), _) => Err(source),
    }
}

/// Lets go of what was believed and was not so.
fn forget(store: &Store, subjects: &Subjects<'_>, plan: &Plan<'_>, at: usize, error: Zk) -> Result<()> {
    for subject in subjects.iter() {
        store.facts.forget(&subject.node);
    }
    match error {
        Zk::NodeExists | Zk::BadVersion => Ok(()),
        Zk::NoNode => {
            store.nodes.forget(plan.paths());
            Ok(())
        }
        error => {
            let path = plan.paths().nth(at).unwrap_or_default();
            let fault = classify(error);
            Err(Error::new(fault.error.kind(), fault.error.outcome(), format!("at the node {path}"))
                .because(fault.error))
        }
    }
}

/// The entries that were put, and what is known of them from now on.
fn applied(
    store: &Store,
    txn: &Txn,
    subjects: &Subjects<'_>,
    plan: &Plan<'_>,
    stats: &[Option<Stat>],
) -> Result<Vec<Entry>> {
    let stat = |at: usize| stats.get(at).copied().flatten().ok_or_else(unexpected);
    for key in txn.deletes() {
        subjects.find(key).into_iter().for_each(|subject| store.facts.forget(&subject.node));
        if let Some((session, ticket)) = keys::place_owner(key.name()) {
            store.lives.left(&session, &ticket);
        }
    }
    let entries = txn.puts().iter().zip(&plan.puts).map(|(put, (at, kept))| {
        let subject = subjects.find(&put.key).ok_or_else(unexpected)?;
        let (czxid, written, generation) = if let Some(fact) = kept {
            (fact.czxid, stat(*at)?.version, fact.generation)
        } else {
            // Servers leave out the numbers of what was made (<https://issues.apache.org/jira/browse/ZOOKEEPER-4026>), but
            // its counter was raised by the same transaction.
            let raised = stat(plan.raised.get(&subject.counter).copied().unwrap_or(usize::MAX))?;
            (raised.mzxid, 0, raised.version)
        };
        let owner = put.session.as_ref().and_then(keys::session_number).unwrap_or_default();
        store.facts.learn(&subject.node, Fact { czxid, owner, generation });
        let (version, fence) = (keys::version(czxid, written), keys::fence(czxid));
        Ok(Entry::new(put.key.clone(), put.value.clone(), version, fence, put.session.clone()))
    });
    entries.collect()
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, Outcome::Unknown, "a write was answered by something else")
}

/// Deletes what `prefix` covers, one entry after another: as many are on their way at once as the server may well take.
pub(super) async fn delete_prefix(store: &Store, prefix: &Key) -> Result<u64> {
    let scope = Scope::Prefix(prefix.clone());
    let found = covered(&store.ensemble, "delete_prefix", &scope, Behind::Majority).await?;
    let nodes: Vec<_> = found.iter().map(|entry| keys::node(&entry.key)).collect();
    let mut count = 0;
    for some in nodes.chunks(DELETES) {
        let answers = store.ensemble.call(Kind::Once, "delete_prefix", |client: Arc<Client>| {
            let some = some.to_vec();
            async move {
                let deletes: Vec<_> = some.iter().map(|node| client.delete(node, None)).collect();
                Ok(join_all(deletes).await)
            }
        });
        let answers = answers.await.map_err(|error| if count > 0 { error.unsettled() } else { error })?;
        for answer in answers {
            match answer {
                Ok(()) => count += 1,
                Err(Zk::NoNode) => {}
                // Others were deleted all the same.
                Err(error) => return Err(classify(error).error.at(BACKEND, "delete_prefix").unsettled()),
            }
        }
    }
    for entry in &found {
        store.facts.forget(&keys::node(&entry.key));
    }
    Ok(count)
}
