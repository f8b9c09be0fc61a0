//! A span around every request to a store.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tracing::{Instrument, Span, field};

use super::{
    Consistency, Entered, Entry, Event, Grant, Key, Limits, Outcome, Place, PlaceRef, Queue, QueueStore,
    Renewal, Result, Scope, SessionId, SessionStore, Store, Ticket, Txn, WatchStore, Write,
};

/// A store whose every request is a span `store` at debug level, with the fields `backend`, `op`, `key`, `fence` (of a
/// place that was entered) and `outcome`: `ok`, `rejected`, `not applied` or `unknown`. Never a value, never a secret.
///
/// The [`Client`](crate::Client) traces its store.
#[derive(Clone, Debug)]
pub struct Traced<S>(S);

impl<S: Store> Traced<S> {
    /// The same store, traced.
    pub fn new(store: S) -> Self {
        Self(store)
    }

    fn span(&self, op: &'static str, key: Option<&Key>) -> Span {
        let span = tracing::debug_span!(
            "store",
            backend = field::Empty,
            op,
            key = field::Empty,
            fence = field::Empty,
            outcome = field::Empty
        );
        if !span.is_disabled() {
            span.record("backend", self.0.limits().backend);
            key.map(|key| span.record("key", key.as_str()));
        }
        span
    }

    async fn traced<T>(&self, span: Span, request: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let result = request.instrument(span.clone()).await;
        span.record(
            "outcome",
            match result.as_ref().map_err(super::Error::outcome) {
                Ok(_) => "ok",
                Err(Outcome::NotApplied) => "not applied",
                Err(Outcome::Unknown) => "unknown",
            },
        );
        result
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for Traced<S> {
    fn limits(&self) -> Limits {
        self.0.limits()
    }

    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>> {
        self.traced(self.span("get", Some(key)), self.0.get(key, read)).await
    }

    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>> {
        self.traced(self.span("list", Some(prefix)), self.0.list(prefix, read)).await
    }

    async fn commit(&self, txn: Txn) -> Result<Write> {
        let span = self.span("commit", txn.subject());
        let write = self.traced(span.clone(), self.0.commit(txn)).await?;
        if !write.is_applied() {
            span.record("outcome", "rejected");
        }
        Ok(write)
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<u64> {
        self.traced(self.span("delete_prefix", Some(prefix)), self.0.delete_prefix(prefix)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SessionStore> SessionStore for Traced<S> {
    async fn grant(&self, ttl: Duration) -> Result<Grant> {
        self.traced(self.span("grant", None), self.0.grant(ttl)).await
    }

    async fn renew(&self, session: &SessionId) -> Result<Renewal> {
        self.traced(self.span("renew", None), self.0.renew(session)).await
    }

    async fn revoke(&self, session: &SessionId) -> Result<()> {
        self.traced(self.span("revoke", None), self.0.revoke(session)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: WatchStore> WatchStore for Traced<S> {
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
        let _entered = self.span("watch", Some(scope.key())).entered();
        self.0.watch(scope)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: QueueStore> QueueStore for Traced<S> {
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered> {
        let span = self.span("enter", Some(queue.key()));
        let entered = self.traced(span.clone(), self.0.enter(queue, session, ticket, value, limit)).await?;
        span.record("fence", entered.place.fence.get());
        Ok(entered)
    }

    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>> {
        let span = self.span("ahead", Some(&place.key));
        span.record("fence", place.fence.get());
        self.traced(span, self.0.ahead(place, limit)).await
    }

    async fn leave(&self, place: &Place) -> Result<bool> {
        let span = self.span("leave", Some(&place.key));
        span.record("fence", place.fence.get());
        self.traced(span, self.0.leave(place)).await
    }

    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
        self.0.read_place(queue, entry)
    }
}
