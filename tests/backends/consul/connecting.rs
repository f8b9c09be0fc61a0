//! Who is let in, and what is said to those who are not.

use std::path::Path;

use futures_util::StreamExt;
use libtest_mimic::Trial;
use quorate::backends::{Consul, ConsulOptions};
use quorate::kv::{
    Consistency, Error, ErrorKind, Event, Key, Scope, SessionStore, Store, StoreExt, WatchStore,
};
use serde_json::json;

use super::{TTL, connect, key, soon, trial};
use crate::servers::Cluster as _;
use crate::servers::consul::{Consul as Server, Options, TOKEN, Version};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "whoever_is_not_let_in_is_told_why", refused),
        trial(version, "a_token_may_stand_in_a_file", token_file),
        trial(version, "what_may_not_be_written_is_unauthorized", limited),
        trial(version, "a_datacenter_is_named", datacenter),
        trial(version, "a_namespace_is_a_chroot", namespaced),
        trial(version, "sessions_hang_on_the_node_that_is_named", node),
    ]
}

async fn refusal(options: ConsulOptions) -> Error {
    Consul::connect(options).await.expect_err("it is refused")
}

fn names(error: &Error, kind: ErrorKind, words: &[&str]) {
    let told = error.to_string();
    assert_eq!(error.kind(), kind, "{told}");
    assert!(words.iter().any(|word| told.contains(word)), "none of {words:?} in {told}");
    assert!(!told.contains(TOKEN) && !format!("{error:?}").contains(TOKEN), "{error:?}");
}

async fn refused(version: Version) {
    let consul = Options::new(version).tls().auth().start().await;
    let host = consul.addresses()[0].to_string();
    let certificates = consul.certificates().expect("it has some");
    let with = |authority: &Path| ConsulOptions::new([host.clone()]).ca_file(authority).expect("a file");
    let client = &certificates.client;
    let known = |options: ConsulOptions| {
        options.identity_files(&client.certificate, &client.key).expect("files").token(TOKEN)
    };
    let let_in = known(with(&certificates.authority));
    let store = Consul::connect(let_in.clone()).await.expect("it lets us in");
    assert!(store.limits().server.is_some_and(|server| server.starts_with("Consul 1.")));

    let error = refusal(known(with(&certificates.wrong_authority))).await;
    names(&error, ErrorKind::Unavailable, &["certificate"]);
    let error = refusal(with(&certificates.authority).token(TOKEN)).await;
    names(&error, ErrorKind::Unavailable, &["client certificate"]);
    let error = refusal(let_in.clone().server_name("elsewhere.invalid")).await;
    names(&error, ErrorKind::Unavailable, &["not valid for name"]);
    let error = refusal(let_in.clone().token("11111111-2222-3333-4444-555555555555")).await;
    names(&error, ErrorKind::Unauthorized, &["ACL not found"]);
    let error = refusal(ConsulOptions::new([host.clone()]).token(TOKEN)).await;
    names(&error, ErrorKind::Unavailable, &["HTTPS server"]);
    let error = refusal(ConsulOptions::new(["127.0.0.1:9"])).await;
    names(&error, ErrorKind::Unavailable, &["127.0.0.1:9"]);
    let error = refusal(ConsulOptions::new(["nowhere.invalid"])).await;
    names(&error, ErrorKind::Unavailable, &["nowhere.invalid:8500"]);
    let error = refusal(let_in.clone().datacenter("dc9")).await;
    names(&error, ErrorKind::InvalidInput, &["datacenter"]);
    // One that runs is enough.
    let both = ConsulOptions::new(["127.0.0.1:9".to_owned(), host.clone()]);
    let both = known(both.ca_file(&certificates.authority).expect("a file"));
    Consul::connect(both).await.expect("the second lets us in");
}

