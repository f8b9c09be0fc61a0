//! The worker's side.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quorate::kv::{Coordinator, Event, Key, Result, Scope, SessionId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::wire::{
    Frame, Reply, Request, WireEntry, WireError, WireLimits, consistency, entries, garbled, places, read_txn,
    receive, send,
};

type Told = BoxStream<'static, Result<Event>>;

/// Serves `store` until there are no more requests, whose end is the end of the process that made them.
pub(crate) async fn serve(
    store: Arc<dyn Coordinator>,
    mut requests: impl AsyncRead + Unpin + Send,
    mut replies: impl AsyncWrite + Unpin + Send + 'static,
) {
    let worker = Arc::new(Worker { store, watches: Mutex::default() });
    let (sender, mut receiver) = mpsc::channel::<Frame<Reply>>(16);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(frame) = receiver.recv().await {
            if send(&mut replies, &frame).await.is_err() {
                return;
            }
        }
    });
    while let Ok(Frame { id, body }) = receive::<Request>(&mut requests).await {
        // A watch is made, and dropped, in the order of the requests.
        match body {
            Request::Watch { key, prefix } => worker.watch(id, &key, prefix),
            Request::Unwatch { watch } => worker.unwatch(watch),
            body => {
                let (worker, sender) = (Arc::clone(&worker), sender.clone());
                tasks.spawn(async move {
                    let body = worker
                        .answer(body)
                        .await
                        .unwrap_or_else(|error| Reply::Failed(WireError::from(&error)));
                    // Nobody is there to be told that nobody is there.
                    let _ = sender.send(Frame { id, body }).await;
                });
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

struct Worker {
    store: Arc<dyn Coordinator>,
    watches: Mutex<BTreeMap<u64, Watched>>,
}

struct Watched {
    /// Taken while an event is waited for.
    told: Option<Told>,
    /// Wakes whoever waits for an event, once nobody wants it any more.
    dropped: Arc<Notify>,
}

impl Worker {
    fn watches(&self) -> MutexGuard<'_, BTreeMap<u64, Watched>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, id: u64, key: &str, prefix: bool) {
        if let Ok(key) = Key::decode(key) {
            let scope = if prefix { Scope::Prefix(key) } else { Scope::Key(key) };
            let told = Some(self.store.watch(scope));
            self.watches().insert(id, Watched { told, dropped: Arc::default() });
        }
    }

    fn unwatch(&self, id: u64) {
        if let Some(watched) = self.watches().remove(&id) {
            watched.dropped.notify_one();
        }
    }

    /// The next event of a watch.
    async fn told(&self, watch: u64) -> Result<Reply> {
        let taken =
            self.watches().get_mut(&watch).map(|watched| (watched.told.take(), Arc::clone(&watched.dropped)));
        let Some((Some(mut told), dropped)) = taken else { return Err(garbled("the name of a watch")) };
        let event = tokio::select! {
            biased;
            () = dropped.notified() => None,
            event = told.next() => event,
        };
        let Some(event) = event else { return Ok(Reply::End) };
        if let Some(watched) = self.watches().get_mut(&watch) {
            watched.told = Some(told);
        }
        event.map(|event| Reply::from(&event))
    }

    async fn answer(&self, request: Request) -> Result<Reply> {
        let store = &self.store;
        Ok(match request {
            Request::Limits => Reply::Limits(WireLimits::from(&store.limits())),
            Request::Get { key, local } => {
                let found = store.get(&Key::decode(&key)?, consistency(local)).await?;
                Reply::Entry(found.as_ref().map(WireEntry::from))
            }
            Request::List { prefix, local } => {
                Reply::Entries(entries(&store.list(&Key::decode(&prefix)?, consistency(local)).await?))
            }
            Request::Commit { checks, puts, deletes } => {
                Reply::from(&store.commit(read_txn(checks, puts, deletes)?).await?)
            }
            Request::DeletePrefix { prefix } => {
                Reply::Count(store.delete_prefix(&Key::decode(&prefix)?).await?)
            }
            Request::Grant { ttl } => Reply::from(&store.grant(ttl).await?),
            Request::Renew { session } => Reply::from(store.renew(&SessionId::new(session)).await?),
            Request::Revoke { session } => {
                store.revoke(&SessionId::new(session)).await?;
                Reply::Done
            }
            Request::Told { watch } => self.told(watch).await?,
            Request::Watch { .. } | Request::Unwatch { .. } => return Err(garbled("a request")),
            Request::Enter { queue, session, ticket, value, limit } => {
                let (queue, session) = (queue.read()?, SessionId::new(session));
                Reply::from(&store.enter(&queue, &session, &ticket.parse()?, value.read(), limit).await?)
            }
            Request::Ahead { place, limit } => {
                let ahead = store.ahead(&place.read()?, limit).await?;
                Reply::Ahead(ahead.as_deref().map(places))
            }
            Request::Leave { place } => Reply::Left(store.leave(&place.read()?).await?),
        })
    }
}
