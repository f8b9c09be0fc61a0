//! Being told of changes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, join_all};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use quorate::kv::{Event, Key, Result, Scope, StoreExt as _};
use tokio::time::timeout;

use super::{Bar, Metric, Scale};
use crate::arena::Arena;
use crate::contest::{Contestant, Role, Slice, Work, micros};
use crate::floor::{Changes, VALUE};
use crate::work::{after, timed};

/// How many keys are watched at once.
const WATCHED: usize = 1000;

/// After so long without a word all is told that was to be told at first.
const QUIET: Duration = Duration::from_millis(100);

pub(super) fn metrics() -> Vec<Metric> {
    vec![
        Metric {
            name: "put-event",
            unit: "µs",
            bar: |backend| if backend == "embedded" { Bar::None } else { Bar::AtMost(1.15) },
            rounds: 101, // On Redis one takes 95 µs and the next 150, on Consul 300 and 700, whoever's it is.
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
    let scope = Scope::Key(key.clone());
    let ours = Telling {
        operations,
        listen: async move || changes(reader.kv().watch(scope.clone())).await,
        put: async move || drop(writer.kv().put(&key, VALUE).await.expect("it answers")),
        told: None,
    };
    let mut all = vec![Contestant::new(Role::Quorate, "quorate", ours)];
    let floor = Arc::clone(&arena.floor);
    floor.put("floor-watch", VALUE).await;
    if floor.watch("floor-watch").await.is_some() {
        let putter = Arc::clone(&floor);
        let by_hand = Telling {
            operations,
            listen: async move || floor.watch("floor-watch").await.expect("it did before"),
            put: async move || putter.put("floor-watch", VALUE).await,
            told: None,
        };
        all.push(Contestant::new(Role::Floor, "raw", by_hand));
    }
    if let Some(alike) = arena.alike.clone() {
        alike.put("alike-watch", VALUE).await;
        if alike.watch_alike("alike-watch").await.is_some() {
            let putter = Arc::clone(&alike);
            let by_hand = Telling {
                operations,
                listen: async move || alike.watch_alike("alike-watch").await.expect("it did before"),
                put: async move || putter.put("alike-watch", VALUE).await,
                told: None,
            };
            all.push(Contestant::new(Role::Alike, "same requests", by_hand));
        }
    }
    all
}

/// Puts of which another client is told. It listens for its own slices only: some servers tell all who listen of everything,
/// one after another, and who began last is told first.
struct Telling<L, P> {
    operations: usize,
    listen: L,
    put: P,
    told: Option<Changes>,
}

impl<L: AsyncFnMut() -> Changes, P: AsyncFnMut()> Work for Telling<L, P> {
    fn prepare(&mut self) -> LocalBoxFuture<'_, ()> {
        async {
            let mut told = (self.listen)().await;
            // Whatever else is told at first; and so all begin after the same silence, by which a core falls asleep.
            while timeout(QUIET, told.next()).await.is_ok_and(|more| more.is_some()) {}
            self.told = Some(told);
        }
        .boxed_local()
    }

    fn slice(&mut self) -> LocalBoxFuture<'_, Slice> {
        async {
            let mut told = self.told.take().expect("it was prepared");
            let mut values = Vec::with_capacity(self.operations);
            for _ in 0..self.operations {
                values.push(micros(after(Duration::ZERO, (self.put)(), told.next()).await));
            }
            Slice { values, operations: self.operations }
        }
        .boxed_local()
    }
}

/// The changes after the first word.
async fn changes(mut events: BoxStream<'static, Result<Event>>) -> Changes {
    events.next().await.expect("it goes on").expect("nothing fails");
    events.map(|event| drop(event.expect("nothing fails"))).boxed()
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