async fn token_file(version: Version) {
    let consul = Options::new(version).auth().start().await;
    let host = consul.addresses()[0].to_string();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{TOKEN}\n")).expect("it is written");
    let store = connect(&format!("consul://{host}?token_file={}", file.path().display())).await;
    store.put("a", "1").await.expect("it may");
    let anybody = connect(&format!("consul://{host}")).await;
    let error = anybody.put("a", "1").await.expect_err("nobody may");
    names(&error, ErrorKind::Unauthorized, &["Permission denied"]);
    let error = anybody.grant(TTL).await.expect_err("nobody may");
    names(&error, ErrorKind::Unauthorized, &["Permission denied"]);
}

/// A token that may do what these rules say.
async fn token(consul: &Server, name: &str, rules: &str) -> String {
    let policy = json!({ "Name": name, "Rules": rules }).to_string();
    consul.api("PUT", "/v1/acl/policy", &policy).await;
    let token = json!({ "Policies": [{ "Name": name }] }).to_string();
    let made = consul.api("PUT", "/v1/acl/token", &token).await;
    made["SecretID"].as_str().expect("a token").to_owned()
}

async fn limited(version: Version) {
    let consul = Options::new(version).auth().start().await;
    let rules = r#"key_prefix "team/" { policy = "write" } session "quorate" { policy = "write" }"#;
    let token = token(&consul, "team", rules).await;
    let url = format!("consul://{}", consul.addresses()[0]);
    let store = connect(&format!("{url}?token={token}")).await;
    let error = store.put("elsewhere", "x").await.expect_err("it may not");
    names(&error, ErrorKind::Unauthorized, &["Permission denied"]);
    let error = store.grant(TTL).await.expect_err("the node is not there yet");
    names(&error, ErrorKind::Unauthorized, &["quorate"]);

    // Whoever may registers the node, once.
    let other = connect(&consul.url("")).await;
    let made = other.grant(TTL).await.expect("it registers the node");
    other.revoke(&made.id).await.expect("it is revoked");
    let inside = connect(&format!("{url}/team?token={token}")).await;
    let session = inside.grant(TTL).await.expect("this it may").id;
    inside.put("a", "1").await.expect("and this");
    assert_eq!(inside.list(&Key::root(), Consistency::Linearizable).await.expect("and this").len(), 1);
    let mut watch = inside.watch(Scope::Prefix(Key::root()));
    let told = soon("the watch begins", watch.next()).await;
    assert!(matches!(told, Some(Ok(Event::Snapshot(entries))) if entries.len() == 1));
    inside.delete_prefix(&Key::root()).await.expect("and this");
    let told = soon("the watch goes on", watch.next()).await;
    assert_eq!(told.and_then(Result::ok), Some(Event::Delete(key("a"))));
    inside.revoke(&session).await.expect("and this");
}

async fn datacenter(version: Version) {
    let consul = Options::new(version).start().await;
    let store = connect(&format!("{}?datacenter=dc1", consul.url(""))).await;
    store.put("a", "1").await.expect("it is put");
    let granted = store.grant(TTL).await.expect("it grants");
    store.revoke(&granted.id).await.expect("it is revoked");
}

async fn namespaced(version: Version) {
    let consul = Options::new(version).start().await;
    let store = connect(&consul.url("team/app")).await;
    store.put("motd", "hello").await.expect("it is put");
    let seen = consul.consul(0, &["kv", "get", "team/app/motd"]).await;
    assert_eq!(seen.as_deref(), Ok("hello"));
    store.put("näme.json", "1").await.expect("it is put");
    let seen = consul.consul(0, &["kv", "get", "team/app/n_C3_A4me_2Ejson"]).await;
    assert_eq!(seen.as_deref(), Ok("1"));
}

async fn node(version: Version) {
    let consul = Options::new(version).start().await;
    let store = connect(&format!("{}?node=claims", consul.url(""))).await;
    let granted = store.grant(TTL).await.expect("it grants");
    let made = consul.api("GET", &format!("/v1/session/info/{}", granted.id), "").await;
    assert_eq!((&made[0]["Node"], &made[0]["Behavior"]), (&json!("claims"), &json!("delete")));
    assert_eq!(made[0]["LockDelay"], json!(0));
}
