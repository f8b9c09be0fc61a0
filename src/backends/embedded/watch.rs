//! One watch: snapshots through the engine, changes from the fanout.

use std::time::Duration;

use super::Embedded;
use super::job::Kind;
use crate::kv::{Event, Result, Signal, Subscription};

/// How long a disturbed watch waits before it looks again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a watch does with its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Hears what the fanout says.
    Hear,
    /// Takes a snapshot.
    Look,
    /// Nothing: the error it told is for good.
    End,
}

/// The state of one watch, between two events.
#[derive(Debug)]
pub(super) struct Watching {
    store: Embedded,
    subscription: Subscription,
    next: Next,
    disturbed: bool,
}

impl Watching {
    pub(super) fn new(store: Embedded, subscription: Subscription) -> Self {
        Self { store, subscription, next: Next::Hear, disturbed: false }
    }

    /// The next event. Dropped at its await, it is dropped with the whole stream.
    pub(super) async fn step(mut self) -> Option<(Result<Event>, Self)> {
        let signal = match self.next {
            Next::Hear => self.subscription.next().await,
            Next::Look => Signal::Resync,
            Next::End => return None,
        };
        let event = match signal {
            Signal::Change(event) => Ok(event),
            Signal::Resync => {
                self.next = Next::Look;
                self.look().await
            }
            // What follows is a resync.
            Signal::Failed(error) => Err(error.0),
        };
        match &event {
            Ok(_) => self.next = Next::Hear,
            Err(error) if !error.is_transient() => self.next = Next::End,
            Err(_) => {}
        }
        self.disturbed = event.is_err();
        Some((event, self))
    }

    async fn look(&mut self) -> Result<Event> {
        if self.disturbed {
            tokio::time::sleep(PAUSE).await;
        }
        let scope = self.subscription.scope().clone();
        let looked = self
            .store
            .0
            .call(Kind::Watch, "watch", move |tables| Ok((tables.revision()?, tables.covered(&scope)?)));
        let (revision, entries) = looked.await.map_err(|error| error.on(self.subscription.scope().key()))?;
        self.subscription.taken(revision.unsigned_abs());
        Ok(Event::Snapshot(entries))
    }
}
