//! Stores that processes meet in.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::servers::Cluster;
use crate::shared::{Shared, fresh_namespace};

/// A store that nobody else uses, or a part of one.
pub(crate) struct Place {
    pub(crate) url: String,
    /// The shortest life of a session there, in seconds.
    pub(crate) ttl: u32,
    /// How long after that another must lead: what the store promises, and half a second for whatever else runs here.
    slack: Duration,
    directory: TempDir,
    /// What writers take turns by, if they do so by themselves.
    gate: Option<PathBuf>,
}

impl Place {
    /// A file.
    pub(crate) fn embedded() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = crate::url(directory.path());
        let gate = Some(directory.path().join("store.db-lock"));
        Self { url, ttl: 1, slack: Duration::from_secs(1), directory, gate }
    }

    /// A namespace of a server that the trials share.
    #[allow(dead_code, reason = "without the feature of a server there is none")]
    pub(crate) fn served(server: &Shared<dyn Cluster>, ttl: u32, slack: Duration) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { url: server.cluster.url(&fresh_namespace()), ttl, slack, directory, gate: None }
    }

    /// How long a failover from a crash may take.
    pub(crate) fn failover(&self) -> Duration {
        Duration::from_secs(self.ttl.into()) + self.slack
    }

    /// How often to try a failover: twenty times, or as often as there may be time for.
    pub(crate) fn rounds(&self) -> u64 {
        (80 / self.failover().as_secs()).min(20)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whether somebody could write now. A process that is stopped in the middle of a write keeps all others from it.
    pub(crate) fn is_writable(&self) -> bool {
        let Some(gate) = &self.gate else { return true };
        let file = File::options().read(true).write(true).open(gate).expect("the store is there");
        file.try_lock().is_ok()
    }
}
