//! How many commands things cost, as the server counts them.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use libtest_mimic::Trial;
use quorate::kv::{Consistency, Event, Renewal, Scope, SessionStore, Store, StoreExt, Txn, WatchStore};
use quorate::lock::Mutex;
use tokio::task::JoinSet;

use super::{PATIENCE, TTL, connect, key, sessions, soon, start, trial};
use crate::servers::redis::{Redis, Version};
use crate::servers::{Cluster as _, until};

pub(super) fn trials(version: Version) -> Vec<Trial> {
    vec![
        trial(version, "an_operation_costs_one_request", operations),
        trial(version, "a_lock_costs_one_script_and_one_to_give_it_back", acquire_and_release),
        trial(version, "a_hand_over_costs_the_same_however_many_wait", hand_over),
        trial(version, "who_waits_again_hears_on_the_same_connection", again),
        trial(version, "ten_thousand_registrations_are_one_key_to_renew", renewal),
        trial(version, "the_dead_go_in_batches_however_many_die_at_once", batches),
        trial(version, "a_million_foreign_keys_cost_nothing", foreign),
    ]
}

/// How many entries are put.
const MANY: u64 = 10_000;

/// How many of the dead one script removes at most.
const BATCH: u64 = 256;

/// Ends every session, as if its time were up.
const KILL: &str = "for _, session in ipairs(redis.call('ZRANGE', '{quorate}:d', 0, -1)) do
    redis.call('DEL', '{quorate}:s:' .. session)
    redis.call('ZADD', '{quorate}:d', 0, session)
end";

type Counts = BTreeMap<String, u64>;

