//! A primary under sentinels: what a failover costs is told, and the sentinels are asked where it is.

use libtest_mimic::Trial;
use quorate::backends::{Redis, RedisOptions};
use quorate::connect::Schemes;
use quorate::kv::{Error, ErrorKind, StoreExt};

use super::{TTL, connect, failover, held, sessions, trial};
use crate::servers::redis::sentinels::{FINDER_PASSWORD, NAME, SENTINELS, Sentinels};
use crate::servers::redis::{Options, Version};
use crate::servers::{Cluster as _, PATIENCE, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    let name = |what: &str| format!("sentinels::{what}");
    vec![
        trial(version, &name("what_a_failover_lost_is_told"), |version| async move {
            failover::loses(start(version).await, 0).await;
        }),
        trial(version, &name("what_was_lost_is_told_though_others_wrote_more_since"), |version| async move {
            failover::overtaken(start(version).await, 0).await;
        }),
        trial(version, &name("a_failover_that_loses_nothing_costs_no_lock"), killed),
        trial(version, &name("a_paused_primary_comes_back_as_a_replica"), paused),
        trial(version, &name("a_place_that_replicas_do_not_confirm_is_given_back"), |version| async move {
            failover::confirms(start(version).await, 0, 2).await;
        }),
        trial(version, &name("sentinels_have_users_and_tls_of_their_own"), secured),
        trial(version, &name("another_is_asked_for_one_that_is_dead_or_wrong"), others),
    ]
}

async fn start(version: Version) -> Sentinels {
    Sentinels::start(Options::new(version)).await
}

async fn killed(version: Version) {
    let mut sentinels = failover::keeps(start(version).await, 0, Sentinels::kill).await;
    sentinels.restart(0).await;
    is_a_replica(&sentinels).await;
}

async fn paused(version: Version) {
    let mut sentinels = failover::keeps(start(version).await, 0, Sentinels::pause).await;
    sentinels.resume(0);
    is_a_replica(&sentinels).await;
    let store = connect(&sentinels.url("")).await;
    assert_eq!(store.fetch("p/a").await.expect("it answers").expect("it is there").value, "1");
}

/// The first, which was the primary; clients find the other meanwhile.
async fn is_a_replica(sentinels: &Sentinels) {
    let store = connect(&sentinels.url("")).await;
    until("it is a replica", PATIENCE, async || {
        store.put("p/b", "1").await.map_err(|error| error.to_string())?;
        let role = sentinels.cli(0, &["ROLE"]).await?;
        if role.starts_with("slave") && role.contains("connected") { Ok(()) } else { Err(role) }
    })
    .await;
}

async fn refusal(options: RedisOptions) -> Error {
    Redis::connect(options).await.expect_err("it is refused")
}

async fn secured(version: Version) {
    let sentinels = Sentinels::start(Options::new(version).tls().auth()).await;
    let store = connect(&sentinels.url("")).await;
    held(&store, &sessions(&store, TTL)).await.put("guarded", "1").await.expect("it holds");

    let url = sentinels.url("");
    let credentials = "sentinel_user=finder&sentinel_password=f%26nd%3Dr";
    assert!(url.contains(credentials));
    for (wrong, named) in
        [("", "NOAUTH"), ("sentinel_user=finder&sentinel_password=wrong", "authentication failed")]
    {
        let error = Schemes::default().connect(&url.replace(credentials, wrong)).await;
        let error = error.expect_err("the sentinels refuse it");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(format!("{error} {cause}").contains(named), "{error}: {cause}");
        assert!(!format!("{error:?}").contains(FINDER_PASSWORD), "{error:?}");
    }
    // Without TLS nobody answers.
    let hosts = sentinels.addresses().into_iter().map(|address| address.to_string());
    let plain = refusal(RedisOptions::sentinel(NAME, hosts).unsafe_failover()).await;
    assert_eq!(plain.kind(), ErrorKind::Unavailable, "{plain}");
}

async fn others(version: Version) {
    let mut sentinels = start(version).await;
    let url = sentinels.url("");
    let [first, second, third] = [SENTINELS.start, SENTINELS.start + 1, SENTINELS.start + 2];
    sentinels.kill(first);
    // This one believes that a replica is the primary.
    let replica = sentinels.address(1);
    sentinels.ask(second, &["SENTINEL", "REMOVE", NAME]).await.expect("it forgets");
    let misled = ["SENTINEL", "MONITOR", NAME, &replica.ip().to_string(), &replica.port().to_string(), "2"];
    sentinels.ask(second, &misled).await.expect("it believes it");
    let told = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
    let port = sentinels.ask(second, &told).await.expect("it answers");
    assert!(port.ends_with(&replica.port().to_string()), "{port}");
    let store = connect(&url).await;
    store.put("a", "1").await.expect("it is put");

    let hosts = [sentinels.address(first), sentinels.address(second)].map(|address| address.to_string());
    let error = refusal(RedisOptions::sentinel(NAME, hosts).unsafe_failover()).await;
    assert!(error.to_string().contains("READONLY") || error.to_string().contains("read only"), "{error}");
    let host = sentinels.address(third).to_string();
    let error = refusal(RedisOptions::sentinel("other", [host]).unsafe_failover()).await;
    assert!(error.to_string().contains("knows no primary called \"other\""), "{error}");
}
