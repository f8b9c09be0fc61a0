//! Growing, jittered pauses between tries.

use std::sync::Arc;
use std::time::Duration;

use super::{Clock, Random};

/// Pauses that double from `first` to `most`, each drawn between half of it and all of it, until [`reset`].
///
/// [`reset`]: Backoff::reset
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    clock: Arc<dyn Clock>,
    random: Random,
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(clock: &Arc<dyn Clock>, random: &Random, first: Duration, most: Duration) -> Self {
        Self { clock: Arc::clone(clock), random: random.clone(), first, most, next: first }
    }

    /// The next pause, without making it.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.random.jitter(self.next);
        self.next = (self.next * 2).min(self.most);
        pause
    }

    /// Makes the next pause. Cancel-safe: a pause that was dropped counts as made.
    pub(crate) async fn pause(&mut self) {
        let pause = self.next();
        self.clock.sleep_until(self.clock.now() + pause).await;
    }

    /// Starts small again, after something went well.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn grows_to_the_most_and_starts_again() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (first, most) = (Duration::from_millis(10), Duration::from_secs(1));
        let mut backoff = Backoff::new(&clock, &Random::seeded(1), first, most);
        for expected in [10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
            let pause = backoff.next();
            let expected = Duration::from_millis(expected);
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?} for {expected:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= first);
        let before = clock.now();
        backoff.pause().await;
        assert!(clock.now().since(before) >= first);
    }
}
