//! One watch: snapshots by a script, changes from the fanout.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use super::read;
use super::servers::Servers;
use crate::kv::{ErrorKind, Event, Result, Scope, Signal, Subscription};

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
pub(super) struct Watching {
    servers: Arc<Servers>,
    hub: Arc<Hub>,
    scope: Scope,
    subscription: Option<Subscription>,
    next: Next,
    disturbed: bool,
}

impl Watching {
    pub(super) fn new(servers: Arc<Servers>, hub: Arc<Hub>, scope: Scope) -> Self {
        Self { servers, hub, scope, subscription: None, next: Next::Hear, disturbed: false }
    }

    /// The next event. Dropped at its await, it is dropped with the whole stream.
    pub(super) async fn step(mut self) -> Option<(Result<Event>, Self)> {
        let scope = &self.scope;
        let subscription = self.subscription.get_or_insert_with(|| self.hub.subscribe(scope));
        let signal = match self.next {
            Next::Hear => match self.hub.wake() {
                Ok(()) => subscription.next().await,
                Err(error) => {
                    self.next = Next::End;
                    return Some((Err(error), self));
                }
            },
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
            Err(error) if !error.is_transient() && error.kind() != ErrorKind::FenceRegression => {
                self.next = Next::End;
            }
            Err(_) => {}
        }
        self.disturbed = event.is_err();
        Some((event.map_err(|error| error.on(self.scope.key())), self))
    }

    async fn look(&mut self) -> Result<Event> {
        if self.disturbed {
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            let covered = read::covered(&self.servers, &self.scope).await;
            self.hub.notice();
            if let Some(error) = self.subscription.as_mut().and_then(Subscription::failed) {
                // As when it is heard: what follows is a resync.
                self.next = Next::Hear;
                return Err(error);
            }
            match covered {
                // This was told before, or there is nobody who saw what was lost.
                Err(error) if error.kind() == ErrorKind::FenceRegression => {}
                Err(error) => return Err(error),
                Ok((revision, entries)) => {
                    if let Some(subscription) = &mut self.subscription {
                        subscription.taken_with(revision, &entries);
                    }
                    return Ok(Event::Snapshot(entries));
                }
            }
        }
    }
}
