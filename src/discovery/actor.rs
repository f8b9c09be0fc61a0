//! The one task of a registrar: it makes the store hold what is wanted, whatever happens.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;

use super::books::{Batch, Books};
use super::pause::Pause;
use super::record::Desk;
use super::watches::Watches;
use crate::kv::session::Core;
use crate::kv::{
    Consistency, Coordinator, Entry, Error, ErrorKind, Event, Key, Limits, LossReason, Outcome, Result,
    Sessions, Store, Txn, Write, bad,
};

/// How many events that wait already are taken note of before anything is done about them.
const EVENTS_AT_ONCE: usize = 4096;

/// How many commits are under way side by side, so that the next is made while the store applies the last.
const COMMITS_ABREAST: usize = 3;

/// How many are sent before anything else is looked at.
const COMMITS_AT_ONCE: usize = 12;

pub(super) struct Actor<S: Coordinator + ?Sized> {
    work: Work<S>,
    desk: Arc<Desk>,
    sessions: Sessions,
    /// The session all hangs on. Not a handle: `sessions` has that.
    session: Option<Arc<Core>>,
    openings: Pause,
    watches: Watches<S>,
}

impl<S: Coordinator + ?Sized> Actor<S> {
    pub(super) fn new(store: &Arc<S>, sessions: &Sessions, desk: &Arc<Desk>) -> Self {
        Self {
            work: Work::new(store, sessions),
            desk: Arc::clone(desk),
            sessions: sessions.clone(),
            session: None,
            openings: Pause::new(sessions, Duration::from_millis(50), Duration::from_secs(5)),
            watches: Watches::new(store, sessions),
        }
    }

    /// Runs until the last handle is gone; the session's task then finishes what is left.
    pub(super) async fn run(mut self) {
        let desk = Arc::clone(&self.desk);
        let _ended = desk.ended.clone().drop_guard();
        while !desk.closing.is_cancelled() {
            self.intake();
            self.turn(&desk).await;
        }
        while self.intake() {}
        self.hand_over();
    }

    /// Puts some of what was left at the desk on the books, and says whether there was anything.
    fn intake(&mut self) -> bool {
        let records = self.desk.take();
        let any = !records.is_empty();
        for record in records {
            self.work.books.take(record);
        }
        self.watches.heed(&mut self.work.books);
        if any {
            self.watches.stir();
        }
        any
    }

    /// Does one thing, so that every step knows of all that was left at the desk before it.
    async fn turn(&mut self, desk: &Desk) {
        match self.session.clone() {
            Some(core) if core.loss().is_some() => {
                self.session = None;
                if bad("rebinding_opens_gap") {
                    drop(self.work.store.revoke(core.id()).await);
                }
                self.work.books.lost();
            }
            Some(core) if self.work.books.is_idle() => self.idle(&core, desk).await,
            Some(core) => self.step(&core, desk).await,
            None if self.work.books.is_empty() => {
                tokio::select! {
                    biased;
                    () = desk.closing.cancelled() => {}
                    () = desk.rung.notified() => {}
                }
            }
            None => self.open(desk).await,
        }
    }

    /// Does the next thing that is due. Others who come meanwhile are put on the books at once, but not what is on them
    /// already and may be under way; nor whoever comes after that, so that all are taken in the order they came.
    async fn step(&mut self, core: &Core, desk: &Desk) {
        let Self { work, watches, .. } = self;
        let mut held = Vec::new();
        let more = |books: &mut Books| {
            let mut taken = false;
            for record in desk.take() {
                let kept_back = if held.is_empty() { books.take_new(record) } else { Err(record) };
                taken |= kept_back.is_ok();
                held.extend(kept_back.err());
            }
            if taken {
                watches.heed(books);
                watches.stir();
            }
            taken
        };
        work.step(core, &desk.rung, more).await;
        if !held.is_empty() {
            for record in held {
                work.books.take(record);
            }
            watches.stir();
        }
    }

    /// Waits for something to do.
    async fn idle(&mut self, core: &Core, desk: &Desk) {
        let Self { work, watches, .. } = self;
        tokio::select! {
            biased;
            () = desk.closing.cancelled() => {}
            _ = core.lost() => {}
            () = desk.rung.notified() => {}
            () = work.pause(), if work.books.has_deferred() => {}
            Some((prefix, event)) = watches.next() => {
                work.notice(&prefix, event);
                for _ in 1..EVENTS_AT_ONCE {
                    let Some(Some((prefix, event))) = watches.next().now_or_never() else { break };
                    work.notice(&prefix, event);
                }
            }
        }
    }

    /// Opens the next session, after a pause when the last try failed. Those who come meanwhile wait for the same one.
    async fn open(&mut self, desk: &Desk) {
        tokio::select! {
            biased;
            () = desk.closing.cancelled() => return,
            () = desk.rung.notified() => return,
            () = self.openings.pass() => {}
        }
        let sessions = self.sessions.clone();
        let mut opening = pin!(sessions.current());
        let opened = loop {
            tokio::select! {
                biased;
                () = desk.closing.cancelled() => return,
                () = desk.rung.notified() => drop(self.intake()),
                opened = &mut opening => break opened,
            }
        };
        match opened {
            Ok(session) => {
                self.openings.reset();
                self.work.books.opened(session.id());
                self.session = Some(Arc::clone(session.core()));
            }
            Err(error) => {
                tracing::debug!(%error, "no session to register with yet");
                self.work.books.not_opened(&error);
                self.openings.begin();
            }
        }
    }

    /// All handles are gone, so everything is to leave: the session's task sees to that, until the store has said so or
    /// the session has ended. Nothing that is handed over keeps the session alive.
    fn hand_over(self) {
        let Some(core) = self.session else { return };
        let work = self.work;
        let rest = work.finish(Arc::clone(&core)).boxed();
        core.adopt(rest);
    }
}

