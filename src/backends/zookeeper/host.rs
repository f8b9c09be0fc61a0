//! The thread that a store's connections live on, so that no runtime of the user's can hold up a heartbeat, or take the
//! connections along when it ends.

use std::pin::pin;
use std::task::Poll;

use spawns_core::{Spawn, Task};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::kv::{Error, ErrorKind, Outcome, Result};

/// A running thread; it ends when this is dropped, and with it all that runs on it.
#[derive(Debug)]
pub(super) struct Host {
    runtime: Handle,
    _ends: DropGuard,
}

impl Host {
    pub(super) fn start() -> Result<Self> {
        let failed = |error: std::io::Error| {
            let why = "the thread that the connections live on could not be started";
            Error::new(ErrorKind::Internal, Outcome::NotApplied, why).because(error)
        };
        let runtime = Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let ends = CancellationToken::new();
        let ended = ends.clone();
        let thread = std::thread::Builder::new().name("quorate-zookeeper".into());
        thread.spawn(move || runtime.block_on(ended.cancelled())).map_err(failed)?;
        Ok(Self { runtime: handle, _ends: ends.drop_guard() })
    }

    /// Runs something there. It ends with what is returned.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Running<T> {
        Running(self.runtime.spawn(here(work)))
    }
}

/// Something that runs on the thread, until it is done or this is dropped.
#[derive(Debug)]
pub(super) struct Running<T>(JoinHandle<T>);

impl<T> Running<T> {
    /// What came of it; `None` when it could not end.
    pub(super) async fn done(mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lets what the client spawns while `work` is polled run where that runs.
async fn here<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        let _scope = spawns_core::enter(&Here);
        match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

struct Here;

impl Spawn for Here {
    fn spawn(&self, task: Task) {
        let Task { future, .. } = task;
        tokio::spawn(Box::into_pin(future));
    }
}
