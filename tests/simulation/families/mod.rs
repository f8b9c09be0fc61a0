//! What the processes of a world do, and what must hold while they do it and afterwards.

pub(crate) mod discovery;
pub(crate) mod elections;
pub(crate) mod locks;
mod recorded;
pub(crate) mod registers;

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use crate::world::{Climate, History};

/// A family of scenarios: of a seed it makes a history.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) climate: Climate,
    pub(crate) run: Run,
}

pub(crate) fn all() -> Vec<Family> {
    vec![
        family("locks_mild", Climate::Mild, |seed, climate| Box::pin(locks::run(seed, climate))),
        family("locks_wiped", Climate::Wiped, |seed, climate| Box::pin(locks::run(seed, climate))),
        family("locks_wild", Climate::Wild, |seed, climate| Box::pin(locks::run(seed, climate))),
        family("elections_mild", Climate::Mild, |seed, climate| Box::pin(elections::run(seed, climate))),
        family("elections_wild", Climate::Wild, |seed, climate| Box::pin(elections::run(seed, climate))),
        family("discovery_mild", Climate::Mild, |seed, climate| Box::pin(discovery::run(seed, climate))),
        family("discovery_wild", Climate::Wild, |seed, climate| Box::pin(discovery::run(seed, climate))),
        // No sessions are at stake here, and no margins: the wild clocks are trouble enough, and one climate will do.
        family("registers", Climate::Wild, |seed, climate| Box::pin(registers::run(seed, climate))),
    ]
}

type Run = fn(u64, Climate) -> BoxFuture<'static, History>;

fn family(name: &'static str, climate: Climate, run: Run) -> Family {
    Family { name, climate, run }
}

/// Polls a future so often at most, and is done with it then, whether it is or not.
pub(crate) struct Dropping<F> {
    pub(crate) future: Pin<Box<F>>,
    pub(crate) polls: usize,
}

impl<F: Future> Future for Dropping<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(left) = self.polls.checked_sub(1) else { return Poll::Ready(None) };
        self.polls = left;
        self.future.as_mut().poll(context).map(Some)
    }
}
