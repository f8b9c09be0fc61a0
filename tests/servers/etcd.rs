//! That etcd starts, fails and comes back as ordered, in each version, as its own `etcdctl` sees it.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use tokio::time::Instant;

use crate::proxy::Proxy;
use crate::servers::certificates::{Certificates, Identity};
use crate::servers::etcd::{Etcd, Options, PASSWORD, USER, Version};
use crate::servers::{Cluster as _, PATIENCE, Release as _, until};
use crate::{refused, trial};

pub(crate) fn trials() -> Vec<Trial> {
    Version::tried().iter().flat_map(|version| of_version(*version)).chain(at_any_version()).collect()
}

fn of_version(version: Version) -> Vec<Trial> {
    let name = |what: &str| format!("etcd::{}::{what}", version.name());
    vec![
        trial(name("restarts_with_its_data_and_without"), move || one_member(version)),
        trial(name("three_elect_again_when_the_leader_is_killed"), move || killed(version)),
        trial(name("three_elect_again_when_the_leader_is_paused"), move || paused(version)),
        trial(name("tls_takes_only_whom_the_authority_signed"), move || tls(version)),
        trial(name("auth_takes_only_who_knows_the_password"), move || auth(version)),
        trial(name("three_with_tls_and_auth_are_wiped"), move || all_at_once(version)),
    ]
}

fn at_any_version() -> Vec<Trial> {
    vec![
        trial("etcd::proxied_troubles_reach_the_client", troubles),
        trial("etcd::a_lost_reply_leaves_an_effect_and_a_lost_request_none", lost),
        trial("etcd::urls_carry_all_that_clients_need", urls),
        trial("etcd::nothing_outlives_a_killed_test", nothing_outlives),
    ]
}

async fn put(etcd: &Etcd, key: &str, value: &str) {
    let done = etcd.etcdctl(&["put", key, value]).await;
    assert_eq!(done.as_deref(), Ok("OK"));
}

async fn get(etcd: &Etcd, key: &str) -> String {
    etcd.etcdctl(&["get", key, "--print-value-only"]).await.expect("it is read")
}

async fn one_member(version: Version) {
    let mut etcd = Options::new(version).flag("--max-request-bytes=2000").start().await;
    let status = etcd.etcdctl(&["endpoint", "status", "-w=fields"]).await.expect("it answers");
    let wanted = if version == Version::Sid { "3." } else { version.name() };
    assert!(status.contains(&format!("\"Version\" : \"{wanted}")), "{status}");
    let large = "x".repeat(3000);
    refused(&etcd.etcdctl(&["put", "large", &large]).await, "request is too large");

    put(&etcd, "a", "1").await;
    etcd.restart(0).await;
    assert_eq!(get(&etcd, "a").await, "1");
    etcd.restart_all().await;
    assert_eq!(get(&etcd, "a").await, "1");
    etcd.wipe().await;
    assert_eq!(get(&etcd, "a").await, "");
    etcd.kill(0);
    refused(&etcd.etcdctl(&["get", "a"]).await, "context deadline exceeded");
}

