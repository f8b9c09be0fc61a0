//! That Redis starts, fails and comes back as ordered, alone, as a cluster and under sentinels, as its own `redis-cli` sees it.

use std::path::Path;

use libtest_mimic::Trial;

use crate::servers::certificates::{Certificates, Identity};
use crate::servers::redis::sentinels::{NAME, SENTINELS, Sentinels};
use crate::servers::redis::{Copied as _, Options, PASSWORD, Redis, USER, Version};
use crate::servers::{Cluster as _, PATIENCE, Release as _, until};
use crate::{refused, trial};

pub(crate) fn trials() -> Vec<Trial> {
    Version::tried().iter().flat_map(|version| of_version(*version)).collect()
}

fn of_version(version: Version) -> Vec<Trial> {
    let name = |what: &str| format!("redis::{}::{what}", version.name());
    vec![
        trial(name("restarts_with_its_data_and_without"), move || one_server(version)),
        trial(name("tls_takes_only_whom_the_authority_signed"), move || tls(version)),
        trial(name("auth_takes_only_who_knows_the_password"), move || auth(version)),
        trial(name("auth_lets_a_restart_keep_what_scripts_wrote"), move || replayed(version)),
        trial(name("a_replica_of_a_cluster_takes_over"), move || taken_over(version)),
        trial(name("a_cluster_with_tls_and_auth_is_wiped"), move || all_at_once(version)),
        trial(name("sentinels_replace_a_primary_that_is_killed"), move || replaced(version)),
        trial(name("who_is_cut_off_lacks_what_was_written_since"), move || cut_off(version)),
    ]
}

async fn one_server(version: Version) {
    let mut redis = Options::new(version).flag("--maxclients").flag("99").start().await;
    let info = redis.cli(&["INFO", "server"]).await.expect("it answers");
    let field = if version == Version::Valkey8_1 { "valkey_version" } else { "redis_version" };
    assert!(info.contains(&format!("{field}:{}.", version.number())), "{info}");
    assert_eq!(redis.cli(&["CONFIG", "GET", "maxclients"]).await.as_deref(), Ok("maxclients\n99"));

    redis.cli(&["SET", "a", "1"]).await.expect("it is set");
    redis.restart(0).await;
    assert_eq!(redis.cli(&["GET", "a"]).await.as_deref(), Ok("1"));
    redis.wipe().await;
    assert_eq!(redis.cli(&["GET", "a"]).await.as_deref(), Ok(""));
    redis.kill(0);
    refused(&redis.cli(&["GET", "a"]).await, "Connection refused");
}

async fn tls(version: Version) {
    let redis = Options::new(version).tls().flag("--loglevel").flag("verbose").start().await;
    let Certificates { authority, client, wrong_authority, stranger, .. } =
        redis.certificates().expect("it has some");
    // The first shows that the others fail for their reasons, which the client or the server's log tells.
    let attempts: [(Option<&Path>, Option<&Identity>, Option<&str>); 5] = [
        (Some(authority), Some(client), None),
        (Some(authority), None, Some("peer did not return a certificate")),
        (Some(authority), Some(stranger), Some("certificate verify failed")),
        (Some(wrong_authority), Some(client), Some("alert unknown ca")),
        (None, None, Some("wrong version number")),
    ];
    for (authority, client, refusal) in attempts {
        let mut cli = redis.bare_cli(redis.addresses()[0]);
        if let Some(authority) = authority {
            cli.arg("--tls").arg("--cacert").arg(authority);
        }
        if let Some(Identity { certificate, key }) = client {
            cli.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        let output = cli.args(["SET", "a", "1"]).output().await.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), refusal.is_none(), "{said}");
        let told = refusal.unwrap_or_default();
        until("the reason is told", PATIENCE, async || {
            let all = format!("{said}{}", redis.log(0));
            if all.contains(told) { Ok(()) } else { Err(format!("{told:?} is not in {all}")) }
        })
        .await;
    }
}

