//! Who is let in, and what is said to those who are not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use libtest_mimic::Trial;
use quorate::Client;
use quorate::backends::{Etcd, EtcdOptions};
use quorate::connect::Schemes;
use quorate::kv::{
    Consistency, Error, ErrorKind, Event, Key, Renewal, Scope, SessionStore, Store, StoreExt, WatchStore,
};

use super::{connect, key, soon, trial};
use crate::servers::Cluster as _;
use crate::servers::etcd::{Etcd as Server, Options, PASSWORD, USER, Version};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "whoever_is_not_let_in_is_told_why", refused),
        trial(version, "a_session_that_is_opened_along_shows_who_is_let_in", along),
        trial(version, "a_token_that_dies_is_renewed", tokens),
        trial(version, "a_password_that_is_wrong_for_a_while_is_tried_again", forgiven),
        trial(version, "what_may_not_be_written_is_unauthorized", limited),
        trial(version, "a_client_of_the_users_own_will_do", given),
        trial(version, "a_namespace_is_a_chroot", namespaced),
    ]
}

async fn refusal(options: EtcdOptions) -> Error {
    Etcd::connect(options).await.expect_err("it is refused")
}

fn names(error: &Error, kind: ErrorKind, words: &[&str]) {
    let told = error.to_string();
    assert_eq!(error.kind(), kind, "{told}");
    assert!(words.iter().any(|word| told.contains(word)), "none of {words:?} in {told}");
    assert!(!told.contains(PASSWORD) && !format!("{error:?}").contains(PASSWORD), "{error:?}");
}

async fn refused(version: Version) {
    let etcd = Options::new(version).tls().auth().start().await;
    let host = etcd.addresses()[0].to_string();
    let certificates = etcd.certificates().expect("it has some");
    let with = |authority: &Path| EtcdOptions::new([host.clone()]).ca_file(authority).expect("a file");
    let client = &certificates.client;
    let known = |options: EtcdOptions| {
        options.identity_files(&client.certificate, &client.key).expect("files").user(USER, PASSWORD)
    };
    let let_in = known(with(&certificates.authority));
    Etcd::connect(let_in.clone()).await.expect("it lets us in");

    let error = refusal(known(with(&certificates.wrong_authority))).await;
    names(&error, ErrorKind::Unavailable, &["certificate"]);
    let error = refusal(with(&certificates.authority).user(USER, PASSWORD)).await;
    names(&error, ErrorKind::Unavailable, &["client certificate"]);
    let error = refusal(let_in.clone().user(USER, "wrong")).await;
    names(&error, ErrorKind::Unauthorized, &["invalid user ID or password"]);
    let error = refusal(EtcdOptions::new([host.clone()]).user(USER, PASSWORD)).await;
    names(&error, ErrorKind::Unavailable, &[&host]);
    let error = refusal(EtcdOptions::new(["127.0.0.1:9"])).await;
    names(&error, ErrorKind::Unavailable, &["127.0.0.1:9"]);
    let error = refusal(EtcdOptions::new(["nowhere.invalid"])).await;
    names(&error, ErrorKind::Unavailable, &["nowhere.invalid:2379"]);
}

async fn along(version: Version) {
    let etcd = Options::new(version).auth().start().await;
    let host = etcd.addresses()[0];
    for url in [
        format!("etcd://{USER}:wrong@{host}"),
        format!("etcd://{host}"),
        "etcd://127.0.0.1:9,127.0.0.1:10".to_owned(),
        "etcd://nowhere.invalid".to_owned(),
    ] {
        let before = quorate::connect(&url).await.expect_err("it is refused");
        let along = Client::builder(&url).with_session(true).connect().await.expect_err("it is refused");
        names(&along, before.kind(), &[&before.to_string()]);
    }
    let url = etcd.url("").replace(&host.to_string(), &format!("127.0.0.1:9,{host}"));
    let client = Client::builder(&url).with_session(true).connect().await.expect("one lets us in");
    let guard = client.mutex("m").expect("a name").lock().await.expect("it is free");
    client.close().await;
    drop(guard);
}

