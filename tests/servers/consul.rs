//! That Consul starts, fails and comes back as ordered, as its own `consul` and plain requests see it.

use libtest_mimic::Trial;
use serde_json::json;

use crate::servers::certificates::{Certificates, Identity};
use crate::servers::consul::{Consul, Options, TOKEN, Version};
use crate::servers::{Cluster as _, PATIENCE, Release as _, until};
use crate::{refused, trial};

pub(crate) fn trials() -> Vec<Trial> {
    Version::tried().iter().flat_map(|version| of_version(*version)).collect()
}

fn of_version(version: Version) -> Vec<Trial> {
    let name = |what: &str| format!("consul::{}::{what}", version.name());
    vec![
        trial(name("restarts_with_its_data_and_without"), move || one_member(version)),
        trial(name("three_elect_again_when_the_leader_is_killed"), move || killed(version)),
        trial(name("three_elect_again_when_the_leader_is_paused"), move || paused(version)),
        trial(name("tls_takes_only_whom_the_authority_signed"), move || tls(version)),
        trial(name("auth_takes_only_who_has_the_token"), move || auth(version)),
        trial(name("three_with_tls_and_auth_are_wiped"), move || all_at_once(version)),
    ]
}

async fn put(consul: &Consul, key: &str, value: &str) {
    consul.consul(0, &["kv", "put", key, value]).await.expect("it is put");
}

async fn get(consul: &Consul, member: usize, key: &str) -> Result<String, String> {
    consul.consul(member, &["kv", "get", key]).await
}

const NOTHING: &str = "No key exists";

async fn one_member(version: Version) {
    let mut consul = Options::new(version).flag("-hcl=limits { kv_max_value_size = 2000 }").start().await;
    let runs = consul.api("GET", "/v1/agent/self", "").await["Config"]["Version"].to_string();
    assert!(runs.starts_with(&format!("\"{}.", version.name())), "{runs}");
    let large = "x".repeat(3000);
    refused(&consul.consul(0, &["kv", "put", "large", &large]).await, "3000 bytes) too large");

    put(&consul, "a", "1").await;
    consul.restart(0).await;
    assert_eq!(get(&consul, 0, "a").await.as_deref(), Ok("1"));
    consul.restart_all().await;
    assert_eq!(get(&consul, 0, "a").await.as_deref(), Ok("1"));
    consul.wipe().await;
    refused(&get(&consul, 0, "a").await, NOTHING);
    consul.kill(0);
    refused(&get(&consul, 0, "a").await, "connection refused");
}

async fn killed(version: Version) {
    let mut consul = Options::new(version).members(3).start().await;
    put(&consul, "a", "1").await;
    let first = consul.leader().await;
    consul.kill(first);
    let second = consul.leader().await;
    assert_ne!(first, second);
    until("the others write", PATIENCE, async || consul.consul(second, &["kv", "put", "a", "2"]).await).await;
    consul.restart(first).await;
    // Its own copy of the data, with no help from others.
    until("it catches up", PATIENCE, async || {
        match consul.consul(first, &["kv", "get", "-stale", "a"]).await {
            Ok(value) if value == "2" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn paused(version: Version) {
    let mut consul = Options::new(version).members(3).start().await;
    let first = consul.leader().await;
    consul.pause(first);
    refused(&consul.consul(first, &["kv", "get", "-stale", "a"]).await, "deadline has elapsed");
    let second = consul.leader().await;
    assert_ne!(first, second);
    consul.resume(first);
    until("it serves again", PATIENCE, async || consul.consul(first, &["kv", "put", "a", "1"]).await).await;
    assert_eq!(get(&consul, second, "a").await.as_deref(), Ok("1"));
}

async fn tls(version: Version) {
    let consul = Options::new(version).tls().start().await;
    let Certificates { authority, client, wrong_authority, stranger, .. } =
        consul.certificates().expect("it has some");
    // The first shows that the others fail for their reasons.
    let attempts = [
        ("https", Some(authority), Some(client), None),
        ("https", Some(authority), None, Some("bad certificate")),
        ("https", Some(authority), Some(stranger), Some("bad certificate")),
        ("https", Some(wrong_authority), Some(client), Some("x509: certificate signed by unknown authority")),
        ("http", None, None, Some("Client sent an HTTP request to an HTTPS server")),
    ];
    for (scheme, authority, client, refusal) in attempts {
        let mut command = consul.bare_consul();
        command.args(["kv", "put", &format!("-http-addr={scheme}://{}", consul.addresses()[0])]);
        if let Some(authority) = authority {
            command.arg("-ca-file").arg(authority);
        }
        if let Some(Identity { certificate, key }) = client {
            command.arg("-client-cert").arg(certificate).arg("-client-key").arg(key);
        }
        command.args(["a", "1"]);
        // A refusal of the client may get lost, as the server closes the connection that the request is being written to.
        until("the reason is heard", PATIENCE, async || {
            let output = command.output().await.expect("it runs");
            let reason = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), refusal.is_none(), "{reason}");
            if reason.contains(refusal.unwrap_or_default()) { Ok(()) } else { Err(reason.into_owned()) }
        })
        .await;
    }
}

async fn auth(version: Version) {
    let consul = Options::new(version).auth().start().await;
    let address = format!("-http-addr=http://{}", consul.addresses()[0]);
    let as_whom = async |token: &str, words: &[&str]| {
        let mut command = consul.bare_consul();
        command.args(&words[..2]).arg(&address).arg(format!("-token={token}")).args(&words[2..]);
        let output = command.output().await.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    };
    as_whom(TOKEN, &["kv", "put", "a", "1"]).await.expect("it may write");
    assert_eq!(as_whom(TOKEN, &["kv", "get", "a"]).await.as_deref(), Ok("1"));
    refused(&as_whom("", &["kv", "put", "a", "1"]).await, "Permission denied");
    refused(
        &as_whom("11111111-2222-3333-4444-555555555555", &["kv", "put", "a", "1"]).await,
        "ACL not found",
    );
    refused(&as_whom(TOKEN, &["acl", "set-agent-token", "default", "x"]).await, "Permission denied");
}

async fn all_at_once(version: Version) {
    let mut consul = Options::new(version).members(3).tls().auth().start().await;
    put(&consul, "a", "1").await;
    let leader = consul.leader().await;
    consul.restart(leader).await;
    assert_eq!(get(&consul, leader, "a").await.as_deref(), Ok("1"));
    consul.wipe().await;
    refused(&get(&consul, 0, "a").await, NOTHING);
    // What the token may do is there again, and it is no more.
    let session = json!({ "TTL": "10s" }).to_string();
    let made = consul.api("PUT", "/v1/session/create", &session).await;
    assert!(made["ID"].is_string(), "{made}");
}
