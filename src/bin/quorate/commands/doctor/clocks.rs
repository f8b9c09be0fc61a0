//! Time: what the clocks of this host show, and whether renewals come in time.

use std::time::Duration;

/// How long the machine was suspended since it started: the boot clock counts that, the monotonic one does not.
#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "other systems do not tell")]
pub(super) fn suspended() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| {
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    // In this order, so that a pause between the two does not look like a suspend.
    let (boot, monotonic) = (read(ClockId::Boottime), read(ClockId::Monotonic));
    let millis = boot.saturating_sub(monotonic).as_millis();
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// Not told.
#[cfg(not(target_os = "linux"))]
pub(super) fn suspended() -> Option<Duration> {
    None
}

/// What a session of this client lives by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewals {
    pub(super) ttl: Duration,
    pub(super) margin: Duration,
    /// What a renewal took at worst, but for one in a hundred.
    pub(super) slow: Duration,
}

impl Renewals {
    /// The time from one to the next.
    pub(super) fn every(&self) -> Duration {
        self.ttl / 3
    }

    /// How long the library waits for one before it tries again.
    pub(super) fn patience(&self) -> Duration {
        self.ttl / 6
    }

    pub(super) fn are_in_time(&self) -> bool {
        self.slow < self.patience()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_that_the_library_gives_up_are_too_slow() {
        let seconds = Duration::from_secs;
        let renewals = |slow| Renewals { ttl: seconds(15), margin: seconds(2), slow };
        assert!(renewals(seconds(2)).are_in_time());
        assert!(!renewals(seconds(3)).are_in_time());
    }
}
