//! A lock that nobody else wants.

use futures_util::FutureExt as _;
use std::sync::Arc;

use super::{Bar, Metric, Scale};
use crate::arena::Arena;
use crate::contest::{Contestant, Role};
use crate::floor::Operations;
use crate::work::timed;

pub(super) fn metrics() -> Vec<Metric> {
    vec![Metric {
        name: "lock-pair",
        unit: "µs",
        bar: |backend| if backend == "embedded" { Bar::Below(100.0) } else { Bar::AtMost(1.10) },
        rounds: 101,
        contestants: |arena, scale| pair(arena, scale).boxed_local(),
    }]
}

/// Lock and unlock, on one session.
async fn pair(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(100);
    let client = arena.client(&arena.namespace()).await;
    let mutex = client.mutex("pair").expect("a name");
    let ours = timed(operations, async move || {
        mutex.lock().await.expect("it is free").release().await;
        let _kept = &client;
    });
    let by_hand = |role, name, floor: Arc<dyn Operations>| {
        Contestant::new(role, name, timed(operations, async move || floor.lock_pair("floor-pair").await))
    };
    let floor = Arc::clone(&arena.floor);
    let raw: Arc<dyn Operations> = floor;
    let mut all =
        vec![Contestant::new(Role::Quorate, "quorate", ours), by_hand(Role::Floor, "two writes", raw)];
    all.extend(arena.alike.as_ref().map(|alike| by_hand(Role::Alike, "same requests", Arc::clone(alike))));
    all
}
