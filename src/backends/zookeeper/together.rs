//! Reads of single keys that set off together: what must be answered before they are is asked for once, and all of them
//! are one request. Whoever is alone waits for nobody.

use std::sync::Arc;

use tokio::task::yield_now;
use zookeeper_client::{Client, Error as Zk};

use super::flight::{Flight, Flights};
use super::reads::{BATCH, Behind, Found, found, unexpected, values};

/// The flights that can still be joined.
#[derive(Default)]
pub(super) struct Together {
    leader: Flights<String, Answers>,
    majority: Flights<String, Answers>,
}

/// The answer to each read of a flight.
pub(super) type Answers = Result<Arc<[Result<Found, Zk>]>, Zk>;

impl Together {
    /// What stands at a node. Whatever it has to be behind is asked for after this was called.
    pub(super) async fn read(&self, client: Arc<Client>, behind: Behind, node: String) -> Result<Found, Zk> {
        let (flight, seat) = self.seat(&client, behind, vec![node]);
        // Whoever else is about to read has joined by then. Each waits for himself: a flight sets off when the first looks.
        yield_now().await;
        flight.await?.get(seat).cloned().unwrap_or_else(|| Err(unexpected()))
    }

    /// A flight that asks for whatever has to be behind it, to be polled after all else on this runtime has had its turn:
    /// what is sent after that is behind it too.
    pub(super) fn board(&self, client: &Arc<Client>, behind: Behind) -> Flight<Answers> {
        self.seat(client, behind, Vec::new()).0
    }

    fn seat(&self, client: &Arc<Client>, behind: Behind, nodes: Vec<String>) -> (Flight<Answers>, usize) {
        let flights = if behind == Behind::Leader { &self.leader } else { &self.majority };
        let room = |aboard: &[_], _: &[_]| aboard.len() < BATCH;
        flights.seat(client, nodes, room, move |client, nodes| read(client, behind, nodes))
    }
}

async fn read(client: Arc<Client>, behind: Behind, nodes: Vec<String>) -> Answers {
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
}
