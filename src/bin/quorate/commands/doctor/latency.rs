//! How long something takes, of many times.

use std::time::Duration;

/// What was timed, and what came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) operation: &'static str,
    pub(super) min: Duration,
    pub(super) median: Duration,
    pub(super) p99: Duration,
}

impl Latency {
    /// Of at least one time.
    pub(super) fn of(operation: &'static str, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        // The smallest that so many hundredths of all do not exceed.
        let percentile = |hundredths: usize| {
            let rank = (times.len() * hundredths).div_ceil(100);
            times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { operation, min: percentile(0), median: percentile(50), p99: percentile(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let millis = |times: &[u64]| {
            let times = times.iter().copied().map(Duration::from_millis).collect();
            let latency = Latency::of("x", times);
            [latency.min, latency.median, latency.p99].map(|time| time.as_millis())
        };
        assert_eq!(millis(&[7]), [7, 7, 7]);
        assert_eq!(millis(&[3, 1, 2]), [1, 2, 3]);
        assert_eq!(millis(&(1..=200).rev().collect::<Vec<_>>()), [1, 100, 198]);
    }
}
