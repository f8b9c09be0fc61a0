//! What stands where, as other programs see it.

use libtest_mimic::Trial;
use quorate::kv::{Consistency, StoreExt, Txn, Write};

use super::{PATIENCE, TTL, connect, held, key, sessions, trial};
use crate::servers::zookeeper::plain::OPEN;
use crate::servers::zookeeper::{Options, Version};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_value_stands_in_a_node_of_its_own", values),
        trial(version, "foreign_nodes_are_left_alone", strangers),
        trial(version, "empty_directories_go_and_come_back", empty),
        trial(
            version,
            "what_another_program_made_anew_is_not_taken_for_the_old_once_it_is_looked_at",
            remade,
        ),
    ]
}

async fn values(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    store.put("config/db", "1").await.expect("it is put");
    store.put("config", "2").await.expect("it is put");
    let mut operator = zookeeper.plain(0).await.expect("it serves");
    assert_eq!(operator.get("/config/db/=").await.as_deref(), Ok("1"));
    assert_eq!(operator.get("/config/=").await.as_deref(), Ok("2"));
    operator.set("/config/db/=", "3").await.expect("it is set");
    assert_eq!(store.fetch("config/db").await.expect("it answers").expect("it stands").value, "3");
}

async fn strangers(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    let mut operator = zookeeper.plain(0).await.expect("it serves");
    for (node, value) in [("/app", "theirs"), ("/app/leaf", "theirs"), ("/app/%41", "theirs")] {
        operator.create(node, value, OPEN).await.expect("it is made");
    }
    assert!(store.fetch("app/leaf").await.expect("it answers").is_none(), "it has no value of ours");
    assert!(store.create("app/leaf", "ours").await.expect("it is answered").is_applied());
    let listed = store.list(&key("app"), Consistency::Linearizable).await.expect("it answers");
    assert_eq!(listed.len(), 1);
    assert_eq!(store.delete_prefix(&key("app")).await.expect("it is answered"), 1);
    for node in ["/app", "/app/leaf", "/app/%41"] {
        assert_eq!(operator.get(node).await.as_deref(), Ok("theirs"), "{node}");
    }
}

async fn empty(version: Version) {
    // Every minute, unless it is told otherwise.
    let often = "-Dznode.container.checkIntervalMs=200";
    let zookeeper = Options::new(version).flag(often).start().await;
    let store = connect(&zookeeper.url("")).await;
    let sessions = sessions(&store, TTL);
    for round in 0..2 {
        // This client remembers what it made, and must notice that it is gone.
        store.put("a/b/c", round.to_string()).await.expect("it is put");
        held(&store, &sessions).await.release().await;
        store.delete("a/b/c").await.expect("it is deleted");
        let mut operator = zookeeper.plain(0).await.expect("it serves");
        for node in ["/a", "/_quorate/lock"] {
            until("it goes", PATIENCE, async || match operator.get(node).await {
                Err(gone) if gone == "NoNode" => Ok(()),
                other => Err(format!("{node}: {other:?}")),
            })
            .await;
        }
        // The counters stay, without which versions would come again.
        operator.get("/_quorate/generation/places").await.expect("it stands");
    }
}

async fn remade(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    let old = store.put("k", "same").await.expect("it is put");
    let mut operator = zookeeper.plain(0).await.expect("it serves");
    operator.delete("/k/=").await.expect("it is deleted");
    operator.create("/k/=", "same", OPEN).await.expect("it is made");
    // Another client has no memory that could mislead it.
    let other = connect(&zookeeper.url("")).await;
    let found = other.fetch("k").await.expect("it answers").expect("it stands");
    assert!(found.version != old.version && found.fence > old.fence);
    let late = Txn::new().version(&key("k"), old.version).put(&key("k"), "late");
    assert!(matches!(other.commit(late).await.expect("it is answered"), Write::Rejected(_)));
}
