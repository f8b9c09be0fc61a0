//! Consul keeps no history of its keys, but all its servers keep the log of what was agreed on and apply it one after the
//! other. So the judge reads the log of the leader when all is over, and applies it once more.
//!
//! A blocking query would not do: it tells what stands when it is answered, and whatever came and went in between is
//! never seen. The kit starts the servers so that they never cut their log short, and that it begins at its beginning is
//! checked. That it is applied as Consul does is checked too: in the end the same must stand there, with the same
//! indexes, as the servers answer.

mod bolt;
mod replay;
pub(crate) mod replayed;
mod request;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use self::replay::Replay;
use crate::history::{Change, Historian};
use crate::servers::consul::Consul;
use crate::servers::{Cluster as _, PATIENCE, until};

/// The bucket of the log in its file.
const LOGS: &[u8] = b"logs";

#[async_trait(?Send)]
impl Historian for Consul {
    // It takes no shorter ones.
    const TTL: Duration = Duration::from_secs(10);

    async fn history(&mut self) -> Vec<Change> {
        let leader = self.leader().await;
        let file = self.data()[leader].join("raft/raft.db");
        // What stands changes as long as sessions end, so what was read from the log may not be what was answered.
        until("the log and the answers agree", PATIENCE, async || {
            let stands = self.stands().await;
            self.pause(leader);
            let read = std::fs::read(&file).expect("it has a log");
            self.resume(leader);
            let mut replay = Replay::default();
            let log = bolt::bucket(&read, LOGS);
            for (number, (key, entry)) in log.iter().enumerate() {
                let index = u64::from_be_bytes(key[..].try_into().expect("an index"));
                assert_eq!(index, number as u64 + 1, "the log of {leader} is not complete");
                replay.apply(index, entry);
            }
            let applied = replay.stands();
            if applied == stands { Ok(replay.into_history()) } else { Err(differences(&applied, &stands)) }
        })
        .await
    }
}

impl Consul {
    /// Every entry, as the servers answer.
    async fn stands(&self) -> Vec<Json> {
        let mut entries = match self.api("GET", "/v1/kv/?recurse&consistent", "").await {
            Json::Array(entries) => entries,
            other => panic!("no list: {other}"),
        };
        entries.sort_by_key(|entry| entry["Key"].to_string());
        entries
    }
}

/// What is in only one of them.
fn differences(applied: &[Json], stands: &[Json]) -> String {
    let only = |these: &[Json], those: &[Json]| -> Vec<Json> {
        these.iter().filter(|entry| !those.contains(entry)).cloned().collect()
    };
    json!({ "applied": only(applied, stands), "stands": only(stands, applied) }).to_string()
}
