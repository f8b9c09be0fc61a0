//! etcd as a subject: each version, alone and three together, open to all and with TLS, certificates and passwords.
//!
//! The cases share a cluster and run side by side; each has a proxy of its own, which it is cut off by. Those that
//! restart the store have a cluster of their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use libtest_mimic::Trial;
use quorate::connect::Schemes;
use quorate::kv::conformance::{self, Case, Subject};
use quorate::kv::{Coordinator, Key, Result};
use tokio::sync::OnceCell;

use crate::proxy::Proxy;
use crate::servers::etcd::{Etcd, Options, Version};
use crate::stores::{Time, runtime};

/// What a cluster is like, and the one of its kind that cases share. It ends with the process.
struct Setup {
    version: Version,
    members: u16,
    secure: bool,
    shared: OnceCell<Etcd>,
}

const fn setup(version: Version, members: u16, secure: bool) -> Setup {
    Setup { version, members, secure, shared: OnceCell::const_new() }
}

static SETUPS: [Setup; 12] = [
    setup(Version::V3_4, 1, false),
    setup(Version::V3_5, 3, true),
    setup(Version::V3_4, 1, true),
    setup(Version::V3_4, 3, false),
    setup(Version::V3_4, 3, true),
    setup(Version::V3_5, 1, false),
    setup(Version::V3_5, 1, true),
    setup(Version::V3_5, 3, false),
    setup(Version::Sid, 1, false),
    setup(Version::Sid, 1, true),
    setup(Version::Sid, 3, false),
    setup(Version::Sid, 3, true),
];

/// How many of them are asked unless all are.
const USUAL: usize = 2;

impl Setup {
    fn name(&self) -> String {
        let secure = if self.secure { "_tls_auth" } else { "" };
        format!("etcd_{}_x{}{secure}", self.version.name(), self.members)
    }

    async fn start(&self) -> Etcd {
        let options = Options::new(self.version).members(self.members);
        let options = if self.secure { options.tls().auth() } else { options };
        options.start().await
    }
}

/// Every case over every set-up, or over the usual ones.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    let full = std::env::var_os("QUORATE_TEST_FULL").is_some_and(|full| !full.is_empty());
    let setups = SETUPS.iter().take(if full { SETUPS.len() } else { USUAL });
    setups.flat_map(|setup| conformance::cases().into_iter().map(move |case| trial(setup, case)))
}

fn trial(setup: &'static Setup, case: Case) -> Trial {
    Trial::test(format!("{}::line{:02}_{}", setup.name(), case.line, case.name), move || {
        let asked = async {
            if case.name.contains("restart") {
                let etcd = Mutex::new(setup.start().await);
                case.run(Arc::new(Restarted(etcd))).await
            } else {
                let etcd = setup.shared.get_or_init(|| setup.start()).await;
                let proxies = Proxy::to_each(&etcd.addresses()).await;
                case.run(Arc::new(Proxied { etcd, proxies })).await
            }
        };
        Ok(runtime(Time::Real)?.block_on(asked)?)
    })
}

async fn connect(url: &str) -> Result<Arc<dyn Coordinator>> {
    Schemes::default().connect(url).await
}

/// A cluster that others use too, through proxies that nobody else does.
struct Proxied {
    etcd: &'static Etcd,
    proxies: Vec<Proxy>,
}

#[async_trait]
impl Subject for Proxied {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        let addresses: Vec<_> = self.proxies.iter().map(Proxy::address).collect();
        connect(&self.etcd.url_via(&addresses, "")).await
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }

    async fn disturb(&self) -> Result<bool> {
        self.proxies.iter().for_each(Proxy::cut);
        Ok(true)
    }
}

impl std::fmt::Debug for Proxied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxied")
    }
}

/// A cluster that nobody else uses.
#[derive(Debug)]
struct Restarted(Mutex<Etcd>);

impl Restarted {
    fn etcd(&self) -> MutexGuard<'_, Etcd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Subject for Restarted {
    async fn open(&self) -> Result<Arc<dyn Coordinator>> {
        let url = self.etcd().url("");
        connect(&url).await
    }

    fn prefix(&self) -> Key {
        conformance::fresh_prefix()
    }

    async fn restart(&self) -> Result<bool> {
        // On a thread of its own: this one's runtime is busy with us, and the store has nobody to talk to meanwhile.
        std::thread::scope(|scope| {
            let restarted = scope
                .spawn(|| runtime(Time::Real).map(|runtime| runtime.block_on(self.etcd().restart_all())));
            Ok(matches!(restarted.join(), Ok(Ok(()))))
        })
    }
}
