//! One etcd for all trials: each has a namespace of its own there, and a proxy that only its outages are of.

use std::process::Command;
use std::sync::Arc;

use crate::proxy::Proxy;
use crate::shared_etcd::{fresh_namespace, shared};

/// A trial's way to the server.
pub(crate) struct Link {
    proxy: Arc<Proxy>,
    namespace: String,
}

impl Link {
    pub(crate) fn new() -> Self {
        let server = shared();
        let proxy = server.runtime.block_on(Proxy::to(server.etcd.addresses()[0]));
        Self { proxy: Arc::new(proxy), namespace: fresh_namespace() }
    }

    pub(crate) fn url(&self) -> String {
        shared().etcd.url_via(&[self.proxy.address()], &self.namespace)
    }

    /// The same place, whatever becomes of the proxy.
    pub(crate) fn undisturbed_url(&self) -> String {
        shared().etcd.url(&self.namespace)
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

/// The whole server, as its own programs see it.
pub(crate) fn whole_url() -> String {
    shared().etcd.url("")
}

/// The real `etcdctl` with these words.
pub(crate) fn etcdctl(words: &[&str]) -> Command {
    let etcd = &shared().etcd;
    let mut command = etcd.etcdctl_command(&etcd.addresses()).into_std();
    command.args(words);
    command
}
