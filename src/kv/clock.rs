//! Time: one clock that counts suspended time and can be paused, skewed or frozen in tests.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

/// A moment on one [`Clock`]: the time since that clock's own, unspecified origin.
///
/// Moments of different clocks mean nothing to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

impl Instant {
    /// For clocks: the moment this long after the origin.
    #[must_use]
    pub const fn from_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// For clocks: how long after the origin.
    #[must_use]
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

/// Where all time in this crate comes from. Never the wall clock: that steps.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now. It never goes back.
    fn now(&self) -> Instant;

    /// Completes once [`now`](Self::now) has reached `deadline`. Cancel-safe.
    async fn sleep_until(&self, deadline: Instant);
}

/// The default clock: tokio's, plus the time the machine spent suspended.
///
/// A lease goes on running in the store while the laptop is shut, so a holder must notice on waking that its time
/// is up; `CLOCK_MONOTONIC`, and with it [`std::time::Instant`], stands still meanwhile
/// ([rust-lang/rust#87906](https://github.com/rust-lang/rust/issues/87906)). On Linux the suspended time is
/// `CLOCK_BOOTTIME` less `CLOCK_MONOTONIC`; elsewhere it is not seen. Under tokio's paused time this clock is
/// paused too, so tests run in no time.
#[derive(Clone)]
pub struct SystemClock(Arc<Origin>);

struct Origin {
    start: tokio::time::Instant,
    #[cfg(target_os = "linux")]
    suspended: suspended::Meter,
}

/// While waiting, the clock is looked at this often, so that a deadline that passed during a suspend is seen soon
/// after it: timers stand still with the machine.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl SystemClock {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Origin {
            start: tokio::time::Instant::now(),
            #[cfg(target_os = "linux")]
            suspended: suspended::Meter::new(),
        }))
    }

    #[cfg(target_os = "linux")]
    fn suspended(&self) -> Duration {
        self.0.suspended.read()
    }

    #[cfg(not(target_os = "linux"))]
    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SystemClock").field(&self.now()).finish()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Instant {
        let suspended = self.suspended();
        Instant::from_origin(self.0.start.elapsed() + suspended)
    }

    async fn sleep_until(&self, deadline: Instant) {
        loop {
            let left = deadline.since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }
}

#[cfg(target_os = "linux")]
mod suspended {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    const NOISE: u64 = 1_000_000;

    /// How long the machine was suspended since the meter was made.
    pub(super) struct Meter {
        origin: u64,
        seen: AtomicU64,
    }

    impl Meter {
        pub(super) fn new() -> Self {
            Self { origin: gap(), seen: AtomicU64::new(0) }
        }

        /// Only grows. A pause of this thread between the two readings makes the gap look too small, never too
        /// large, and the next reading makes up for it. Less than a millisecond is the noise of two readings; without
        /// it, paused time is repeatable to the nanosecond.
        pub(super) fn read(&self) -> Duration {
            let now = gap().saturating_sub(self.origin) / NOISE * NOISE;
            Duration::from_nanos(self.seen.fetch_max(now, Ordering::Relaxed).max(now))
        }
    }

    fn gap() -> u64 {
        let boot = nanos(ClockId::Boottime);
        boot.saturating_sub(nanos(ClockId::Monotonic))
    }

    fn nanos(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    }
}

/// Runs `future` until `deadline`; `None` when the time was up first.
pub(crate) async fn until<F: Future>(clock: &dyn Clock, deadline: Instant, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = clock.sleep_until(deadline) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_paused_time() {
        let clock = SystemClock::new();
        let start = clock.now();
        clock.sleep_until(start + Duration::from_hours(10)).await;
        let slept = clock.now().since(start);
        assert!(slept >= Duration::from_hours(10) && slept < Duration::from_hours(10) + LOOK_EVERY);
    }
}
