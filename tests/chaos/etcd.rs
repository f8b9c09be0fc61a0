//! etcd keeps its whole history until it is told to compact it, so the judge reads it when all is over.

use async_trait::async_trait;
use etcd_client::{Client, EventType, KeyValue, WatchOptions};

use crate::history::{Change, Historian, Stands};
use crate::servers::Cluster as _;
use crate::servers::etcd::Etcd;

/// Put when all is over, so that the end of the history can be told.
const END: &str = "end";

#[async_trait(?Send)]
impl Historian for Etcd {
    async fn history(&mut self) -> Vec<Change> {
        let mut client = Client::connect([self.addresses()[0].to_string()], None).await.expect("it connects");
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
