//! etcd keeps its whole history until it is told to compact it, so the judge reads it when all is over.

use std::net::SocketAddr;

use async_trait::async_trait;
use etcd_client::{Client, EventType, KeyValue, WatchOptions};

use crate::cluster::{Change, Cluster, Stands};
use crate::servers::etcd::{Etcd, Options, Version};

/// Put when all is over, so that the end of the history can be told.
const END: &str = "end";

pub(crate) struct Torment {
    etcd: Etcd,
    version: Version,
    members: u16,
}

pub(crate) async fn start(version: Version, members: u16) -> Torment {
    let etcd = Options::new(version).members(members).start().await;
    Torment { etcd, version, members }
}

#[async_trait(?Send)]
impl Cluster for Torment {
    fn describe(&self) -> String {
        format!("etcd {}, {} members", self.version.name(), self.members)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.etcd.addresses()
    }

    fn url_via(&self, addresses: &[SocketAddr]) -> String {
        self.etcd.url_via(addresses, "")
    }

    async fn leader(&self) -> usize {
        self.etcd.leader().await
    }

    fn kill(&mut self, member: usize) {
        self.etcd.kill(member);
    }

    async fn restart(&mut self, member: usize) {
        self.etcd.restart(member).await;
    }

    fn pause(&mut self, member: usize) {
        self.etcd.pause(member);
    }

    fn resume(&mut self, member: usize) {
        self.etcd.resume(member);
    }

    async fn history(&self) -> Vec<Change> {
        let mut client =
            Client::connect([self.etcd.addresses()[0].to_string()], None).await.expect("it connects");
        client.put(END, "", None).await.expect("the store answers");
        let options = WatchOptions::new().with_all_keys().with_start_revision(1);
        let mut stream = client.watch("", Some(options)).await.expect("it is watched");
        let mut history = Vec::new();
        while let Some(message) = stream.message().await.expect("the stream goes on") {
            assert!(!message.canceled(), "the history is not complete: {message:?}");
            for event in message.events() {
                let found = event.kv().expect("an event has a key");
                if found.key() == END.as_bytes() {
                    return history;
                }
                history.push(change(event.event_type(), found));
            }
        }
        panic!("the stream ended before the history did");
    }

    fn log(&self, member: usize) -> String {
        self.etcd.log(member)
    }
}

fn change(kind: EventType, found: &KeyValue) -> Change {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let now = match kind {
        EventType::Put => {
            let fence = found.create_revision().unsigned_abs();
            Some(Stands { fence, value: text(found.value()) })
        }
        EventType::Delete => None,
    };
    Change { key: text(found.key()), now }
}
