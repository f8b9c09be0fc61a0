//! What is measured.

mod kv;
mod lock;

use futures_util::future::LocalBoxFuture;

use crate::arena::Arena;
use crate::contest::Contestant;

/// One thing to measure, and how well quorate has to do there.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) bar: Bar,
    /// The same where there is no server, and no protocol whose cost the ratio would be about.
    pub(crate) embedded: Bar,
    pub(crate) rounds: usize,
    /// Who takes part at this place; nobody where there is nothing to measure.
    pub(crate) contestants: for<'a> fn(&'a Arena, Scale) -> LocalBoxFuture<'a, Vec<Contestant>>,
}

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Usual,
    /// Enough to see that it works.
    Quick,
}

impl Scale {
    /// So many, or a tenth of it.
    pub(crate) fn of(self, usual: usize) -> usize {
        match self {
            Self::Usual => usual,
            Self::Quick => usual.div_ceil(10),
        }
    }
}

/// How well is well enough. Ratios are of quorate's median to the floor's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// The ratio is at most this.
    AtMost(f64),
    /// The ratio is at least this: more is better.
    AtLeast(f64),
    /// Quorate's own value is at most this.
    Below(f64),
    /// There is none.
    None,
}

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Metric> {
    [lock::metrics(), kv::metrics()].into_iter().flatten().collect()
}
