//! Operators who look, and interfere.

use libtest_mimic::Trial;
use quorate::kv::{
    Consistency, ErrorKind, LossReason, Outcome, QueueStore, Random, SessionStore, Store, StoreExt, Ticket,
    Txn,
};
use quorate::kv::{Mode, Queue};

use super::{SHORT, TTL, connect, held, key, sessions, soon, start, trial};
use crate::servers::Cluster as _;
use crate::servers::redis::Version;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "keys_stand_where_the_layout_says", layout),
        trial(version, "a_deleted_session_is_noticed", deleted_session),
        trial(version, "the_dead_count_for_nothing_before_they_are_buried", unburied),
        trial(version, "a_deleted_place_is_noticed", deleted_place),
        trial(version, "a_flushed_store_is_noticed", flushed),
        trial(version, "flushed_scripts_are_sent_again", scripts),
        trial(version, "with_no_memory_left_nothing_is_half_written", memory),
        trial(version, "a_native_queue_is_refused", native),
    ]
}

async fn layout(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("team")).await;
    let session = store.grant(TTL).await.expect("it grants").id;
    let made = store.commit(Txn::new().put_bound(&key("a*/[b]"), "hello", &session)).await;
    let made = made.expect("it is put").applied().expect("nothing is checked").remove(0);
    let at = "{quorate}:e:team/a*/[b]";
    let stored = redis.cli(&["GET", at]).await.expect("it answers");
    assert_eq!(stored, format!("{session} {} {}\nhello", made.version.raw(), made.fence));
    let bound = redis.cli(&["SMEMBERS", &format!("{{quorate}}:b:{session}")]).await;
    assert_eq!(bound.as_deref(), Ok("team/a*/[b]"));
    let left = redis.cli(&["PTTL", &format!("{{quorate}}:s:{session}")]).await.expect("it answers");
    assert!((1..=10_000).contains(&left.parse::<i64>().expect("a number")), "{left}");
    // Nothing stays of what is gone.
    store.revoke(&session).await.expect("it is revoked");
    let keys = redis.cli(&["KEYS", "*"]).await.expect("it answers");
    let mut keys: Vec<_> = keys.lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["ready", "{quorate}:meta", "{quorate}:w"]);
}

async fn deleted_session(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let guard = held(&store, &sessions(&store, SHORT)).await;
    let at = format!("{{quorate}}:s:{}", guard.session());
    assert_eq!(redis.cli(&["DEL", &at]).await.as_deref(), Ok("1"));
    let reason = soon("the loss is noticed", guard.lost()).await;
    assert!(matches!(reason, LossReason::Revoked | LossReason::Deleted), "{reason:?}");
}

/// Nobody buries this session: it is not due, and none of those who ask keeps one.
async fn unburied(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let random = Random::from_os();
    let ticket = || Ticket::new(Mode::Exclusive, &random);
    let (a, b, c, queue) = (key("p/a"), key("p/b"), key("p/c"), Queue::lock("m").expect("a name"));
    let (dying, living) =
        (store.grant(TTL).await.expect("a session"), store.grant(TTL).await.expect("a session"));
    let bound =
        Txn::new().put_bound(&a, "1", &dying.id).put_bound(&b, "1", &dying.id).put_bound(&c, "1", &dying.id);
    let made = store.commit(bound).await.expect("it is put").applied().expect("nothing is checked");
    let dead = store.enter(&queue, &dying.id, &ticket(), "".into(), 9).await.expect("it enters").place;
    redis.cli(&["DEL", &format!("{{quorate}}:s:{}", dying.id)]).await.expect("it dies");

    assert_eq!(store.fetch("p/a").await.expect("it answers"), None);
    assert_eq!(store.list(&key("p"), Consistency::Linearizable).await.expect("it answers"), []);
    assert_eq!(store.ahead(&dead, 9).await.expect("it answers"), None);
    let entered = store.enter(&queue, &living.id, &ticket(), "".into(), 9).await.expect("it enters");
    assert_eq!(entered.ahead, [], "the dead do not stand in the way");
    let applied = async |txn: Txn| store.commit(txn).await.expect("it answers").is_applied();
    assert!(
        !applied(Txn::new().version(&a, made[0].version).put(&a, "2")).await,
        "what is dead has no version"
    );
    assert!(!applied(Txn::new().stands(&a, made[0].fence).put(&a, "2")).await, "nor does it stand");
    assert!(applied(Txn::new().absent(&a).put(&a, "2")).await, "it is absent");
    let again = store.put("p/b", "2").await.expect("it is put");
    assert!(again.fence > made[1].fence && again.session.is_none(), "made anew: {again:?}");
    let bound = store.commit(Txn::new().put_bound(&c, "2", &living.id)).await.expect("it is put");
    let bound = bound.applied().expect("nothing is checked").remove(0);
    assert!(bound.fence > made[2].fence && bound.session == Some(living.id), "bound anew: {bound:?}");
    // What was made anew does not go with the dead.
    let left = redis.cli(&["SCARD", &format!("{{quorate}}:b:{}", dying.id)]).await;
    assert_eq!(left.as_deref(), Ok("1"), "only the place is left to bury");
}

