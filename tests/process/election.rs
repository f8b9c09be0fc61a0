//! Three replicas of the leader example on one store.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate::Client;
use quorate::election::{Follower, Leader};
use quorate::kv::{Consistency, Key};
use rustix::process::Signal;

use crate::place::Place;
use crate::replica::Replica;
use crate::{block_on, eventually};

const NAME: &str = "leader-example";
const START: Duration = Duration::from_secs(20);

struct Cluster<'a> {
    place: &'a Place,
    ttl: u32,
    replicas: Vec<Replica>,
    client: Client,
    follower: Follower,
}

impl<'a> Cluster<'a> {
    async fn start(place: &'a Place, ttl: u32) -> Self {
        let client = Client::builder(&place.url).connect().await.expect("the store is there");
        let follower = client.follower(NAME).expect("a good name");
        let mut cluster = Self { place, ttl, replicas: Vec::new(), client, follower };
        for id in ["a", "b", "c"] {
            cluster.join(id);
        }
        eventually("three stand", START, || async {
            (cluster.follower.candidates().await.ok()?.len() == 3).then_some(())
        })
        .await;
        cluster
    }

    /// Who leads in the store after the term `last`, within `patience`, and says so itself, and has written as leader.
    async fn leader_after(&self, last: u64, patience: Duration) -> Leader {
        let leader = eventually("a leader is recorded", patience, || async {
            self.follower
                .leader()
                .await
                .expect("the store answers")
                .filter(|leader| leader.fence.get() > last)
        })
        .await;
        eventually("the leader says so", START, || async {
            let replica = self.replicas.iter().find(|replica| replica.id == leader.id)?;
            replica.terms().contains(&leader.fence.get()).then_some(())
        })
        .await;
        eventually("it writes as leader", START, || async {
            self.record().await.contains_key(&leader.fence.get()).then_some(())
        })
        .await;
        leader
    }

    fn join(&mut self, id: &str) {
        self.replicas.push(Replica::start(id, &self.place.url, &self.ttl.to_string()));
    }

    fn take(&mut self, id: &str) -> Replica {
        let at = self.replicas.iter().position(|replica| replica.id == id).expect("one of ours leads");
        self.replicas.remove(at)
    }

    /// Every term in which somebody wrote as leader, with who did, from the store itself.
    async fn record(&self) -> BTreeMap<u64, String> {
        let terms = Key::new("leader-example/terms").expect("a good key");
        let entries =
            self.client.kv().list(&terms, Consistency::Linearizable).await.expect("the store answers");
        let term = |entry: &quorate::kv::Entry| entry.key.name().parse().expect("a fence");
        entries
            .iter()
            .map(|entry| (term(entry), String::from_utf8_lossy(&entry.value).into_owned()))
            .collect()
    }
}

/// Stops a replica, at a moment when it keeps nobody from writing: that it may do so while it is stopped is a known limit
/// of the embedded store, and not what is tried here.
async fn stop(place: &Place, replica: &Replica) {
    loop {
        replica.signal(Signal::STOP);
        eventually("it is stopped", START, || async { replica.is_stopped().then_some(()) }).await;
        if place.is_writable() {
            return;
        }
        replica.signal(Signal::CONT);
        eventually("the write ends", START, || async { place.is_writable().then_some(()) }).await;
    }
}

pub(crate) fn kill_nine(place: &Place) {
    block_on(async {
        let mut cluster = Cluster::start(place, place.ttl).await;
        let mut led: Vec<(u64, String)> = Vec::new();
        let mut said = Vec::new();
        for round in 0..=place.rounds() {
            let last = led.last().map_or(0, |(fence, _)| *fence);
            // From the kill on, as the round before ended with it.
            let leader = cluster.leader_after(last, if round == 0 { START } else { place.failover() }).await;
            led.push((leader.fence.get(), leader.id.clone()));
            if round < place.rounds() {
                // A newcomer first, so that there are always three.
                cluster.join(&format!("r{round}"));
                said.extend(cluster.take(&leader.id).kill());
            }
        }
        assert!(led.is_sorted_by(|a, b| a.0 < b.0), "fences do not grow: {led:?}");
        said.extend(cluster.replicas.iter().flat_map(Replica::lines));
        let mut claimed: Vec<u64> =
            said.iter().filter_map(|line| line.strip_prefix("leader fence=")?.parse().ok()).collect();
        claimed.sort_unstable();
        let recorded: Vec<u64> = led.iter().map(|(fence, _)| *fence).collect();
        assert_eq!(claimed, recorded, "one successor each time, and nobody else ever claimed to lead");
        assert_eq!(cluster.record().await, led.into_iter().collect(), "each term was one replica's");
    });
}

pub(crate) fn graceful(place: &Place) {
    block_on(async {
        // Long enough that waiting for it would be seen.
        let mut cluster = Cluster::start(place, 30).await;
        for signal in [Signal::INT, Signal::TERM] {
            let leader = cluster.leader_after(0, START).await;
            let mut leaving = cluster.take(&leader.id);
            leaving.signal(signal);
            let next = cluster.leader_after(leader.fence.get(), Duration::from_secs(10)).await;
            assert_ne!(next.id, leader.id);
            assert!(leaving.wait(), "it ends well");
        }
    });
}

pub(crate) fn stopped(place: &Place) {
    block_on(async {
        let cluster = Cluster::start(place, place.ttl).await;
        let leader = cluster.leader_after(0, START).await;
        let replica = cluster.replicas.iter().find(|replica| replica.id == leader.id).expect("one of ours");
        stop(place, replica).await;
        let patience = place.failover() + Duration::from_secs(2);
        let next = cluster.leader_after(leader.fence.get(), patience).await;
        replica.signal(Signal::CONT);
        let follows = format!("following {} fence={}", next.id, next.fence);
        eventually("it follows the next", START, || async {
            replica.lines().contains(&follows).then_some(())
        })
        .await;
        assert_eq!(cluster.record().await.get(&leader.fence.get()), Some(&leader.id));
        let last = cluster.follower.leader().await.expect("the store answers").expect("somebody leads");
        assert_eq!(last.fence, next.fence, "it did not take the lead back");
    });
}