async fn auth(version: Version) {
    let redis = Options::new(version).auth().start().await;
    let as_whom = async |user, words: &[&str]| redis.cli_as(user, redis.addresses()[0], words).await;
    let known = Some((USER, PASSWORD));
    assert_eq!(as_whom(known, &["SET", "{quorate}:a", "1"]).await.as_deref(), Ok("OK"));
    refused(&as_whom(known, &["SET", "a", "1"]).await, "NOPERM");
    refused(&as_whom(known, &["FLUSHALL"]).await, "NOPERM");
    refused(&as_whom(None, &["GET", "{quorate}:a"]).await, "NOAUTH");
    refused(&as_whom(Some((USER, "wrong")), &["GET", "{quorate}:a"]).await, "WRONGPASS");
}

async fn replayed(version: Version) {
    let mut redis = Options::new(version).auth().start().await;
    let user = Some((USER, PASSWORD));
    let write = ["EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "{quorate}:a"];
    redis.cli_as(user, redis.addresses()[0], &write).await.expect("it is set");
    redis.restart(0).await;
    assert_eq!(redis.cli(&["GET", "{quorate}:a"]).await.as_deref(), Ok("1"));
}

async fn taken_over(version: Version) {
    let mut cluster = Options::new(version).members(6).start().await;
    cluster.cli(&["-c", "SET", "a", "1"]).await.expect("it is set");
    let first = cluster.owner("a").await;
    let replicas = cluster.all_copied(first).await;
    assert_eq!(replicas.len(), 1);
    cluster.kill(first);
    until("its replica leads", PATIENCE, async || cluster.leads(cluster.addresses()[replicas[0]]).await)
        .await;
    let other = cluster.addresses()[replicas[0]];
    assert_eq!(cluster.cli_via(other, &["GET", "a"]).await.as_deref(), Ok("1"));
    cluster.restart(first).await;
    until("it is a replica now", PATIENCE, async || match cluster.replicas_of(replicas[0]).await {
        now if now == [first] => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .await;
}

async fn all_at_once(version: Version) {
    let mut cluster = Options::new(version).members(3).tls().auth().start().await;
    let set = ["-c", "SET", "a", "1"];
    let get = ["-c", "GET", "a"];
    cluster.cli(&set).await.expect("it is set");
    cluster.restart(1).await;
    cluster.restart_all().await;
    assert_eq!(cluster.cli(&get).await.as_deref(), Ok("1"));
    cluster.wipe().await;
    assert_eq!(cluster.cli(&get).await.as_deref(), Ok(""));
}

/// Where a sentinel says that the primary is.
async fn told(sentinels: &Sentinels, sentinel: usize) -> String {
    let told = sentinels.ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await;
    told.expect("it answers").replace('\n', ":")
}

async fn replaced(version: Version) {
    let mut sentinels = Sentinels::start(Options::new(version).tls().auth()).await;
    sentinels.cli(0, &["SET", "a", "1"]).await.expect("it is set");
    assert_eq!(told(&sentinels, SENTINELS.start).await, sentinels.address(0).to_string());
    sentinels.redis().all_copied(0).await;
    sentinels.kill(0);
    let leader = sentinels.leader().await;
    for sentinel in SENTINELS {
        let there = sentinels.address(leader).to_string();
        until("all know", PATIENCE, async || match told(&sentinels, sentinel).await {
            told if told == there => Ok(()),
            told => Err(told),
        })
        .await;
    }
    assert_eq!(sentinels.cli(leader, &["GET", "a"]).await.as_deref(), Ok("1"));
    sentinels.restart(0).await;
    until("it is a replica now", PATIENCE, async || match sentinels.leads(sentinels.address(0)).await {
        Ok(()) => Err("not yet".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
}

async fn cut_off(version: Version) {
    let mut sentinels = Sentinels::start(Options::new(version)).await;
    sentinels.cli(0, &["SET", "a", "1"]).await.expect("it is set");
    let replicas = Redis::cut_off(&mut sentinels, 0).await;
    assert_eq!(replicas, [1, 2]);
    sentinels.cli(0, &["SET", "b", "1"]).await.expect("it is acknowledged");
    sentinels.kill(0);
    for replica in &replicas {
        sentinels.resume(*replica);
    }
    let leader = sentinels.leader().await;
    assert_eq!(sentinels.cli(leader, &["GET", "a"]).await.as_deref(), Ok("1"));
    assert_eq!(sentinels.cli(leader, &["GET", "b"]).await.as_deref(), Ok(""));
}
