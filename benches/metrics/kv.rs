//! Single operations on keys.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt as _;
use quorate::Client;
use quorate::kv::{Consistency, Coordinator, Key, StoreExt as _};

use super::{Bar, Metric, Scale};
use crate::arena::Arena;
use crate::contest::{Contestant, Role, Work};
use crate::floor::{Floor, Operations, VALUE};
use crate::work::{ABREAST, abreast, prepared, timed};

const LISTED: usize = 1000;

/// How many lists a slice has. What comes first after somebody else's is slower, for all alike; of few, that is most of it.
const LISTS: usize = 40;

/// How many gets under way in numbers a slice has, and how many rounds there are. Client and server may fall into step, so
/// that one waits for the other, which halves what they do: gets from Consul, 22,000 or 40,000 a second. A slice is to have its
/// share of both; with a quarter of this, most had but one.
const GETS: (usize, usize) = (6000, 27);

/// How many rounds of single operations: on a machine that is not quiet, those of Redis take 35 µs in one round and 60 in the next,
/// whoever's they are.
const SINGLE: usize = 101;

/// How many puts a slice has, and how many rounds there are: on ZooKeeper one round has 8,000 operations a second, and the next
/// 24,000, whoever's it is, so that nineteen were off by a tenth. What makes the difference is drawn with each slice, not within it, so
/// more and shorter ones tell more in the same time.
const PUTS: (usize, usize) = (3000, 121);

