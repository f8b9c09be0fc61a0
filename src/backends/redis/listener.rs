//! The task that hears for all watches of a store what happens there.
//!
//! Scripts publish what they change, so a change costs no request, however many clients hear of it. Where every change is heard,
//! revisions have no gaps, and what was missed is read from a stream in which they stand as well. Where only those of single keys
//! are, it is asked now and then which version stands at each, and compared with what was told.
//!
//! It also sees to it that those who die unheard are buried: nobody else may come by.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::BACKEND;
use super::changes::{Told, published, told};
use super::channel::Said;
use super::hearing::Hearing;
use super::hub::Shared;
use super::line::{Line, Seen};
use super::reply::{odd, versions};
use super::scripts::TICK;
use super::servers::Kind;
use crate::kv::{Error, ErrorKind, Key, Outcome, Result, Scope};

/// After so long without a word we ask whether the server is still there, and whether we were told all; where only single keys are
/// heard of, after so long.
const QUIET: Duration = Duration::from_secs(2);

/// How many revisions one read brings at most.
const AT_ONCE: usize = 256;

/// The pause before it is tried again after the connection broke.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Listener {
    shared: Arc<Shared>,
    hearing: Hearing,
    /// The life of the store that we know of.
    epoch: u64,
    /// When the next session may end.
    due: Option<Instant>,
    /// Whether it has listened before, so that somebody may have been told of a life of the store that is over by now.
    again: bool,
    /// Whether it ended because nobody watches.
    over: bool,
}

/// Why a connection is not listened to any more.
enum Over {
    /// Nobody watches.
    Idle,
    /// Other things are to be heard.
    Anew,
}