async fn killed(version: Version) {
    let mut etcd = Options::new(version).members(3).start().await;
    put(&etcd, "a", "1").await;
    let first = etcd.leader().await;
    etcd.kill(first);
    let second = etcd.leader().await;
    assert_ne!(first, second);
    put(&etcd, "a", "2").await;
    etcd.restart(first).await;
    // Its own copy of the data, with no help from others.
    let local = ["get", "a", "--print-value-only", "--consistency=s"];
    let addresses = etcd.addresses();
    until("it catches up", PATIENCE, async || {
        match etcd.etcdctl_via(&addresses[first..=first], &local).await {
            Ok(value) if value == "2" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn paused(version: Version) {
    let mut etcd = Options::new(version).members(3).start().await;
    let first = etcd.leader().await;
    let addresses = etcd.addresses();
    let alone = &addresses[first..=first];
    etcd.pause(first);
    refused(&etcd.etcdctl_via(alone, &["get", "a", "--consistency=s"]).await, "context deadline exceeded");
    let second = etcd.leader().await;
    assert_ne!(first, second);
    etcd.resume(first);
    until("it serves again", PATIENCE, async || etcd.etcdctl_via(alone, &["put", "a", "1"]).await).await;
    assert_eq!(get(&etcd, "a").await, "1");
}

async fn tls(version: Version) {
    let etcd = Options::new(version).tls().start().await;
    let Certificates { authority, client, wrong_authority, stranger, .. } =
        etcd.certificates().expect("it has some");
    // The first shows that the others fail for their reasons, which the server's log tells alike in every version.
    let attempts = [
        ("https", Some(authority), Some(client), None),
        ("https", Some(authority), None, Some("tls: client didn't provide a certificate")),
        ("https", Some(authority), Some(stranger), Some("x509: certificate signed by unknown authority")),
        ("https", Some(wrong_authority), Some(client), Some("remote error: tls: bad certificate")),
        ("http", None, None, Some("first record does not look like a TLS handshake")),
    ];
    for (scheme, authority, client, refusal) in attempts {
        let mut etcdctl = etcd.bare_etcdctl();
        etcdctl.arg(format!("--endpoints={scheme}://{}", etcd.addresses()[0]));
        etcdctl.args(["--command-timeout=1s", "put", "a", "1"]);
        if let Some(authority) = authority {
            etcdctl.arg("--cacert").arg(authority);
        }
        if let Some(Identity { certificate, key }) = client {
            etcdctl.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        assert_eq!(
            etcdctl.output().await.expect("it runs").status.success(),
            refusal.is_none(),
            "{etcdctl:?}"
        );
        assert!(etcd.log(0).contains(refusal.unwrap_or_default()), "{refusal:?} is not in {}", etcd.log(0));
    }
}

async fn auth(version: Version) {
    let etcd = Options::new(version).auth().flag("--auth-token-ttl=2").start().await;
    let known = format!("--user={USER}:{PASSWORD}");
    assert_eq!(etcd.etcdctl(&["put", "a", "1", &known]).await.as_deref(), Ok("OK"));
    assert_eq!(get(&etcd, "a").await, "1");
    let wrong = format!("--user={USER}:wrong");
    refused(&etcd.etcdctl(&["get", "a", &wrong]).await, "authentication failed");
    refused(&etcd.etcdctl(&["user", "list", &known]).await, "permission denied");
    refused(&etcd.etcdctl(&["get", "a", "--user="]).await, "user name is empty");
}

async fn all_at_once(version: Version) {
    let mut etcd = Options::new(version).members(3).tls().auth().start().await;
    put(&etcd, "a", "1").await;
    let leader = etcd.leader().await;
    etcd.restart(leader).await;
    assert_eq!(get(&etcd, "a").await, "1");
    etcd.wipe().await;
    assert_eq!(get(&etcd, "a").await, "");
    // The users are there again.
    refused(&etcd.etcdctl(&["get", "a", "--user=root:wrong"]).await, "authentication failed");
}

async fn troubles() {
    let etcd = Options::new(Version::V3_5).members(3).tls().start().await;
    let proxies = Proxy::to_each(&etcd.addresses()).await;
    let addresses: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let through = async |arguments: &[&str]| etcd.etcdctl_via(&addresses, arguments).await;
    assert_eq!(through(&["put", "a", "1"]).await.as_deref(), Ok("OK"));

    let delay = Duration::from_millis(100);
    for proxy in &proxies {
        proxy.delay(delay);
    }
    let asked = Instant::now();
    through(&["get", "a"]).await.expect("it is only late");
    // The handshake of TLS, and the request.
    assert!(asked.elapsed() >= 4 * delay, "{:?}", asked.elapsed());
    proxies.iter().for_each(Proxy::heal);

    for trouble in [Proxy::freeze, Proxy::refuse, Proxy::swallow_replies] {
        proxies.iter().for_each(trouble);
        refused(&through(&["get", "a"]).await, "context deadline exceeded");
        proxies.iter().for_each(Proxy::heal);
    }
    assert_eq!(through(&["put", "a", "2"]).await.as_deref(), Ok("OK"));
    assert_eq!(get(&etcd, "a").await, "2");
}

/// Cut around puts on a connection that stands, until one got lost in the way that is meant. Which piece is the put
/// cannot be told from outside: now and then the answer to a ping goes before it.
async fn lost() {
    const TRIES: usize = 100;
    let etcd = Options::new(Version::V3_5).start().await;
    let proxy = Proxy::to(etcd.addresses()[0]).await;
    let mut client =
        etcd_client::Client::connect([proxy.address().to_string()], None).await.expect("it connects");
    // Whether the client is told that a put is done, and whether it is.
    for (cut, meant) in [
        (Proxy::cut_before_request as fn(&Proxy, usize), (false, false)),
        (Proxy::cut_before_reply, (false, true)),
    ] {
        let mut seen = Vec::new();
        while !seen.contains(&meant) {
            assert!(seen.len() < TRIES, "{meant:?} is not among {seen:?}");
            let key = format!("{meant:?}-{}", seen.len());
            until("the connection stands", PATIENCE, async || {
                client.get("warm", None).await.map_err(|error| error.to_string())
            })
            .await;
            cut(&proxy, 1);
            let told = client.put(&*key, "1", None).await.is_ok();
            proxy.heal();
            seen.push((told, get(&etcd, &key).await == "1"));
        }
        assert!(!seen.contains(&(true, false)), "told what is not so: {seen:?}");
    }
}

async fn urls() {
    let etcd = Options::new(Version::V3_5).tls().auth().start().await;
    let url = etcd.url("team a");
    let (user, rest) = url.strip_prefix("etcd://").and_then(|url| url.split_once('@')).expect("a user");
    let (name, password) = user.split_once(':').expect("a password");
    let decoded = percent_encoding::percent_decode_str(password).decode_utf8().expect("it is UTF-8");
    assert_eq!((name, &*decoded), (USER, PASSWORD));
    let (place, options) = rest.split_once('?').expect("certificates");
    assert_eq!(place, format!("{}/team%20a", etcd.addresses()[0]));
    for (option, name) in options.split('&').zip(["ca", "cert", "key"]) {
        let file = option.strip_prefix(name).and_then(|option| option.strip_prefix('=')).expect("a file");
        assert!(PathBuf::from(file).is_file(), "{file}");
    }
}

async fn nothing_outlives() {
    // This program again, as what people start.
    let mut program = Command::new(std::env::current_exe().expect("a path"))
        .args(["start", "etcd", "--tls"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut url = String::new();
    let stdout = program.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut url).expect("it prints its URL");
    let (address, options) =
        url.strip_prefix("etcd://").and_then(|rest| rest.split_once('?')).expect("an address");
    let authority = options.strip_prefix("ca=").and_then(|rest| rest.split_once('&')).expect("a file").0;
    assert!(TcpStream::connect(address).is_ok(), "it does not serve at {address}");
    assert!(PathBuf::from(authority).is_file(), "{authority} is missing");

    program.kill().expect("it runs");
    program.wait().expect("it is our child");
    until("all is gone", PATIENCE, async || {
        let serves = TcpStream::connect(address).is_ok();
        let site = PathBuf::from(authority).ancestors().nth(2).is_some_and(Path::exists);
        if serves || site {
            Err(format!("it serves: {serves}, its directory is there: {site}"))
        } else {
            Ok(())
        }
    })
    .await;
}
