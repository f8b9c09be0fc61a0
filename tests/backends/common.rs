//! What the trials on all servers have in common.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate::connect::Schemes;
use quorate::kv::{Coordinator, Key};

/// A trial on a runtime of its own.
pub(crate) fn trial<F: Future<Output = ()>>(
    name: String,
    test: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test());
        Ok(())
    })
}

pub(crate) async fn connect(url: &str) -> Arc<dyn Coordinator> {
    Schemes::default().connect(url).await.expect("it lets us in")
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

/// Fails when it takes longer.
pub(crate) async fn within<F: Future>(what: &str, patience: Duration, future: F) -> F::Output {
    tokio::time::timeout(patience, future).await.unwrap_or_else(|_| panic!("{what}: not within {patience:?}"))
}
