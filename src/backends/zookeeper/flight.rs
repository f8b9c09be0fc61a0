//! What sets off together: whoever comes before a request was sent may go along with it.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use zookeeper_client::{Client, SessionId};

/// A request for all who are aboard, sent when the first of them polls it. Each gets the answer, and each may be dropped.
pub(super) type Flight<A> = Shared<BoxFuture<'static, A>>;

/// Requests of one kind, the last of which may still be joined.
pub(super) struct Flights<I, A>(Mutex<Option<Boarding<I, A>>>);

/// A flight that may not have set off.
struct Boarding<I, A> {
    /// The connection it goes by.
    session: SessionId,
    aboard: Aboard<I>,
    answer: WeakShared<BoxFuture<'static, A>>,
}

/// What a flight will ask for; `None` once it has.
type Aboard<I> = Arc<Mutex<Option<Vec<I>>>>;

fn with<T, R>(mutex: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    work(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

impl<I, A> Default for Flights<I, A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<I: Send + 'static, A: Clone + 'static> Flights<I, A> {
    /// Takes seats in the flight that can still be joined, if those aboard have `room` for these, and else in one that `send`s
    /// what is aboard. Returns it, and the first of the seats.
    pub(super) fn seat<F: Future<Output = A> + Send + 'static>(
        &self,
        client: &Arc<Client>,
        mut items: Vec<I>,
        room: impl FnOnce(&[I], &[I]) -> bool,
        send: impl FnOnce(Arc<Client>, Vec<I>) -> F + Send + 'static,
    ) -> (Flight<A>, usize) {
        with(&self.0, |boarding| {
            let session = client.session_id();
            let last = boarding.as_ref().filter(|boarding| boarding.session == session);
            if let Some(joined) = last.and_then(|boarding| boarding.join(&mut items, room)) {
                return joined;
            }
            let (flight, aboard) = open(Arc::clone(client), items, send);
            *boarding = flight.downgrade().map(|answer| Boarding { session, aboard, answer });
            (flight, 0)
        })
    }
}

impl<I, A> Boarding<I, A> {
    fn join(&self, items: &mut Vec<I>, room: impl FnOnce(&[I], &[I]) -> bool) -> Option<(Flight<A>, usize)> {
        let flight = self.answer.upgrade()?;
        with(&self.aboard, |aboard| {
            let aboard = aboard.as_mut().filter(|aboard| room(aboard, items))?;
            let seat = aboard.len();
            aboard.append(items);
            Some((flight, seat))
        })
    }
}

/// A flight with these aboard.
fn open<I: Send + 'static, A: Clone + 'static, F: Future<Output = A> + Send + 'static>(
    client: Arc<Client>,
    items: Vec<I>,
    send: impl FnOnce(Arc<Client>, Vec<I>) -> F + Send + 'static,
) -> (Flight<A>, Aboard<I>) {
    let aboard = Arc::new(Mutex::new(Some(items)));
    let leaving = Arc::clone(&aboard);
    let flight = async move {
        let items = with(&leaving, Option::take).unwrap_or_default();
        send(client, items).await
    };
    (flight.boxed().shared(), aboard)
}
