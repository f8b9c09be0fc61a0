//! Single operations on keys.

use std::sync::Arc;

use futures_util::FutureExt as _;
use quorate::Client;
use quorate::kv::{Consistency, Key, StoreExt as _};

use super::{Bar, Metric, Scale};
use crate::arena::Arena;
use crate::contest::{Contestant, Role, Work};
use crate::floor::{Operations, VALUE};
use crate::work::{abreast, timed};

const LISTED: usize = 1000;

/// How many lists a slice has. What comes first after somebody else's is slower, for all alike; of few, that is most of it.
const LISTS: usize = 40;

/// How many operations a slice has of those that are under way in numbers. Client and server may fall into step, so that one waits for
/// the other, which halves what they do: gets from Consul, 22,000 or 40,000 a second. A slice is to have its share of both; with a
/// quarter of this, most had but one.
const MANY: usize = 6000;

pub(super) fn metrics() -> Vec<Metric> {
    macro_rules! metric {
        ($name:literal, $unit:literal, $bar:expr, $rounds:literal, $both:ident) => {
            Metric {
                name: $name,
                unit: $unit,
                bar: |backend| if backend == "embedded" { Bar::None } else { $bar },
                rounds: $rounds,
                contestants: |arena, scale| $both(arena, scale).boxed_local(),
            }
        };
    }
    vec![
        metric!("put", "µs", Bar::AtMost(1.10), 27, put),
        metric!("get", "µs", Bar::AtMost(1.10), 27, get),
        metric!("cas", "µs", Bar::AtMost(1.10), 27, cas),
        metric!("list-1000", "µs", Bar::AtMost(1.15), 27, list),
        metric!("put-64", "op/s", Bar::AtLeast(0.90), 9, puts),
        metric!("get-64", "op/s", Bar::AtLeast(0.90), 9, gets),
    ]
}

/// Quorate, the floor, and the same requests by hand where they are others than the floor's.
async fn all<Q: Work + 'static, F: Work + 'static>(
    arena: &Arena,
    ours: impl AsyncFnOnce(Client, Key) -> Q,
    by_hand: impl AsyncFn(Arc<dyn Operations>) -> F,
) -> Vec<Contestant> {
    let client = arena.client(&arena.namespace()).await;
    let ours = ours(client, Key::new("k").expect("a key")).await;
    let mut all = vec![Contestant::new(Role::Quorate, "quorate", ours)];
    let floor = Arc::clone(&arena.floor);
    let raw: Arc<dyn Operations> = floor;
    all.push(Contestant::new(Role::Floor, "raw", by_hand(raw).await));
    if let Some(alike) = &arena.alike {
        all.push(Contestant::new(Role::Alike, "same requests", by_hand(Arc::clone(alike)).await));
    }
    all
}

async fn put(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(150);
    let ours = async |client: Client, key: Key| {
        timed(operations, async move || {
            client.kv().put(key.clone(), VALUE).await.expect("it is put");
        })
    };
    let by_hand = async |floor: Arc<dyn Operations>| {
        timed(operations, async move || floor.put("floor-put", VALUE).await)
    };
    all(arena, ours, by_hand).await
}

async fn get(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(150);
    let ours = async |client: Client, key: Key| {
        client.kv().put(key.clone(), VALUE).await.expect("it is put");
        timed(operations, async move || {
            let found = client.kv().get(&key, Consistency::Linearizable).await;
            assert!(found.expect("it answers").is_some(), "it stands");
        })
    };
    let by_hand = async |floor: Arc<dyn Operations>| {
        floor.put("floor-get", VALUE).await;
        timed(operations, async move || assert!(floor.get("floor-get").await.is_some(), "it stands"))
    };
    all(arena, ours, by_hand).await
}

async fn cas(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(150);
    let ours = async |client: Client, key: Key| {
        let mut version = client.kv().put(key.clone(), VALUE).await.expect("it is put").version;
        timed(operations, async move || {
            let write = client.kv().replace(key.clone(), version, VALUE).await.expect("it answers");
            version = write.applied().expect("nobody else writes").version;
        })
    };
    let by_hand = async |floor: Arc<dyn Operations>| {
        // Nobody else's, as both that are by hand go on from the state they left.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let key = format!("floor-cas{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        floor.put(&key, VALUE).await;
        let mut state = floor.state(&key).await;
        timed(operations, async move || state = floor.replace(&key, state, VALUE).await)
    };
    all(arena, ours, by_hand).await
}

async fn list(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(LISTS);
    let client = arena.client(&arena.namespace()).await;
    let prefix = Key::new("list").expect("a key");
    for nth in 0..LISTED {
        client.kv().put(format!("list/{nth:05}").as_str(), VALUE).await.expect("it is put");
    }
    let ours = timed(operations, async move || {
        let listed = client.kv().list(&prefix, Consistency::Linearizable).await;
        assert_eq!(listed.expect("it answers").len(), LISTED);
    });
    let floor = Arc::clone(&arena.floor);
    floor.fill("floor-list", LISTED).await;
    let by_hand = timed(operations, async move || assert_eq!(floor.list("floor-list").await, LISTED));
    let mut all =
        vec![Contestant::new(Role::Quorate, "quorate", ours), Contestant::new(Role::Floor, "raw", by_hand)];
    if let Some(alike) = arena.alike.clone()
        && alike.fill_alike("floor-tree", LISTED).await
    {
        let by_hand =
            timed(operations, async move || assert_eq!(alike.list_alike("floor-tree").await, LISTED));
        all.push(Contestant::new(Role::Alike, "same requests", by_hand));
    }
    all
}

async fn puts(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(MANY);
    let ours = async |client: Client, key: Key| {
        abreast(operations, async move |nth| {
            let key = key.child(&format!("{}", nth % 64)).expect("a key");
            client.kv().put(key.clone(), VALUE).await.expect("it is put");
        })
    };
    let by_hand = async |floor: Arc<dyn Operations>| {
        abreast(operations, async move |nth| floor.put(&format!("floor-puts{}", nth % 64), VALUE).await)
    };
    all(arena, ours, by_hand).await
}

async fn gets(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(MANY);
    let ours = async |client: Client, key: Key| {
        client.kv().put(key.clone(), VALUE).await.expect("it is put");
        abreast(operations, async move |_| {
            let found = client.kv().get(&key, Consistency::Linearizable).await;
            assert!(found.expect("it answers").is_some(), "it stands");
        })
    };
    let by_hand = async |floor: Arc<dyn Operations>| {
        floor.put("floor-gets", VALUE).await;
        abreast(operations, async move |_| assert!(floor.get("floor-gets").await.is_some(), "it stands"))
    };
    all(arena, ours, by_hand).await
}
