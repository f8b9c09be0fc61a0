//! The lock of one holder.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;

use super::{Acquired, Claim, Guard, acquire, roll, try_acquire};
use crate::kv::clock::until;
use crate::kv::{Coordinator, Key, Queue, Result, Session, Sessions};

/// A lock that one holder has at a time, in the order they came. Clones are the same lock.
///
/// Two handles, or two tasks with one handle, exclude each other like strangers: nothing is re-entrant.
///
/// ```
/// use std::sync::Arc;
/// use quorate::backends::Memory;
/// use quorate::kv::{SessionOptions, Sessions, StoreExt};
/// use quorate::lock::{Mutex, Release};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Arc::new(Memory::new());
/// let sessions = Sessions::new(&store, SessionOptions::default())?;
/// let mutex = Mutex::new(&store, &sessions, "nightly-report")?;
///
/// let guard = mutex.lock().await?;
/// assert!(mutex.try_lock().await?.is_none(), "it is held, if only by ourselves");
/// guard.put("report/last-run", "today").await?; // lands only while the lock is held
/// assert_eq!(guard.release().await, Release::Released);
/// # Ok(()) }
/// ```
///
/// A store that cannot end what its owner left behind makes no lock, and the compiler says so:
///
/// ```compile_fail,E0277
/// # use std::sync::Arc;
/// # use async_trait::async_trait;
/// # use quorate::kv::*;
/// # use quorate::lock::Mutex;
/// #[derive(Debug)]
/// struct Plain; // a `Store`, and nothing more
/// # #[async_trait]
/// # impl Store for Plain {
/// #     fn limits(&self) -> Limits { Limits::new("plain") }
/// #     async fn get(&self, _: &Key, _: Consistency) -> Result<Option<Entry>> { Ok(None) }
/// #     async fn list(&self, _: &Key, _: Consistency) -> Result<Vec<Entry>> { Ok(Vec::new()) }
/// #     async fn commit(&self, _: Txn) -> Result<Write> { Ok(Write::Applied(Vec::new())) }
/// #     async fn delete_prefix(&self, _: &Key) -> Result<u64> { Ok(0) }
/// # }
/// fn lock(store: &Arc<Plain>, sessions: &Sessions) {
///     // The trait bound `Plain: SessionStore` is not satisfied, hence not `Coordinator`.
///     let mutex = Mutex::new(store, sessions, "never");
/// }
/// ```
pub struct Mutex<S: Coordinator + ?Sized = dyn Coordinator> {
    store: Arc<S>,
    sessions: Sessions,
    queue: Queue,
    value: Bytes,
    /// The highest fence seen, against a store that loses data.
    highest: Arc<AtomicU64>,
}

impl<S: Coordinator + ?Sized> Mutex<S> {
    /// The lock of this name. Any name will do but the empty one. Nothing is sent.
    pub fn new(store: &Arc<S>, sessions: &Sessions, name: &str) -> Result<Self> {
        Ok(Self::on(store, sessions, Queue::lock(name)?))
    }

    /// The lock at a key of the user's, in the layout of the server's native clients, to exclude them too.
    #[must_use]
    pub fn native(store: &Arc<S>, sessions: &Sessions, path: Key) -> Self {
        Self::on(store, sessions, Queue::native(path))
    }

    fn on(store: &Arc<S>, sessions: &Sessions, queue: Queue) -> Self {
        Self {
            store: Arc::clone(store),
            sessions: sessions.clone(),
            queue,
            value: Bytes::copy_from_slice(sessions.owner().as_bytes()),
            highest: Arc::default(),
        }
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> String {
        self.queue.name()
    }

    /// Waits for the lock, for as long as it takes. One round trip when it is free; when it is not, one more and one
    /// event for the turn, however many wait.
    ///
    /// Fails with `SessionLost` when the session ends while waiting, and with `FenceRegression` when the store lost
    /// data. Cancel-safe: dropped, it leaves nothing behind but loses its turn.
    pub async fn lock(&self) -> Result<Guard<S>> {
        let session = self.sessions.current().await?;
        self.acquire(&session).await
    }

    /// Takes the lock if it is free, without waiting; `None` if it is not. One round trip, two if it is held.
    /// Cancel-safe.
    pub async fn try_lock(&self) -> Result<Option<Guard<S>>> {
        let session = self.sessions.current().await?;
        match try_acquire(&self.store, &session, &self.queue, &self.value, &self.highest).await? {
            Acquired::Held(guard) => Ok(Some(guard)),
            Acquired::Contended => Ok(None),
        }
    }

    /// Waits for the lock for at most `patience`; `None` when the time was up. Cancel-safe.
    pub async fn lock_timeout(&self, patience: Duration) -> Result<Option<Guard<S>>> {
        let clock = self.sessions.clock();
        until(&**clock, clock.now() + patience, self.lock()).await.transpose()
    }

    /// Who holds it: nobody, or one. One round trip.
    pub async fn holders(&self) -> Result<Vec<Claim>> {
        let mut claims = self.claims().await?;
        claims.truncate(1);
        Ok(claims)
    }

    /// Who waits for it, next in turn first. One round trip.
    pub async fn waiters(&self) -> Result<Vec<Claim>> {
        Ok(self.claims().await?.into_iter().skip(1).collect())
    }

    /// Who holds it and who waits for it, seen at one moment: the holder first, then next in turn. One round trip.
    pub async fn claims(&self) -> Result<Vec<Claim>> {
        roll(&*self.store, &self.queue).await
    }

    async fn acquire(&self, session: &Session) -> Result<Guard<S>> {
        acquire(&self.store, session, &self.queue, &self.value, &self.highest).await
    }
}

impl<S: Coordinator + ?Sized> Clone for Mutex<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            sessions: self.sessions.clone(),
            queue: self.queue.clone(),
            value: self.value.clone(),
            highest: Arc::clone(&self.highest),
        }
    }
}

impl<S: Coordinator + ?Sized> fmt::Debug for Mutex<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("queue", &self.queue)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
