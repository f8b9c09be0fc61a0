//! Which of many.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Instance;
use crate::kv;

/// Chooses one of the instances that should be given work. It must be quick: it runs for every call.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// The index of the chosen one; `None` when none will do. `among` is sorted by id and may be empty.
    fn choose(&self, among: &[Arc<Instance>]) -> Option<usize>;
}

/// One after the other, in the order of their ids. While they stay the same, each is picked equally often.
#[derive(Debug, Default)]
pub struct RoundRobin(AtomicUsize);

impl RoundRobin {
    /// Begins with the first.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }
}

impl Strategy for RoundRobin {
    fn choose(&self, among: &[Arc<Instance>]) -> Option<usize> {
        self.0.fetch_add(1, Ordering::Relaxed).checked_rem(among.len())
    }
}

/// Any, all equally likely.
#[derive(Clone, Debug)]
pub struct Random(kv::Random);

impl Random {
    /// Takes chance from here.
    #[must_use]
    pub fn new(random: kv::Random) -> Self {
        Self(random)
    }
}

impl Strategy for Random {
    fn choose(&self, among: &[Arc<Instance>]) -> Option<usize> {
        (!among.is_empty()).then(|| self.0.below(0..among.len()))
    }
}
