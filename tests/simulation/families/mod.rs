//! What the processes of a world do, and what must hold while they do it and afterwards.

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
    pub(crate) run: fn(u64, Climate) -> BoxFuture<'static, History>,
}

pub(crate) fn all() -> Vec<Family> {
    vec![
        Family {
            name: "locks_mild",
            climate: Climate::Mild,
            run: |seed, climate| Box::pin(locks::run(seed, climate)),
        },
        Family {
            name: "locks_wild",
            climate: Climate::Wild,
            run: |seed, climate| Box::pin(locks::run(seed, climate)),
        },
        // No sessions are at stake here, and no margins: the wild clocks are trouble enough, and one climate will do.
        Family {
            name: "registers_wild",
            climate: Climate::Wild,
            run: |seed, climate| Box::pin(registers::run(seed, climate)),
        },
    ]
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
