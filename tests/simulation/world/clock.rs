//! A process's own clock, faster or slower than the world's, in a process that can be paused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quorate::kv::{Clock, Instant, Watched};

/// Runs at `rate` from an offset of its own. While the process is paused nothing that waits for it goes on; the clock
/// itself runs on, as one does that counts suspended time, unless it is told not to.
#[derive(Debug)]
pub(crate) struct ProcessClock {
    origin: tokio::time::Instant,
    offset: Duration,
    rate: f64,
    /// Whether it stands still while the process is paused, as `CLOCK_MONOTONIC` does in a suspended machine.
    forgets: bool,
    pauses: Watched<bool>,
    paused: Mutex<Paused>,
}

#[derive(Debug, Default)]
struct Paused {
    since: Option<Duration>,
    /// It is never resumed.
    for_ever: bool,
    before: Duration,
    /// When it was last resumed.
    until: Duration,
}

impl ProcessClock {
    pub(crate) fn new(offset: Duration, rate: f64, forgets: bool) -> Arc<Self> {
        let origin = tokio::time::Instant::now();
        Arc::new(Self {
            origin,
            offset,
            rate,
            forgets,
            pauses: Watched::new(false),
            paused: Mutex::default(),
        })
    }

    /// Stops everything in the process that waits for a clock or a reply.
    pub(crate) fn pause(&self) {
        self.paused().since.get_or_insert(self.origin.elapsed());
        self.pauses.set(true);
    }

    /// Stops it all for ever: whoever waits is never woken, and can only be dropped.
    pub(crate) fn stop(&self) {
        self.pause();
        self.paused().for_ever = true;
    }

    pub(crate) fn resume(&self) {
        let mut paused = self.paused();
        if paused.for_ever {
            return;
        }
        if let Some(since) = paused.since.take() {
            paused.before += self.origin.elapsed().saturating_sub(since);
            paused.until = self.origin.elapsed();
        }
        drop(paused);
        self.pauses.set(false);
    }

    /// Completes while the process runs.
    pub(crate) async fn awake(&self) {
        self.pauses.find(|paused| (!paused).then_some(())).await;
    }

    /// For how long, in the world's time, the process has been running; `None` while it is paused.
    pub(crate) fn running_for(&self) -> Option<Duration> {
        let paused = self.paused();
        paused.since.is_none().then(|| self.origin.elapsed().saturating_sub(paused.until))
    }

    /// How long ago, in the world's time, the process was started.
    pub(crate) fn age(&self) -> Duration {
        self.origin.elapsed()
    }

    /// How much of its own time passes in a second of the world's.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    fn paused(&self) -> MutexGuard<'_, Paused> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ProcessClock {
    fn now(&self) -> Instant {
        let elapsed = self.origin.elapsed();
        let forgotten = if self.forgets {
            let paused = self.paused();
            paused.before + paused.since.map_or(Duration::ZERO, |since| elapsed.saturating_sub(since))
        } else {
            Duration::ZERO
        };
        Instant::from_origin(self.offset + elapsed.saturating_sub(forgotten).mul_f64(self.rate))
    }

    async fn sleep_until(&self, deadline: Instant) {
        loop {
            self.awake().await;
            let left = deadline.since(self.now());
            if left.is_zero() {
                return;
            }
            // Tokio's timers count whole milliseconds.
            tokio::time::sleep(left.div_f64(self.rate) + Duration::from_millis(1)).await;
        }
    }
}
