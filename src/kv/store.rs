//! The store traits. What they promise is written in [`kv`](super).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::{
    Entered, Entry, Event, Key, Limits, Place, PlaceRef, Queue, Result, Scope, SessionId, Ticket, Txn, Write,
};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Consistency {
    /// It sees every write that was acknowledged before it was sent.
    #[default]
    Linearizable,
    /// It may be stale, as the backend's page says, and is cheaper or works where the other does not.
    Local,
}

/// Keys with conditional writes. Five methods, none provided; the everyday verbs are in
/// [`StoreExt`](super::StoreExt).
///
/// All futures may be dropped at any time: a write then has no effect or its full effect.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The amounts: what it takes, and how late it may be.
    fn limits(&self) -> Limits;

    /// What stands at `key`.
    async fn get(&self, key: &Key, read: Consistency) -> Result<Option<Entry>>;

    /// What `prefix` [covers](Key::covers), in key order.
    async fn list(&self, prefix: &Key, read: Consistency) -> Result<Vec<Entry>>;

    /// Applies a write, or rejects it, as one step.
    async fn commit(&self, txn: Txn) -> Result<Write>;

    /// Deletes what `prefix` [covers](Key::covers) and says how many entries that were.
    async fn delete_prefix(&self, prefix: &Key) -> Result<u64>;
}

/// A session as the store granted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub id: SessionId,
    /// Its life, which may differ from what was asked for.
    pub ttl: Duration,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The session lives for another `ttl` from no earlier than when the renewal was sent.
    Renewed {
        /// Its life from now on.
        ttl: Duration,
    },
    /// The session is gone, and all that was bound to it.
    Lost,
}

/// A store whose entries can die with their owner.
#[async_trait]
pub trait SessionStore: Store {
    /// Opens a session with a life of `ttl`, which must lie within [`Limits::ttl`].
    async fn grant(&self, ttl: Duration) -> Result<Grant>;

    /// Starts the session's life anew.
    async fn renew(&self, session: &SessionId) -> Result<Renewal>;

    /// Ends the session and deletes all that is bound to it. A session that is gone is no error.
    async fn revoke(&self, session: &SessionId) -> Result<()>;
}

/// A store that tells of changes.
#[async_trait]
pub trait WatchStore: Store {
    /// First a snapshot, then every later change, in order. The key need not exist, nor anything below the prefix.
    ///
    /// The stream survives broken connections and compaction: it goes on with a fresh snapshot. What it went
    /// through shows as an `Err`, after which it either does so or ends; it never ends otherwise. Nothing is sent
    /// before it is first polled, and dropping it ends it.
    fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>>;
}

/// A store with a queue of its own, ordered by the server.
#[async_trait]
pub trait QueueStore: SessionStore {
    /// Enters the queue at its tail, bound to `session`, in one round trip, and says what stands ahead: nearest
    /// first, at most `limit`. An empty answer to a `limit` above 0 means the place is the first.
    ///
    /// Entering again with a ticket that stands in the queue changes nothing and returns that place, so a try
    /// whose answer was lost can be repeated. Fails with `SessionLost` when the session is gone.
    ///
    /// The ticket of a place that was left makes a new place, at the end: sessions use a ticket again once all that was
    /// sent with it was answered, since deleted names slow down some stores.
    async fn enter(
        &self,
        queue: &Queue,
        session: &SessionId,
        ticket: &Ticket,
        value: Bytes,
        limit: usize,
    ) -> Result<Entered>;

    /// What stands ahead of `place` now (linearizable), nearest first, at most `limit`; `None` when the place itself
    /// is gone or no longer bound to its session.
    async fn ahead(&self, place: &Place, limit: usize) -> Result<Option<Vec<PlaceRef>>>;

    /// Leaves a queue: removes the place, in one round trip, and says whether it stood until now.
    ///
    /// Leaving again changes nothing. A place that a late request made once more with the same ticket, and so under the
    /// same key, may be removed or not; one of another ticket never is. What is answered with `Ok` must not take effect
    /// later, so a request whose outcome is unknown is not sent again in here.
    async fn leave(&self, place: &Place) -> Result<bool>;

    /// Reads an entry found below a queue as a place of it, if its layout counts it as one.
    fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef>;
}

/// All a lock, an election or a registration needs, under one name for `dyn`. Implemented for whatever qualifies.
pub trait Coordinator: SessionStore + WatchStore + QueueStore {}

impl<S: SessionStore + WatchStore + QueueStore + ?Sized> Coordinator for S {}

/// A method that hands on the future it is given. As an `async fn` it would put that into one more of its own, for every
/// request; this is what `async_trait` makes of one, without it.
macro_rules! hand_on {
    ($name:ident($($life:lifetime $borrowed:ident: $target:ty),*; $($owned:ident: $type:ty),*) -> $answer:ty) => {
        fn $name<'life0, $($life,)* 'async_trait>(
            &'life0 self,
            $($borrowed: &$life $target,)*
            $($owned: $type),*
        ) -> BoxFuture<'async_trait, Result<$answer>>
        where
            'life0: 'async_trait,
            $($life: 'async_trait,)*
            Self: 'async_trait,
        {
            (**self).$name($($borrowed,)* $($owned),*)
        }
    };
}

/// Pointers to a store are stores. Every method is forwarded, which the lint sees to.
macro_rules! forward {
    ($($pointer:ident),*) => {$(
        #[deny(clippy::missing_trait_methods)]
        impl<S: Store + ?Sized> Store for $pointer<S> {
            fn limits(&self) -> Limits {
                (**self).limits()
            }
            hand_on!(get('life1 key: Key; read: Consistency) -> Option<Entry>);
            hand_on!(list('life1 prefix: Key; read: Consistency) -> Vec<Entry>);
            hand_on!(commit(; txn: Txn) -> Write);
            hand_on!(delete_prefix('life1 prefix: Key;) -> u64);
        }

        #[deny(clippy::missing_trait_methods)]
        impl<S: SessionStore + ?Sized> SessionStore for $pointer<S> {
            hand_on!(grant(; ttl: Duration) -> Grant);
            hand_on!(renew('life1 session: SessionId;) -> Renewal);
            hand_on!(revoke('life1 session: SessionId;) -> ());
        }

        #[deny(clippy::missing_trait_methods)]
        impl<S: WatchStore + ?Sized> WatchStore for $pointer<S> {
            fn watch(&self, scope: Scope) -> BoxStream<'static, Result<Event>> {
                (**self).watch(scope)
            }
        }

        #[deny(clippy::missing_trait_methods)]
        impl<S: QueueStore + ?Sized> QueueStore for $pointer<S> {
            hand_on!(enter(
                'life1 queue: Queue, 'life2 session: SessionId, 'life3 ticket: Ticket;
                value: Bytes, limit: usize
            ) -> Entered);
            hand_on!(ahead('life1 place: Place; limit: usize) -> Option<Vec<PlaceRef>>);
            hand_on!(leave('life1 place: Place;) -> bool);
            fn read_place(&self, queue: &Queue, entry: &Entry) -> Option<PlaceRef> {
                (**self).read_place(queue, entry)
            }
        }
    )*};
}

use std::sync::Arc;
forward!(Arc, Box);
