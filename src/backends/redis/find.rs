//! Finding the primary: the one server, the one that sentinels name, or the node of a cluster that has our slot.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::connection::Connection;
use super::error::{Cure, Fault, classify};
use super::options::{Credentials, Kind, RedisOptions};
use super::tls::Way;
use crate::kv::{ErrorKind, Outcome, Result};

/// Finds the primary and connects to it. Clones share what they find out.
#[derive(Clone)]
pub(super) struct Finder(Arc<Inner>);

struct Inner {
    kind: Kind,
    /// The server, the sentinels, or nodes of the cluster.
    addresses: Vec<String>,
    way: Way,
    user: Credentials,
    sentinel_user: Credentials,
    database: i64,
    /// A key of ours that nobody writes.
    nothing: String,
    connect: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which of the addresses is asked next.
    at: usize,
    /// Where we were sent to.
    moved: Option<String>,
}

impl Finder {
    pub(super) fn new(options: &RedisOptions) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            kind: options.kind.clone(),
            addresses: options.addresses(),
            way: Way::new(options.tls.as_ref())?,
            user: options.user.clone(),
            sentinel_user: options.sentinel_user.clone().unwrap_or_default(),
            database: options.database,
            nothing: format!("{}:nothing", options.meta()),
            connect: options.times.connect,
            state: Mutex::default(),
        })))
    }

    /// What is asked, for messages.
    pub(super) fn name(&self) -> String {
        let state = self.state();
        state.moved.clone().unwrap_or_else(|| self.seed(&state))
    }

    /// A connection to the primary.
    pub(super) async fn connect(&self) -> Result<Connection, Fault> {
        match &self.0.kind {
            Kind::One | Kind::Cluster => {
                let opened = self.open(self.name(), &self.0.user, self.0.database).await;
                if matches!(&opened, Err(fault) if fault.cure == Cure::Anew) {
                    // A node that is gone sends us nowhere; another does.
                    self.give_up(&Cure::Anew);
                }
                opened
            }
            Kind::Sentinel(name) => self.ask_sentinels(name).await,
        }
    }

    async fn open(&self, address: String, user: &Credentials, database: i64) -> Result<Connection, Fault> {
        let opening = Connection::open(&self.0.way, address.clone(), user, database);
        timeout(self.0.connect, opening).await.unwrap_or_else(|_| {
            let Fault { error, cure } = Fault::silent(&address, false);
            Err(Fault { error: error.because(self.0.way.hint), cure })
        })
    }

    /// Each sentinel once, until one knows the primary. One that was cut off may know an old one, which is gone, or a
    /// replica by now.
    async fn ask_sentinels(&self, name: &str) -> Result<Connection, Fault> {
        let mut failed = None;
        for _ in &self.0.addresses {
            match self.via_sentinel(self.name(), name).await {
                Err(fault) if fault.cure == Cure::Anew => failed = Some(fault),
                told => return told,
            }
            self.give_up(&Cure::Anew);
        }
        Err(failed.unwrap_or_else(|| Fault::silent("no sentinel", false)))
    }

    async fn via_sentinel(&self, sentinel: String, name: &str) -> Result<Connection, Fault> {
        let address = self.ask_sentinel(sentinel, name).await?;
        let connection = self.open(address.clone(), &self.0.user, self.0.database).await?;
        // A replica refuses it, though there is nothing to delete.
        let mut write = redis::cmd("DEL");
        write.arg(&self.0.nothing);
        let written = timeout(self.0.connect, connection.query(&write)).await;
        let written = written.map_err(|_| Fault::silent(&address, false))?;
        written.map(|_| connection).map_err(|error| classify(error, &address))
    }

    async fn ask_sentinel(&self, sentinel: String, name: &str) -> Result<String, Fault> {
        let connection = self.open(sentinel.clone(), &self.0.sentinel_user, 0).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("get-master-addr-by-name").arg(name);
        let asked = timeout(self.0.connect, connection.query(&ask)).await;
        let asked = asked.map_err(|_| Fault::silent(&sentinel, false))?;
        let answer = asked.map_err(|error| {
            let Fault { error, cure } = classify(error, &sentinel);
            // Only a sentinel was asked.
            let kind = error.kind();
            Fault::new(kind, Outcome::NotApplied, cure, format!("sentinel {error}"))
        })?;
        match redis::from_redis_value::<Option<(String, u16)>>(answer) {
            Ok(Some((host, port))) if host.contains(':') => Ok(format!("[{host}]:{port}")),
            Ok(Some((host, port))) => Ok(format!("{host}:{port}")),
            _ => {
                let why = format!("sentinel {sentinel} knows no primary called {name:?}");
                Err(Fault::new(ErrorKind::Unavailable, Outcome::NotApplied, Cure::Anew, why))
            }
        }
    }

    /// Lets the next try go elsewhere.
    pub(super) fn give_up(&self, cure: &Cure) {
        let mut state = self.state();
        match cure {
            Cure::Moved(to) => state.moved = Some(to.clone()),
            _ if state.moved.take().is_none() => state.at += 1,
            _ => {}
        }
    }

    fn seed(&self, state: &State) -> String {
        self.0.addresses.get(state.at % self.0.addresses.len().max(1)).cloned().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
