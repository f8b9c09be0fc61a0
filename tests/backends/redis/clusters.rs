//! A cluster: its slots move, and fail over, and what that costs is told.

use libtest_mimic::Trial;
use quorate::kv::{ErrorKind, Outcome, StoreExt};

use super::{TTL, connect, failover, held, sessions, trial};
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
        trial(version, &name("a_slot_that_is_moved_is_followed"), moved),
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

async fn moved(version: Version) {
    let cluster = Options::new(version).members(3).start().await;
    let store = connect(&format!("{}&timeout=2s", cluster.url(""))).await;
    let guard = held(&store, &sessions(&store, TTL * 3)).await;
    let (from, addresses) = (cluster.owner(META).await, cluster.addresses());
    let to = (from + 1) % addresses.len();
    let run = async |member: usize, words: &[&str]| {
        cluster.cli_via(addresses[member], words).await.expect("the cluster does it")
    };
    let slot = run(from, &["CLUSTER", "KEYSLOT", META]).await;
    let (old, new) = (run(from, &["CLUSTER", "MYID"]).await, run(to, &["CLUSTER", "MYID"]).await);
    run(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &old]).await;
    run(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &new]).await;
    let port = addresses[to].port().to_string();
    let migrate = async |keys: &[&str]| {
        let words = [&["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"], keys].concat();
        run(from, &words).await;
    };
    // Half of the keys are here and half are there, which no script can do anything with.
    migrate(&[META]).await;
    let error = store.put("a", "1").await.expect_err("it cannot be written");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
    assert!(error.to_string().contains("Ask: "), "{error}");
    let rest = run(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await;
    migrate(&rest.lines().collect::<Vec<_>>()).await;
    for member in [to, from, 3 - to - from] {
        run(member, &["CLUSTER", "SETSLOT", &slot, "NODE", &new]).await;
    }
    until("it is found there", PATIENCE, async || {
        guard.put("a", "2").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert!(guard.is_held());
    assert_eq!(cluster.owner(META).await, to);
}
