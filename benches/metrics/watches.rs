//! Being told of changes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use quorate::kv::{Event, Key, Result, Scope, StoreExt as _};
use tokio::time::timeout;

use super::{Bar, Metric, Scale};
use crate::arena::Arena;
use crate::contest::{Contestant, Role};
use crate::floor::{Changes, Operations, VALUE};
use crate::work::{after, reported, timed};

/// How many keys are watched at once.
const WATCHED: usize = 1000;

pub(super) fn metrics() -> Vec<Metric> {
    vec![
        Metric {
            name: "put-event",
            unit: "µs",
            bar: |backend| if backend == "embedded" { Bar::None } else { Bar::AtMost(1.15) },
            rounds: 27,
            contestants: |arena, scale| put_event(arena, scale).boxed_local(),
        },
        Metric {
            name: "watches-1000",
            unit: "µs",
            bar: |_| Bar::None,
            rounds: 3,
            contestants: |arena, _| thousand(arena).boxed_local(),
        },
    ]
}

/// From the begin of a put by one client to the event with the value at another.
async fn put_event(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(50);
    let namespace = arena.namespace();
    let (writer, reader) = (arena.client(&namespace).await, arena.client(&namespace).await);
    let key = Key::new("k").expect("a key");
    let mut events = reader.kv().watch(Scope::Key(key.clone()));
    quiet(&mut events).await;
    let ours = reported(operations, async move || {
        let told = async { events.next().await.expect("it goes on").expect("nothing fails") };
        let _kept = &reader;
        after(writer.kv().put(key.clone(), VALUE), told).await
    });
    let mut all = vec![Contestant::new(Role::Quorate, "quorate", ours)];
    let by_hand = |key: &'static str, floor: Arc<dyn Operations>, mut changes: Changes| {
        reported(operations, async move || after(floor.put(key, VALUE), changes.next()).await)
    };
    let floor = Arc::clone(&arena.floor);
    floor.put("floor-watch", VALUE).await;
    if let Some(changes) = floor.watch("floor-watch").await {
        all.push(Contestant::new(Role::Floor, "raw", by_hand("floor-watch", floor, changes)));
    }
    if let Some(alike) = arena.alike.clone() {
        // A key of its own, or each would be told of what the other puts.
        alike.put("alike-watch", VALUE).await;
        if let Some(changes) = alike.watch_alike("alike-watch").await {
            let by_hand = by_hand("alike-watch", alike, changes);
            all.push(Contestant::new(Role::Alike, "same requests", by_hand));
        }
    }
    all
}

/// The snapshot, and whatever else is told at first.
async fn quiet(events: &mut BoxStream<'static, Result<Event>>) {
    events.next().await.expect("it goes on").expect("nothing fails");
    while timeout(Duration::from_millis(300), events.next()).await.is_ok() {}
}

/// Until so many watches have told what stands there, for each.
async fn thousand(arena: &Arena) -> Vec<Contestant> {
    let client = arena.client(&arena.namespace()).await;
    let ours = timed(1, async move || {
        let all = (0..WATCHED).map(|nth| {
            let key = Key::new(&format!("watched/{nth}")).expect("a key");
            let mut events = client.kv().watch(Scope::Key(key));
            async move {
                events.next().await.expect("it goes on").expect("nothing fails");
                events
            }
        });
        drop(join_all(all).await);
    });
    vec![Contestant::new(Role::Quorate, "quorate", ours)]
}
