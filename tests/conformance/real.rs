//! Real servers as subjects, of any kind.
//!
//! The cases share a cluster and run side by side; each has proxies of its own, which it is cut off by. Those that
//! restart the store have a cluster of their own.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use libtest_mimic::Trial;
use quorate::connect::Schemes;
use quorate::kv::conformance::{self, Case, Subject};
use quorate::kv::{Coordinator, Key, Result};
use tokio::sync::OnceCell;

use crate::proxy::Proxy;
use crate::servers::{Cluster, Options, Release, is_full};
use crate::stores::{Time, runtime};

/// What a cluster is like, and the one of its kind that cases share. It ends with the last of them.
struct Setup<V: Release> {
    options: Options<V>,
    shared: OnceCell<V::Cluster>,
}

impl<V: Release> Setup<V> {
    fn new((version, members, secure): (V, u16, bool)) -> Arc<Self> {
        let options = Options::new(version).members(members);
        let options = if secure { options.tls().auth() } else { options };
        Arc::new(Self { options, shared: OnceCell::new() })
    }

    fn name(&self) -> String {
        let Options { version, members, tls, .. } = &self.options;
        let secure = if *tls { "_tls_auth" } else { "" };
        format!("{}_{}_x{members}{secure}", V::SERVER, version.name())
    }

    async fn start(&self) -> V::Cluster {
        self.options.clone().start().await
    }

    /// The one that cases share. It runs by now.
    fn shared(&self) -> &V::Cluster {
        self.shared.get().expect("it was started")
    }
}

/// Every case over each of `usual` and, if everything is asked for, over each of `others`: of a version, with so many
/// members, and with encryption and users or without.
pub(crate) fn trials<V: Release>(usual: &[(V, u16, bool)], others: &[(V, u16, bool)]) -> Vec<Trial> {
    let others = if is_full() { others } else { &[] };
    let setups = usual.iter().chain(others).copied().map(Setup::new);
    setups.flat_map(|setup| conformance::cases().into_iter().map(move |case| trial(&setup, case))).collect()
}

fn trial<V: Release>(setup: &Arc<Setup<V>>, case: Case) -> Trial {
    let setup = Arc::clone(setup);
    Trial::test(format!("{}::line{:02}_{}", setup.name(), case.line, case.name), move || {
        let asked = async {
            if case.name.contains("restart") {
                let cluster = Mutex::new(setup.start().await);
                case.run(Arc::new(Restarted(cluster))).await
            } else {
                let cluster = setup.shared.get_or_init(|| setup.start()).await;
                let proxies = Proxy::to_each(&cluster.addresses()).await;
                case.run(Arc::new(Proxied { setup, proxies })).await
            }
        };
        Ok(runtime(Time::Real)?.block_on(asked)?)
    })
}

async fn connect(url: &str) -> Result<Arc<dyn Coordinator>> {
    Schemes::default().connect(url).await
}

/// A cluster that others use too, through proxies that nobody else does.
struct Proxied<V: Release> {
    setup: Arc<Setup<V>>,
    proxies: Vec<Proxy>,
}

#[async_trait]
impl<V: Release> Subject for Proxied<V> {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        let addresses: Vec<_> = self.proxies.iter().map(Proxy::address).collect();
        connect(&self.setup.shared().url_via(&addresses, "")).await
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }

    async fn disturb(&self) -> Result<bool> {
        self.proxies.iter().for_each(Proxy::cut);
        Ok(true)
    }
}

impl<V: Release> fmt::Debug for Proxied<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxied")
    }
}

/// A cluster that nobody else uses.
#[derive(Debug)]
struct Restarted<C>(Mutex<C>);

impl<C> Restarted<C> {
    fn cluster(&self) -> MutexGuard<'_, C> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<C: Cluster> Subject for Restarted<C> {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        let url = self.cluster().url("");
        connect(&url).await
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }

    async fn restart(&self) -> Result<bool> {
        // On a thread of its own: this one's runtime is busy with us, and the store has nobody to talk to meanwhile.
        std::thread::scope(|scope| {
            let restarted = scope
                .spawn(|| runtime(Time::Real).map(|runtime| runtime.block_on(self.cluster().restart_all())));
            Ok(matches!(restarted.join(), Ok(Ok(()))))
        })
    }
}
