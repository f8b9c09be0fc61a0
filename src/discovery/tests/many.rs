//! What many registrations cost, and that none is lost among them.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;
use crate::discovery::record::{Desk, Record};

#[tokio::test(start_paused = true)]
async fn the_first_of_many_are_put_before_the_last_are_made() {
    const MANY: u64 = 2_000;
    let process = Process::on(fresh());
    let _session = process.register("first").await;
    let ids: Vec<_> = (0..MANY).map(|nth| format!("{nth:04}")).collect();
    let mut all = std::pin::pin!(join_all(ids.iter().map(|id| process.register(id))));
    let put = || process.store.counts.puts.load(Ordering::Relaxed) - 1;
    // Whoever polls them once lets the registrar's task go on before it makes all of them.
    assert!(futures_util::poll!(&mut all).is_pending());
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!((1..MANY).contains(&put()), "{}", put());
    within(all).await;
    assert_eq!(put(), MANY);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_thousands_polls_each_a_few_times() {
    const MANY: usize = 2_000;
    let process = Process::on(fresh());
    let polls = AtomicUsize::new(0);
    let ids: Vec<_> = (0..MANY).map(|nth| format!("{nth:04}")).collect();
    let all = ids.iter().map(|id| {
        let (mut registering, polls) = (Box::pin(process.register(id)), &polls);
        poll_fn(move |context| {
            polls.fetch_add(1, Ordering::Relaxed);
            registering.as_mut().poll(context)
        })
    });
    within(join_all(all)).await;
    let polls = polls.into_inner();
    assert!(polls <= 3 * MANY, "{polls} polls of {MANY}");
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_a_commit_is_under_way_is_put_beside_it() {
    let process = Process::on(fresh());
    let _session = process.register("first").await;
    process.store.memory.freeze();
    let mut coming = ["a", "b", "c"].map(|id| Box::pin(process.register(id)));
    for (before, one) in coming.iter_mut().enumerate() {
        assert!(futures_util::poll!(one).is_pending());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(process.store.commits_under_way(), before + 1);
    }
    process.store.memory.thaw();
    within(join_all(coming)).await;
}

#[tokio::test]
async fn what_comes_together_is_taken_in_parts() {
    let desk = Desk::new();
    let record = |nth: usize| Record::new(key(&nth.to_string()), Box::default());
    (0..600).for_each(|nth| desk.submit(&record(nth)));
    let mut taken = Vec::new();
    while desk.rung.notified().now_or_never().is_some() {
        taken.push(desk.take().len());
    }
    assert_eq!(taken, [256, 256, 88]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_or_comes_again_while_many_are_put_is_not_mixed_up() {
    const MANY: usize = 1_000;
    for turns in 0..40 {
        let process = Process::on(fresh());
        let _session = process.register("first").await;
        let ids: Vec<_> = (0..MANY).map(|nth| format!("{nth:04}")).collect();
        let mut all = Box::pin(join_all(ids.iter().map(|id| process.register(id))));
        for _ in 0..turns {
            let _ = futures_util::poll!(&mut all);
            tokio::task::yield_now().await;
        }
        drop(all);
        let again = instance("0000").address("10.9.9.9:1");
        let _again = within(process.registrar.register(again.clone())).await.unwrap();
        assert_eq!(decoded(&standing(&process.store, "0000").await.unwrap()), again, "{turns}");
        for id in &ids[1..] {
            becomes(&process.store, id, |found| found.is_none()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_registered_is_watched_once_no_more_comes_or_after_a_second() {
    let process = Process::on(fresh());
    let watches = || process.store.counts.watches.load(Ordering::Relaxed);
    let first = process.register("first").await;
    // Before anybody looks, somebody deletes it.
    process.store.memory.delete_prefix(&Instance::prefix("web").unwrap()).await.unwrap();
    let names: Vec<_> = (0..100).map(|nth| format!("n{nth}")).collect();
    let _more = join_all(names.iter().map(|id| process.register(id))).await;
    assert_eq!(watches(), 0, "it would tell of each of them");
    becomes(&process.store, "first", |entry| entry.is_some()).await;
    status_is(&first, Status::Registered).await;
    assert_eq!(watches(), 1);

    let other = Registrar::new(&process.store, &process.sessions);
    let began = tokio::time::Instant::now();
    let mut slowly = Vec::new();
    while watches() == 1 && slowly.len() < 200 {
        let id = format!("slow{}", slowly.len());
        slowly.push(other.register(Instance::new("other", id, "x:1")).await.unwrap());
        tokio::time::sleep(watches::QUIET / 2).await;
    }
    let took = began.elapsed();
    assert!(slowly.len() > 10 && took < watches::LATEST + watches::QUIET, "after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_cost_one_session_one_task_and_few_commits() {
    // As many as fill their commits to the last operation.
    const MANY: u64 = 79 * 128;
    let runtime = tokio::runtime::Handle::current();
    let process = Process::on(fresh());
    let idle_tasks = runtime.metrics().num_alive_tasks();
    let names: Vec<_> = (0..MANY).map(|n| format!("n{n}")).collect();
    let registrations = join_all(names.iter().map(|id| process.register(id))).await;
    let counts = &process.store.counts;
    let least = MANY.div_ceil(process.store.limits().max_txn_ops as u64);
    let commits = counts.commits.load(Ordering::Relaxed);
    assert!(
        (least..=least + 2).contains(&commits),
        "{commits} of {least}, and what was cut off when it began"
    );
    assert_eq!(counts.most_abreast.load(Ordering::Relaxed), 3, "the next is made while the last is applied");
    assert_eq!(counts.grants.load(Ordering::Relaxed), 1);
    assert_eq!(runtime.metrics().num_alive_tasks() - idle_tasks, 2, "the session's and the registrar's");
    assert_eq!(everything(&process.store).await.len() as u64, MANY);

    let before = counts.renewals.load(Ordering::Relaxed);
    tokio::time::sleep(TTL * 10).await;
    let renewals = counts.renewals.load(Ordering::Relaxed) - before;
    assert!((29..=31).contains(&renewals), "{renewals} renewals in ten ttls, at one each third");
    assert_eq!(counts.commits.load(Ordering::Relaxed), commits, "nothing else is written");

    // A wiped store: all come back, in batches too, of a put and its check each.
    process.store.memory.delete_prefix(&Instance::prefix("web").unwrap()).await.unwrap();
    let reads = counts.reads.load(Ordering::Relaxed);
    becomes(&process.store, "n9999", |entry| entry.is_some()).await;
    for registration in &registrations {
        status_is(registration, Status::Registered).await;
    }
    assert_eq!(everything(&process.store).await.len() as u64, MANY);
    let back = counts.commits.load(Ordering::Relaxed) - commits;
    assert!(back <= 2 * least + 2, "{back} commits to come back");
    let reads = counts.reads.load(Ordering::Relaxed) - reads;
    assert!(reads < 50, "{reads} reads to come back");

    let Process { store, registrar, sessions } = process;
    drop((registrations, registrar));
    let tasks = within(async {
        while !everything(&store).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        runtime.metrics().num_alive_tasks()
    })
    .await;
    assert_eq!(tasks - idle_tasks, 1, "only the session's task is left");
    drop(sessions);
}
