//! The kinds of work a contestant does in a slice.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use crate::contest::{Slice, Work, micros};

struct Each<O> {
    operations: usize,
    operation: O,
}

impl<O: AsyncFnMut() -> Duration> Work for Each<O> {
    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let mut values = Vec::with_capacity(self.operations);
            for _ in 0..self.operations {
                values.push(micros((self.operation)().await));
            }
            Slice { values, operations: self.operations }
        }
        .boxed_local()
    }
}

/// Operations one after the other, each of which says how long it took.
pub(crate) fn reported(operations: usize, operation: impl AsyncFnMut() -> Duration) -> impl Work {
    Each { operations, operation }
}

/// Operations one after the other, each of which is timed.
pub(crate) fn timed(operations: usize, mut operation: impl AsyncFnMut()) -> impl Work {
    reported(operations, async move || {
        let began = Instant::now();
        operation().await;
        began.elapsed()
    })
}

struct Prepared<F, W> {
    first: F,
    work: W,
}

impl<F: AsyncFnMut(), W: Work> Work for Prepared<F, W> {
    fn prepare(&mut self) -> LocalBoxFuture<'_, ()> {
        async {
            (self.first)().await;
            self.work.prepare().await;
        }
        .boxed_local()
    }

    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        self.work.slice()
    }
}

/// The same work, before each slice of which something else is done first.
pub(crate) fn prepared(first: impl AsyncFnMut(), work: impl Work) -> impl Work {
    Prepared { first, work }
}

struct Abreast<O> {
    operations: usize,
    operation: O,
}

/// How many are under way at once.
pub(crate) const ABREAST: usize = 64;

impl<O: AsyncFn(usize)> Work for Abreast<O> {
    #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let began = Instant::now();
            let all = stream::iter(0..self.operations).map(|nth| (self.operation)(nth));
            all.buffer_unordered(ABREAST).collect::<()>().await;
            let rate = self.operations as f64 / began.elapsed().as_secs_f64();
            Slice { values: vec![rate], operations: self.operations }
        }
        .boxed_local()
    }
}

/// Operations so many abreast, in operations a second.
pub(crate) fn abreast(operations: usize, operation: impl AsyncFn(usize)) -> impl Work {
    Abreast { operations, operation }
}

struct Many<O> {
    operations: usize,
    operation: O,
}

impl<O: FnMut()> Work for Many<O> {
    #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let began = Instant::now();
            (0..self.operations).for_each(|_| (self.operation)());
            let each = began.elapsed().as_secs_f64() * 1e9 / self.operations as f64;
            Slice { values: vec![each], operations: self.operations }
        }
        .boxed_local()
    }
}

/// Operations too short to be timed one by one, in nanoseconds.
pub(crate) fn many(operations: usize, operation: impl FnMut()) -> impl Work {
    Many { operations, operation }
}

/// How long it must have been quiet at least, so that an effect is waited for by then.
const QUIET: Duration = Duration::from_millis(1);

/// How long after the beginning of a cause its effect is there. It begins when it has been quiet for so long.
pub(crate) async fn after(quiet: Duration, cause: impl Future, effect: impl Future) -> Duration {
    let effect = async {
        effect.await;
        Instant::now()
    };
    let cause = async {
        sleep(quiet.max(QUIET)).await;
        let began = Instant::now();
        cause.await;
        began
    };
    let (there, began) = tokio::join!(effect, cause);
    there.checked_duration_since(began).expect("nobody is told before it happens")
}
