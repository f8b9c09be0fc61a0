//! Where instances are registered.

use std::fmt;
use std::sync::Arc;

use super::actor::Actor;
use super::record::{Desk, Handle, Record};
use super::{Instance, Registration};
use crate::kv::{Coordinator, Error, Result, Sessions};

/// Registers instances, any number of them, with one task and the one session that `Sessions` keeps. Clones share it.
///
/// Whatever is pending goes out together, as many puts to a commit as the store takes; however many are registered,
/// the only traffic while nothing changes is the session's renewal. The task starts with the first registration and
/// ends after the last handle, registrar or registration, is gone and has been deregistered.
///
/// ```
/// use std::sync::Arc;
/// use quorate::backends::Memory;
/// use quorate::discovery::{Instance, Members, Registrar, RoundRobin};
/// use quorate::kv::{SessionOptions, Sessions};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> quorate::kv::Result<()> {
/// let store = Arc::new(Memory::new());
/// let sessions = Sessions::new(&store, SessionOptions::default())?;
/// let registrar = Registrar::new(&store, &sessions);
/// let registration = registrar.register(Instance::new("billing", "billing-1", "10.0.0.7:8080")).await?;
///
/// let billing = Members::of(&store, "billing")?;
/// billing.ready().await;
/// let next = billing.pick(&RoundRobin::new()).expect("one is registered");
/// assert_eq!(next.address, "10.0.0.7:8080");
///
/// registration.set_draining(true).await?; // no new work, please
/// registration.deregister().await;
/// # Ok(()) }
/// ```
pub struct Registrar<S: Coordinator + ?Sized = dyn Coordinator> {
    store: Arc<S>,
    sessions: Sessions,
    handle: Arc<Handle>,
}

impl<S: Coordinator + ?Sized> Registrar<S> {
    /// A registrar at this store. Nothing is sent.
    #[must_use]
    pub fn new(store: &Arc<S>, sessions: &Sessions) -> Self {
        let handle = Handle { desk: Desk::new(), limits: store.limits() };
        Self { store: Arc::clone(store), sessions: sessions.clone(), handle: Arc::new(handle) }
    }

    /// Registers an instance, and waits until the store has acknowledged it. What another process, or an earlier life
    /// of this one, has registered under the same service and id is taken over.
    ///
    /// Fails with `InvalidInput` when something about the instance does not do, or when this registrar has registered
    /// it already; and when the session cannot be opened or the put failed without effect: then it is not registered. A
    /// put of unknown outcome is not an error but put again, until it is known. Needs a tokio runtime.
    ///
    /// Cancel-safe: dropped at any time, it leaves nothing behind.
    pub async fn register(&self, instance: Instance) -> Result<Registration> {
        self.handle.desk.pause(&self.handle.limits).await;
        let (key, value) = instance.encode(&self.handle.limits)?;
        self.start()?;
        let registration = Registration::submit(Record::new(key, value), &self.handle);
        registration.settled(1).await?;
        Ok(registration)
    }

    fn start(&self) -> Result<()> {
        let desk = &self.handle.desk;
        desk.start_once(|| {
            let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
                Error::invalid("registrations need a tokio runtime")
                    .because(error)
                    .at(self.handle.limits.backend, "register")
            })?;
            // It ends by itself, with the last handle.
            runtime.spawn(Actor::new(&self.store, &self.sessions, desk).run());
            Ok(())
        })
    }
}

impl<S: Coordinator + ?Sized> Clone for Registrar<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            sessions: self.sessions.clone(),
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<S: Coordinator + ?Sized> fmt::Debug for Registrar<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("store", &self.store).finish_non_exhaustive()
    }
}
