//! Sessions: whose life it is, and who ends it.

use std::time::Duration;

use libtest_mimic::Trial;
use quorate::kv::{
    Consistency, ErrorKind, LossReason, Outcome, Renewal, SessionOptions, SessionState, Sessions, StoreExt,
    Txn,
};
use tokio::time::{Instant, sleep};

use super::tap::Tap;
use super::{PATIENCE, SHORT, TTL, connect, held, key, sessions, soon, through, trial};
use crate::servers::zookeeper::{Options, Version};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "the_life_is_what_the_server_grants", negotiated),
        trial(version, "heartbeats_of_the_client_do_not_keep_an_unrenewed_session", unrenewed),
        trial(version, "what_has_a_ttl_outlives_the_store_that_put_it", outlives),
        trial(version, "a_session_that_an_operator_ends_is_noticed", ended),
        trial(version, "a_deleted_place_is_noticed", deleted),
        trial(version, "nobody_ends_the_session_of_another", another),
        trial(version, "a_session_is_suspect_before_it_is_lost", suspect),
        trial(version, "a_blocked_runtime_costs_no_session_that_is_renewed_elsewhere", blocked),
    ]
}

async fn negotiated(version: Version) {
    let zookeeper = Options::new(version).flag("maxSessionTimeout=7000").start().await;
    let store = connect(&zookeeper.url("")).await;
    let long = store.grant(Duration::from_mins(1)).await.expect("it grants");
    assert_eq!(long.ttl, Duration::from_secs(7));
    assert_eq!(store.renew(&long.id).await.expect("it answers"), Renewal::Renewed { ttl: long.ttl });
    let zookeeper = Options::new(version).flag("minSessionTimeout=5000").start().await;
    let store = connect(&zookeeper.url("")).await;
    let short = store.grant(Duration::from_secs(1)).await.expect("it grants");
    assert_eq!(short.ttl, Duration::from_secs(5));
}

async fn unrenewed(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    let began = Instant::now();
    let granted = store.grant(SHORT).await.expect("it grants");
    let bound = Txn::new().put_bound(&key("bound"), "1", &granted.id);
    assert!(store.commit(bound).await.expect("it is answered").is_applied());
    // Nobody drops the store, whose connections go on.
    soon("it goes", async {
        while store.get(&key("bound"), Consistency::Linearizable).await.expect("it answers").is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(began.elapsed() >= granted.ttl, "after {:?}", began.elapsed());
    assert_eq!(store.renew(&granted.id).await.expect("it answers"), Renewal::Lost);
    let late = Txn::new().put_bound(&key("bound"), "2", &granted.id);
    let error = store.commit(late).await.expect_err("the session is gone");
    assert_eq!(error.kind(), ErrorKind::SessionLost, "{error}");
}

async fn outlives(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let (ours, theirs) = (connect(&zookeeper.url("")).await, connect(&zookeeper.url("")).await);
    let began = Instant::now();
    ours.put_with_ttl("k", "v", SHORT).await.expect("it is put");
    drop(ours);
    soon("it goes", async {
        while theirs.exists("k").await.expect("it answers") {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(began.elapsed() >= SHORT, "after {:?}", began.elapsed());
}

async fn ended(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let tap = Tap::to(zookeeper.addresses()[0]).await;
    let store = connect(&zookeeper.url_via(&[tap.address], "")).await;
    let guard = held(&store, &sessions(&store, TTL)).await;
    let name = guard.session().to_string();
    let session = tap.granted().into_iter().find(|granted| granted.name() == name).expect("it was granted");
    tap.end(&session).await;
    let began = Instant::now();
    let reason = soon("the loss is noticed", guard.lost()).await;
    assert!(matches!(reason, LossReason::Revoked | LossReason::Deleted), "{reason:?}");
    assert!(began.elapsed() < TTL / 3, "before the next renewal, but {:?}", began.elapsed());
}

async fn deleted(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    let guard = held(&store, &sessions(&store, TTL)).await;
    let mut operator = zookeeper.plain(0).await.expect("it serves");
    let places = store.list(&key_of_the_queue(), Consistency::Linearizable).await.expect("it answers");
    for place in places {
        operator.delete(&format!("/{}", place.key)).await.expect("it is deleted");
    }
    assert_eq!(soon("the loss is noticed", guard.lost()).await, LossReason::Deleted);
    assert!(!guard.is_held());
}

async fn another(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let (ours, theirs) = (connect(&zookeeper.url("")).await, connect(&zookeeper.url("")).await);
    let granted = ours.grant(TTL).await.expect("it grants");
    let error = theirs.revoke(&granted.id).await.expect_err("only its own client can");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unsupported, Outcome::NotApplied), "{error}");
    let bound = Txn::new().put_bound(&key("bound"), "1", &granted.id);
    let error = theirs.commit(bound).await.expect_err("only its own client can");
    assert_eq!(error.kind(), ErrorKind::SessionLost, "{error}");
    let renewed = Renewal::Renewed { ttl: granted.ttl };
    assert_eq!(ours.renew(&granted.id).await.expect("it answers"), renewed);
    ours.revoke(&granted.id).await.expect("it is ours");
    assert_eq!(ours.renew(&granted.id).await.expect("it answers"), Renewal::Lost);
}

async fn suspect(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let (proxies, store) = through(&zookeeper, "").await;
    // Long enough for a slow machine to be connected again in time.
    let session = sessions(&store, 2 * TTL).current().await.expect("a session");
    let becomes = async |awaited: SessionState| {
        until("it is told", PATIENCE, async || match session.state() {
            state if state == awaited => Ok(()),
            other => Err(format!("{other:?}, not {awaited:?}")),
        })
        .await;
    };
    becomes(SessionState::Live).await;
    proxies[0].refuse();
    becomes(SessionState::Suspect).await;
    assert!(session.is_live(), "for as long as its life goes");
    proxies[0].heal();
    becomes(SessionState::Live).await;
}

fn key_of_the_queue() -> quorate::kv::Key {
    quorate::kv::Key::decode("_quorate/lock/m").expect("a key")
}

async fn blocked(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let url = format!("{}/?try_timeout=10s&timeout=20s", zookeeper.url(""));
    let test = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = connect(&url).await;
            let options = SessionOptions::new(SHORT).own_thread(true);
            let sessions = Sessions::new(&store, options).expect("such sessions are possible");
            let guard = held(&store, &sessions).await;
            // Nothing runs on this runtime for longer than the session lives unrenewed.
            let (_silent, never) = std::sync::mpsc::sync_channel::<()>(1);
            never.recv_timeout(SHORT + Duration::from_secs(2)).expect_err("nobody sends");
            assert!(guard.is_held());
            guard.put("guarded", "1").await.expect("it holds");
        });
    });
    test.await.expect("it does not panic");
}
