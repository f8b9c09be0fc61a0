//! Unknown outcomes made known, in one place: entering a queue and leaving it, however often a reply is lost.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::backoff::Backoff;
use super::session::Core;
use super::{
    Consistency, Coordinator, Entered, Entry, Error, ErrorKind, LossReason, Outcome, Place, Queue, Result,
    Session, Ticket, Txn, bad,
};

/// The pauses between tries.
fn backoff(core: &Core) -> Backoff {
    Backoff::new(core.clock(), core.random(), Duration::from_millis(20), Duration::from_secs(2))
}

/// A place of ours, and whether a request to make it may still be under way.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) entered: Entered,
    pub(crate) doubtful: bool,
}

/// Enters a queue, asking again with the same ticket while the outcome is unknown and the session lives.
///
/// Dropped after it was first polled, it goes on in the session's task, which then removes the place: a request that
/// was sent is never forgotten.
pub(crate) fn enter<S: Coordinator + ?Sized>(
    store: &Arc<S>,
    session: &Session,
    queue: &Queue,
    ticket: Ticket,
    value: Bytes,
    limit: usize,
) -> Entering<S> {
    let core = Arc::clone(session.core());
    let call = entering(Arc::clone(store), Arc::clone(&core), queue.clone(), ticket, value, limit).boxed();
    Entering { call: Some(call), sent: false, store: Arc::clone(store), core }
}

async fn entering<S: Coordinator + ?Sized>(
    store: Arc<S>,
    core: Arc<Core>,
    queue: Queue,
    mut ticket: Ticket,
    value: Bytes,
    limit: usize,
) -> Result<Settled> {
    let mut backoff = backoff(&core);
    let mut doubtful = false;
    loop {
        let error = match store.enter(&queue, core.id(), &ticket, value.clone(), limit).await {
            Ok(entered) => return Ok(Settled { entered, doubtful }),
            Err(error) => error,
        };
        if error.kind() == ErrorKind::SessionLost {
            // The store said so before a renewal could: let all that hangs on it know, and the next try have another.
            core.lose(LossReason::Revoked);
        }
        let unknown = error.outcome() == Outcome::Unknown && !bad("no_settle");
        doubtful |= unknown && !bad("no_sweep");
        if !(unknown || doubtful && error.is_transient()) {
            if doubtful {
                core.adopt(sweep(store, Arc::clone(&core), queue, ticket).boxed());
            }
            return Err(error);
        }
        tracing::debug!(queue = %queue.key(), %error, "entering the queue is asked again");
        if bad("retry_with_another_ticket") {
            ticket = Ticket::new(ticket.mode(), core.random());
        }
        tokio::select! {
            biased;
            reason = core.lost() => return Err(lost(reason, &queue)),
            () = backoff.pause() => {}
        }
    }
}

/// The error of a wait that the session did not survive.
pub(crate) fn lost(reason: LossReason, queue: &Queue) -> Error {
    Error::session_lost(format!("the session ended while in the queue: {reason}")).on(queue.key())
}

/// A running [`enter`].
pub(crate) struct Entering<S: Coordinator + ?Sized> {
    call: Option<BoxFuture<'static, Result<Settled>>>,
    sent: bool,
    store: Arc<S>,
    core: Arc<Core>,
}

impl<S: Coordinator + ?Sized> Future for Entering<S> {
    type Output = Result<Settled>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.sent = true;
        let Some(call) = &mut self.call else { return Poll::Pending };
        let settled = std::task::ready!(call.as_mut().poll(context));
        self.call = None;
        Poll::Ready(settled)
    }
}

impl<S: Coordinator + ?Sized> Drop for Entering<S> {
    fn drop(&mut self) {
        let Some(call) = self.call.take().filter(|_| self.sent && !bad("drop_forgets_request")) else {
            return;
        };
        let (store, core) = (Arc::clone(&self.store), Arc::clone(&self.core));
        self.core.adopt(
            async move {
                if let Ok(Settled { entered, doubtful }) = call.await {
                    remove(store, core, entered.place, doubtful).await;
                }
            }
            .boxed(),
        );
    }
}

/// What became of a place that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It stood until now, and all that was sent for it was answered: its ticket is free again, if nobody else asked.
    Clean,
    /// It stood until now.
    Removed,
    /// It was gone before.
    Gone,
}

/// Removes a place, and never another, until the store answers or the session ends. One round trip
/// when all is well. After a doubtful entering, whatever a late request may still make is swept up afterwards.
pub(crate) async fn remove<S: Coordinator + ?Sized>(
    store: Arc<S>,
    core: Arc<Core>,
    place: Place,
    mut doubtful: bool,
) -> Removal {
    let mut backoff = backoff(&core);
    let mut asked_before = false;
    let removal = loop {
        if bad("release_by_name") {
            // The lock is free, whoever holds it.
            let _ = store.delete_prefix(place.queue.key()).await;
        }
        match store.leave(&place).await {
            Ok(true) if doubtful || asked_before => break Removal::Removed,
            Ok(true) => break Removal::Clean,
            Ok(false) => {
                // Somebody else may have removed it, and a request that arrived twice made it again.
                doubtful = true;
                // An earlier try whose reply was lost may well have removed it.
                break if asked_before { Removal::Removed } else { Removal::Gone };
            }
            Err(error) => {
                asked_before |= error.outcome() == Outcome::Unknown;
                if bad("release_once") {
                    break Removal::Removed;
                }
                tracing::debug!(place = %place.key, %error, "removing the place is asked again");
                backoff.pause().await;
            }
        }
    };
    if doubtful {
        core.adopt(sweep(store, Arc::clone(&core), place.queue, place.ticket).boxed());
    }
    removal
}

/// Looks for the place of a ticket that nobody wants any more, and removes it: the store may apply a request long after
/// its caller was told that the outcome is unknown. It looks at growing intervals, so that a place made after a time is
/// found after about as long again, and gives up after a good look [`LATEST`] from now.
async fn sweep<S: Coordinator + ?Sized>(store: Arc<S>, core: Arc<Core>, queue: Queue, ticket: Ticket) {
    let latest = core.clock().now() + LATEST;
    let mut backoff = Backoff::new(core.clock(), core.random(), Duration::from_millis(20), LATEST / 10);
    loop {
        let looked = core.clock().now();
        match look(&*store, &queue, ticket).await {
            Ok(()) if looked >= latest => return,
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(queue = %queue.key(), %error, "looking for a late place is tried again");
            }
        }
        backoff.pause().await;
    }
}

/// How late a request may take effect and still be swept up.
pub(crate) const LATEST: Duration = Duration::from_mins(10);

/// One look for the place of a ticket.
async fn look<S: Coordinator + ?Sized>(store: &S, queue: &Queue, ticket: Ticket) -> Result<()> {
    let entries = store.list(queue.key(), Consistency::Linearizable).await?;
    let ours =
        |entry: &&Entry| store.read_place(queue, entry).is_some_and(|place| place.ticket == Some(ticket));
    if let Some(late) = entries.iter().find(ours) {
        tracing::debug!(place = %late.key, "a late request made a place; it is removed");
        // Applied or not, it does not stand any more.
        let _ = store.commit(Txn::new().stands(&late.key, late.fence).delete(&late.key)).await?;
    }
    Ok(())
}
