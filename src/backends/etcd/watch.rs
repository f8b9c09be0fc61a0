//! One watch: a snapshot, then changes from the shared stream, resumed where they broke off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchResponse};

use super::endpoints::Endpoints;
use super::hub::{Hub, Told, Watcher, refusal};
use super::keys::{self, Range};
use super::{BACKEND, reads};
use crate::kv::{Consistency, Error, ErrorKind, Event, Outcome, Result, Scope};

/// How long a disturbed watch waits before it looks again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a watch does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Takes a snapshot.
    Look,
    /// Hears what the stream says, joining it if need be.
    Hear,
    /// Nothing: the error it told is for good.
    End,
}

/// The state of one watch, between two events.
pub(super) struct Watching {
    endpoints: Arc<Endpoints>,
    hub: Arc<Hub>,
    scope: Scope,
    range: Range,
    next: Next,
    /// Everything up to this revision was told, or is about to be.
    since: i64,
    watcher: Option<Watcher>,
    /// Whether the server has acknowledged the watcher.
    made: bool,
    /// Whether the server has refused a watcher since the last that it made.
    refused: bool,
    disturbed: bool,
    waiting: VecDeque<Event>,
}

impl Watching {
    pub(super) fn new(endpoints: Arc<Endpoints>, hub: Arc<Hub>, scope: Scope) -> Self {
        let range = match &scope {
            Scope::Key(key) => keys::only(key),
            Scope::Prefix(prefix) => keys::below(prefix),
        };
        Self {
            endpoints,
            hub,
            scope,
            range,
            next: Next::Look,
            since: 0,
            watcher: None,
            made: false,
            refused: false,
            disturbed: false,
            waiting: VecDeque::new(),
        }
    }

    /// The next event. Dropped at its await, it is dropped with the whole stream.
    pub(super) async fn step(mut self) -> Option<(Result<Event>, Self)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some((Ok(event), self));
            }
            let event = match self.next {
                Next::Look => self.look().await.map(Some),
                Next::Hear => self.hear().await.map(|()| None),
                Next::End => return None,
            };
            match event {
                Ok(None) => {}
                Ok(Some(snapshot)) => {
                    self.next = Next::Hear;
                    self.disturbed = false;
                    return Some((Ok(snapshot), self));
                }
                Err(error) => {
                    self.watcher = None;
                    self.next = if error.is_transient() { Next::Look } else { Next::End };
                    self.disturbed = true;
                    return Some((Err(error.at(BACKEND, "watch").on(self.scope.key())), self));
                }
            }
        }
    }

    async fn look(&mut self) -> Result<Event> {
        if self.disturbed {
            tokio::time::sleep(PAUSE).await;
        }
        let read = Consistency::Linearizable;
        let (revision, entries) = reads::covered(&self.endpoints, "watch", &self.scope, read).await?;
        self.since = revision;
        Ok(Event::Snapshot(entries))
    }

    /// Hears one message, which may bring many events, or none.
    async fn hear(&mut self) -> Result<()> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => {
                self.made = false;
                none.insert(self.hub.join(self.range.clone(), self.since + 1, self.refused).await?)
            }
        };
        match watcher.told().await {
            Some(Told::Said(message)) => self.take(&message),
            Some(Told::Broken(error)) if !self.made => Err(error),
            // Whatever happened since stands in the server's history.
            Some(Told::Broken(_)) | None => {
                self.watcher = None;
                Ok(())
            }
        }
    }

    fn take(&mut self, message: &WatchResponse) -> Result<()> {
        if message.canceled() {
            return self.cancelled(message);
        }
        if message.created() {
            self.made = true;
            self.refused = false;
            let now = message.header().map(etcd_client::ResponseHeader::revision).unwrap_or_default();
            if now < self.since {
                // The store went back in time, or the member is behind: see what there is now.
                self.look_again();
                return Ok(());
            }
        }
        let since = self.since;
        for event in message.events() {
            let Some(found) = event.kv().filter(|found| found.mod_revision() > since) else { continue };
            self.since = self.since.max(found.mod_revision());
            let event = match event.event_type() {
                EventType::Put => keys::entry(found.clone()).map(Event::Put),
                EventType::Delete => keys::decode(found.key()).map(Event::Delete),
            };
            self.waiting.extend(event.filter(|event| covers(&self.scope, event)));
        }
        Ok(())
    }

    /// The server watches no longer.
    fn cancelled(&mut self, message: &WatchResponse) -> Result<()> {
        if message.compact_revision() > 0 {
            tracing::debug!(scope = ?self.scope, "the history was compacted; looking again");
            self.look_again();
            return Ok(());
        }
        let Some(refusal) = refusal(message) else {
            let why = format!("cancelled: {}", message.cancel_reason());
            return Err(Error::new(ErrorKind::WatchLost, Outcome::NotApplied, why));
        };
        if self.refused {
            return Err(Error::new(ErrorKind::Unauthorized, Outcome::NotApplied, refusal));
        }
        self.refused = true;
        self.watcher = None;
        Ok(())
    }

    fn look_again(&mut self) {
        self.watcher = None;
        self.next = Next::Look;
    }
}

fn covers(scope: &Scope, event: &Event) -> bool {
    match event {
        Event::Put(entry) => scope.covers(&entry.key),
        Event::Delete(key) => scope.covers(key),
        Event::Snapshot(_) => true,
    }
}
