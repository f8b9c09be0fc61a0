//! One watch: a snapshot, then changes as the hub tells them.

use std::sync::Arc;
use std::time::Duration;

use super::BACKEND;
use super::hub::{Hub, Watcher};
use crate::kv::{Error, Event, Result, Scope, Signal};

/// How long a disturbed watch waits before it looks again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a watch does next.
enum Next {
    /// Takes a snapshot.
    Look,
    /// Hears what the hub says.
    Hear(Box<Watcher>),
    /// Nothing: the error it told is for good.
    End,
}

/// The state of one watch, between two events.
pub(super) struct Watching {
    hub: Arc<Hub>,
    scope: Scope,
    next: Next,
    disturbed: bool,
}

impl Watching {
    pub(super) fn new(hub: Arc<Hub>, scope: Scope) -> Self {
        Self { hub, scope, next: Next::Look, disturbed: false }
    }

    /// The next event. Dropped at its await, it is dropped with the whole stream.
    pub(super) async fn step(mut self) -> Option<(Result<Event>, Self)> {
        loop {
            let told = match &mut self.next {
                Next::Look => self.look().await,
                Next::Hear(watcher) => match watcher.joined.subscription.next().await {
                    Signal::Change(event) => Ok(event),
                    Signal::Failed(error) => Err(error.0),
                    // It was too slow.
                    Signal::Resync => {
                        self.next = Next::Look;
                        continue;
                    }
                },
                Next::End => return None,
            };
            return match told {
                Ok(event) => Some((Ok(event), self)),
                Err(error) => Some(self.disturbed(error)),
            };
        }
    }

    async fn look(&mut self) -> Result<Event> {
        if std::mem::take(&mut self.disturbed) {
            tokio::time::sleep(PAUSE).await;
        }
        let mut watcher = Box::new(self.hub.join(&self.scope).await?);
        let snapshot = std::mem::take(&mut watcher.joined.snapshot);
        self.next = Next::Hear(watcher);
        Ok(Event::Snapshot(snapshot))
    }

    fn disturbed(mut self, error: Error) -> (Result<Event>, Self) {
        self.next = if error.is_transient() { Next::Look } else { Next::End };
        self.disturbed = true;
        (Err(error.at(BACKEND, "watch").on(self.scope.key())), self)
    }
}
