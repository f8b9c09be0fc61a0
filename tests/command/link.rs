//! A trial's own way to a server that all trials share: a namespace there, and a proxy that only its outages are of.

use std::sync::Arc;

use crate::proxy::Proxy;
use crate::servers::Cluster;
use crate::shared::{Shared, fresh_namespace};

pub(crate) struct Link {
    server: &'static Shared<dyn Cluster>,
    proxy: Arc<Proxy>,
    namespace: String,
}

impl Link {
    pub(crate) fn to(server: &'static Shared<dyn Cluster>) -> Self {
        let proxy = server.runtime.block_on(Proxy::to(server.cluster.addresses()[0]));
        Self { server, proxy: Arc::new(proxy), namespace: fresh_namespace() }
    }

    pub(crate) fn url(&self) -> String {
        self.server.cluster.url_via(&[self.proxy.address()], &self.namespace)
    }

    /// The same place, whatever becomes of the proxy.
    pub(crate) fn undisturbed_url(&self) -> String {
        self.server.cluster.url(&self.namespace)
    }

    /// Carries nothing until what is returned is dropped.
    pub(crate) fn freeze(&self) -> Frozen {
        self.proxy.freeze();
        Frozen(Arc::clone(&self.proxy))
    }
}

/// A proxy that carries nothing. It goes on when this is dropped.
pub(crate) struct Frozen(Arc<Proxy>);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.heal();
    }
}