async fn tokens(version: Version) {
    let etcd = Options::new(version).auth().flag("--auth-token-ttl=1").start().await;
    let store = connect(&etcd.url("")).await;
    let session = store.grant(Duration::from_secs(20)).await.expect("it grants").id;
    let mut watch = store.watch(Scope::Prefix(key("watched")));
    let first = watch.next().await.expect("it goes on").expect("a snapshot");
    assert_eq!(first, Event::Snapshot(Vec::new()));
    for _ in 0..4 {
        // Renewals do not keep the token alive, and nothing else is asked.
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(matches!(store.renew(&session).await, Ok(Renewal::Renewed { .. })));
    }
    store.put("watched/a", "1").await.expect("the token was renewed");
    let told = soon("the watch goes on", watch.next()).await;
    assert!(matches!(told, Some(Ok(Event::Put(entry))) if entry.value == "1"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    // This one joins a stream that was opened with a token that is dead by now.
    let mut late = store.watch(Scope::Key(key("watched/a")));
    let told = soon("a late watch begins", late.next()).await;
    assert!(matches!(told, Some(Ok(Event::Snapshot(entries))) if entries.len() == 1));
    store.put("watched/a", "2").await.expect("it is put");
    let told = soon("a late watch goes on", late.next()).await;
    assert!(matches!(&told, Some(Ok(Event::Put(entry))) if entry.value == "2"), "{told:?}");
    store.revoke(&session).await.expect("it is revoked");
}

async fn forgiven(version: Version) {
    let mut etcd = Options::new(version).auth().start().await;
    etcd.etcdctl(&["user", "add", "partly:pw"]).await.expect("root may");
    etcd.etcdctl(&["user", "grant-role", "partly", USER]).await.expect("root may");
    let store = connect(&format!("etcd://partly:pw@{}", etcd.addresses()[0])).await;
    store.put("a", "1").await.expect("it may");
    password(&etcd, "other").await;
    // No token and no connection outlives a restart.
    etcd.restart_all().await;
    for _ in 0..2 {
        let error = store.put("a", "2").await.expect_err("the password is another");
        names(&error, ErrorKind::Unauthorized, &["invalid user ID or password"]);
    }
    password(&etcd, "pw").await;
    store.put("a", "3").await.expect("the password is right again");
}

/// Gives the user another password.
async fn password(etcd: &Server, password: &str) {
    let arguments = ["user", "passwd", "partly", "--interactive=false"];
    let changed = etcd.etcdctl_told(&etcd.addresses(), &arguments, &format!("{password}\n")).await;
    changed.expect("root may");
}

async fn limited(version: Version) {
    let etcd = Options::new(version).auth().start().await;
    for arguments in [
        &["role", "add", "part"][..],
        &["role", "grant-permission", "part", "readwrite", "--prefix=true", "team/"],
        &["user", "add", "partly:pw"],
        &["user", "grant-role", "partly", "part"],
    ] {
        etcd.etcdctl(arguments).await.expect("root may");
    }
    let url = format!("etcd://partly:pw@{}", etcd.addresses()[0]);
    let store = connect(&url).await;
    let error = store.put("elsewhere", "x").await.expect_err("it may not");
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let mut watch = store.watch(Scope::Prefix(Key::root()));
    let told = soon("the watch ends", watch.next()).await;
    assert!(matches!(&told, Some(Err(error)) if error.kind() == ErrorKind::Unauthorized), "{told:?}");
    assert!(soon("it ends", watch.next()).await.is_none());

    let inside = connect(&format!("{url}/team")).await;
    inside.put("a", "1").await.expect("this it may");
    assert_eq!(inside.list(&Key::root(), Consistency::Linearizable).await.expect("this too").len(), 1);
    let mut watch = inside.watch(Scope::Prefix(Key::root()));
    let told = soon("the watch begins", watch.next()).await;
    assert!(matches!(told, Some(Ok(Event::Snapshot(entries))) if entries.len() == 1));
    inside.delete_prefix(&Key::root()).await.expect("and this");
    let told = soon("the watch goes on", watch.next()).await;
    assert_eq!(told.and_then(Result::ok), Some(Event::Delete(key("a"))));
}

async fn given(version: Version) {
    let etcd = Options::new(version).start().await;
    let client =
        etcd_client::Client::connect([etcd.addresses()[0].to_string()], None).await.expect("it connects");
    let store: Arc<dyn quorate::kv::Coordinator> = Arc::new(Etcd::from_client(client));
    store.put("a", "1").await.expect("it is put");
    let mut watch = store.watch(Scope::Key(key("a")));
    let told = soon("the watch begins", watch.next()).await;
    assert!(matches!(told, Some(Ok(Event::Snapshot(entries))) if entries.len() == 1));
    assert!(store.get(&key("a"), Consistency::Local).await.expect("it is read").is_some());
}

async fn namespaced(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = Schemes::default().connect(&etcd.url("team/app")).await.expect("it lets us in");
    store.put("motd", "hello").await.expect("it is put");
    let seen = etcd.etcdctl(&["get", "team/app/motd", "--print-value-only"]).await;
    assert_eq!(seen.as_deref(), Ok("hello"));
}
