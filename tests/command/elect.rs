//! Running a command only while leading.

use quorate::election::Leader;
use rustix::process::Signal;

use crate::kit::{Running, Store, Trial, block_on, eventually, is_alive};

pub(crate) const TRIALS: &[Trial] = &[
    ("elect_publishes_the_leader_and_its_data", publishes),
    ("elect_fails_over_when_the_leader_is_killed", fails_over),
    ("elect_hands_over_at_once_when_told_to_end", hands_over),
    ("elect_steps_down_when_its_command_crashes", steps_down),
    ("elect_once_ends_with_the_command_or_the_term", once),
    ("elect_stands_again_after_a_loss", stands_again),
];

fn leader(store: &Store) -> Option<Leader> {
    block_on(async {
        let client = store.client().await;
        client.follower("e").expect("a name").leader().await.expect("the store answers")
    })
}

/// A replica whose command says who runs, and as what.
fn replica(store: &Store, id: &str, more: &[&str]) -> Running {
    let script = format!("echo $QUORATE_FENCE >> terms; echo $$ > {id}; exec sleep 60");
    store.start(&[&["elect", "e", "--id", id], more, &["--", "sh", "-c", &script]].concat())
}

fn publishes(store: &Store) {
    let plain = replica(store, "a", &[]);
    store.wait_for("a");
    let leading = leader(store).expect("it leads");
    assert_eq!((leading.id.as_str(), &leading.data[..]), ("a", &b"a"[..]));
    assert_eq!(store.wait_for("terms"), format!("{}\n", leading.fence));
    plain.signal(Signal::TERM);
    plain.end().exits(128 + 15);
    assert_eq!(leader(store), None);
    let told = replica(store, "b", &["--data", "10.0.0.7:80"]);
    store.wait_for("b");
    assert_eq!(&leader(store).expect("it leads").data[..], b"10.0.0.7:80");
    drop(told);
}

fn fails_over(store: &Store) {
    let first = replica(store, "a", &["--ttl", &store.ttl(2)]);
    let pid = store.wait_for("a");
    let second = replica(store, "b", &["--ttl", &store.ttl(2)]);
    first.signal(Signal::KILL);
    store.wait_for("b");
    assert!(!is_alive(&pid), "two commands ran at once");
    let terms: Vec<u64> =
        store.wait_for("terms").lines().map(|line| line.parse().expect("a number")).collect();
    assert!(terms.len() == 2 && terms[0] < terms[1], "{terms:?}");
    drop(second);
}

fn hands_over(store: &Store) {
    let first = replica(store, "a", &["--ttl", "1m"]);
    let pid = store.wait_for("a");
    let second = replica(store, "b", &["--ttl", "1m"]);
    first.signal(Signal::INT);
    first.end().exits(128 + 2);
    assert!(!is_alive(&pid));
    store.wait_for("b"); // Long before the ttl.
    drop(second);
}

fn steps_down(store: &Store) {
    let crashing =
        store.start(&["elect", "e", "--id", "a", "--", "sh", "-c", "echo $QUORATE_FENCE >> crashes; exit 3"]);
    store.wait_for("crashes");
    let other = replica(store, "b", &[]);
    store.wait_for("b"); // While the other holds off.
    drop(other);
    // And it stands again by itself.
    eventually("it stands again", || store.read("crashes").filter(|terms| terms.lines().count() >= 2));
    crashing.signal(Signal::TERM);
    let ended = crashing.end();
    ended.says("others may lead e for 1s");
}

fn once(store: &Store) {
    store.run(&["elect", "e", "--once", "--", "sh", "-c", "exit 7"]).exits(7);
    let lost = replica(store, "a", &["--once", "--ttl", &store.ttl(2)]);
    store.wait_for("a");
    let outage = store.outage();
    lost.end().exits(76);
    drop(outage);
}

fn stands_again(store: &Store) {
    let replica =
        replica(store, "a", &["--ttl", &store.ttl(2), "--on-loss", "echo $QUORATE_REASON >> losses"]);
    let first = store.wait_for("a");
    let outage = store.outage();
    store.wait_for("losses");
    assert!(!is_alive(&first), "what follows a loss follows the end of the command");
    drop(outage);
    let again =
        eventually("another term", || store.read("a").filter(|pid| *pid != first && pid.ends_with('\n')));
    assert!(is_alive(&again));
    let terms: Vec<u64> =
        store.wait_for("terms").lines().map(|line| line.parse().expect("a number")).collect();
    assert!(terms.is_sorted_by(|before, after| before < after), "{terms:?}");
    drop(replica);
}
