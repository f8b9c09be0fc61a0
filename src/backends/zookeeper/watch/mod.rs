//! Watches: a snapshot, then a look at whatever the server says has changed.
//!
//! The server tells which nodes changed and not how, so values that are soon overwritten may be left out.

mod one;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};

use super::ensemble::Ensemble;
use crate::kv::{Event, Result, Scope};

/// How long a disturbed watch waits before it looks again.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) fn watch(ensemble: Arc<Ensemble>, scope: Scope) -> BoxStream<'static, Result<Event>> {
    match scope {
        Scope::Key(key) => unfold(one::Watching::new(ensemble, key), one::Watching::step).boxed(),
        Scope::Prefix(prefix) => unfold(tree::Watching::new(ensemble, prefix), tree::Watching::step).boxed(),
    }
}
