//! The stores, and the trials made of each.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use libtest_mimic::Trial;
use quorate::backends::Memory;
use quorate::kv::conformance::{self, Subject};
use quorate::kv::{Coordinator, Key, Namespaced, Result};

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
            subject(move || Ok(Arc::new(Namespaced::new(memory.client(), Key::new("team/ä b")?))))
        }),
    ]
}

/// Makes a store, empty and alone.
type Factory = fn() -> Arc<dyn Subject>;

/// Whose time a store lives by.
#[derive(Clone, Copy)]
enum Time {
    /// Tokio's, which is paused and leaps to the next timer.
    Paused,
    /// The machine's.
    #[expect(dead_code, reason = "for stores outside this process")]
    Real,
}

/// One trial for each case over each store.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    stores().into_iter().flat_map(|(store, time, factory)| {
        conformance::cases().into_iter().map(move |case| {
            Trial::test(format!("{store}::line{:02}_{}", case.line, case.name), move || {
                let runtime = runtime(time)?;
                Ok(runtime.block_on(async { case.run(factory()).await })?)
            })
        })
    })
}

fn runtime(time: Time) -> std::io::Result<tokio::runtime::Runtime> {
    let paused = matches!(time, Time::Paused);
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build()
}

type Open = dyn Fn() -> Result<Arc<dyn Coordinator>> + Send + Sync;

/// A subject whose clients this opens.
pub(crate) fn subject(
    open: impl Fn() -> Result<Arc<dyn Coordinator>> + Send + Sync + 'static,
) -> Arc<dyn Subject> {
    Arc::new(Opened(Box::new(open)))
}

struct Opened(Box<Open>);

#[async_trait]
impl Subject for Opened {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        (self.0)()
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened")
    }
}