impl Listener {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.notice_what_is_known();
        let epoch = shared.servers.history().seen().map_or(0, |known| known.epoch);
        let hearing = Hearing::of(&shared.fanout.scopes());
        Self { shared: Arc::clone(shared), hearing, epoch, due: None, again: false, over: false }
    }

    pub(super) async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let mut served = false;
            let error = match self.serve(&mut served).await {
                Ok(Over::Idle) => break,
                Ok(Over::Anew) => continue,
                Err(error) => error.at(BACKEND, "watch"),
            };
            tracing::debug!(%error, "what is published is not heard any more");
            failures = if served { 0 } else { failures.saturating_add(1) };
            // What happens meanwhile is learnt afterwards, so only an outage that lasts is told, and once to each.
            match failures {
                0 | 1 if error.is_transient() => {}
                0..=2 => self.shared.fanout.fail(&error),
                _ => self.shared.fanout.excuse(&error),
            }
            if self.shared.is_idle() {
                break;
            }
            sleep(PAUSE).await;
        }
        self.over = true;
    }

    /// Listens until the connection breaks, or is not what is needed any more.
    async fn serve(&mut self, served: &mut bool) -> Result<Over> {
        let shared = Arc::clone(&self.shared);
        // Whoever wants it still is among those who have subscribed, and has its turn with them.
        drop(shared.wanted());
        if let Hearing::Keys(_) = self.hearing {
            self.hearing = Hearing::of(&shared.fanout.scopes());
        }
        let mut line = Line::open(&shared.servers, &self.hearing, Instant::now() + QUIET).await?;
        match self.hearing {
            Hearing::All(_) => self.resume().await?,
            Hearing::Keys(_) => self.begin_with_keys(&mut line).await?,
        }
        (*served, self.again) = (true, true);
        loop {
            let (quiet, due) = (line.quiet, self.due.unwrap_or(line.quiet));
            tokio::select! {
                biased;
                () = sleep_until(due), if self.due.is_some() => {
                    self.tick(&[]).await?;
                },
                () = shared.rung.notified() => if !self.follow(&mut line).await? {
                    return Ok(Over::Anew);
                },
                said = line.next() => {
                    self.hear(said?, &mut line).await?;
                    // Of single keys there is little to hear, and whoever waits for a lock now and then will watch again.
                    if matches!(self.hearing, Hearing::All(_)) && shared.is_idle() {
                        return Ok(Over::Idle);
                    }
                }
                () = sleep_until(quiet) => {
                    if shared.is_idle() {
                        return Ok(Over::Idle);
                    }
                    self.check(&mut line).await?;
                }
            }
        }
    }

    /// Tells what happened since the last that was told of every change. Nobody knows where those begin who were told of single
    /// keys until now, or are deaf since the task before this one ended with its runtime: they take a fresh snapshot.
    async fn resume(&mut self) -> Result<()> {
        if matches!(self.hearing, Hearing::All(Some(_))) {
            self.catch_up().await?;
        }
        let Seen { revision, .. } = self.tick(&[]).await?;
        if let Hearing::All(last @ None) = &mut self.hearing {
            *last = Some(revision);
            self.shared.fanout.resync();
        } else {
            self.shared.fanout.scopes().iter().for_each(|scope| self.shared.fanout.begin(scope));
        }
        Ok(())
    }

    /// Asks to be told of the keys that are watched now, and sees what happened there before. A life of the store that began while
    /// nobody listened is told before anything of it; of one that begins later, this connection tells first.
    async fn begin_with_keys(&mut self, line: &mut Line) -> Result<()> {
        if self.again {
            self.tick(&[]).await?;
        }
        let scopes = self.shared.fanout.scopes();
        self.listen_to(line, &scopes).await?;
        while matches!(&self.hearing, Hearing::Keys(keys) if !keys.is_settled()) {
            let said = line.next_soon().await?;
            self.hear(said, line).await?;
        }
        self.check(line).await
    }

    /// Hears what is wanted now; false where that takes another connection.
    async fn follow(&mut self, line: &mut Line) -> Result<bool> {
        let wanted = self.shared.wanted();
        match &self.hearing {
            Hearing::All(_) => wanted.iter().for_each(|scope| self.shared.fanout.begin(scope)),
            Hearing::Keys(keys) if keys.can_take(&wanted) => self.listen_to(line, &wanted).await?,
            Hearing::Keys(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Has the server tell of these keys too. Who watches one that it tells of already begins at once.
    async fn listen_to(&mut self, line: &mut Line, scopes: &[Scope]) -> Result<()> {
        let Hearing::Keys(keys) = &mut self.hearing else { return Ok(()) };
        let mut new = Vec::new();
        for scope in scopes {
            match scope {
                Scope::Key(key) if keys.hears(key) => self.shared.fanout.begin(scope),
                Scope::Key(key) if keys.ask(key) => new.push(key),
                _ => {}
            }
        }
        line.subscribe(&new).await
    }

    async fn hear(&mut self, said: Said, line: &mut Line) -> Result<()> {
        match said {
            Said::Published(change) => {
                self.tell(&published(&change).map_err(|fault| fault.error)?);
                if matches!(self.hearing, Hearing::All(_)) {
                    line.quiet = Instant::now() + QUIET;
                }
            }
            Said::Subscribed => {
                if let Hearing::Keys(keys) = &mut self.hearing
                    && let Some(key) = keys.confirmed()
                {
                    self.shared.fanout.begin(&Scope::Key(key));
                }
            }
            Said::Pong => {
                line.quiet = Instant::now() + QUIET;
                if let Some(seen) = line.asked.take() {
                    self.compare(seen).await?;
                }
            }
        }
        Ok(())
    }

    /// Asks how the store stands, and whether the connection is there still. An emptied store is quiet, too.
    async fn check(&mut self, line: &mut Line) -> Result<()> {
        let keys = match &self.hearing {
            Hearing::All(_) => Vec::new(),
            Hearing::Keys(heard) => heard.live(|scope| self.shared.fanout.has(scope)),
        };
        let seen = self.tick(&keys).await?;
        line.ask(seen).await
    }

    /// All that had happened when it was seen so was published, and what was published was heard by now.
    async fn compare(&mut self, seen: Seen) -> Result<()> {
        let told = |hearing: &Hearing| !matches!(hearing, Hearing::All(Some(last)) if *last < seen.revision);
        if !told(&self.hearing) {
            self.catch_up().await?;
        }
        if !told(&self.hearing) {
            self.shared.fanout.resync();
            self.hearing = Hearing::All(Some(seen.revision));
        }
        for (key, version) in &seen.versions {
            self.shared.fanout.confirm(seen.revision, key, *version);
        }
        Ok(())
    }

    /// Reads what was published and not heard.
    async fn catch_up(&mut self) -> Result<()> {
        let servers = &Arc::clone(&self.shared).servers;
        while let Hearing::All(Some(last)) = self.hearing {
            let after = format!("{last}-{}", u64::MAX);
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(AT_ONCE).arg("STREAMS").arg(servers.history().stream()).arg(after);
            match servers.query("watch", &read).await? {
                Value::Nil => break,
                found => told(found).map_err(|fault| fault.error)?.iter().for_each(|told| self.tell(told)),
            }
        }
        Ok(())
    }

    /// Has the dead buried, and learns when to look again; sees what stands at these keys then.
    async fn tick(&mut self, keys: &[Key]) -> Result<Seen> {
        let servers = &Arc::clone(&self.shared).servers;
        let names: Vec<_> = keys.iter().map(|key| key.as_str().as_bytes()).collect();
        let ask = || servers.call(Kind::Repeatable, "watch", &TICK, &names);
        let mut reply = match ask().await {
            Err(error) if error.kind() == ErrorKind::FenceRegression => ask().await?,
            answered => answered?,
        };
        let revision = reply.state.revision;
        if reply.state.epoch != self.epoch {
            self.begin(reply.state.epoch, revision);
        }
        self.due = match reply.next() {
            Some(Value::Int(millis)) => {
                u64::try_from(millis).ok().map(|millis| Instant::now() + Duration::from_millis(millis))
            }
            _ => return Err(odd("no time").error),
        };
        let versions = reply.next().ok_or_else(|| odd("no versions")).and_then(versions);
        let versions = versions.map_err(|fault| fault.error)?;
        Ok(Seen { revision, versions: keys.iter().cloned().zip(versions).collect() })
    }

    fn tell(&mut self, told: &Told) {
        let fanout = &self.shared.fanout;
        if matches!(self.hearing, Hearing::All(Some(last)) if told.revision <= last) {
            return;
        }
        if let Some(epoch) = told.epoch.filter(|epoch| *epoch != self.epoch) {
            return self.begin(epoch, told.revision);
        }
        if let Hearing::All(Some(last)) = &mut self.hearing {
            if told.revision != *last + 1 {
                tracing::debug!(last, next = told.revision, "changes were dropped before they were read");
                fanout.resync();
            }
            *last = told.revision;
        }
        self.shared.servers.history().hear(self.epoch, told);
        for event in &told.events {
            fanout.publish(told.revision, event);
        }
        if let Some(ttl) = told.granted {
            let ends = Instant::now() + ttl;
            self.due = Some(self.due.map_or(ends, |due| due.min(ends)));
        }
    }

    /// Another life of the store has begun.
    fn begin(&mut self, epoch: u64, revision: u64) {
        if !self.shared.notice(epoch, revision) {
            // Who took a snapshot since may have missed what came after it.
            self.shared.fanout.resync();
        }
        self.epoch = epoch;
        if let Hearing::All(last) = &mut self.hearing {
            *last = Some(revision);
        }
    }
}

/// Those who watch from another runtime than that which ended have another task started.
impl Drop for Listener {
    fn drop(&mut self) {
        if !self.over {
            self.shared.forsake();
            let why = "the runtime that listened for all watches has ended";
            let error = Error::new(ErrorKind::Unavailable, Outcome::NotApplied, why);
            self.shared.fanout.fail(&error.at(BACKEND, "watch"));
        }
    }
}
