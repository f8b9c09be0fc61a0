//! What travels between the processes, and as what.

use std::time::Duration;

use bytes::Bytes;
use quorate::kv::{
    Check, Consistency, Delivery, Entered, Entry, Error, ErrorKind, Event, Fence, FenceScope, Grant, Key,
    Limits, Outcome, Place, PlaceRef, Put, Queue, Rejection, Renewal, Result, Scope, SessionId, Txn, Version,
    Write,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// One thing, and which request it belongs to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Frame<T> {
    pub(super) id: u64,
    pub(super) body: T,
}

pub(super) async fn send<T: Serialize + Sync>(
    into: &mut (impl AsyncWrite + Unpin + Send),
    frame: &Frame<T>,
) -> std::io::Result<()> {
    let json = serde_json::to_vec(frame)?;
    let len = u32::try_from(json.len()).map_err(std::io::Error::other)?;
    into.write_u32(len).await?;
    into.write_all(&json).await?;
    into.flush().await
}

/// The next frame; an error also at the end.
pub(super) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin + Send),
) -> std::io::Result<Frame<T>> {
    let len = from.read_u32().await?;
    let mut json = vec![0; usize::try_from(len).map_err(std::io::Error::other)?];
    from.read_exact(&mut json).await?;
    Ok(serde_json::from_slice(&json)?)
}

/// What is asked of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Limits,
    Get {
        key: String,
        local: bool,
    },
    List {
        prefix: String,
        local: bool,
    },
    Commit {
        checks: Vec<WireCheck>,
        puts: Vec<WirePut>,
        deletes: Vec<String>,
    },
    DeletePrefix {
        prefix: String,
    },
    Grant {
        ttl: Duration,
    },
    Renew {
        session: String,
    },
    Revoke {
        session: String,
    },
    /// Makes a watch, which goes by the id of this request.
    Watch {
        key: String,
        prefix: bool,
    },
    /// The next event of a watch.
    Told {
        watch: u64,
    },
    /// Drops a watch; not answered.
    Unwatch {
        watch: u64,
    },
    Enter {
        queue: WireQueue,
        session: String,
        ticket: String,
        value: WireBytes,
        limit: usize,
    },
    Ahead {
        place: WirePlace,
        limit: usize,
    },
    Leave {
        place: WirePlace,
    },
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Failed(WireError),
    Limits(WireLimits),
    Entry(Option<WireEntry>),
    Entries(Vec<WireEntry>),
    Rejected { key: String, found: Option<WireEntry> },
    Count(u64),
    Grant { id: String, ttl: Duration },
    Renewed(Option<Duration>),
    Done,
    Snapshot(Vec<WireEntry>),
    Put(WireEntry),
    Delete(String),
    End,
    Entered { place: WirePlace, ahead: Vec<WirePlaceRef> },
    Ahead(Option<Vec<WirePlaceRef>>),
    Left(bool),
}

/// Bytes as hexadecimal digits: JSON has no bytes, and a list of numbers is slow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireBytes(String);

impl From<&Bytes> for WireBytes {
    fn from(bytes: &Bytes) -> Self {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
        Self(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
    }
}

impl WireBytes {
    pub(super) fn read(&self) -> Bytes {
        let digit =
            |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
        self.0.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireEntry {
    key: String,
    value: WireBytes,
    /// As text: JSON numbers are not safe beyond 64 bits.
    version: String,
    fence: Fence,
    session: Option<String>,
}

impl From<&Entry> for WireEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            key: entry.key.to_string(),
            value: WireBytes::from(&entry.value),
            version: entry.version.raw().to_string(),
            fence: entry.fence,
            session: entry.session.as_ref().map(ToString::to_string),
        }
    }
}

impl WireEntry {
    pub(super) fn read(self) -> Result<Entry> {
        let version = self.version.parse().map_err(|_| garbled("a version"))?;
        let session = self.session.map(SessionId::new);
        Ok(Entry::new(Key::decode(&self.key)?, self.value.read(), Version::new(version), self.fence, session))
    }
}

pub(super) fn entries(entries: &[Entry]) -> Vec<WireEntry> {
    entries.iter().map(WireEntry::from).collect()
}

