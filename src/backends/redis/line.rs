//! The connection that a listener has, for as long as it serves.

use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use tokio::time::{Instant, timeout};

use super::channel::{Channel, Said};
use super::error::{Fault, classify};
use super::hearing::Hearing;
use super::servers::Servers;
use crate::kv::{Error, Key, Result, Version};

pub(super) struct Line {
    channel: Channel,
    address: String,
    /// What everything is published as.
    all: String,
    /// How long the server may take to answer.
    patience: Duration,
    /// When to ask how the store stands.
    pub(super) quiet: Instant,
    /// How it stood when we asked whether the connection is there still; the answer is to come.
    pub(super) asked: Option<Seen>,
}

/// How the store stood when it was asked.
pub(super) struct Seen {
    pub(super) revision: u64,
    /// The version that stood at each of some keys, if anything did.
    pub(super) versions: Vec<(Key, Option<Version>)>,
}

impl Line {
    /// Connects, and has the server tell what must be heard in any case.
    pub(super) async fn open(servers: &Arc<Servers>, hearing: &Hearing, quiet: Instant) -> Result<Self> {
        let all = servers.history().stream();
        let first = match hearing {
            Hearing::All(_) => all.clone(),
            Hearing::Keys(_) => single(&all, ""),
        };
        let (channel, address) = servers.listen(&first).await.map_err(|fault| fault.error)?;
        Ok(Self { channel, address, all, patience: servers.times().attempt, quiet, asked: None })
    }

    /// Has the server tell what happens to these keys, too.
    pub(super) async fn subscribe(&mut self, keys: &[&Key]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = keys.iter().map(|key| single(&self.all, key.as_str())).collect();
        let sent = timeout(self.patience, self.channel.subscribe(&names)).await;
        sent.map_err(|_| self.silent())?.map_err(|error| self.broken(error.into()))
    }

    /// What the server says next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Said> {
        let said = self.channel.next().await;
        said.map_err(|error| self.broken(error))
    }

    /// What it says next, when it must say something.
    pub(super) async fn next_soon(&mut self) -> Result<Said> {
        match timeout(self.patience, self.channel.next()).await {
            Ok(said) => said.map_err(|error| self.broken(error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Asks whether it is there still, after the store was seen so. Fails if that was asked before in vain.
    pub(super) async fn ask(&mut self, seen: Seen) -> Result<()> {
        if self.asked.replace(seen).is_some() {
            return Err(self.silent());
        }
        let sent = timeout(self.patience, self.channel.ping()).await;
        sent.map_err(|_| self.silent())?.map_err(|error| self.broken(error.into()))?;
        self.quiet = Instant::now() + self.patience;
        Ok(())
    }

    fn silent(&self) -> Error {
        Fault::silent(&self.address, true).error
    }

    fn broken(&self, error: RedisError) -> Error {
        classify(error, &self.address).error
    }
}

/// Where that is published which happens to just this key; under none, what concerns more than one.
fn single(all: &str, key: &str) -> String {
    format!("{all}:{key}")
}
