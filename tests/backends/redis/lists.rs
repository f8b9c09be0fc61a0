//! Lists of so many entries that plain commands read them, and not the script that names them.

use std::sync::Arc;

use libtest_mimic::Trial;
use quorate::kv::{Consistency, Coordinator, Entry, SessionStore as _, Store as _, StoreExt as _, Txn};

use super::{TTL, connect, key, start, trial};
use crate::servers::Cluster as _;
use crate::servers::redis::Version;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "a_long_list_is_of_one_moment", moment),
        trial(version, "a_long_list_leaves_out_the_dead", dead),
        trial(version, "a_long_list_leaves_out_what_is_reserved", reserved),
    ]
}

/// More than a script reads.
const MANY: usize = 200;

async fn list(store: &Arc<dyn Coordinator>, prefix: &str) -> Vec<Entry> {
    store.list(&key(prefix), Consistency::Linearizable).await.expect("it answers")
}

async fn fill(store: &Arc<dyn Coordinator>, prefix: &str, count: usize) {
    for nth in 0..count {
        store.put(format!("{prefix}/{nth:03}").as_str(), "0").await.expect("it is put");
    }
}

/// However fast it changes: each write counts one up and adds an entry, and no list has the one without the other.
async fn moment(version: Version) {
    let redis = start(version).await;
    let (store, other) = (connect(&redis.url("")).await, connect(&redis.url("")).await);
    fill(&store, "p", MANY).await;
    let first = key("p/000");
    let writes = async {
        for count in 1..=300 {
            let added = key(&format!("p/x{count:03}"));
            let txn = Txn::new().put(&first, count.to_string()).put(&added, "1");
            assert!(other.commit(txn).await.expect("it answers").is_applied());
        }
    };
    let lists = async {
        loop {
            let listed = list(&store, "p").await;
            let counted = listed[0].value.as_ref();
            let counted = std::str::from_utf8(counted).expect("text").parse::<usize>().expect("a number");
            assert_eq!(listed.len(), MANY + counted, "as many were added as were counted");
            if counted == 300 {
                break;
            }
        }
    };
    tokio::join!(writes, lists);
}

async fn dead(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    fill(&store, "p", MANY).await;
    let dying = store.grant(TTL).await.expect("a session").id;
    let living = store.grant(TTL).await.expect("a session").id;
    for (name, session) in [("dying", &dying), ("living", &living)] {
        let txn = Txn::new().put_bound(&key(&format!("p/{name}")), "1", session);
        assert!(store.commit(txn).await.expect("it answers").is_applied());
    }
    assert_eq!(list(&store, "p").await.len(), MANY + 2);
    redis.cli(&["DEL", &format!("{{quorate}}:s:{dying}")]).await.expect("it dies");
    let listed = list(&store, "p").await;
    assert_eq!(listed.len(), MANY + 1);
    let bound: Vec<_> = listed.iter().filter(|entry| entry.session.is_some()).collect();
    assert_eq!((bound.len(), bound[0].key.as_str()), (1, "p/living"));
}

async fn reserved(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    fill(&store, "p", MANY).await;
    // What only the library names, between the entries and far below one of them.
    let hidden = ["_quorate/a", "p/_quorate/a", "p/100/b/_quorate/c", "_quorate"];
    for at in hidden {
        let script = "redis.call('SET', '{quorate}:e:' .. ARGV[1], '- 1 1\\n') \
                      redis.call('ZADD', '{quorate}:i', 0, (string.gsub(ARGV[1], '/', '\\0')))";
        redis.cli(&["EVAL", script, "0", at]).await.expect("it is put");
    }
    for shown in ["p", ""] {
        let listed = list(&store, shown).await;
        assert_eq!(listed.len(), MANY, "below {shown:?}");
        assert!(listed.is_sorted_by_key(|entry| entry.key.as_str().to_owned()));
    }
    assert_eq!(list(&store, "p/100").await, [], "a short one leaves it out too");
}