pub(super) fn read_entries(entries: Vec<WireEntry>) -> Result<Vec<Entry>> {
    entries.into_iter().map(WireEntry::read).collect()
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireCheck {
    Absent(String),
    Version(String, String),
    Stands(String, Fence),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WirePut {
    key: String,
    value: WireBytes,
    session: Option<String>,
}

impl From<&Txn> for Request {
    fn from(txn: &Txn) -> Self {
        let check = |check: &Check| match check {
            Check::Absent(key) => WireCheck::Absent(key.to_string()),
            Check::Version(key, version) => WireCheck::Version(key.to_string(), version.raw().to_string()),
            Check::Stands(key, fence) => WireCheck::Stands(key.to_string(), *fence),
        };
        let put = |put: &Put| WirePut {
            key: put.key.to_string(),
            value: WireBytes::from(&put.value),
            session: put.session.as_ref().map(ToString::to_string),
        };
        Self::Commit {
            checks: txn.checks().iter().map(check).collect(),
            puts: txn.puts().iter().map(put).collect(),
            deletes: txn.deletes().iter().map(ToString::to_string).collect(),
        }
    }
}

pub(super) fn read_txn(checks: Vec<WireCheck>, puts: Vec<WirePut>, deletes: Vec<String>) -> Result<Txn> {
    let mut txn = Txn::new();
    for check in checks {
        txn = txn.check(match check {
            WireCheck::Absent(key) => Check::Absent(Key::decode(&key)?),
            WireCheck::Version(key, version) => {
                let version = version.parse().map_err(|_| garbled("a version"))?;
                Check::Version(Key::decode(&key)?, Version::new(version))
            }
            WireCheck::Stands(key, fence) => Check::Stands(Key::decode(&key)?, fence),
        });
    }
    for put in puts {
        let session = put.session.map(SessionId::new);
        txn = txn.entry(Put { key: Key::decode(&put.key)?, value: put.value.read(), session });
    }
    for key in deletes {
        txn = txn.delete(&Key::decode(&key)?);
    }
    Ok(txn)
}

impl From<&Write> for Reply {
    fn from(write: &Write) -> Self {
        match write {
            Write::Applied(made) => Self::Entries(entries(made)),
            Write::Rejected(Rejection { key, found }) => {
                Self::Rejected { key: key.to_string(), found: found.as_ref().map(WireEntry::from) }
            }
        }
    }
}

impl From<&Event> for Reply {
    fn from(event: &Event) -> Self {
        match event {
            Event::Snapshot(all) => Self::Snapshot(entries(all)),
            Event::Put(entry) => Self::Put(entry.into()),
            Event::Delete(key) => Self::Delete(key.to_string()),
        }
    }
}

impl From<&Scope> for Request {
    fn from(scope: &Scope) -> Self {
        Self::Watch { key: scope.key().to_string(), prefix: matches!(scope, Scope::Prefix(_)) }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireQueue {
    key: String,
    native: bool,
}

impl From<&Queue> for WireQueue {
    fn from(queue: &Queue) -> Self {
        Self { key: queue.key().to_string(), native: queue.is_native() }
    }
}

impl WireQueue {
    pub(super) fn read(&self) -> Result<Queue> {
        let key = Key::decode(&self.key)?;
        Ok(if self.native { Queue::native(key) } else { Queue::lock("any")?.at(key) })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WirePlace {
    queue: WireQueue,
    key: String,
    fence: Fence,
    session: String,
    ticket: String,
}

impl From<&Place> for WirePlace {
    fn from(place: &Place) -> Self {
        Self {
            queue: WireQueue::from(&place.queue),
            key: place.key.to_string(),
            fence: place.fence,
            session: place.session.to_string(),
            ticket: place.ticket.to_string(),
        }
    }
}

impl WirePlace {
    pub(super) fn read(self) -> Result<Place> {
        Ok(Place {
            queue: self.queue.read()?,
            key: Key::decode(&self.key)?,
            fence: self.fence,
            session: SessionId::new(self.session),
            ticket: self.ticket.parse()?,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WirePlaceRef {
    key: String,
    fence: Fence,
    ticket: Option<String>,
}

pub(super) fn places(places: &[PlaceRef]) -> Vec<WirePlaceRef> {
    let place = |place: &PlaceRef| WirePlaceRef {
        key: place.key.to_string(),
        fence: place.fence,
        ticket: place.ticket.map(|ticket| ticket.to_string()),
    };
    places.iter().map(place).collect()
}

pub(super) fn read_places(places: Vec<WirePlaceRef>) -> Result<Vec<PlaceRef>> {
    let place = |place: WirePlaceRef| {
        let ticket = place.ticket.map(|ticket| ticket.parse()).transpose()?;
        Ok(PlaceRef { key: Key::decode(&place.key)?, fence: place.fence, ticket })
    };
    places.into_iter().map(place).collect()
}

impl From<&Entered> for Reply {
    fn from(entered: &Entered) -> Self {
        Self::Entered { place: WirePlace::from(&entered.place), ahead: places(&entered.ahead) }
    }
}

impl From<&Grant> for Reply {
    fn from(grant: &Grant) -> Self {
        Self::Grant { id: grant.id.to_string(), ttl: grant.ttl }
    }
}

impl From<Renewal> for Reply {
    fn from(renewal: Renewal) -> Self {
        Self::Renewed(match renewal {
            Renewal::Renewed { ttl } => Some(ttl),
            Renewal::Lost => None,
        })
    }
}

pub(super) fn consistency(local: bool) -> Consistency {
    if local { Consistency::Local } else { Consistency::Linearizable }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireLimits {
    backend: String,
    max_key: usize,
    max_value: usize,
    max_txn_ops: usize,
    max_txn_bytes: usize,
    ttl: (Duration, Duration),
    slack: Duration,
    slack_percent: u32,
    margin_percent: u32,
    polled: Option<Duration>,
    coalesces: bool,
    store_wide: bool,
}

impl From<&Limits> for WireLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            backend: limits.backend.to_owned(),
            max_key: limits.max_key,
            max_value: limits.max_value,
            max_txn_ops: limits.max_txn_ops,
            max_txn_bytes: limits.max_txn_bytes,
            ttl: (*limits.ttl.start(), *limits.ttl.end()),
            slack: limits.slack,
            slack_percent: limits.slack_percent,
            margin_percent: limits.margin_percent,
            polled: match limits.delivery {
                Delivery::Pushed => None,
                Delivery::Polled { every } => Some(every),
            },
            coalesces: limits.coalesces,
            store_wide: limits.fence == FenceScope::Store,
        }
    }
}

impl WireLimits {
    pub(super) fn read(self) -> Limits {
        let mut limits = Limits::new(leaked(self.backend));
        limits.max_key = self.max_key;
        limits.max_value = self.max_value;
        limits.max_txn_ops = self.max_txn_ops;
        limits.max_txn_bytes = self.max_txn_bytes;
        limits.ttl = self.ttl.0..=self.ttl.1;
        limits.slack = self.slack;
        limits.slack_percent = self.slack_percent;
        limits.margin_percent = self.margin_percent;
        limits.delivery = self.polled.map_or(Delivery::Pushed, |every| Delivery::Polled { every });
        limits.coalesces = self.coalesces;
        limits.fence = if self.store_wide { FenceScope::Store } else { FenceScope::Queue };
        limits
    }
}

/// A name that lives as long as the process: there are few, and the test is soon over.
fn leaked(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

/// An error with all that decides what a caller does; the rest travels in its text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireError {
    kind: String,
    unknown: bool,
    message: String,
    key: Option<String>,
}

const KINDS: [ErrorKind; 8] = [
    ErrorKind::Unavailable,
    ErrorKind::SessionLost,
    ErrorKind::WatchLost,
    ErrorKind::FenceRegression,
    ErrorKind::Unauthorized,
    ErrorKind::InvalidInput,
    ErrorKind::Unsupported,
    ErrorKind::Internal,
];

impl From<&Error> for WireError {
    fn from(error: &Error) -> Self {
        let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})")).unwrap_or_default();
        Self {
            kind: format!("{:?}", error.kind()),
            unknown: error.outcome() == Outcome::Unknown,
            message: format!("{error}{cause}"),
            key: error.key().map(ToString::to_string),
        }
    }
}

impl WireError {
    pub(super) fn read(self) -> Error {
        let kind =
            KINDS.into_iter().find(|kind| format!("{kind:?}") == self.kind).unwrap_or(ErrorKind::Internal);
        let outcome = if self.unknown { Outcome::Unknown } else { Outcome::NotApplied };
        let error = Error::new(kind, outcome, self.message).at("remote", "");
        match self.key.and_then(|key| Key::decode(&key).ok()) {
            Some(key) => error.on(&key),
            None => error,
        }
    }
}

/// What was received makes no sense.
pub(super) fn garbled(what: &str) -> Error {
    Error::new(ErrorKind::Internal, Outcome::Unknown, format!("{what} came garbled from the other process"))
}
