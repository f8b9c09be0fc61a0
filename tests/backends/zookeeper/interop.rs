//! Ours and other clients in the same queues: Curator's `InterProcessMutex` and `LeaderSelector`, and kazoo's `Lock`.

use std::process::Stdio;
use std::sync::Arc;

use libtest_mimic::Trial;
use quorate::election::{Candidate, Follower};
use quorate::kv::{Consistency, Coordinator};
use quorate::lock::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{PATIENCE, TTL, connect, key, sessions, soon, trial};
use crate::servers::zookeeper::{Options, Version, ZooKeeper};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "kazoo_and_we_exclude_each_other", kazoo),
        trial(version, "curator_and_we_exclude_each_other", curator),
        trial(version, "kazoo_curator_and_we_are_served_in_turn", all),
        trial(version, "a_leader_selector_and_a_native_candidate_lead_in_turn", elections),
        trial(version, "other_nodes_in_a_queue_are_no_places", strangers),
    ]
}

/// Somebody else's program that waits for a lock, and then holds it until it is told to let go.
struct Running {
    _child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it runs");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        Self { _child: child, input, output: BufReader::new(output).lines() }
    }

    async fn holds(&mut self) {
        self.says("held").await;
    }

    async fn says(&mut self, word: &str) {
        let line = soon("it is its turn", self.output.next_line()).await.expect("it is read");
        assert_eq!(line.as_deref(), Some(word));
    }

    /// Whether it says nothing as yet.
    async fn waits(&mut self) -> bool {
        tokio::select! {
            biased;
            line = self.output.next_line() => panic!("it said {line:?}"),
            () = std::future::ready(()) => true,
        }
    }

    fn let_go(&mut self) {
        self.input = None;
    }
}

/// Waits until so many stand in the queue.
async fn places(store: &Arc<dyn Coordinator>, queue: &str, count: usize) {
    until("they stand in the queue", PATIENCE, async || {
        let places = store.list(&key(queue), Consistency::Linearizable).await.expect("it answers");
        if places.len() == count { Ok(()) } else { Err(format!("{places:?}")) }
    })
    .await;
}

async fn kazoo(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let command = zookeeper.kazoo(&zookeeper.addresses(), &["lock", "/jobs/nightly"]);
    in_turn(&zookeeper, command).await;
}

async fn curator(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let command = zookeeper.curator(&zookeeper.addresses(), &["lock", "/jobs/nightly"]).await;
    in_turn(&zookeeper, command).await;
}

/// We hold and they wait; they hold and we wait.
async fn in_turn(zookeeper: &ZooKeeper, command: Command) {
    let store = connect(&zookeeper.url("")).await;
    let sessions = sessions(&store, TTL);
    let ours = Mutex::native(&store, &sessions, key("jobs/nightly"));

    let guard = ours.lock().await.expect("it is free");
    let mut theirs = Running::start(command);
    places(&store, "jobs/nightly", 2).await;
    assert!(
        ours.try_lock().await.expect("it answers").is_none(),
        "two locks of one session exclude each other"
    );
    assert_eq!(ours.waiters().await.expect("it answers").len(), 1, "they wait");
    assert!(theirs.waits().await);
    let fence = guard.fence();
    guard.release().await;
    theirs.holds().await;

    assert!(ours.try_lock().await.expect("it answers").is_none(), "they hold");
    let (waited, ()) = tokio::join!(soon("we are let in", ours.lock()), async {
        places(&store, "jobs/nightly", 2).await;
        theirs.let_go();
    });
    assert!(waited.expect("it is free").fence() > fence);
}

/// The one in front of each is of another kind.
async fn all(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    let sessions = sessions(&store, TTL);
    let ours = Mutex::native(&store, &sessions, key("jobs/all"));
    let first = ours.lock().await.expect("it is free");
    let curator = zookeeper.curator(&zookeeper.addresses(), &["lock", "/jobs/all"]).await;
    let mut curator = Running::start(curator);
    places(&store, "jobs/all", 2).await;
    let mut kazoo = Running::start(zookeeper.kazoo(&zookeeper.addresses(), &["lock", "/jobs/all"]));
    places(&store, "jobs/all", 3).await;
    let last = tokio::spawn({
        let ours = ours.clone();
        async move { ours.lock().await.expect("it is free") }
    });
    places(&store, "jobs/all", 4).await;
    first.release().await;
    curator.holds().await;
    assert!(kazoo.waits().await && !last.is_finished());
    curator.let_go();
    kazoo.holds().await;
    assert!(!last.is_finished());
    kazoo.let_go();
    drop(soon("we are last", last).await.expect("it does not panic"));
}

/// What a command prints.
async fn printed(mut command: Command) -> String {
    let output = soon("it ends", command.output()).await.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

async fn elections(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    let sessions = sessions(&store, TTL);
    let ours = Candidate::native(&store, &sessions, key("teams/boss"), "us").expect("a candidate");
    let ours = ours.data("our data");
    let follower = Follower::native(&store, key("teams/boss"));
    let addresses = zookeeper.addresses();
    let selected = async || printed(zookeeper.curator(&addresses, &["selected", "/teams/boss"]).await).await;

    let leadership = ours.campaign().await.expect("nobody leads");
    let fence = leadership.fence();
    let theirs = zookeeper.curator(&addresses, &["select", "/teams/boss", "them"]).await;
    let mut theirs = Running::start(theirs);
    places(&store, "teams/boss", 2).await;
    assert!(theirs.waits().await);
    assert_eq!(selected().await, "our data");
    let candidates = follower.candidates().await.expect("it answers");
    assert_eq!(candidates.iter().map(|leader| &*leader.id).collect::<Vec<_>>(), ["our data", "them"]);
    leadership.resign().await;
    theirs.says("leads").await;
    let leader = follower.leader().await.expect("it answers").expect("they lead");
    assert!(leader.id == "them" && leader.fence > fence, "{leader:?}");
    assert_eq!(selected().await, "them");

    let (led, ()) = tokio::join!(soon("we lead", ours.campaign()), async {
        places(&store, "teams/boss", 2).await;
        theirs.let_go();
    });
    let led = led.expect("nobody leads");
    assert!(led.is_leading() && led.fence() > leader.fence);
}

async fn strangers(version: Version) {
    let zookeeper = Options::new(version).start().await;
    let store = connect(&zookeeper.url("")).await;
    let sessions = sessions(&store, TTL);
    let mut operator = zookeeper.plain(0).await.expect("it serves");
    let open = crate::servers::zookeeper::plain::OPEN;
    for node in ["/jobs", "/jobs/config", "/jobs/latch-0000000000", "/jobs/x-lock-1"] {
        operator.create(node, "x", open).await.expect("it is made");
    }
    let mutex = Mutex::native(&store, &sessions, key("jobs"));
    let guard = mutex.try_lock().await.expect("it answers").expect("no place stands ahead");
    drop(guard);
    assert_eq!(operator.get("/jobs/config").await.as_deref(), Ok("x"));
}
