//! Who is let in, and what is said to those who are not.

use std::path::Path;

use libtest_mimic::Trial;
use quorate::backends::{Redis, RedisOptions};
use quorate::kv::{Consistency, Error, ErrorKind, Key, Store, StoreExt};

use super::{connect, start, trial};
use crate::servers::Cluster as _;
use crate::servers::redis::{Options, PASSWORD, USER, Version};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "whoever_is_not_let_in_is_told_why", refused),
        trial(version, "who_may_not_do_enough_is_told_before_anything_is_written", limited),
        trial(version, "replicas_must_be_accepted_by_name", unsafe_failover),
        trial(version, "databases_and_tags_are_apart", apart),
    ]
}

async fn refusal(options: RedisOptions) -> Error {
    Redis::connect(options).await.expect_err("it is refused")
}

fn names(error: &Error, kind: ErrorKind, words: &[&str]) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let told = format!("{error} {cause}");
    assert_eq!(error.kind(), kind, "{told}");
    assert!(words.iter().any(|word| told.contains(word)), "none of {words:?} in {told}");
    assert!(!told.contains(PASSWORD) && !format!("{error:?}").contains(PASSWORD), "{error:?}");
}

async fn refused(version: Version) {
    let redis = Options::new(version).tls().auth().start().await;
    let host = redis.addresses()[0].to_string();
    let certificates = redis.certificates().expect("it has some");
    let with = |authority: &Path| RedisOptions::new(host.clone()).ca_file(authority).expect("a file");
    let client = &certificates.client;
    let shown = |options: RedisOptions| {
        options.identity_files(&client.certificate, &client.key).expect("files").user(USER, PASSWORD)
    };
    let let_in = shown(with(&certificates.authority));
    Redis::connect(let_in.clone()).await.expect("it lets us in");

    let error = refusal(shown(with(&certificates.wrong_authority))).await;
    names(&error, ErrorKind::Unavailable, &["certificate"]);
    let error = refusal(with(&certificates.authority).user(USER, PASSWORD)).await;
    names(&error, ErrorKind::Unavailable, &["client certificate"]);
    let stranger = &certificates.stranger;
    let strange = with(&certificates.authority).user(USER, PASSWORD);
    let strange = strange.identity_files(&stranger.certificate, &stranger.key).expect("files");
    names(&refusal(strange).await, ErrorKind::Unavailable, &["does not trust the client certificate"]);
    names(
        &refusal(let_in.clone().user(USER, "wrong")).await,
        ErrorKind::Unauthorized,
        &["authentication failed"],
    );
    let nobody =
        with(&certificates.authority).identity_files(&client.certificate, &client.key).expect("files");
    names(&refusal(nobody).await, ErrorKind::Unauthorized, &["NOAUTH"]);
    names(&refusal(let_in.server_name("other.name")).await, ErrorKind::Unavailable, &["certificate"]);
    let error = refusal(RedisOptions::new(host.clone()).user(USER, PASSWORD)).await;
    names(&error, ErrorKind::Unavailable, &[&host]);
    names(&refusal(RedisOptions::new("127.0.0.1:9")).await, ErrorKind::Unavailable, &["127.0.0.1:9"]);
    let error = refusal(RedisOptions::new("nowhere.invalid")).await;
    names(&error, ErrorKind::Unavailable, &["nowhere.invalid:6379"]);
}

async fn limited(version: Version) {
    let redis = start(version).await;
    for rules in ["~{quorate}* +@all -xadd", "~{other}* +@all"] {
        let arguments = ["ACL", "SETUSER", "partly", "reset", "on", ">pw"];
        let arguments: Vec<_> = arguments.into_iter().chain(rules.split(' ')).collect();
        redis.cli(&arguments).await.expect("the default user may");
        let error = refusal(RedisOptions::new(redis.addresses()[0].to_string()).user("partly", "pw")).await;
        names(&error, ErrorKind::Unauthorized, &["not do all that we must"]);
        assert_eq!(redis.cli(&["DBSIZE"]).await.as_deref(), Ok("1"), "nothing but what the kit put there");
        let _ = redis.cli(&["DEL", "{quorate}:probe"]).await;
    }
}

async fn unsafe_failover(_: Version) {
    for url in ["redis+sentinel://127.0.0.1:9?master=m", "redis+cluster://127.0.0.1:9"] {
        let error = quorate::connect::Schemes::default().connect(url).await.expect_err("it is unsafe");
        names(&error, ErrorKind::InvalidInput, &["unsafe_failover=ack"]);
    }
}

async fn apart(version: Version) {
    let redis = start(version).await;
    let first = connect(&redis.url("")).await;
    first.put("a", "1").await.expect("it is put");
    for other in ["db=3", "tag=other"] {
        let other = connect(&format!("{}/?{other}", redis.url(""))).await;
        assert!(!other.exists("a").await.expect("it answers"));
        other.put("b", "1").await.expect("it is put");
    }
    assert_eq!(first.list(&Key::root(), Consistency::Local).await.expect("it answers").len(), 1);
}
