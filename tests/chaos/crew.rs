//! The processes that contend, each behind proxies of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Mutex;

use crate::contest::Contest;
use crate::history::Historian;
use crate::proxy::Proxy;
use crate::record::{Hold, holds};
use crate::servers::{Server, Site};

/// How many contend in each contest.
const EACH: usize = 8;

/// One of them.
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) contest: Contest,
    pub(crate) proxies: Vec<Proxy>,
    site: Arc<Site>,
    url: String,
    ttl: Duration,
    seed: u64,
    guarded: bool,
    process: Option<Server>,
}

impl Worker {
    /// Starts it, in the place of an earlier life if there was one. It goes with this process, however that ends.
    pub(crate) fn start(&mut self) {
        // Another sequence of chances in each life.
        self.seed += 100;
        let program = std::env::current_exe().expect("a path");
        let (ttl, seed) = (self.ttl.as_secs().to_string(), self.seed.to_string());
        let guarded = if self.guarded { "guarded" } else { "unguarded" };
        let arguments = ["work", self.contest.name(), &self.id, &self.url, &ttl, &seed, guarded];
        self.process = Some(self.site.start(&self.id, &program, &arguments.map(str::to_owned)));
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }
}

/// All of them. Whoever makes trouble for one has it to himself meanwhile.
pub(crate) struct Crew {
    site: Arc<Site>,
    names: Vec<(String, Contest)>,
    workers: Vec<Arc<Mutex<Worker>>>,
    /// Where the logs go in the end, unless all was well.
    kept: Option<PathBuf>,
}

impl Crew {
    /// Starts them. When they end their logs are copied to `kept`, even if that is by a panic.
    pub(crate) async fn start<C: Historian>(cluster: &C, seed: u64, guarded: bool, kept: &Path) -> Self {
        let site = Arc::new(Site::new("chaos"));
        let kept = Some(kept.to_owned());
        let mut crew = Self { site, names: Vec::new(), workers: Vec::new(), kept };
        for contest in Contest::ALL {
            for number in 1..=EACH {
                let id = format!("{}-{number}", contest.name());
                let proxies = Proxy::to_each(&cluster.addresses()).await;
                let addresses: Vec<SocketAddr> = proxies.iter().map(Proxy::address).collect();
                let url = cluster.url_via(&addresses, "");
                let seed = (seed % 1_000_000) * 1_000_000 + number as u64;
                let site = Arc::clone(&crew.site);
                let process = None;
                crew.names.push((id.clone(), contest));
                let ttl = C::TTL;
                let mut worker = Worker { id, contest, proxies, site, url, ttl, seed, guarded, process };
                worker.start();
                crew.workers.push(Arc::new(Mutex::new(worker)));
            }
        }
        crew
    }

    pub(crate) fn workers(&self) -> &[Arc<Mutex<Worker>>] {
        &self.workers
    }

    /// The worker of this id.
    pub(crate) fn find(&self, id: &str) -> Option<&Arc<Mutex<Worker>>> {
        let at = self.names.iter().position(|(name, _)| name == id)?;
        Some(&self.workers[at])
    }

    /// Ends them all.
    pub(crate) async fn end(&self) {
        for worker in &self.workers {
            worker.lock().await.kill();
        }
    }

    /// Where the log of a worker is.
    fn log(&self, id: &str) -> PathBuf {
        self.site.directory().join(format!("{id}.log"))
    }

    /// The turns of each that contends there, as it has told them so far.
    pub(crate) fn turns(&self, contest: Contest) -> Vec<(&str, Vec<Hold>)> {
        let read = |id: &str| std::fs::read_to_string(self.log(id)).expect("the log is read");
        let of = self.names.iter().filter(|(_, of)| *of == contest);
        of.map(|(id, _)| (id.as_str(), holds(id, &read(id)))).collect()
    }

    /// All was well: nobody will want the logs.
    pub(crate) fn forget(&mut self) {
        self.kept = None;
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let Some(kept) = &self.kept else { return };
        // There may be a panic under way already, which tells more than one about its logs.
        let _ = std::fs::create_dir_all(kept);
        for (id, _) in &self.names {
            let _ = std::fs::copy(self.log(id), kept.join(id).with_extension("log"));
        }
        println!("The logs are in {}.", kept.display());
    }
}
