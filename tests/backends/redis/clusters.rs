//! A cluster: its slots move, and fail over, and what that costs is told.

use libtest_mimic::Trial;
use quorate::kv::StoreExt;

use super::{connect, failover, trial};
use crate::servers::redis::{Options, Redis, Version};
use crate::servers::{Cluster as _, PATIENCE, until};

/// The key whose slot all others are in.
const META: &str = "{quorate}:meta";

pub(super) fn trials(version: Version) -> Vec<Trial> {
    let name = |what: &str| format!("clusters::{what}");
    vec![
        trial(version, &name("what_a_failover_lost_is_told"), |version| async move {
            let (cluster, owner) = start(version).await;
            failover::loses(cluster, owner).await;
        }),
        trial(version, &name("what_was_lost_is_told_though_others_wrote_more_since"), |version| async move {
            let (cluster, owner) = start(version).await;
            failover::overtaken(cluster, owner).await;
        }),
        trial(version, &name("a_failover_that_loses_nothing_costs_no_lock"), killed),
        trial(version, &name("a_place_that_replicas_do_not_confirm_is_given_back"), |version| async move {
            let (cluster, owner) = start(version).await;
            failover::confirms(cluster, owner, 1).await;
        }),
    ]
}

/// Three primaries with a replica each, and the one of our slot.
async fn start(version: Version) -> (Redis, usize) {
    let cluster = Options::new(version).members(6).start().await;
    connect(&cluster.url("")).await.put("a", "1").await.expect("it is put");
    let owner = cluster.owner(META).await;
    (cluster, owner)
}

async fn killed(version: Version) {
    let (cluster, owner) = start(version).await;
    let mut cluster = failover::keeps(cluster, owner, Redis::kill).await;
    cluster.restart(owner).await;
    // Whoever asks a node that is a replica by now is told where the primary is.
    let store = connect(&cluster.url_via(&cluster.addresses()[owner..=owner], "")).await;
    until("it is led there", PATIENCE, async || {
        store.put("p/b", "1").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    store.fetch("p/a").await.expect("it answers").expect("it is there");
}
