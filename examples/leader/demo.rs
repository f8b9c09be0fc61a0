//! Three replicas in one process, on a store in memory: the first crashes, the second hands over, the third leads.

use std::time::Duration;

use quorate::Client;
use quorate::backends::Memory;
use quorate::election::Leader;
use quorate::kv::BoxError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::replica;

struct Replica {
    id: &'static str,
    link: Memory,
    client: Client,
    stop: CancellationToken,
    task: JoinHandle<Result<(), BoxError>>,
}

pub(crate) async fn run() -> Result<(), BoxError> {
    let store = Memory::new();
    let mut replicas = Vec::new();
    let mut leaders = Client::over(store.client()).connect().await?.follower(replica::NAME)?.leaders();
    for id in ["a", "b", "c"] {
        replicas.push(Replica::start(id, &store).await?);
        // One after the other, so that they stand in this order.
        replicas.iter().last().ok_or("just pushed")?.standing().await?;
    }
    let mut terms = Vec::new();
    for _ in 0..3 {
        let leader = next(&mut leaders, terms.last()).await?;
        eprintln!("-- {} leads, in the term of fence {}", leader.id, leader.fence);
        let at = replicas.iter().position(|replica| replica.id == leader.id).ok_or("a stranger leads")?;
        let leading = replicas.remove(at);
        tokio::time::sleep(Duration::from_millis(300)).await;
        match terms.len() {
            0 => leading.crash(),
            _ => leading.hand_over().await?,
        }
        terms.push(leader);
    }
    eprintln!("-- three terms, fences {:?}", terms.iter().map(|term| term.fence.get()).collect::<Vec<_>>());
    Ok(())
}

type Leaders = futures_util::stream::BoxStream<'static, Option<Leader>>;

/// The next leader after `last`.
async fn next(leaders: &mut Leaders, last: Option<&Leader>) -> Result<Leader, BoxError> {
    use futures_util::StreamExt;
    loop {
        let leader = leaders.next().await.ok_or("the stream never ends")?;
        if let Some(leader) = leader.filter(|leader| last.is_none_or(|last| leader.fence > last.fence)) {
            return Ok(leader);
        }
    }
}

impl Replica {
    async fn start(id: &'static str, store: &Memory) -> Result<Self, BoxError> {
        let link = store.client();
        let client = Client::over(link.clone()).id(id).ttl(Duration::from_secs(2)).connect().await?;
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (client, stop) = (client.clone(), stop.clone());
            async move { replica::serve(&client, stop).await }
        });
        Ok(Self { id, link, client, stop, task })
    }

    /// Completes once it stands for election.
    async fn standing(&self) -> Result<(), BoxError> {
        let follower = self.client.follower(replica::NAME)?;
        while !follower.candidates().await?.iter().any(|candidate| candidate.id == self.id) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Like `kill -9`: it says nothing more to anybody.
    fn crash(self) {
        eprintln!("-- {} crashes; the others wait for its session to end", self.id);
        self.link.freeze();
        self.task.abort();
    }

    /// Like Ctrl-C: the next one leads at once.
    async fn hand_over(self) -> Result<(), BoxError> {
        eprintln!("-- {} is told to stop, and hands over", self.id);
        self.stop.cancel();
        self.task.await??;
        self.client.close().await;
        Ok(())
    }
}
