//! What a live view promises.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

use super::store::Wrapped;
use super::*;
use crate::backends::Memory;
use crate::discovery::{Health, Provider, Random, RoundRobin, Strategy, Update};
use crate::kv::{self, Error, ErrorKind, Outcome, Result, Store, Txn};

/// Tells what a test sends it; each time it is asked again it goes on where it was.
#[derive(Debug)]
struct Scripted(Arc<Mutex<Option<mpsc::Receiver<Result<Update>>>>>);

fn scripted() -> (mpsc::Sender<Result<Update>>, Members) {
    let (sender, receiver) = mpsc::channel(64);
    (sender, Members::new(Scripted(Arc::new(Mutex::new(Some(receiver))))).unwrap())
}

impl Provider for Scripted {
    fn updates(&self) -> BoxStream<'static, Result<Update>> {
        let receiver = self.0.lock().unwrap().take().expect("asked once");
        let next = |mut receiver: mpsc::Receiver<_>| async { Some((receiver.recv().await?, receiver)) };
        stream::unfold(receiver, next).chain(stream::pending()).boxed()
    }
}

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, Outcome::NotApplied, "provoked")
}

fn names(instances: &[Arc<Instance>]) -> Vec<&str> {
    instances.iter().map(|instance| &*instance.id).collect()
}

