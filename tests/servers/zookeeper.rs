//! That ZooKeeper starts, fails and comes back as ordered, in each version, as the plain protocol, kazoo and Curator see it.

use std::process::Stdio;

use libtest_mimic::Trial;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::servers::certificates::{Certificates, Identity};
use crate::servers::zookeeper::plain::{Acl, OPEN, Plain};
use crate::servers::zookeeper::{Options, USER_ID, Version, ZooKeeper, bare_kazoo};
use crate::servers::{Cluster as _, PATIENCE, Release as _, until};
use crate::{refused, trial};

pub(crate) fn trials() -> Vec<Trial> {
    Version::tried().iter().flat_map(|version| of_version(*version)).collect()
}

fn of_version(version: Version) -> Vec<Trial> {
    let name = |what: &str| format!("zookeeper::{}::{what}", version.name());
    vec![
        trial(name("restarts_with_its_data_and_without"), move || one_member(version)),
        trial(name("three_elect_again_when_the_leader_is_killed"), move || killed(version)),
        trial(name("three_elect_again_when_the_leader_is_paused"), move || paused(version)),
        trial(name("tls_takes_only_whom_the_authority_signed"), move || tls(version)),
        trial(name("auth_takes_only_who_knows_the_password"), move || auth(version)),
        trial(name("three_with_tls_and_auth_are_wiped"), move || all_at_once(version)),
        trial(name("kazoo_and_curator_exclude_each_other"), move || locks(version)),
        trial(name("kazoo_and_curator_elect"), move || elections(version)),
    ]
}

async fn plain(zookeeper: &ZooKeeper, member: usize) -> Plain {
    zookeeper.plain(member).await.expect("it serves")
}

/// What a member has there, once it has all that was written before.
async fn get(zookeeper: &ZooKeeper, member: usize, path: &str) -> Result<String, String> {
    let mut plain = zookeeper.plain(member).await?;
    plain.sync().await?;
    let got = plain.get(path).await;
    plain.close().await?;
    got
}

async fn create(zookeeper: &ZooKeeper, path: &str, data: &str) {
    let mut plain = plain(zookeeper, 0).await;
    plain.create(path, data, OPEN).await.expect("it is made");
    plain.close().await.expect("it serves");
}

