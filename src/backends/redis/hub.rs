//! The one read of the stream of changes that all watches of a store share.
//!
//! One task owns it, on a connection of its own, as it waits there. It starts with the first watch and ends once nobody
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
use super::changes::{Told, told};
use super::connection::Connection;
use super::error::{Fault, classify};
use super::history::regressed;
use super::reply::odd;
use super::scripts::TICK;
use super::servers::{Kind, Servers};
use crate::kv::{Error, ErrorKind, Fanout, Result};

/// How long the server holds a read that finds nothing. Its answer then says that it is still there.
const HELD: Duration = Duration::from_secs(2);

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
        let (epoch, last) = self.servers.history().seen();
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
    epoch: String,
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
            tracing::debug!(%error, "the stream of changes ended");
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

    /// Reads until the connection breaks; `Ok` when nobody watches any more.
    async fn serve(&mut self, served: &mut bool) -> Result<()> {
        let connection = self.servers.connect().await.map_err(|fault| fault.error)?;
        self.tick().await?;
        *served = true;
        let stream = self.servers.history().stream();
        let within = HELD + self.servers.times().attempt;
        while !self.is_idle() {
            let mut read = Box::pin(timeout(within, read(&connection, &stream, self.last)));
            let found = loop {
                tokio::select! {
                    biased;
                    found = &mut read => break found,
                    () = sleep_until(self.due.unwrap_or_else(Instant::now)), if self.due.is_some() => self.tick().await?,
                }
            };
            drop(read);
            let found = found.unwrap_or_else(|_| Err(Fault::silent(&connection.address, true)));
            match found.and_then(|found| found.map(told).transpose()).map_err(|fault| fault.error)? {
                Some(told) => told.iter().for_each(|told| self.tell(told)),
                // All is quiet. An emptied store is, too.
                None => self.tick().await?,
            }
        }
        Ok(())
    }

    /// Has the dead buried, and learns when to look again.
    async fn tick(&mut self) -> Result<()> {
        let ask = || self.servers.call(Kind::Repeatable, "watch", &TICK, &[]);
        let mut reply = match ask().await {
            Err(error) if error.kind() == ErrorKind::FenceRegression => ask().await?,
            answered => answered?,
        };
        if reply.epoch != self.epoch {
            self.begin(std::mem::take(&mut reply.epoch), reply.revision);
        }
        self.due = match reply.take(0) {
            Some(Value::Int(millis)) => {
                u64::try_from(millis).ok().map(|millis| Instant::now() + Duration::from_millis(millis))
            }
            _ => return Err(odd("no time").error),
        };
        Ok(())
    }

    fn tell(&mut self, told: &Told) {
        if told.revision <= self.last {
            return;
        }
        if let Some(epoch) = told.epoch.as_ref().filter(|epoch| **epoch != self.epoch) {
            return self.begin(epoch.clone(), told.revision);
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
        self.servers.history().hear(&self.epoch, told);
        for event in &told.events {
            self.fanout.publish(told.revision, event);
        }
        if let Some(ttl) = told.granted {
            let ends = Instant::now() + ttl;
            self.due = Some(self.due.map_or(ends, |due| due.min(ends)));
        }
    }

    /// Another life of the store has begun.
    fn begin(&mut self, epoch: String, revision: u64) {
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

/// What comes after a revision; waits for it for as long as the server holds the read.
async fn read(connection: &Connection, stream: &str, last: u64) -> Result<Option<Value>, Fault> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(AT_ONCE).arg("BLOCK").arg(u64::try_from(HELD.as_millis()).unwrap_or(u64::MAX));
    command.arg("STREAMS").arg(stream).arg(format!("{last}-{}", u64::MAX));
    match connection.query(&command).await {
        Ok(Value::Nil) => Ok(None),
        Ok(found) => Ok(Some(found)),
        Err(error) => Err(classify(error, &connection.address)),
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
