//! Users that the servers know by SASL.

use libtest_mimic::Trial;
use quorate::backends::{Zookeeper, ZookeeperOptions};
use quorate::kv::{ErrorKind, StoreExt};

use super::connecting::{names, refusal};
use super::{PATIENCE, SHORT, TTL, connect, held, sessions, soon, through, trial};
use crate::proxy::Proxy;
use crate::servers::zookeeper::plain::Plain;
use crate::servers::zookeeper::{Options, PASSWORD, USER, Version, ZooKeeper};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "sasl_lets_in_who_knows_the_password", known),
        trial(version, "where_sasl_is_required_nobody_else_is_let_in", required),
        trial(version, "a_server_without_sasl_is_refused", without),
        trial(version, "sasl_over_tls_is_said_again_on_every_connection", again),
        trial(version, "who_is_refused_for_a_while_is_let_in_later", later),
    ]
}

fn options(zookeeper: &ZooKeeper) -> ZookeeperOptions {
    ZookeeperOptions::new([zookeeper.addresses()[0].to_string()])
}

async fn known(version: Version) {
    let zookeeper = Options::new(version).sasl().start().await;
    let store = connect(&zookeeper.url("")).await;
    store.put("secret/a", "1").await.expect("it is his");
    // By a session of its own, too.
    let guard = held(&store, &sessions(&store, SHORT)).await;
    guard.put("secret/b", "2").await.expect("it holds");

    // With the password of who came last, servers let in users that they do not know: they remember the last name they knew.
    for (user, password) in [(USER, "wrong"), ("stranger", "wrong")] {
        let error = refusal(options(&zookeeper).user(user, password).sasl_digest_md5()).await;
        names(&error, ErrorKind::Unauthorized, &["authentication failed"]);
    }
    // The same name and password by another scheme are somebody else's.
    let digest =
        Zookeeper::connect(options(&zookeeper).user(USER, PASSWORD)).await.expect("anybody may connect");
    let error = digest.fetch("secret/a").await.expect_err("it is not his");
    names(&error, ErrorKind::Unauthorized, &["secret/a"]);
    let mut stranger = Plain::open(zookeeper.addresses()[0], PATIENCE).await.expect("anybody may connect");
    for node in
        ["/secret", "/secret/a", "/secret/a/=", "/_quorate", "/_quorate/generation", "/_quorate/lock/m"]
    {
        assert_eq!(stranger.get(node).await, Err("NoAuth".to_owned()), "{node}");
    }
}

async fn required(version: Version) {
    let zookeeper = Options::new(version).sasl_required().start().await;
    connect(&zookeeper.url("")).await.put("a", "1").await.expect("it is let in");
    for options in [
        options(&zookeeper),
        options(&zookeeper).user(USER, PASSWORD),
        options(&zookeeper).user(USER, "wrong").sasl_digest_md5(),
    ] {
        names(&refusal(options).await, ErrorKind::Unauthorized, &["authentication failed"]);
    }
}

async fn without(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let error = refusal(options(&zookeeper).user(USER, PASSWORD).sasl_digest_md5()).await;
    names(&error, ErrorKind::Unauthorized, &["SASL"]);
}

async fn again(version: Version) {
    let zookeeper = Options::new(version).members(3).tls().sasl().start().await;
    let (proxies, store) = through(&zookeeper, "").await;
    let guard = held(&store, &sessions(&store, TTL)).await;
    for round in 0..10 {
        proxies.iter().for_each(Proxy::cut);
        soon("it is written", async {
            // What was under way may be lost.
            while guard.put("guarded", round.to_string()).await.is_err() {
                assert!(
                    guard.is_held(),
                    "the session outlives its connections, but {:?}",
                    guard.lost().await
                );
            }
        })
        .await;
    }
    let found = store.fetch("guarded").await.expect("it answers").expect("it stands");
    assert_eq!(found.value, "9");
}

async fn later(version: Version) {
    let mut zookeeper = Options::new(version).sasl().start().await;
    let store = connect(&zookeeper.url("")).await;
    store.put("a", "1").await.expect("it is his");
    zookeeper.set_sasl_password("another");
    zookeeper.restart(0).await;
    let error = until("it is refused", PATIENCE, async || match store.fetch("a").await {
        Err(error) if error.kind() == ErrorKind::Unauthorized => Ok(error),
        // The server may not serve yet.
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error.to_string()),
        other => panic!("with a wrong password: {other:?}"),
    })
    .await;
    names(&error, ErrorKind::Unauthorized, &["authentication failed"]);
    zookeeper.set_sasl_password(PASSWORD);
    zookeeper.restart(0).await;
    let fetch = async || store.fetch("a").await.map_err(|error| error.to_string());
    let found = until("it is let in", PATIENCE, fetch).await;
    assert_eq!(found.expect("it stands").value, "1");
}
