//! Who is let in, and what is said to those who are not.

use std::path::Path;

use libtest_mimic::Trial;
use quorate::backends::{Zookeeper, ZookeeperOptions};
use quorate::kv::{Consistency, Error, ErrorKind, StoreExt};

use super::{PATIENCE, connect, key, trial};
use crate::servers::Cluster as _;
use crate::servers::zookeeper::plain::Plain;
use crate::servers::zookeeper::{Options, PASSWORD, USER, Version};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "whoever_is_not_let_in_is_told_why", refused),
        trial(version, "what_may_not_be_seen_is_unauthorized", limited),
        trial(version, "what_is_made_is_private_to_the_user", private),
        trial(version, "a_namespace_is_a_chroot", namespaced),
    ]
}

pub(super) async fn refusal(options: ZookeeperOptions) -> Error {
    Zookeeper::connect(options).await.expect_err("it is refused")
}

pub(super) fn names(error: &Error, kind: ErrorKind, words: &[&str]) {
    let told = error.to_string();
    assert_eq!(error.kind(), kind, "{told}");
    assert!(words.iter().all(|word| told.contains(word)), "not all of {words:?} in {told}");
    assert!(!told.contains(PASSWORD) && !format!("{error:?}").contains(PASSWORD), "{error:?}");
}

async fn refused(version: Version) {
    let zookeeper = Options::new(version).tls().auth().start().await;
    let host = zookeeper.addresses()[0].to_string();
    let certificates = zookeeper.certificates().expect("it has some");
    let with = |authority: &Path| ZookeeperOptions::new([host.clone()]).ca_file(authority).expect("a file");
    let client = &certificates.client;
    let known = |options: ZookeeperOptions| {
        options.identity_files(&client.certificate, &client.key).expect("files").user(USER, PASSWORD)
    };
    Zookeeper::connect(known(with(&certificates.authority))).await.expect("it lets us in");

    let error = refusal(known(with(&certificates.wrong_authority))).await;
    names(&error, ErrorKind::Unavailable, &[&host, "invalid peer certificate"]);
    let error = refusal(with(&certificates.authority).user(USER, PASSWORD)).await;
    names(&error, ErrorKind::Unavailable, &[&host, "client certificate"]);
    let error = refusal(ZookeeperOptions::new([host.clone()]).user(USER, PASSWORD)).await;
    names(&error, ErrorKind::Unavailable, &[&host, "TLS"]);
    let error = refusal(ZookeeperOptions::new(["127.0.0.1:9"])).await;
    names(&error, ErrorKind::Unavailable, &["127.0.0.1:9", "refused"]);
    let error = refusal(ZookeeperOptions::new(["nowhere.invalid"])).await;
    names(&error, ErrorKind::Unavailable, &["nowhere.invalid:2181"]);
    let plain = Options::new(version).start().await;
    let plain_host = plain.addresses()[0].to_string();
    let options =
        ZookeeperOptions::new([plain_host.clone()]).ca_file(&certificates.authority).expect("a file");
    names(&refusal(options).await, ErrorKind::Unavailable, &[&plain_host]);
}

async fn limited(version: Version) {
    let zookeeper = Options::new(version).auth().start().await;
    let store = connect(&zookeeper.url("")).await;
    store.put("secret/a", "1").await.expect("it is put");
    let host = zookeeper.addresses()[0].to_string();
    for options in [
        ZookeeperOptions::new([host.clone()]),
        ZookeeperOptions::new([host.clone()]).user(USER, "wrong"),
        ZookeeperOptions::new([host.clone()]).user("stranger", PASSWORD),
    ] {
        let stranger = Zookeeper::connect(options).await.expect("anybody may connect");
        let error = stranger.fetch("secret/a").await.expect_err("it is not his");
        names(&error, ErrorKind::Unauthorized, &["secret/a"]);
        for what in ["secret/a", "secret/b", "elsewhere"] {
            let error = stranger.put(what, "2").await.expect_err("it is not his");
            names(&error, ErrorKind::Unauthorized, &[what]);
        }
        let error = quorate::kv::Store::list(&stranger, &key("secret"), Consistency::Linearizable).await;
        names(&error.expect_err("it is not his"), ErrorKind::Unauthorized, &["secret"]);
    }
    assert_eq!(store.fetch("secret/a").await.expect("it answers").expect("it stands").value, "1");
}

async fn private(version: Version) {
    let zookeeper = Options::new(version).auth().start().await;
    let store = connect(&zookeeper.url("")).await;
    store.put("secret/a", "1").await.expect("it is put");
    let kazoo = zookeeper.kazoo(&zookeeper.addresses(), &["get", "/secret/a/="]).output().await;
    assert_eq!(String::from_utf8_lossy(&kazoo.expect("kazoo runs").stdout).trim(), "1");
    let mut stranger = Plain::open(zookeeper.addresses()[0], PATIENCE).await.expect("anybody may connect");
    for node in ["/secret", "/secret/a", "/secret/a/=", "/_quorate", "/_quorate/generation"] {
        assert_eq!(stranger.get(node).await, Err("NoAuth".to_owned()), "{node}");
    }
}

async fn namespaced(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let (whole, part) = (connect(&zookeeper.url("")).await, connect(&zookeeper.url("team/app")).await);
    part.put("a", "1").await.expect("it is put");
    assert_eq!(whole.fetch("team/app/a").await.expect("it answers").expect("it stands").value, "1");
    assert!(whole.fetch("a").await.expect("it answers").is_none());
}
