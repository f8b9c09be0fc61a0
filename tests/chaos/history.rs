//! What the judge needs to know of a store: all that ever happened to its keys, told by the servers themselves.

use std::time::Duration;

use async_trait::async_trait;

use crate::servers::Cluster;

/// One change, of one key.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: String,
    /// What stands there from now on, if anything.
    pub(crate) now: Option<Stands>,
}

#[derive(Clone, Debug)]
pub(crate) struct Stands {
    pub(crate) fence: u64,
    pub(crate) value: String,
}

/// Servers that tell every change.
#[async_trait(?Send)]
pub(crate) trait Historian: Cluster {
    /// How long sessions are to last: as short as the servers let them, so that there are many losses.
    const TTL: Duration = Duration::from_secs(2);

    /// Begins to take notes, where the servers keep no history themselves. Nothing was written so far. Whatever takes
    /// them ends with the cluster, at the latest.
    async fn record(&mut self) {}

    /// Every change since the beginning, in the store's own order, from the store and not from our client of it. All is
    /// well by now, and nobody writes any more.
    async fn history(&mut self) -> Vec<Change>;
}
