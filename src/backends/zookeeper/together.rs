//! Reads of single keys that set off together: what must be answered before they are is asked for once, and all of them
//! are one request. Whoever is alone waits for nobody.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::task::yield_now;
use zookeeper_client::{Client, Error as Zk, SessionId};

use super::reads::{BATCH, Behind, Found, found, unexpected, values};

/// The flights that can still be joined.
#[derive(Default)]
pub(super) struct Together {
    leader: Mutex<Option<Boarding>>,
    majority: Mutex<Option<Boarding>>,
}

/// The answer to each read of a flight.
type Answers = Result<Arc<[Result<Found, Zk>]>, Zk>;
pub(super) type Flight = BoxFuture<'static, Answers>;

/// The nodes that a flight will ask for; `None` once it has.
type Nodes = Arc<Mutex<Option<Vec<String>>>>;

/// A flight that may not have set off.
struct Boarding {
    /// The connection it goes by.
    session: SessionId,
    nodes: Nodes,
    answers: WeakShared<Flight>,
}

fn with<T, R>(mutex: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    work(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Together {
    /// What stands at a node. Whatever it has to be behind is asked for after this was called.
    pub(super) async fn read(&self, client: Arc<Client>, behind: Behind, node: String) -> Result<Found, Zk> {
        let (flight, seat) = self.seat(&client, behind, Some(node));
        // Whoever else is about to read has joined by then. Each waits for himself: a flight sets off when the first looks.
        yield_now().await;
        flight.await?.get(seat).cloned().unwrap_or_else(|| Err(unexpected()))
    }

    /// A flight that asks for whatever has to be behind it, to be polled after all else on this runtime has had its turn:
    /// what is sent after that is behind it too.
    pub(super) fn board(&self, client: &Arc<Client>, behind: Behind) -> Shared<Flight> {
        self.seat(client, behind, None).0
    }

    fn seat(&self, client: &Arc<Client>, behind: Behind, node: Option<String>) -> (Shared<Flight>, usize) {
        let boarding = if behind == Behind::Leader { &self.leader } else { &self.majority };
        with(boarding, |boarding| {
            let joined =
                boarding.as_ref().and_then(|boarding| boarding.join(client.session_id(), node.as_ref()));
            joined.unwrap_or_else(|| {
                let (flight, open) = set_off(Arc::clone(client), behind, node);
                *boarding = open;
                (flight, 0)
            })
        })
    }
}

impl Boarding {
    /// The flight and a seat, if it goes the same way and has neither set off nor is full.
    fn join(&self, session: SessionId, node: Option<&String>) -> Option<(Shared<Flight>, usize)> {
        let flight = self.answers.upgrade().filter(|_| self.session == session)?;
        with(&self.nodes, |nodes| {
            let nodes = nodes.as_mut().filter(|nodes| nodes.len() < BATCH)?;
            nodes.extend(node.cloned());
            Some((flight, nodes.len().saturating_sub(1)))
        })
    }
}

/// A flight with one seat taken, or none.
fn set_off(client: Arc<Client>, behind: Behind, node: Option<String>) -> (Shared<Flight>, Option<Boarding>) {
    let session = client.session_id();
    let nodes: Nodes = Arc::new(Mutex::new(Some(node.into_iter().collect())));
    let aboard = Arc::clone(&nodes);
    let flight = async move {
        let nodes = with(&aboard, Option::take).unwrap_or_default();
        let settled = behind.what(&client);
        match &*nodes {
            [] => return settled.await.map(|()| Arc::from([])),
            [node] => {
                let value = client.get_data(node);
                settled.await?;
                return Ok(Arc::from([found(value.await)]));
            }
            _ => {}
        }
        let values = values(&client, &nodes)?;
        settled.await?;
        Ok(values.await?.into())
    };
    let flight = flight.boxed().shared();
    let open = flight.downgrade().map(|answers| Boarding { session, nodes, answers });
    (flight, open)
}
