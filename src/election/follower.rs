//! Who leads, without standing.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::announcement;
use crate::kv::{
    Clock, Coordinator, Entry, Event, Fence, Key, Queue, Random, Result, Scope, SessionId, SystemClock, View,
    bad, observe,
};
use crate::lock::{Claim, roll};

/// Who leads, or stands, as its place in the store says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// The candidate's id.
    pub id: String,
    /// What it proclaimed.
    pub data: Bytes,
    /// The number of the term.
    pub fence: Fence,
    /// The session it hangs on.
    pub session: Option<SessionId>,
}

impl Leader {
    fn new(queue: &Queue, value: &Bytes, fence: Fence, session: Option<SessionId>) -> Self {
        let (id, data) = announcement::decode(queue, value);
        Self { id, data, fence, session }
    }
}

/// Looks who leads. It needs no session, and clones are cheap.
pub struct Follower<S: Coordinator + ?Sized = dyn Coordinator> {
    store: Arc<S>,
    queue: Queue,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl<S: Coordinator + ?Sized> Follower<S> {
    /// Looks at the election of this name. Nothing is sent.
    pub fn new(store: &Arc<S>, name: &str) -> Result<Self> {
        Ok(Self::on(store, Queue::election(name)?))
    }

    /// Looks at an election at a key of the user's, in the layout of the server's native clients.
    #[must_use]
    pub fn native(store: &Arc<S>, path: Key) -> Self {
        Self::on(store, Queue::native(path))
    }

    fn on(store: &Arc<S>, queue: Queue) -> Self {
        let clock = Arc::new(SystemClock::new());
        Self { store: Arc::clone(store), queue, clock, random: Random::from_os() }
    }

    /// The same on another clock and source of chance, which its pauses after errors go by.
    #[must_use]
    pub fn with(mut self, clock: Arc<dyn Clock>, random: Random) -> Self {
        self.clock = clock;
        self.random = random;
        self
    }

    /// Who leads now; `None` when nobody does. One linearizable read.
    pub async fn leader(&self) -> Result<Option<Leader>> {
        Ok(self.candidates().await?.into_iter().next())
    }

    /// All who stand, the leader first, then in the order they would lead. One linearizable read.
    pub async fn candidates(&self) -> Result<Vec<Leader>> {
        let claims = roll(&*self.store, &self.queue).await?;
        let read = |claim: Claim| Leader::new(&self.queue, &claim.value, claim.fence, claim.session);
        Ok(claims.into_iter().map(read).collect())
    }

    /// Who leads, now and after every change: of leader, of term, of data; `None` whenever nobody does.
    ///
    /// The stream never ends and never fails: while the store cannot be reached the last answer stands. Dropping it
    /// ends it.
    #[must_use]
    pub fn leaders(&self) -> BoxStream<'static, Option<Leader>> {
        let scope = Scope::Prefix(self.queue.key().clone());
        let events = observe(&self.store, scope, &self.clock, &self.random);
        let state =
            (events, View::new(), None::<Option<Leader>>, Arc::clone(&self.store), self.queue.clone());
        futures_util::stream::unfold(state, |(mut events, mut view, told, store, queue)| async move {
            loop {
                let event = events.next().await?;
                if matches!(event, Ok(Event::Delete(_))) && bad("follower_ignores_delete") {
                    continue;
                }
                view.apply(event);
                let leader = first(&*store, &queue, &view);
                if leader.is_none() && told.is_some() && bad("nobody_leads_untold") {
                    continue;
                }
                if view.is_complete() && told.as_ref() != Some(&leader) {
                    return Some((leader.clone(), (events, view, Some(leader), store, queue)));
                }
            }
        })
        .boxed()
    }
}

fn first<S: Coordinator + ?Sized>(store: &S, queue: &Queue, view: &View) -> Option<Leader> {
    let places = view.entries().filter(|entry| store.read_place(queue, entry).is_some());
    let head: &Entry = places.min_by_key(|entry| entry.fence)?;
    Some(Leader::new(queue, &head.value, head.fence, head.session.clone()))
}

impl<S: Coordinator + ?Sized> Clone for Follower<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            queue: self.queue.clone(),
            clock: Arc::clone(&self.clock),
            random: self.random.clone(),
        }
    }
}

impl<S: Coordinator + ?Sized> fmt::Debug for Follower<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("queue", &self.queue)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
