//! The embedded store as a subject: one file, a handle for each client.

use std::sync::Arc;

use async_trait::async_trait;
use quorate::backends::Embedded;
use quorate::kv::conformance::{self, Subject};
use quorate::kv::{Coordinator, Key, Result};
use tempfile::TempDir;

/// One file of its own, which goes with it; every client is a handle of its own in this process.
#[derive(Debug)]
pub(crate) struct OneProcess {
    directory: TempDir,
}

impl OneProcess {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }
}

#[async_trait]
impl Subject for OneProcess {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        Ok(Arc::new(Embedded::open(self.directory.path().join("store.db")).await?))
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }
}