async fn stale_is(members: &Members, wanted: bool) {
    within(async {
        while members.is_stale() != wanted {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn shows_who_is_registered() {
    let process = Process::on(Wrapped::new(Memory::new()));
    let members = Members::of(&process.store, "web").unwrap();
    assert!(members.is_stale() && members.snapshot().revision() == 0);
    assert!(within(members.ready()).await.instances().is_empty(), "empty is an answer, too");
    assert!(!members.is_stale());
    let (b, a) = (process.register("b").await, process.register("a").await);
    shows(&members, |snapshot| ids(snapshot) == ["a", "b"]).await;
    a.set_draining(true).await.unwrap();
    let snapshot = shows(&members, |snapshot| snapshot.pickable().len() == 1).await;
    assert_eq!(names(snapshot.pickable()), ["b"]);
    assert_eq!(**snapshot.get("a").unwrap(), instance("a").draining(true));
    drop(b);
    shows(&members, |snapshot| ids(snapshot) == ["a"]).await;
    assert_eq!(Members::of(&process.store, "").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn errors_make_it_stale_and_never_empty() {
    let process = Process::on(Wrapped::new(Memory::new()));
    let _registration = process.register("a").await;
    let watcher = Arc::new(process.store.client());
    let members = Members::of(&watcher, "web").unwrap();
    within(members.ready()).await;
    let mut changes = members.changes();
    changes.next().await.unwrap();

    process.store.memory.cut_watches();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!members.is_stale(), "a fresh snapshot followed");

    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(!members.is_stale() && members.age().is_zero(), "quiet is not stale");
    watcher.memory.freeze();
    stale_is(&members, true).await;
    let age = members.age();
    assert!(age >= Duration::from_secs(30), "the time of silence counts: {age:?}");
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(members.age() >= age + Duration::from_secs(7));
    assert_eq!(members.error().unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(ids(&members.snapshot()), ["a"], "the last known set stays");
    assert!(members.pick(&RoundRobin::new()).is_some());

    watcher.memory.thaw();
    stale_is(&members, false).await;
    assert!(members.age().is_zero() && members.error().is_none());
    assert!(changes.next().now_or_never().is_none(), "nothing has changed all the while");
}

#[tokio::test(start_paused = true)]
async fn an_error_before_the_first_snapshot_is_not_an_empty_set() {
    let (updates, members) = scripted();
    updates.send(Err(unavailable())).await.unwrap();
    updates.send(Ok(Update::Upsert(instance("early")))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(members.ready().now_or_never().is_none());
    assert!(members.age() >= Duration::from_secs(3) && members.age() < Duration::from_secs(5));
    updates.send(Ok(Update::Reset(vec![instance("a")]))).await.unwrap();
    assert_eq!(ids(within(members.ready()).await.as_ref()), ["a"]);
    updates.send(Err(unavailable())).await.unwrap();
    stale_is(&members, true).await;
    assert_eq!(ids(&members.snapshot()), ["a"]);
    updates.send(Ok(Update::Confirm)).await.unwrap();
    updates.send(Ok(Update::Upsert(instance("b")))).await.unwrap();
    shows(&members, |snapshot| ids(snapshot) == ["a", "b"]).await;
    assert!(members.is_stale(), "only a Reset tells what was missed");
    updates.send(Ok(Update::Reset(Vec::new()))).await.unwrap();
    let emptied = shows(&members, |snapshot| snapshot.instances().is_empty()).await;
    assert_eq!(emptied.revision(), 3);
    assert!(!members.is_stale());
}

#[tokio::test(start_paused = true)]
async fn each_consumer_is_told_the_difference_to_what_it_last_saw() {
    let (updates, members) = scripted();
    let (mut quick, mut slow) = (members.changes(), members.changes());
    let reset = |ids: &[&str]| Ok(Update::Reset(ids.iter().map(|id| instance(id)).collect()));
    updates.send(reset(&["a", "b", "c"])).await.unwrap();
    for changes in [&mut quick, &mut slow] {
        let first = within(changes.next()).await.unwrap();
        assert_eq!(names(&first.added), ["a", "b", "c"]);
    }
    updates.send(Ok(Update::Upsert(instance("b").weight(5)))).await.unwrap();
    let second = within(quick.next()).await.unwrap();
    assert_eq!((names(&second.updated), second.added.len() + second.removed.len()), (vec!["b"], 0));
    assert_eq!(second.updated[0].weight, 5);
    updates.send(reset(&["b", "c", "d"])).await.unwrap();
    let third = within(quick.next()).await.unwrap();
    assert_eq!(
        (names(&third.added), names(&third.removed), names(&third.updated)),
        (vec!["d"], vec!["a"], vec!["b"])
    );
    assert_eq!(ids(&third.snapshot), ["b", "c", "d"]);
    // The slow one missed that `b` was another for a while.
    let all = within(slow.next()).await.unwrap();
    assert_eq!((names(&all.added), names(&all.removed), all.updated.len()), (vec!["d"], vec!["a"], 0));
    updates.send(reset(&["b", "c", "d"])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(quick.next().now_or_never().is_none(), "the same again is no change");
    assert_eq!(members.snapshot().revision(), third.snapshot.revision());
}

#[tokio::test(start_paused = true)]
async fn picks_are_even_and_skip_who_should_get_no_work() {
    let (updates, members) = scripted();
    let turns = RoundRobin::new();
    assert_eq!(members.pick(&turns), None);
    let all = vec![
        instance("a").tag("blue").zone("z1"),
        instance("b").zone("z1").health(Health::Warning),
        instance("c").tag("blue").draining(true),
        instance("d").health(Health::Critical),
        instance("e").tag("blue").zone("z2"),
    ];
    updates.send(Ok(Update::Reset(all))).await.unwrap();
    within(members.ready()).await;
    let tally = |members: &Members, strategy: &dyn Strategy, picks: usize| {
        let mut tally = std::collections::BTreeMap::new();
        for _ in 0..picks {
            *tally.entry(members.pick(strategy).unwrap().id.clone()).or_insert(0) += 1;
        }
        tally.into_iter().collect::<Vec<_>>()
    };
    let named =
        |counts: &[(&str, i32)]| counts.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(tally(&members, &turns, 30), named(&[("a", 10), ("b", 10), ("e", 10)]));
    let by_chance = tally(&members, &Random::new(kv::Random::seeded(7)), 300);
    assert_eq!(by_chance.len(), 3);
    assert!(by_chance.iter().all(|(_, picks)| *picks > 70), "{by_chance:?}");

    let blue = members.tagged("blue");
    assert_eq!(tally(&blue, &turns, 10), named(&[("a", 5), ("e", 5)]));
    assert_eq!(ids(&blue.snapshot()), ["a", "c", "e"]);
    assert_eq!(tally(&blue.in_zone("z2"), &turns, 3), named(&[("e", 3)]));
    assert_eq!(tally(&members.healthy(Health::Passing), &turns, 2), named(&[("a", 1), ("e", 1)]));
    assert_eq!(members.filter(|_| false).pick(&turns), None);
    // A filtered view follows, and is told of nothing that it does not show.
    let mut changes = blue.changes();
    within(changes.next()).await.unwrap();
    updates.send(Ok(Update::Upsert(instance("f")))).await.unwrap();
    shows(&members, |snapshot| snapshot.get("f").is_some()).await;
    updates.send(Ok(Update::Remove("a".into()))).await.unwrap();
    assert_eq!(names(&within(changes.next()).await.unwrap().removed), ["a"]);
    assert_eq!(tally(&blue, &turns, 2), named(&[("e", 2)]));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_no_instance_is_left_out() {
    let process = Process::on(Wrapped::new(Memory::new()));
    let _registration = process.register("a").await;
    let put = |id: &str, value: &'static str| {
        let (memory, txn) = (process.store.memory.client(), Txn::new().put(&key(id), value));
        async move { assert!(memory.commit(txn).await.unwrap().is_applied()) }
    };
    put("odd", "not JSON").await;
    put("liar", r#"{"service":"web","id":"a","address":"evil:80"}"#).await;
    let members = Members::of(&process.store, "web").unwrap();
    assert_eq!(ids(within(members.ready()).await.as_ref()), ["a"]);
    put("odd", r#"{"service":"web","id":"odd","address":"odd:80","more":1}"#).await;
    shows(&members, |snapshot| ids(snapshot) == ["a", "odd"]).await;
    put("odd", "not JSON again").await;
    shows(&members, |snapshot| ids(snapshot) == ["a"]).await;
    assert_eq!(members.snapshot().get("a").unwrap().address, "a.example:80");
    assert!(!members.is_stale());
}

#[tokio::test(start_paused = true)]
async fn many_that_arrive_together_are_shown_in_few_steps() {
    let process = Process::on(Wrapped::new(Memory::new()));
    let members = Members::of(&process.store, "web").unwrap();
    within(members.ready()).await;
    let names: Vec<_> = (0..10_000).map(|n| format!("n{n}")).collect();
    let _registrations = join_all(names.iter().map(|id| process.register(id))).await;
    let snapshot = shows(&members, |snapshot| snapshot.instances().len() == names.len()).await;
    assert!(snapshot.revision() < 500, "{} revisions", snapshot.revision());
    assert!(snapshot.instances().is_sorted_by(|a, b| a.id < b.id));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_ends_is_asked_again_and_the_task_ends_with_the_last_view() {
    #[derive(Debug, Default)]
    struct Ending(AtomicU64);
    impl Provider for Ending {
        fn updates(&self) -> BoxStream<'static, Result<Update>> {
            let weight = u32::try_from(self.0.fetch_add(1, Ordering::Relaxed)).unwrap();
            stream::iter([Ok(Update::Reset(vec![instance("a").weight(weight)]))]).boxed()
        }
    }
    let runtime = tokio::runtime::Handle::current();
    let members = Members::new(Ending::default()).unwrap();
    shows(&members, |snapshot| snapshot.get("a").is_some_and(|a| a.weight == 3)).await;
    let filtered = members.filter(|_| true);
    drop(members);
    shows(&filtered, |snapshot| snapshot.get("a").is_some_and(|a| a.weight == 5)).await;
    assert_eq!(runtime.metrics().num_alive_tasks(), 1);
    drop(filtered);
    tokio::task::yield_now().await;
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
}

#[test]
fn without_a_runtime_it_says_so() {
    let error = Members::of(&Arc::new(Memory::new()), "web").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("runtime"), "{error}");
}
