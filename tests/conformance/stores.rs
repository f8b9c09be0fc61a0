//! The stores, and the trials made of each.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use libtest_mimic::Trial;
use quorate::backends::Memory;
use quorate::kv::chaos::{Chaos, ChaosControl, Fault};
use quorate::kv::conformance::{self, Case, Subject};
use quorate::kv::counting::{Counting, Operation};
use quorate::kv::{Coordinator, Key, Namespaced, Result, Store, Txn};

use crate::hooks::{Honest, Hook};
use crate::workers::workers;

/// Every store that the suite is run over, and the hooks it offers. One line adds one.
fn stores() -> Vec<(&'static str, Time, &'static [Hook], Factory)> {
    vec![
        ("memory", Time::Paused, &[Hook::Disturb], || {
            over(Memory::new(), |memory| Ok(Arc::new(memory.client())))
        }),
        ("boxed", Time::Paused, &[Hook::Disturb], || {
            over(Memory::new(), |memory| Ok(Arc::new(Box::new(memory.client()) as Box<dyn Coordinator>)))
        }),
        ("shared", Time::Paused, &[Hook::Disturb], || {
            over(Memory::new(), |memory| Ok(Arc::new(Arc::new(memory.client()) as Arc<dyn Coordinator>)))
        }),
        ("namespaced", Time::Paused, &[Hook::Disturb], || {
            let memory = Memory::new();
            // What stands around the namespace must not show inside it, nor at its root.
            let around =
                ["team", "team/ä b", "team/ä bc/x", "x"].into_iter().filter_map(|text| Key::new(text).ok());
            let put = memory.commit(around.fold(Txn::new(), |txn, key| txn.put(&key, "around")));
            drop(put.now_or_never());
            over(memory, |memory| Ok(Arc::new(Namespaced::new(memory.client(), Key::new("team/ä b")?))))
        }),
        ("counting", Time::Paused, &[Hook::Disturb], || {
            let memory = Memory::new();
            let store = Counting::new(memory.clone());
            over(memory, move |_| Ok(Arc::new(store.clone())))
        }),
        ("quiet", Time::Paused, &[Hook::Disturb], || {
            let memory = Memory::new();
            let (store, _) = Chaos::new(memory.clone());
            over(memory, move |_| Ok(Arc::new(store.clone())))
        }),
        ("yielding", Time::Paused, &[Hook::Disturb], || {
            let memory = Memory::new();
            let (store, control) = Chaos::new(memory.clone());
            control.yields(3);
            over(memory, move |_| Ok(Arc::new(store.clone())))
        }),
        ("troubled", Time::Paused, &[Hook::Disturb], || {
            let (store, control) = Chaos::new(Memory::new());
            troubled(move || Ok(Arc::new(store.clone())), move || trouble(&control))
        }),
        #[cfg(feature = "embedded")]
        ("embedded", Time::Real, &[Hook::Restart], || Arc::new(crate::embedded::OneProcess::new())),
        #[cfg(feature = "embedded")]
        ("embedded_processes", Time::Real, &[], || Arc::new(crate::embedded::ManyProcesses::new())),
        // This store lives in its process, so all clients are of the same one.
        ("process", Time::Real, &[], || workers("memory:", true)),
    ]
}

/// Makes a store, empty and alone.
type Factory = fn() -> Arc<dyn Subject>;

/// Whose time a store lives by.
#[derive(Clone, Copy)]
pub(crate) enum Time {
    /// Tokio's, which is paused and leaps to the next timer.
    Paused,
    /// The machine's.
    Real,
}

/// One trial for each case over each store.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    stores().into_iter().flat_map(|(store, time, offers, factory)| {
        conformance::cases().into_iter().map(move |case| trial(store, time, offers, case, factory))
    })
}

/// A trial of one case over the store that `factory` makes, inside the runtime of the trial. It is ignored where the
/// store does not offer what the case asks for, and fails where that is so and nobody said it.
pub(crate) fn trial<S: ?Sized + Send + Sync + 'static>(
    store: &str,
    time: Time,
    offers: &[Hook],
    case: Case<S>,
    factory: impl FnOnce() -> Arc<dyn Subject<S>> + Send + 'static,
) -> Trial {
    let lacking = Hook::of(case.name).filter(|hook| !offers.contains(hook));
    let trial = Trial::test(format!("{store}::line{:02}_{}", case.line, case.name), move || {
        runtime(time)?.block_on(async {
            let subject = Honest::new(factory());
            case.run(Arc::clone(&subject) as Arc<dyn Subject<S>>).await?;
            if subject.has_refused() {
                return Err("it asked for a hook that the store does not offer, and shows nothing".into());
            }
            Ok(())
        })
    });
    match lacking {
        Some(hook) => trial.with_kind(hook.lacking()).with_ignored_flag(true),
        None => trial,
    }
}

pub(crate) fn runtime(time: Time) -> std::io::Result<tokio::runtime::Runtime> {
    let paused = matches!(time, Time::Paused);
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build()
}

/// One request of each kind that changes something meets each way to fail, and every watch is cut.
fn trouble(control: &ChaosControl) {
    for fault in [Fault::Before, Fault::After, Fault::Lost, Fault::Late] {
        control.next(Operation::Commit, fault);
        control.next(Operation::Enter, fault);
    }
    control.cut_watches();
}

type Open = Box<dyn Fn() -> Result<Arc<dyn Coordinator>> + Send + Sync>;

/// A subject whose clients this opens of `memory`; the trouble is that all watches of it are cut.
fn over(
    memory: Memory,
    open: impl Fn(&Memory) -> Result<Arc<dyn Coordinator>> + Send + Sync + 'static,
) -> Arc<dyn Subject> {
    let cut = memory.clone();
    troubled(move || open(&memory), move || cut.cut_watches())
}

/// A subject whose clients this opens, and that can be troubled.
fn troubled(
    open: impl Fn() -> Result<Arc<dyn Coordinator>> + Send + Sync + 'static,
    trouble: impl Fn() + Send + Sync + 'static,
) -> Arc<dyn Subject> {
    Arc::new(Opened { open: Box::new(open), trouble: Box::new(trouble) })
}

struct Opened {
    open: Open,
    trouble: Box<dyn Fn() + Send + Sync>,
}

#[async_trait]
impl Subject for Opened {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        (self.open)()
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }

    async fn disturb(&self) -> Result<bool> {
        (self.trouble)();
        Ok(true)
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened")
    }
}