pub(super) fn metrics() -> Vec<Metric> {
    macro_rules! metric {
        ($name:literal, $unit:literal, $bar:expr, $rounds:expr, $both:ident) => {
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
        metric!("put", "µs", Bar::AtMost(1.10), SINGLE, put),
        metric!("get", "µs", Bar::AtMost(1.10), SINGLE, get),
        metric!("cas", "µs", Bar::AtMost(1.10), SINGLE, cas),
        metric!("list-1000", "µs", Bar::AtMost(1.15), SINGLE, list),
        metric!("put-64", "op/s", Bar::AtLeast(0.90), PUTS.1, puts),
        metric!("get-64", "op/s", Bar::AtLeast(0.90), GETS.1, gets),
    ]
}

/// A client of ours, and the floor beside it. Where that [opens its connections anew](Floor::reopen), both do so before
/// each slice, whoever's it is.
#[derive(Clone)]
struct Link {
    url: String,
    namespace: Key,
    floor: Arc<dyn Floor>,
    client: Rc<RefCell<Client>>,
}

impl Link {
    async fn open(arena: &Arena) -> Self {
        let namespace = arena.namespace();
        let client = Rc::new(RefCell::new(arena.client(&namespace).await));
        let floor = Arc::clone(&arena.floor);
        Self { url: arena.url.clone(), namespace, floor, client }
    }

    fn kv(&self) -> Arc<dyn Coordinator> {
        Arc::clone(self.client.borrow().kv())
    }

    async fn reopen(&self) {
        if self.floor.reopen().await {
            let client = Client::builder(&self.url).namespace(self.namespace.clone()).connect().await;
            self.client.replace(client.expect("it lets us in"));
        }
    }

    fn contestant(&self, role: Role, name: &str, work: impl Work + 'static) -> Contestant {
        let link = self.clone();
        Contestant::new(role, name, prepared(async move || link.reopen().await, work))
    }
}

/// Quorate, the floor, and the same requests by hand where they are others than the floor's.
async fn all<Q: Work + 'static, F: Work + 'static>(
    arena: &Arena,
    ours: impl AsyncFnOnce(Link, Key) -> Q,
    work: impl AsyncFn(Arc<dyn Operations>) -> F,
) -> Vec<Contestant> {
    let link = Link::open(arena).await;
    let ours = ours(link.clone(), Key::new("k").expect("a key")).await;
    let floor = Arc::clone(&link.floor);
    let raw = work(floor).await;
    let mut all =
        vec![link.contestant(Role::Quorate, "quorate", ours), link.contestant(Role::Floor, "raw", raw)];
    if let Some(alike) = &arena.alike {
        let alike = work(Arc::clone(alike)).await;
        all.push(link.contestant(Role::Alike, "same requests", alike));
    }
    all
}

async fn put(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(150);
    let ours = async |link: Link, key: Key| {
        timed(operations, async move || {
            link.kv().put(key.clone(), VALUE).await.expect("it is put");
        })
    };
    let work = async |floor: Arc<dyn Operations>| {
        timed(operations, async move || floor.put("floor-put", VALUE).await)
    };
    all(arena, ours, work).await
}

async fn get(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(150);
    let ours = async |link: Link, key: Key| {
        link.kv().put(key.clone(), VALUE).await.expect("it is put");
        timed(operations, async move || {
            let found = link.kv().get(&key, Consistency::Linearizable).await;
            assert!(found.expect("it answers").is_some(), "it stands");
        })
    };
    let work = async |floor: Arc<dyn Operations>| {
        floor.put("floor-get", VALUE).await;
        timed(operations, async move || assert!(floor.get("floor-get").await.is_some(), "it stands"))
    };
    all(arena, ours, work).await
}

async fn cas(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(150);
    let ours = async |link: Link, key: Key| {
        let mut version = link.kv().put(key.clone(), VALUE).await.expect("it is put").version;
        timed(operations, async move || {
            let write = link.kv().replace(key.clone(), version, VALUE).await.expect("it answers");
            version = write.applied().expect("nobody else writes").version;
        })
    };
    let work = async |floor: Arc<dyn Operations>| {
        // Nobody else's, as both that are by hand go on from the state they left.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let key = format!("floor-cas{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        floor.put(&key, VALUE).await;
        let mut state = floor.state(&key).await;
        timed(operations, async move || state = floor.replace(&key, state, VALUE).await)
    };
    all(arena, ours, work).await
}

async fn list(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(LISTS);
    let link = Link::open(arena).await;
    let prefix = Key::new("list").expect("a key");
    for nth in 0..LISTED {
        link.kv().put(format!("list/{nth:05}").as_str(), VALUE).await.expect("it is put");
    }
    let ours = {
        let link = link.clone();
        timed(operations, async move || {
            let listed = link.kv().list(&prefix, Consistency::Linearizable).await;
            assert_eq!(listed.expect("it answers").len(), LISTED);
        })
    };
    let floor = Arc::clone(&link.floor);
    floor.fill("floor-list", LISTED).await;
    let raw = timed(operations, async move || assert_eq!(floor.list("floor-list").await, LISTED));
    let mut all =
        vec![link.contestant(Role::Quorate, "quorate", ours), link.contestant(Role::Floor, "raw", raw)];
    if let Some(alike) = arena.alike.clone()
        && alike.fill_alike("floor-tree", LISTED).await
    {
        let alike = timed(operations, async move || assert_eq!(alike.list_alike("floor-tree").await, LISTED));
        all.push(link.contestant(Role::Alike, "same requests", alike));
    }
    all
}

async fn puts(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(PUTS.0);
    let ours = async |link: Link, key: Key| {
        known(operations, async move |nth| {
            // Beside each other, as those by hand: ZooKeeper would have a level more to take apart.
            let key = Key::new(&format!("{key}{nth}")).expect("a key");
            link.kv().put(key, VALUE).await.expect("it is put");
        })
    };
    let work = async |floor: Arc<dyn Operations>| {
        known(operations, async move |nth| floor.put(&format!("floor-puts{nth}"), VALUE).await)
    };
    all(arena, ours, work).await
}

/// Puts of as many keys as are under way, each of which was put once before a slice: a new client of ours has to ask what stands
/// there.
fn known(operations: usize, put: impl AsyncFn(usize)) -> impl Work {
    let put = Rc::new(put);
    let first = Rc::clone(&put);
    let first = async move || {
        for nth in 0..ABREAST {
            first(nth).await;
        }
    };
    prepared(first, abreast(operations, async move |nth| put(nth % ABREAST).await))
}

async fn gets(arena: &Arena, scale: Scale) -> Vec<Contestant> {
    let operations = scale.of(GETS.0);
    let ours = async |link: Link, key: Key| {
        link.kv().put(key.clone(), VALUE).await.expect("it is put");
        abreast(operations, async move |_| {
            let found = link.kv().get(&key, Consistency::Linearizable).await;
            assert!(found.expect("it answers").is_some(), "it stands");
        })
    };
    let work = async |floor: Arc<dyn Operations>| {
        floor.put("floor-gets", VALUE).await;
        abreast(operations, async move |_| assert!(floor.get("floor-gets").await.is_some(), "it stands"))
    };
    all(arena, ours, work).await
}