async fn deleted_place(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let guard = held(&store, &sessions(&store, TTL)).await;
    let other = connect(&redis.url("")).await;
    // The place is below a queue that only the library names.
    let queue = Queue::lock("m").expect("a name");
    assert_eq!(other.delete_prefix(queue.key()).await.expect("it is deleted"), 1);
    assert_eq!(soon("the loss is noticed", guard.lost()).await, LossReason::Deleted);
    assert!(!guard.is_held());
}

async fn flushed(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let ours = sessions(&store, SHORT);
    let guard = held(&store, &ours).await;
    let before = guard.fence();
    redis.cli(&["FLUSHALL"]).await.expect("it is emptied");
    assert_eq!(soon("the loss is noticed", guard.lost()).await, LossReason::FenceRegression);
    drop(guard);
    // What was promised of fences goes on.
    let mutex = quorate::lock::Mutex::new(&store, &ours, "m").expect("a name");
    let again = soon("it is locked again", async {
        loop {
            if let Ok(guard) = mutex.lock().await {
                return guard;
            }
        }
    });
    assert!(again.await.fence() > before);
}

async fn scripts(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    store.put("a", "1").await.expect("it is put");
    redis.cli(&["SCRIPT", "FLUSH"]).await.expect("they are flushed");
    store.put("a", "2").await.expect("it is put");
    assert_eq!(store.fetch("a").await.expect("it answers").expect("it is there").value, "2");
}

async fn memory(version: Version) {
    let redis = start(version).await;
    let store = connect(&format!("{}/?timeout=2s", redis.url(""))).await;
    let session = store.grant(TTL).await.expect("it grants").id;
    let before = store.put("a", "1").await.expect("it is put");
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await.expect("it is set");
    let queue = Queue::lock("m").expect("a name");
    let ticket = Ticket::new(Mode::Exclusive, &Random::from_os());
    let error = store.put("a", "2").await.expect_err("there is no memory");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
    let error = store.enter(&queue, &session, &ticket, "".into(), 1).await.expect_err("there is no memory");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
    let error = store.grant(TTL).await.expect_err("there is no memory");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await.expect("it is set");
    assert_eq!(store.fetch("a").await.expect("it answers"), Some(before));
    assert!(store.enter(&queue, &session, &ticket, "".into(), 1).await.expect("it enters").ahead.is_empty());
}

async fn native(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let session = store.grant(TTL).await.expect("it grants").id;
    let ticket = Ticket::new(Mode::Exclusive, &Random::from_os());
    let queue = Queue::native(key("m"));
    let error = store.enter(&queue, &session, &ticket, "".into(), 1).await.expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("neither order nor fence"), "{error}");
}