/// How often each command was called so far, by clients and by scripts.
async fn counts(redis: &Redis) -> Counts {
    let stats = redis.cli(&["INFO", "commandstats"]).await.expect("it answers");
    let count = |line: &str| {
        let (name, rest) = line.trim().strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    stats.lines().filter_map(count).collect()
}

/// What was called since, but for the looks themselves.
async fn since(redis: &Redis, before: &Counts) -> Counts {
    let mut now = counts(redis).await;
    for (name, count) in &mut now {
        *count -= before.get(name).copied().unwrap_or(0);
    }
    now.retain(|name, count| *count > 0 && name != "info");
    now
}

fn of(counts: &Counts, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or(0)
}

/// Requests for scripts but for those that look after the dead, of which `ZRANGE` is a part, and for the one that each
/// connection begins with, of which `XRANGE` is. One that the server has not seen yet may go as a whole, and then is none of
/// `EVALSHA`.
fn scripts(counts: &Counts) -> u64 {
    of(counts, "evalsha").saturating_sub(of(counts, "zrange") + of(counts, "xrange"))
}

async fn operations(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let (a, replace) = (key("p/a"), |version| Txn::new().version(&key("p/a"), version).put(&key("p/a"), "2"));
    // The server has seen every script.
    for seen in [false, true] {
        let before = counts(&redis).await;
        let spent = async |what: &str, scripts: u64, plain: u64| {
            let spent = since(&redis, &before).await;
            let counted = (of(&spent, "evalsha"), of(&spent, "eval"), of(&spent, "mget"));
            assert!(!seen || counted == (scripts, 0, plain), "after {what}: {spent:?}");
        };
        let made = store.put("p/a", "1").await.expect("it is put");
        spent("a put", 1, 0).await;
        assert!(store.commit(replace(made.version)).await.expect("it answers").is_applied());
        spent("a conditional write", 2, 0).await;
        assert!(store.get(&a, Consistency::Linearizable).await.expect("it answers").is_some());
        spent("a get", 2, 1).await;
        assert_eq!(store.list(&key("p"), Consistency::Linearizable).await.expect("it answers").len(), 1);
        // Its script reads many at once.
        spent("a list", 3, 2).await;
        store.delete("p/a").await.expect("it is deleted");
        spent("a delete", 4, 2).await;
    }
    // The script only names what is below it; a plain command reads it, and one more who lives, of those that are bound.
    for nth in 0..100 {
        store.put(format!("q/{nth}").as_str(), "1").await.expect("it is put");
    }
    for requests in [(1, 1), (1, 2)] {
        let before = counts(&redis).await;
        store.list(&key("q"), Consistency::Linearizable).await.expect("it answers");
        let spent = since(&redis, &before).await;
        assert_eq!((of(&spent, "evalsha") + of(&spent, "eval"), of(&spent, "mget")), requests, "{spent:?}");
        let session = store.grant(TTL).await.expect("it grants").id;
        let bound = Txn::new().put_bound(&key("q/bound"), "1", &session);
        assert!(store.commit(bound).await.expect("it answers").is_applied());
    }
    // That nothing is bound there is seen first.
    let session = store.grant(TTL).await.expect("it grants").id;
    let bound = Txn::new().put_bound(&a, "1", &session);
    assert!(store.commit(bound).await.expect("it answers").is_applied());
    for scripts in [2, 1] {
        let before = counts(&redis).await;
        assert!(store.put("p/a", "2").await.expect("it is put").session.is_none());
        let spent = since(&redis, &before).await;
        assert_eq!(of(&spent, "evalsha") + of(&spent, "eval"), scripts, "{spent:?}");
    }
    // Whose it is must be seen first, unless its name says it.
    let place = format!("p/{session}-x{}", "0".repeat(32));
    let bound = Txn::new().put_bound(&a, "1", &session).put_bound(&key(&place), "1", &session);
    assert!(store.commit(bound).await.expect("it answers").is_applied());
    for (at, requests) in [("p/a", 2), (&place, 1)] {
        let before = counts(&redis).await;
        assert!(store.fetch(at).await.expect("it answers").is_some());
        let spent = since(&redis, &before).await;
        assert_eq!((of(&spent, "mget"), of(&spent, "evalsha")), (requests, 0), "{at}: {spent:?}");
    }
}

async fn acquire_and_release(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let sessions = sessions(&store, TTL);
    let mutex = Mutex::new(&store, &sessions, "m").expect("a name");
    // The server has seen every script, and the stream is read.
    let first = mutex.lock().await.expect("it is free");
    quiet(&redis).await;
    first.release().await;
    store.fetch("a").await.expect("it answers");
    // Until nobody looked after the dead meanwhile, or began a connection.
    for _ in 0..20 {
        let before = counts(&redis).await;
        let guard = mutex.lock().await.expect("it is free");
        let acquired = since(&redis, &before).await;
        guard.release().await;
        let both = since(&redis, &before).await;
        if ["zrange", "xrange", "zrangebyscore"].iter().any(|name| both.contains_key(*name)) {
            continue;
        }
        // The read with which the watch on the own place begins may be among them.
        assert!((1..=2).contains(&of(&acquired, "evalsha")), "{acquired:?}");
        assert_eq!(of(&acquired, "zrevrangebyscore"), 1, "{acquired:?}");
        assert!((2..=3).contains(&of(&both, "evalsha")) && of(&both, "eval") == 0, "{both:?}");
        return;
    }
    panic!("others asked all the time");
}

/// Whether those who wait share a client or not.
async fn hand_over(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let ours = sessions(&store, TTL);
    for clients in [0, 1, 16] {
        let mutex = Mutex::new(&store, &ours, &format!("m{clients}")).expect("a name");
        let held = mutex.lock().await.expect("it is free");
        let mut waiting = vec![mutex.clone(); 16 - clients];
        for _ in 0..clients {
            let store = connect(&redis.url("")).await;
            let mutex = Mutex::new(&store, &sessions(&store, TTL), &format!("m{clients}"));
            waiting.push(mutex.expect("a name"));
        }
        let mut waiters: JoinSet<_> =
            waiting.into_iter().map(async |mutex| mutex.lock().await.expect("the session lives")).collect();
        until("all wait", PATIENCE, async || match mutex.waiters().await.expect("it answers").len() {
            16 => Ok(()),
            some => Err(format!("{some} of 16")),
        })
        .await;
        let before = quiet(&redis).await;
        held.release().await;
        let next = waiters.join_next().await.expect("one waits").expect("it does not panic");
        quiet(&redis).await;
        let cost = since(&redis, &before).await;
        // The release, the look of the next, and the read with which it begins to watch its place. Nobody else asks anything.
        let (renewals, plain) = (of(&cost, "pexpire"), of(&cost, "mget") + of(&cost, "xread"));
        assert_eq!((scripts(&cost) - renewals, plain), (2, 1), "of {clients} clients: {cost:?}");
        drop(next);
    }
}

async fn again(version: Version) {
    const TURNS: u64 = 20;
    let redis = start(version).await;
    let mut mutexes = Vec::new();
    for _ in 0..2 {
        let store = connect(&redis.url("")).await;
        mutexes.push(Mutex::new(&store, &sessions(&store, TTL), "m").expect("a name"));
    }
    let mut held = mutexes[0].lock().await.expect("it is free");
    let mut before = Counts::new();
    for turn in 0..TURNS + 2 {
        if turn == 2 {
            before = counts(&redis).await;
        }
        mutexes.reverse();
        let release = async {
            until("the other waits", PATIENCE, async || match mutexes[0].waiters().await {
                Ok(waiting) if waiting.len() == 1 => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
            held.release().await;
        };
        held = tokio::join!(mutexes[0].lock(), release).0.expect("the session lives");
    }
    // What nobody has watched for two seconds is closed, which may be now and then.
    let cost = since(&redis, &before).await;
    assert!(of(&cost, "subscribe") < TURNS / 2, "{cost:?}");
    drop(held);
}

/// The counts once all have begun to watch the place ahead of them: no script is run in ten looks.
async fn quiet(redis: &Redis) -> Counts {
    let (mut quiet, mut looks) = (counts(redis).await, 0);
    until("all is quiet", PATIENCE, async || {
        let more = since(redis, &quiet).await;
        quiet = counts(redis).await;
        looks = if scripts(&more) == 0 { looks + 1 } else { 0 };
        if looks == 10 { Ok(()) } else { Err(format!("{more:?}")) }
    })
    .await;
    quiet
}

async fn renewal(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    let session = store.grant(TTL * 6).await.expect("it grants").id;
    for batch in 0..MANY / 100 {
        let txn = (0..100).fold(Txn::new(), |txn, nth| {
            txn.put_bound(&key(&format!("s/{batch}-{nth}")), "10.0.0.1:80", &session)
        });
        assert!(store.commit(txn).await.expect("it is put").is_applied());
    }
    store.renew(&session).await.expect("it is renewed");
    let before = counts(&redis).await;
    assert!(matches!(store.renew(&session).await, Ok(Renewal::Renewed { .. })));
    let cost = since(&redis, &before).await;
    assert_eq!((of(&cost, "evalsha"), of(&cost, "pexpire")), (1, 1), "{cost:?}");
    assert!(cost.values().sum::<u64>() < 12, "{cost:?}");
    // Nor is the server blocked by their end: it goes in batches.
    store.revoke(&session).await.expect("it is revoked");
    let cost = since(&redis, &before).await;
    assert!(of(&cost, "evalsha") >= MANY / BATCH, "{cost:?}");
    assert_eq!(store.list(&key("s"), Consistency::Linearizable).await.expect("it answers"), []);
}

async fn batches(version: Version) {
    const SESSIONS: u64 = 20;
    let redis = start(version).await;
    let (store, other) = (connect(&redis.url("")).await, connect(&redis.url("")).await);
    for nth in 0..SESSIONS {
        let session = other.grant(TTL * 6).await.expect("it grants").id;
        for batch in 0..MANY / SESSIONS / 100 {
            let txn = (0..100).fold(Txn::new(), |txn, at| {
                txn.put_bound(&key(&format!("s/{nth}-{batch}-{at}")), "10.0.0.1:80", &session)
            });
            assert!(other.commit(txn).await.expect("it is put").is_applied());
        }
    }
    let before = counts(&redis).await;
    redis.cli(&["EVAL", KILL, "0"]).await.expect("they die");
    let mut watch = store.watch(Scope::Prefix(key("s")));
    assert!(matches!(soon("the watch begins", watch.next()).await, Some(Ok(Event::Snapshot(_)))));
    until("the dead are gone", PATIENCE, async || match redis.cli(&["ZCARD", "{quorate}:i"]).await {
        Ok(none) if none == "0" => Ok(()),
        some => Err(format!("{some:?}")),
    })
    .await;
    let cost = since(&redis, &before).await;
    assert!(of(&cost, "evalsha") >= MANY / BATCH, "{cost:?}");
}

async fn foreign(version: Version) {
    let redis = start(version).await;
    let store = connect(&redis.url("")).await;
    for nth in 0..10 {
        store.put(format!("p/{nth}").as_str(), "1").await.expect("it is put");
    }
    let mut costs = Vec::new();
    for foreign in [0, 1_000_000] {
        for from in (0..foreign).step_by(100_000) {
            let fill =
                "for i = 1, 100000 do redis.call('SET', 'foreign:' .. ARGV[1] + i, 'x', 'EX', 9999) end";
            redis.cli(&["EVAL", fill, "0", &from.to_string()]).await.expect("it is filled");
        }
        store.list(&key("p"), Consistency::Linearizable).await.expect("the server knows the script");
        let before = counts(&redis).await;
        assert_eq!(store.list(&key("p"), Consistency::Linearizable).await.expect("it answers").len(), 10);
        let listed = since(&redis, &before).await;
        let mut watch = store.watch(Scope::Prefix(key("p")));
        let first = soon("the watch begins", watch.next()).await.expect("it goes on").expect("a snapshot");
        assert!(matches!(first, Event::Snapshot(entries) if entries.len() == 10));
        store.put("p/0", "2").await.expect("it is put");
        let told = soon("the watch tells", watch.next()).await.expect("it goes on").expect("a change");
        assert!(matches!(told, Event::Put(entry) if entry.value == "2"));
        let watched = since(&redis, &before).await;
        for bad in ["keys", "scan", "config|set", "psubscribe"] {
            assert_eq!(of(&watched, bad), 0, "{watched:?}");
        }
        costs.push(listed);
    }
    assert_eq!(costs[0], costs[1], "as much among foreign keys as without them");
}