/// What a client prints, or why it failed.
async fn output(mut command: Command) -> Result<String, String> {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends in time").expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

async fn one_member(version: Version) {
    let mut zookeeper = Options::new(version).flag("maxSessionTimeout=7000").start().await;
    let status = zookeeper.word(0, "envi").await.expect("it answers");
    assert!(status.contains(&format!("zookeeper.version={}.", version.name())), "{status}");
    let settings = zookeeper.word(0, "conf").await.expect("it answers");
    assert!(settings.contains("maxSessionTimeout=7000"), "{settings}");

    create(&zookeeper, "/a", "1").await;
    zookeeper.restart(0).await;
    assert_eq!(get(&zookeeper, 0, "/a").await.as_deref(), Ok("1"));
    zookeeper.restart_all().await;
    assert_eq!(get(&zookeeper, 0, "/a").await.as_deref(), Ok("1"));
    zookeeper.wipe().await;
    refused(&get(&zookeeper, 0, "/a").await, "NoNode");
    zookeeper.kill(0);
    refused(&get(&zookeeper, 0, "/a").await, "Connection refused");
}

async fn killed(version: Version) {
    let mut zookeeper = Options::new(version).members(3).start().await;
    create(&zookeeper, "/a", "1").await;
    let first = zookeeper.leader().await;
    zookeeper.kill(first);
    let second = zookeeper.leader().await;
    assert_ne!(first, second);
    until("the others write", PATIENCE, async || zookeeper.plain(second).await?.set("/a", "2").await).await;
    zookeeper.restart(first).await;
    // It has what was written without it.
    assert_eq!(get(&zookeeper, first, "/a").await.as_deref(), Ok("2"));
}

async fn paused(version: Version) {
    let mut zookeeper = Options::new(version).members(3).start().await;
    create(&zookeeper, "/a", "1").await;
    let first = zookeeper.leader().await;
    zookeeper.pause(first);
    refused(&get(&zookeeper, first, "/a").await, "deadline has elapsed");
    let second = zookeeper.leader().await;
    assert_ne!(first, second);
    zookeeper.resume(first);
    until("it serves again", PATIENCE, async || zookeeper.plain(first).await?.set("/a", "2").await).await;
    assert_eq!(get(&zookeeper, second, "/a").await.as_deref(), Ok("2"));
}

async fn tls(version: Version) {
    let zookeeper = Options::new(version).tls().start().await;
    create(&zookeeper, "/a", "1").await;
    let Certificates { authority, stranger, .. } = zookeeper.certificates().expect("it has some");
    assert_eq!(output(zookeeper.kazoo(&zookeeper.addresses(), &["get", "/a"])).await.as_deref(), Ok("1"));
    // That the others fail for their reasons the server's log tells.
    let refusals = [
        (Some(authority), None, "Empty client certificate chain"),
        (Some(authority), Some(stranger), "unable to find valid certification path"),
        (None, None, "not an SSL/TLS record"),
    ];
    for (authority, client, refusal) in refusals {
        let mut kazoo = bare_kazoo();
        kazoo.arg("--hosts").arg(zookeeper.addresses()[0].to_string());
        if let Some(authority) = authority {
            kazoo.arg("--ca").arg(authority);
        }
        if let Some(Identity { certificate, key }) = client {
            kazoo.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        kazoo.args(["get", "/a"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut kazoo = kazoo.spawn().expect("it starts");
        until("the server refuses it", PATIENCE, async || {
            if zookeeper.log(0).contains(refusal) { Ok(()) } else { Err(format!("no {refusal:?}")) }
        })
        .await;
        // It would go on trying.
        kazoo.start_kill().expect("it is our child");
        let printed = kazoo.wait_with_output().await.expect("it ends").stdout;
        assert!(printed.is_empty(), "{refusal:?}, and yet: {printed:?}");
    }
}

async fn auth(version: Version) {
    let zookeeper = Options::new(version).auth().start().await;
    let address = zookeeper.addresses();
    let mut theirs = Plain::open(address[0], PATIENCE).await.expect("anybody may connect");
    refused(&theirs.create("/a", "1", OPEN).await, "NoAuth");
    theirs.auth("digest", "app:wrong").await.expect("nobody knows that it is wrong");
    refused(&theirs.create("/a", "1", OPEN).await, "NoAuth");
    theirs.close().await.expect("it serves");

    output(zookeeper.kazoo(&address, &["put", "/a", "1"])).await.expect("it is his");
    let mut plain = plain(&zookeeper, 0).await;
    plain.create("/his", "2", Acl("digest", USER_ID)).await.expect("who may do everything does");
    plain.close().await.expect("it serves");
    assert_eq!(output(zookeeper.kazoo(&address, &["get", "/his"])).await.as_deref(), Ok("2"));
    let mut wrong = bare_kazoo();
    wrong.arg("--hosts").arg(address[0].to_string()).args(["--auth", "app:wrong", "get", "/his"]);
    refused(&output(wrong).await, "NoAuthError");
}

async fn all_at_once(version: Version) {
    let mut zookeeper = Options::new(version).members(3).tls().auth().start().await;
    let addresses = zookeeper.addresses();
    output(zookeeper.kazoo(&addresses, &["put", "/a", "1"])).await.expect("it is his");
    let leader = zookeeper.leader().await;
    zookeeper.restart(leader).await;
    assert_eq!(get(&zookeeper, leader, "/a").await.as_deref(), Ok("1"));
    zookeeper.wipe().await;
    refused(&get(&zookeeper, 0, "/a").await, "NoNode");
    // The root is his again.
    output(zookeeper.kazoo(&addresses, &["put", "/a", "1"])).await.expect("it is his");
    let mut open = bare_kazoo();
    let Certificates { authority, client, .. } = zookeeper.certificates().expect("it has some");
    open.arg("--hosts").arg(addresses[0].to_string()).arg("--ca").arg(authority);
    open.arg("--cert").arg(&client.certificate).arg("--key").arg(&client.key);
    refused(
        &output({
            open.args(["put", "/b", "1"]);
            open
        })
        .await,
        "NoAuthError",
    );
}

/// A client that goes on until it is told to let go.
struct Holder {
    child: Child,
    stdout: BufReader<tokio::process::ChildStdout>,
}

impl Holder {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, stdout }
    }

    async fn says(&mut self, word: &str) {
        let mut line = String::new();
        timeout(PATIENCE, self.stdout.read_line(&mut line)).await.expect("in time").expect("it is read");
        assert_eq!(line.trim_end(), word);
    }

    async fn lets_go(mut self) {
        drop(self.child.stdin.take());
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("it ends in time");
        assert!(ended.expect("it is our child").success());
    }
}

async fn stand(zookeeper: &ZooKeeper, path: &str, count: usize) {
    until("they stand in the queue", PATIENCE, async || {
        let places = output(zookeeper.kazoo(&zookeeper.addresses(), &["children", path])).await?;
        if places.lines().count() == count { Ok(()) } else { Err(places) }
    })
    .await;
}

async fn locks(version: Version) {
    let zookeeper = Options::new(version).auth().start().await;
    let addresses = zookeeper.addresses();
    let mut curator = Holder::start(zookeeper.curator(&addresses, &["lock", "/jobs/lock"]).await);
    curator.says("held").await;
    let mut kazoo = Holder::start(zookeeper.kazoo(&addresses, &["lock", "/jobs/lock"]));
    stand(&zookeeper, "/jobs/lock", 2).await;
    let mut next = Holder::start(zookeeper.curator(&addresses, &["lock", "/jobs/lock"]).await);
    stand(&zookeeper, "/jobs/lock", 3).await;
    curator.lets_go().await;
    kazoo.says("held").await;
    stand(&zookeeper, "/jobs/lock", 2).await;
    kazoo.lets_go().await;
    next.says("held").await;
    next.lets_go().await;
}

async fn elections(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let addresses = zookeeper.addresses();
    let mut curator = Holder::start(zookeeper.curator(&addresses, &["elect", "/boss", "c"]).await);
    curator.says("leads").await;
    let leader = output(zookeeper.curator(&addresses, &["leader", "/boss"]).await).await;
    assert_eq!(leader.as_deref(), Ok("c"));
    curator.lets_go().await;
    let mut kazoo = Holder::start(zookeeper.kazoo(&addresses, &["elect", "/chief", "k"]));
    kazoo.says("leads").await;
    kazoo.lets_go().await;
}
