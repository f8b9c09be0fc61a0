//! Locks and elections shared with the real `etcdctl`, in both directions.

use std::process::Stdio;

use libtest_mimic::Trial;
use quorate::election::{Candidate, Follower};
use quorate::kv::StoreExt;
use quorate::lock::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::{connect, key, sessions, soon, trial};
use crate::servers::Cluster as _;
use crate::servers::etcd::{Etcd, Options, Version};
use crate::servers::until;

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "etcdctl_lock_and_a_native_mutex_exclude_each_other", locks),
        trial(version, "etcdctl_elect_and_a_native_candidate_lead_in_turn", elections),
        trial(version, "elect_listen_sees_what_our_leader_says", listening),
        trial(version, "only_what_the_layout_calls_a_place_holds_anybody_up", strangers),
    ]
}

/// An `etcdctl` that goes on until it is told to end, as it hands over then.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _stdin: Option<ChildStdin>,
}

impl Running {
    fn start(etcd: &Etcd, arguments: &[&str]) -> Self {
        let mut command = etcd.etcdctl_command(&etcd.addresses());
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("etcdctl runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let stdin = child.stdin.take();
        Self { child, lines, _stdin: stdin }
    }

    async fn line(&mut self) -> String {
        let line = soon("etcdctl prints", self.lines.next_line()).await;
        line.expect("it can be read").expect("etcdctl goes on")
    }

    /// Has it hand over, and waits for its end.
    async fn interrupt(mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        let process = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(process, rustix::process::Signal::INT).expect("it can be told");
        soon("etcdctl ends", self.child.wait()).await.expect("it can be waited for");
    }
}

/// Waits until that many places stand.
async fn places(etcd: &Etcd, prefix: &str, count: usize) {
    until("places", super::PATIENCE, async || {
        let keys = etcd.etcdctl(&["get", "--prefix", "--keys-only", prefix]).await?;
        let found = keys.lines().filter(|line| !line.is_empty()).count();
        if found == count { Ok(()) } else { Err(format!("{found} instead of {count}")) }
    })
    .await;
}

async fn locks(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let sessions = sessions(&store);
    let ours = Mutex::native(&store, &sessions, key("jobs/nightly"));

    let guard = ours.lock().await.expect("it is free");
    let mut theirs = Running::start(&etcd, &["lock", "jobs/nightly"]);
    places(&etcd, "jobs/nightly/", 2).await;
    assert!(
        ours.try_lock().await.expect("it answers").is_none(),
        "two locks of one session exclude each other"
    );
    assert_eq!(ours.waiters().await.expect("it answers").len(), 1, "etcdctl waits");
    let fence = guard.fence();
    guard.release().await;
    assert!(theirs.line().await.starts_with("jobs/nightly/"));

    assert!(ours.try_lock().await.expect("it answers").is_none(), "etcdctl holds");
    let (waited, ()) = tokio::join!(soon("we are let in", ours.lock()), async {
        places(&etcd, "jobs/nightly/", 2).await;
        theirs.interrupt().await;
    });
    assert!(waited.expect("it is free").fence() > fence);
}

async fn elections(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let sessions = sessions(&store);
    let ours = Candidate::native(&store, &sessions, key("boss"), "us").expect("a candidate").data("our data");
    let follower = Follower::native(&store, key("boss"));

    let leadership = ours.campaign().await.expect("nobody leads");
    let mut theirs = Running::start(&etcd, &["elect", "boss", "their data"]);
    places(&etcd, "boss/", 2).await;
    leadership.resign().await;
    assert!(theirs.line().await.starts_with("boss/"));
    assert_eq!(theirs.line().await, "their data");
    let leader = follower.leader().await.expect("it answers").expect("etcdctl leads");
    assert_eq!(leader.data, "their data");

    let (led, ()) = tokio::join!(soon("we lead", ours.campaign()), async {
        places(&etcd, "boss/", 2).await;
        theirs.interrupt().await;
    });
    assert!(led.expect("nobody leads").is_leading());
}

async fn listening(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let sessions = sessions(&store);
    let ours = Candidate::native(&store, &sessions, key("boss"), "us").expect("a candidate").data("one");
    let leadership = ours.campaign().await.expect("nobody leads");
    let mut listener = Running::start(&etcd, &["elect", "--listen", "boss"]);
    assert!(listener.line().await.starts_with("boss/"));
    assert_eq!(listener.line().await, "one");
    leadership.proclaim("two").await.expect("we lead");
    assert!(listener.line().await.starts_with("boss/"));
    assert_eq!(listener.line().await, "two");
}

async fn strangers(version: Version) {
    let etcd = Options::new(version).start().await;
    let store = connect(&etcd.url("")).await;
    let sessions = sessions(&store);
    for name in ["jobs/config", "jobs/deeper/694d81417acd4754", "jobs/694d81417acd4754"] {
        etcd.etcdctl(&["put", name, "x"]).await.expect("it is put");
    }
    let mutex = Mutex::native(&store, &sessions, key("jobs"));
    let guard = mutex.try_lock().await.expect("it answers").expect("no place stands ahead");
    drop(guard);
    assert!(store.exists("jobs/config").await.expect("it answers"));
}
