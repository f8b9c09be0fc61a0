//! What is read, and when it was true.

use std::sync::Arc;

use libtest_mimic::Trial;
use quorate::kv::{Consistency, Coordinator, StoreExt};

use super::{connect, key, soon, trial};
use crate::servers::Cluster as _;
use crate::servers::zookeeper::{Options, Version, ZooKeeper};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_leader_that_was_replaced_tells_nothing_old", replaced),
        trial(version, "a_follower_that_is_cut_off_tells_only_what_was_when_it_is_asked_for_that", cut_off),
    ]
}

/// A store that talks to nobody but this member, however long that is silent.
async fn only(zookeeper: &ZooKeeper, member: usize) -> Arc<dyn Coordinator> {
    let url = zookeeper.url_via(&[zookeeper.addresses()[member]], "");
    connect(&format!("{url}?timeout=25s&try_timeout=25s")).await
}

/// One that stood still wakes up and takes itself for the leader as yet.
async fn replaced(version: Version) {
    let mut zookeeper = Options::new(version).members(3).start().await;
    for round in 0..3 {
        let leader = zookeeper.leader().await;
        let (old, all) = (only(&zookeeper, leader).await, connect(&zookeeper.url("")).await);
        soon("it is put", async { while all.put("k", format!("old {round}")).await.is_err() {} }).await;
        old.fetch("k").await.expect("it is connected");
        zookeeper.pause(leader);
        let new = format!("new {round}");
        soon("it is put", async { while all.put("k", new.clone()).await.is_err() {} }).await;
        // The question waits for it when it wakes up.
        let asked = tokio::spawn(async move { old.get(&key("k"), Consistency::Linearizable).await });
        tokio::task::yield_now().await;
        zookeeper.resume(leader);
        if let Ok(found) = soon("it is answered", asked).await.expect("it does not panic") {
            assert_eq!(found.expect("it stands").value, new);
        }
        zookeeper.ready().await;
    }
}

async fn cut_off(version: Version) {
    let zookeeper = Options::new(version).members(3).lines().start().await;
    let leader = zookeeper.leader().await;
    let follower = (leader + 1) % 3;
    let (behind, others) = (only(&zookeeper, follower).await, only(&zookeeper, leader).await);
    others.put("k", "old").await.expect("it is put");
    assert_eq!(behind.fetch("k").await.expect("it answers").expect("it stands").value, "old");
    let lines = zookeeper.lines().expect("it has some");
    lines.cut_off(follower);
    others.put("k", "new").await.expect("a majority is there");
    let local = soon("it is answered", behind.get(&key("k"), Consistency::Local)).await.expect("it answers");
    assert_eq!(local.expect("it stands").value, "old");
    let asked = tokio::spawn(async move { behind.fetch("k").await });
    let gives_up = async || zookeeper.is_deserted(zookeeper.addresses()[follower]).await;
    crate::servers::until("it gives up", super::PATIENCE, gives_up).await;
    assert!(!asked.is_finished(), "nobody could tell");
    lines.mend();
    let found = soon("it is answered", asked).await.expect("it does not panic").expect("it follows again");
    assert_eq!(found.expect("it stands").value, "new");
}
