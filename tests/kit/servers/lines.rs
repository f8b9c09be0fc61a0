//! The lines between the members of a cluster, each a proxy, so that one can be cut off from the others and yet serve
//! clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Members;
use crate::proxy::Proxy;

/// A line each way between any two members, by the numbers of who calls and who is called.
#[derive(Debug)]
pub(crate) struct Lines(BTreeMap<(u16, u16), Proxy>);

impl Lines {
    /// Lines to the first address at which members find each other. They end with the runtime that this runs on.
    pub(super) async fn between(members: &Members) -> Self {
        let mut lines = BTreeMap::new();
        for to in members.iter() {
            for from in members.iter().filter(|from| from.number != to.number) {
                lines.insert((from.number, to.number), Proxy::to(to.peers[0]).await);
            }
        }
        Self(lines)
    }

    /// Where the member `from` finds the member `to`; nowhere, if they are the same.
    pub(super) fn address(&self, from: u16, to: u16) -> Option<SocketAddr> {
        self.0.get(&(from, to)).map(Proxy::address)
    }

    /// Holds up whatever goes between a member, counted from zero, and the others.
    pub(crate) fn cut_off(&self, member: usize) {
        let touches = |number: u16| usize::from(number) == member + 1;
        let cut = self.0.iter().filter(|((from, to), _)| touches(*from) || touches(*to));
        cut.for_each(|(_, proxy)| proxy.freeze());
    }

    /// Mends them all.
    pub(crate) fn mend(&self) {
        self.0.values().for_each(Proxy::heal);
    }
}
