//! What is measured.

mod command;
mod elsewhere;
mod hand_over;
mod kv;
mod lock;
mod members;
mod registrations;
mod watches;

use futures_util::future::LocalBoxFuture;

pub(crate) use self::command::bare;
pub(crate) use self::registrations::{instance, registered};
use crate::arena::Arena;
use crate::contest::Contestant;

/// One thing to measure, and how well quorate has to do there.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// What is asked for at this store.
    pub(crate) bar: fn(&str) -> Bar,
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

/// How many times faster than every peer it has to be.
pub(crate) fn lead(metric: &str) -> f64 {
    if metric.starts_with("hand-over") { 2.0 } else { 1.0 }
}

/// Whether it is about how one holder follows another.
pub(crate) fn is_hand_over(metric: &str) -> bool {
    metric.starts_with("hand-over") || metric == "resign-lead"
}

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Metric> {
    let all = [
        lock::metrics(),
        hand_over::metrics(),
        kv::metrics(),
        watches::metrics(),
        registrations::metrics(),
        members::metrics(),
        elsewhere::metrics(),
        command::metrics(),
    ];
    all.into_iter().flatten().collect()
}
