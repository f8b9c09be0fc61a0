//! Who is let in, and what is said to those who are not.

use std::path::Path;

use futures_util::StreamExt;
use libtest_mimic::Trial;
use quorate::backends::{Redis, RedisOptions};
use quorate::kv::{
    Consistency, Error, ErrorKind, Event, Key, Scope, SessionStore, Store, StoreExt, WatchStore,
};

use super::{PATIENCE, TTL, connect, held, key, sessions, soon, start, trial};
use crate::servers::redis::{Options, PASSWORD, USER, Version};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "whoever_is_not_let_in_is_told_why", refused),
        trial(version, "who_may_not_do_enough_is_told_before_anything_is_written", limited),
        trial(version, "replicas_must_be_accepted_by_name", unsafe_failover),
        trial(version, "databases_and_tags_are_apart", apart),
        trial(version, "a_user_of_a_few_commands_on_its_own_keys_is_enough", managed),
        trial(version, "a_server_is_found_by_its_address_of_ipv6", ipv6),
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
    for rules in ["~{quorate}* &{quorate}* +@all -xadd", "~{other}* &* +@all", "~{quorate}* &{other}* +@all"]
    {
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

/// What the page on layouts says that a user needs.
fn rights() -> Vec<String> {
    let page = include_str!("../../../src/docs/layouts.md");
    let line = page.lines().find_map(|line| line.strip_prefix("ACL SETUSER app on >PASSWORD "));
    line.expect("the page says it").split(' ').map(str::to_owned).collect()
}

/// A server of somebody else: neither `CONFIG` nor `INFO`, no keyspace events, and nothing but our keys.
async fn managed(version: Version) {
    let redis = start(version).await;
    let rights = rights();
    let set = ["ACL", "SETUSER", "app", "reset", "on", ">pw"].into_iter();
    let set: Vec<_> = set.chain(rights.iter().map(String::as_str)).collect();
    redis.cli(&set).await.expect("the default user may");
    let address = redis.addresses()[0];
    for forbidden in [&["CONFIG", "GET", "*"][..], &["INFO"], &["SET", "other", "1"], &["FLUSHALL"]] {
        let refusal = redis.cli_as(Some(("app", "pw")), address, forbidden).await;
        assert!(refusal.as_ref().is_err_and(|refusal| refusal.contains("NOPERM")), "{refusal:?}");
    }
    redis.cli(&["ACL", "LOG", "RESET"]).await.expect("it is emptied");
    let store = connect(&format!("redis://app:pw@{address}/team")).await;
    let mut watch = store.watch(Scope::Prefix(key("p")));
    assert!(matches!(watch.next().await, Some(Ok(Event::Snapshot(_)))));
    let ours = sessions(&store, TTL);
    let guard = held(&store, &ours).await;
    guard.put("p/a", "1").await.expect("it holds");
    assert!(matches!(soon("it is told", watch.next()).await, Some(Ok(Event::Put(_)))));
    assert_eq!(store.list(&key("p"), Consistency::Linearizable).await.expect("it answers").len(), 1);
    store.renew(guard.session()).await.expect("it is renewed");
    // Connections begin by looking at what stands in the stream.
    redis.cli(&["CLIENT", "KILL", "USER", "app"]).await.expect("it is cut off");
    until("it is back", PATIENCE, async || store.fetch("p/a").await.map_err(|error| error.to_string())).await;
    assert_eq!(store.delete_prefix(&key("p")).await.expect("it is deleted"), 1);
    assert!(matches!(soon("it is told", watch.next()).await, Some(Ok(Event::Delete(_)))));
    guard.release().await;
    ours.current().await.expect("it lives").close().await;
    // What runs there is asked for, and not needed.
    let log = redis.cli(&["ACL", "LOG"]).await.expect("it answers");
    let lines: Vec<_> = log.lines().collect();
    let refused: Vec<_> = lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1]).collect();
    assert_eq!(refused, ["info"]);
}

async fn ipv6(version: Version) {
    let redis = Options::new(version).flag("--bind").flag("127.0.0.1").flag("::1").start().await;
    let port = redis.addresses()[0].port();
    connect(&format!("redis://[::1]:{port}")).await.put("a", "1").await.expect("it is put");
}
