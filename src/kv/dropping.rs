//! For tests: drops a future at each of its awaits in turn.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Consistency, Key, Store};

/// Runs what `make` makes again and again, dropping it after 0, 1, 2 … polls, until one run gets to its end; `check`
/// looks after each drop. Returns how many awaits there were.
pub(crate) async fn at_every_await<F: Future>(
    mut make: impl AsyncFnMut(usize) -> F,
    mut check: impl AsyncFnMut(usize),
) -> usize {
    for polls in 0.. {
        let future = make(polls).await;
        let ended = {
            let future = pin!(future);
            Dropped { future, polls }.await
        };
        check(polls).await;
        if ended {
            return polls;
        }
        assert!(polls < 500, "it never ends");
    }
    unreachable!("the loop returns")
}

struct Dropped<'a, F> {
    future: Pin<&'a mut F>,
    polls: usize,
}

impl<F: Future> Future for Dropped<'_, F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let Some(left) = self.polls.checked_sub(1) else { return Poll::Ready(false) };
        self.polls = left;
        self.future.as_mut().poll(context).map(|_| true)
    }
}

/// Waits until nothing stands below `prefix`, and fails if that takes longer than `patience`.
pub(crate) async fn empties(store: &impl Store, prefix: &Key, patience: Duration, what: &str) {
    let emptied = async {
        while !store.list(prefix, Consistency::Linearizable).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(patience, emptied).await.is_ok(), "{what}: something was left behind");
}
