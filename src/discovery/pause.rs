//! A pause between tries that goes on however often waiting for it is given up.

use std::sync::Arc;
use std::time::Duration;

use crate::kv::backoff::Backoff;
use crate::kv::{Clock, Instant, Sessions};

pub(super) struct Pause {
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    until: Option<Instant>,
}

impl Pause {
    pub(super) fn new(sessions: &Sessions, first: Duration, most: Duration) -> Self {
        let clock = Arc::clone(sessions.clock());
        let backoff = Backoff::new(&clock, sessions.random(), first, most);
        Self { clock, backoff, until: None }
    }

    /// Begins a pause, unless one is under way.
    pub(super) fn begin(&mut self) {
        if self.until.is_none() {
            self.until = Some(self.clock.now() + self.backoff.next());
        }
    }

    /// Completes once no pause is under way. Cancel-safe.
    pub(super) async fn pass(&mut self) {
        if let Some(until) = self.until {
            self.clock.sleep_until(until).await;
            self.until = None;
        }
    }

    /// The next pause is short again, after something went well.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
    }
}
