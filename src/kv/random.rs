//! Chance: one source that can be seeded, so that a run can be repeated.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where tickets, ids and jitter come from. Clones share one sequence.
#[derive(Clone)]
pub struct Random(Arc<Mutex<fastrand::Rng>>);

impl Random {
    /// Seeded by the operating system.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that unrepeatable chance comes from")]
    pub fn from_os() -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::new())))
    }

    /// The same sequence every time.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// 128 bits, enough to be unique.
    #[must_use]
    pub fn nonce(&self) -> u128 {
        self.with(|rng| rng.u128(..))
    }

    /// A number in `range`, which must not be empty; its start if it is.
    #[must_use]
    pub fn below(&self, range: Range<usize>) -> usize {
        if range.is_empty() { range.start } else { self.with(|rng| rng.usize(range)) }
    }

    /// True once in `of` times on average; never for 0.
    #[must_use]
    pub fn one_in(&self, of: u32) -> bool {
        of > 0 && self.with(|rng| rng.u32(0..of)) == 0
    }

    /// Between half of `duration` and all of it.
    #[must_use]
    pub fn jitter(&self, duration: Duration) -> Duration {
        duration.mul_f64(0.5 + self.with(fastrand::Rng::f64) / 2.0)
    }

    fn with<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
