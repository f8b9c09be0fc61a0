//! The hand that makes the trouble.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::super::Random;
use super::super::counting::Operation;

/// What happens to a request. To a watch, a delay happens as such, before the next event; all else cuts it: an error
/// in the stream, then a fresh snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not sent, and the caller is told so: the outcome is `NotApplied`.
    Before,
    /// It is applied, but the reply is lost: the outcome is `Unknown`.
    After,
    /// It is lost on its way: the outcome is `Unknown`, though it never takes effect.
    Lost,
    /// The caller is told that the outcome is `Unknown`; it takes effect only when the next request of any client
    /// is made, or at [`Chaos::settle`](super::Chaos::settle).
    Late,
    /// It is sent twice, the second time right behind the first; the caller is given the first answer.
    Twice,
    /// It takes longer, on the way there and on the way back.
    Delay {
        /// How much longer until it takes effect.
        before: Duration,
        /// How much longer until the reply.
        after: Duration,
    },
}

/// Says which trouble comes when. Clones are handles on the same trouble.
#[derive(Clone)]
pub struct ChaosControl(Arc<Shared>);

struct Shared {
    plan: Mutex<Plan>,
    cuts: watch::Sender<u64>,
    random: Random,
}

#[derive(Default)]
struct Plan {
    next: BTreeMap<Operation, VecDeque<Option<Fault>>>,
    chance: BTreeMap<Operation, Vec<(Fault, u32)>>,
    struck: Vec<(Operation, Fault)>,
    yields: usize,
}

impl ChaosControl {
    pub(super) fn new(random: Random) -> Self {
        Self(Arc::new(Shared { plan: Mutex::default(), cuts: watch::Sender::new(0), random }))
    }

    /// The next request of this kind meets this fault; called again, the one after it.
    pub fn next(&self, operation: Operation, fault: Fault) {
        self.plan().next.entry(operation).or_default().push_back(Some(fault));
    }

    /// Lets this many requests of this kind pass unharmed before the next planned fault.
    pub fn pass(&self, operation: Operation, count: usize) {
        self.plan().next.entry(operation).or_default().extend(std::iter::repeat_n(None, count));
    }

    /// One in `of` requests of this kind meets this fault, by chance, where nothing else is planned; 0 for none.
    pub fn chance(&self, operation: Operation, fault: Fault, of: u32) {
        self.plan().chance.entry(operation).or_default().push((fault, of));
    }

    /// Every request yields this often before it is sent and again before it is answered, so that a test that
    /// drops futures has points to drop them at.
    pub fn yields(&self, count: usize) {
        self.plan().yields = count;
    }

    /// Cuts every watch that is open: an error in the stream, then a fresh snapshot.
    pub fn cut_watches(&self) {
        self.0.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// No more trouble than what is under way. Late requests still arrive.
    pub fn calm(&self) {
        let mut plan = self.plan();
        plan.next.clear();
        plan.chance.clear();
        plan.yields = 0;
    }

    /// The faults that were met so far, in order: a test that injects one makes sure that it struck.
    #[must_use]
    pub fn struck(&self) -> Vec<(Operation, Fault)> {
        self.plan().struck.clone()
    }

    pub(super) fn cuts(&self) -> watch::Receiver<u64> {
        self.0.cuts.subscribe()
    }

    pub(super) fn yield_count(&self) -> usize {
        self.plan().yields
    }

    /// What the request that is about to be sent meets.
    pub(super) fn draw(&self, operation: Operation) -> Option<Fault> {
        let mut plan = self.plan();
        let planned = plan.next.get_mut(&operation).and_then(VecDeque::pop_front);
        let fault = planned.unwrap_or_else(|| {
            let chances = plan.chance.get(&operation)?;
            chances.iter().find(|(_, of)| self.0.random.one_in(*of)).map(|(fault, _)| *fault)
        });
        plan.struck.extend(fault.map(|fault| (operation, fault)));
        fault
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ChaosControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan();
        f.debug_struct("ChaosControl")
            .field("next", &plan.next)
            .field("chance", &plan.chance)
            .field("struck", &plan.struck.len())
            .finish_non_exhaustive()
    }
}
