//! The one ear that all watches of a store share.
//!
//! Scripts publish what they change, and write it to a stream. One task listens, on a connection of its own, and reads from the
//! stream what it missed before; so a change costs no request, however many clients hear of it. The task starts with the first watch and ends once nobody
//! watches, or with the runtime it runs on; then the next watch starts another. It also sees to it that those who die
//! unheard are buried: nobody else may come by.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::BACKEND;
use super::changes::{Told, published, told};
use super::channel::Said;
use super::error::{Fault, classify};
use super::history::regressed;
use super::reply::odd;
use super::scripts::TICK;
use super::servers::{Kind, Servers};
use crate::kv::{Error, ErrorKind, Fanout, Result};

/// After so long without a word we ask whether the server is still there, and whether we were told all.
const QUIET: Duration = Duration::from_secs(2);

/// How many revisions one read brings at most.
const AT_ONCE: usize = 256;

/// The pause before the stream is read again after it broke.
const PAUSE: Duration = Duration::from_millis(50);

type Slot = Arc<Mutex<Option<JoinHandle<()>>>>;

/// Where watches hear of changes.
pub(super) struct Hub {
    servers: Arc<Servers>,
    fanout: Arc<Fanout>,
    task: Slot,
}

impl Hub {
    pub(super) fn new(servers: &Arc<Servers>) -> Self {
        Self { servers: Arc::clone(servers), fanout: Fanout::new(), task: Slot::default() }
    }

    pub(super) fn fanout(&self) -> &Arc<Fanout> {
        &self.fanout
    }

    /// Sees to it that the stream is read for those who have subscribed. It is read from what this client has seen so far,
    /// and any snapshot that is taken later has seen more, so nothing falls between the two.
    pub(super) fn wake(&self) -> Result<()> {
        let mut task = lock(&self.task);
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        let runtime = Handle::try_current().map_err(|error| {
            Error::invalid("watches need a tokio runtime").because(error).at(BACKEND, "watch")
        })?;
        let seen = self.servers.history().seen();
        let (epoch, last) = seen.map_or((0, 0), |known| (known.epoch, known.revision));
        let reader = Reader {
            servers: Arc::clone(&self.servers),
            fanout: Arc::clone(&self.fanout),
            task: Arc::clone(&self.task),
            epoch,
            last,
            due: None,
        };
        *task = Some(runtime.spawn(reader.run()));
        Ok(())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// The task.
struct Reader {
    servers: Arc<Servers>,
    fanout: Arc<Fanout>,
    task: Slot,
    /// The life of the store that `last` is of.
    epoch: u64,
    /// The revision that was told last.
    last: u64,
    /// When the next session may end.
    due: Option<Instant>,
}

impl Reader {
    async fn run(mut self) {
        let mut failing = false;
        loop {
            let mut served = false;
            let Err(error) = self.serve(&mut served).await else { return };
            tracing::debug!(%error, "what is published is not heard any more");
            // What happens meanwhile stands in the stream, so only an outage that lasts is told, and once.
            failing &= !served;
            if !served && !std::mem::replace(&mut failing, true) {
                self.fanout.fail(&error.at(BACKEND, "watch"));
            }
            if self.is_idle() {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Listens until the connection breaks; `Ok` when nobody watches any more.
    async fn serve(&mut self, served: &mut bool) -> Result<()> {
        let (mut channel, address) = self.servers.listen().await.map_err(|fault| fault.error)?;
        self.catch_up().await?;
        self.tick().await?;
        *served = true;
        let silent = || Fault::silent(&address, true).error;
        let broken = |error| classify(error, &address).error;
        let mut quiet = Instant::now() + QUIET;
        // What the store had come to when we asked whether the connection is there still.
        let mut asked = None;
        while !self.is_idle() {
            let due = self.due.unwrap_or(quiet);
            tokio::select! {
                biased;
                () = sleep_until(due), if self.due.is_some() => {
                    self.tick().await?;
                },
                said = channel.next() => match said.map_err(broken)? {
                    Said::Published(change) => {
                        self.tell(&published(&change).map_err(|fault| fault.error)?);
                        quiet = Instant::now() + QUIET;
                    }
                    // What was published before was told before.
                    Said::Pong => self.ensure(asked.take().unwrap_or_default()).await?,
                },
                () = sleep_until(quiet) => {
                    // An emptied store is quiet, too.
                    let revision = self.tick().await?;
                    if asked.replace(revision).is_some() {
                        return Err(silent());
                    }
                    let attempt = self.servers.times().attempt;
                    let pinged = timeout(attempt, channel.ping()).await.map_err(|_| silent())?;
                    pinged.map_err(|error| broken(error.into()))?;
                    quiet = Instant::now() + attempt;
                }
            }
        }
        Ok(())
    }

    /// All up to this revision was published, and so should have been told.
    async fn ensure(&mut self, revision: u64) -> Result<()> {
        if self.last < revision {
            self.catch_up().await?;
        }
        if self.last < revision {
            self.fanout.resync();
            self.last = revision;
        }
        Ok(())
    }

    /// Reads what was published and not heard.
    async fn catch_up(&mut self) -> Result<()> {
        loop {
            let after = format!("{}-{}", self.last, u64::MAX);
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(AT_ONCE).arg("STREAMS").arg(self.servers.history().stream()).arg(after);
            match self.servers.query("watch", &read).await? {
                Value::Nil => return Ok(()),
                found => told(found).map_err(|fault| fault.error)?.iter().for_each(|told| self.tell(told)),
            }
        }
    }

    /// Has the dead buried, and learns when to look again. Gives the revision that the store has come to.
    async fn tick(&mut self) -> Result<u64> {
        let ask = || self.servers.call(Kind::Repeatable, "watch", &TICK, &[]);
        let mut reply = match ask().await {
            Err(error) if error.kind() == ErrorKind::FenceRegression => ask().await?,
            answered => answered?,
        };
        if reply.state.epoch != self.epoch {
            self.begin(reply.state.epoch, reply.state.revision);
        }
        self.due = match reply.next() {
            Some(Value::Int(millis)) => {
                u64::try_from(millis).ok().map(|millis| Instant::now() + Duration::from_millis(millis))
            }
            _ => return Err(odd("no time").error),
        };
        Ok(reply.state.revision)
    }

    fn tell(&mut self, told: &Told) {
        if told.revision <= self.last {
            return;
        }
        if let Some(epoch) = told.epoch.filter(|epoch| *epoch != self.epoch) {
            return self.begin(epoch, told.revision);
        }
        if told.revision != self.last + 1 {
            tracing::debug!(
                last = self.last,
                next = told.revision,
                "changes were dropped before they were read"
            );
            self.fanout.resync();
        }
        self.last = told.revision;
        self.servers.history().hear(self.epoch, told);
        for event in &told.events {
            self.fanout.publish(told.revision, event);
        }
        if let Some(ttl) = told.granted {
            let ends = Instant::now() + ttl;
            self.due = Some(self.due.map_or(ends, |due| due.min(ends)));
        }
    }

    /// Another life of the store has begun.
    fn begin(&mut self, epoch: u64, revision: u64) {
        self.fanout.fail(&regressed().at(BACKEND, "watch"));
        (self.epoch, self.last) = (epoch, revision);
    }

    /// Whether nobody watches. Then this task is not the one that the next watch will find.
    fn is_idle(&self) -> bool {
        let mut task = lock(&self.task);
        let idle = self.fanout.is_idle();
        if idle {
            *task = None;
        }
        idle
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("fanout", &self.fanout).finish_non_exhaustive()
    }
}
