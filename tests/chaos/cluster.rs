//! What the trouble needs to know of a backend's servers.

use std::net::SocketAddr;

use async_trait::async_trait;

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

/// Running servers. Dropping it ends them.
#[async_trait(?Send)]
pub(crate) trait Cluster {
    /// What they are, for people.
    fn describe(&self) -> String;

    /// Where clients find each member.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// What to connect to through these addresses, one for each member.
    fn url_via(&self, addresses: &[SocketAddr]) -> String;

    /// The member that leads; waits until one does.
    async fn leader(&self) -> usize;

    /// SIGKILL.
    fn kill(&mut self, member: usize);

    /// Starts it with its data, and waits until it serves.
    async fn restart(&mut self, member: usize);

    /// SIGSTOP.
    fn pause(&mut self, member: usize);

    /// SIGCONT.
    fn resume(&mut self, member: usize);

    /// Every change since the beginning, in the store's own order, from the store and not from our client of it.
    async fn history(&self) -> Vec<Change>;

    /// What a member printed.
    fn log(&self, member: usize) -> String;
}
