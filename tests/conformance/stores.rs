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

use crate::workers::workers;

/// Every store that the suite is run over. One line adds one.
fn stores() -> Vec<(&'static str, Time, Factory)> {
    vec![
        ("memory", Time::Paused, || {
            let memory = Memory::new();
            subject(move || Ok(Arc::new(memory.client())))
        }),
        ("boxed", Time::Paused, || {
            let memory = Memory::new();
            subject(move || Ok(Arc::new(Box::new(memory.client()) as Box<dyn Coordinator>)))
        }),
        ("shared", Time::Paused, || {
            let memory = Memory::new();
            subject(move || Ok(Arc::new(Arc::new(memory.client()) as Arc<dyn Coordinator>)))
        }),
        ("namespaced", Time::Paused, || {
            let memory = Memory::new();
            // What stands around the namespace must not show inside it, nor at its root.
            let around =
                ["team", "team/ä b", "team/ä bc/x", "x"].into_iter().filter_map(|text| Key::new(text).ok());
            let put = memory.commit(around.fold(Txn::new(), |txn, key| txn.put(&key, "around")));
            drop(put.now_or_never());
            subject(move || Ok(Arc::new(Namespaced::new(memory.client(), Key::new("team/ä b")?))))
        }),
        ("counting", Time::Paused, || {
            let store = Counting::new(Memory::new());
            subject(move || Ok(Arc::new(store.clone())))
        }),
        ("quiet", Time::Paused, || {
            let (store, _) = Chaos::new(Memory::new());
            subject(move || Ok(Arc::new(store.clone())))
        }),
        ("yielding", Time::Paused, || {
            let (store, control) = Chaos::new(Memory::new());
            control.yields(3);
            subject(move || Ok(Arc::new(store.clone())))
        }),
        ("troubled", Time::Paused, || {
            let (store, control) = Chaos::new(Memory::new());
            troubled(move || Ok(Arc::new(store.clone())), move || trouble(&control))
        }),
        #[cfg(feature = "embedded")]
        ("embedded", Time::Real, || Arc::new(crate::embedded::OneProcess::new())),
        #[cfg(feature = "embedded")]
        ("embedded_processes", Time::Real, || Arc::new(crate::embedded::ManyProcesses::new())),
        // This store lives in its process, so all clients are of the same one.
        ("process", Time::Real, || workers("memory:", true)),
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
    stores().into_iter().flat_map(|(store, time, factory)| {
        conformance::cases().into_iter().map(move |case| trial(store, time, case, factory))
    })
}

/// A trial of one case over the store that `factory` makes, inside the runtime of the trial.
pub(crate) fn trial<S: ?Sized + Send + Sync + 'static>(
    store: &str,
    time: Time,
    case: Case<S>,
    factory: impl FnOnce() -> Arc<dyn Subject<S>> + Send + 'static,
) -> Trial {
    Trial::test(format!("{store}::line{:02}_{}", case.line, case.name), move || {
        Ok(runtime(time)?.block_on(async { case.run(factory()).await })?)
    })
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

/// A subject whose clients this opens.
fn subject(open: impl Fn() -> Result<Arc<dyn Coordinator>> + Send + Sync + 'static) -> Arc<dyn Subject> {
    Arc::new(Opened { open: Box::new(open), trouble: None })
}

/// A subject that can also be troubled.
fn troubled(
    open: impl Fn() -> Result<Arc<dyn Coordinator>> + Send + Sync + 'static,
    trouble: impl Fn() + Send + Sync + 'static,
) -> Arc<dyn Subject> {
    Arc::new(Opened { open: Box::new(open), trouble: Some(Box::new(trouble)) })
}

struct Opened {
    open: Open,
    trouble: Option<Box<dyn Fn() + Send + Sync>>,
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
        Ok(self.trouble.as_ref().map(|trouble| trouble()).is_some())
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened")
    }
}