/// Reads and writes as the books say.
struct Work<S: Coordinator + ?Sized> {
    store: Arc<S>,
    limits: Limits,
    books: Books,
    /// The most entries in one commit: fewer while something in a commit is refused, to find out what.
    most: usize,
    pause: Pause,
}

impl<S: Coordinator + ?Sized> Work<S> {
    fn new(store: &Arc<S>, sessions: &Sessions) -> Self {
        let limits = store.limits();
        Self {
            store: Arc::clone(store),
            most: limits.max_txn_ops,
            limits,
            books: Books::new(sessions.clock()),
            pause: Pause::new(sessions, Duration::from_millis(20), Duration::from_secs(2)),
        }
    }

    fn notice(&mut self, prefix: &Key, event: Result<Event>) {
        match event {
            Ok(event) => self.books.notice(prefix, &event),
            Err(error) => tracing::debug!(service = %prefix, %error, "the watch was disturbed"),
        }
    }

    /// Waits until what failed may be tried again. Cancel-safe.
    async fn pause(&mut self) {
        self.pause.begin();
        self.pause.pass().await;
        self.books.resume();
    }

    /// Does the next thing that is due: looks before it writes. While the store writes, it takes in `more`, whenever it is rung
    /// for that.
    async fn step(&mut self, core: &Core, rung: &Notify, more: impl FnMut(&mut Books) -> bool + Send) {
        let looks = self.books.next_looks();
        if looks.is_empty() {
            self.commit(core, rung, more).await;
        } else {
            self.look(core, looks).await;
        }
    }

    async fn look(&mut self, core: &Core, keys: Vec<Key>) {
        match unless_lost(core, read(&*self.store, &keys)).await {
            None => {}
            Some(Ok(entries)) => {
                let found: BTreeMap<_, _> = entries.iter().map(|entry| (&entry.key, entry)).collect();
                for key in &keys {
                    self.books.judge(key, found.get(key).copied());
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "registrations are looked at again");
                self.books.defer_looks(keys);
            }
        }
    }

    /// Commits what is due, a few commits side by side. They have no key in common: none that is under way is due before
    /// its commit is settled.
    async fn commit(&mut self, core: &Core, rung: &Notify, mut more: impl FnMut(&mut Books) -> bool + Send) {
        let mut under_way = FuturesUnordered::new();
        let mut left = COMMITS_AT_ONCE;
        loop {
            while left > 0
                && under_way.len() < COMMITS_ABREAST
                && let Some((txn, batch)) = self.books.assemble(&self.limits, self.most)
            {
                left -= 1;
                under_way.push(send(Arc::clone(&self.store), core, txn, batch));
            }
            // Once they are sent, and before they are waited for.
            let settled = match under_way.next().now_or_never() {
                None if more(&mut self.books) => continue,
                None => tokio::select! {
                    biased;
                    settled = under_way.next() => settled,
                    () = rung.notified(), if left > 0 && under_way.len() < COMMITS_ABREAST => continue,
                },
                settled => settled.flatten(),
            };
            let Some((batch, sent)) = settled else { return };
            if !matches!(sent, Some(Ok(Write::Applied(_)))) {
                left = 0;
            }
            self.settle(core, batch, sent);
        }
    }

    /// Takes note of what became of a commit; of nothing, if the session was lost meanwhile.
    fn settle(&mut self, core: &Core, batch: Batch, sent: Option<Result<Write>>) {
        match sent {
            None => {}
            Some(Ok(Write::Applied(entries))) => {
                self.pause.reset();
                self.most = self.most.saturating_mul(2).min(self.limits.max_txn_ops);
                self.books.applied(batch, entries);
            }
            Some(Ok(Write::Rejected(rejection))) => self.books.rejected(batch, &rejection),
            Some(Err(error)) if error.kind() == ErrorKind::SessionLost => core.lose(LossReason::Revoked),
            Some(Err(error)) if is_about_one(&error) && batch.len() > 1 => {
                self.most = batch.len() / 2;
                self.books.put_back(batch);
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "registrations are put again");
                self.books.failed(batch, &error);
            }
        }
    }

    /// Works on until nothing is left.
    async fn finish(mut self, core: Arc<Core>) {
        let silent = Notify::new();
        while !self.books.is_empty() && core.loss().is_none() {
            if self.books.is_idle() {
                self.pause().await;
            } else {
                self.step(&core, &silent, |_| false).await;
            }
        }
    }
}

/// One commit, for as long as the session lives.
async fn send<S: Store + ?Sized>(
    store: Arc<S>,
    core: &Core,
    txn: Txn,
    batch: Batch,
) -> (Batch, Option<Result<Write>>) {
    let sent = unless_lost(core, store.commit(txn)).await;
    (batch, sent)
}

/// What stands at these keys of one service, and perhaps at others of it.
async fn read<S: Store + ?Sized>(store: &S, keys: &[Key]) -> Result<Vec<Entry>> {
    match keys {
        [key] => Ok(store.get(key, Consistency::Linearizable).await?.into_iter().collect()),
        [key, ..] => store.list(&key.parent().unwrap_or_else(Key::root), Consistency::Linearizable).await,
        [] => Ok(Vec::new()),
    }
}

/// Whether the commit was refused for something in it, rather than for the state of things.
fn is_about_one(error: &Error) -> bool {
    error.outcome() == Outcome::NotApplied && !error.is_transient()
}

/// Runs a request for as long as the session lives.
async fn unless_lost<F: Future>(core: &Core, request: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        _ = core.lost() => None,
        answer = request => Some(answer),
    }
}
