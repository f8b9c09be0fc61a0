use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::backends::Memory;
use crate::kv::{BoxError, ErrorKind, Fence, LossReason, SessionOptions, Sessions, StoreExt};

const TTL: Duration = Duration::from_secs(10);

fn candidate(store: &Memory, id: &str) -> Candidate<Memory> {
    let store = Arc::new(store.clone());
    let sessions = Sessions::new(&store, SessionOptions::new(TTL)).unwrap();
    Candidate::new(&store, &sessions, "e", id).unwrap()
}

fn follower(store: &Memory) -> Follower<Memory> {
    Follower::new(&Arc::new(store.clone()), "e").unwrap()
}

async fn status(candidate: &Candidate<Memory>, wanted: fn(Status) -> bool) -> Status {
    *candidate.status().wait_for(|status| wanted(*status)).await.unwrap()
}

fn leading(status: Status) -> bool {
    matches!(status, Status::Leading(_))
}

/// Runs a candidate whose work does nothing but wait for the end of its term.
fn run(
    candidate: &Candidate<Memory>,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<crate::kv::Result<()>> {
    let (candidate, stop) = (candidate.clone(), stop.clone());
    tokio::spawn(async move {
        let work = |term: Term<Memory>| async move {
            term.stopped().await;
            Ok(())
        };
        candidate.run(stop, work).await
    })
}

#[tokio::test(start_paused = true)]
async fn followers_see_who_leads_and_when_nobody_does() {
    let store = Memory::new();
    let mut leaders = follower(&store).leaders();
    assert_eq!(leaders.next().await.unwrap(), None);
    let first = candidate(&store, "a").data("10.0.0.1").campaign().await.unwrap();
    let seen = leaders.next().await.unwrap().unwrap();
    assert_eq!((seen.id.as_str(), &seen.data[..], seen.fence), ("a", &b"10.0.0.1"[..], first.fence()));
    first.proclaim("10.0.0.2").await.unwrap();
    let seen = leaders.next().await.unwrap().unwrap();
    assert_eq!((&seen.data[..], seen.fence), (&b"10.0.0.2"[..], first.fence()));
    assert_eq!(follower(&store).leader().await.unwrap(), Some(seen));
    first.resign().await;
    assert_eq!(leaders.next().await.unwrap(), None);
    let second = candidate(&store, "b").campaign().await.unwrap();
    let seen = leaders.next().await.unwrap().unwrap();
    assert!(seen.id == "b" && seen.fence == second.fence());
    let session = seen.session.unwrap();
    store.end_session(&session);
    assert_eq!(leaders.next().await.unwrap(), None, "a dead leader does not outlive its session");
}

#[cfg(feature = "testing")]
#[tokio::test(start_paused = true)]
async fn a_term_that_is_lost_while_its_data_is_told_is_told_to_be_lost() {
    use crate::kv::chaos::{Chaos, Fault};
    use crate::kv::counting::Operation;
    let store = Memory::new();
    let first = candidate(&store, "a").campaign().await.unwrap();
    let (chaos, control) = Chaos::new(store.client());
    let chaos = Arc::new(chaos);
    let sessions = Sessions::new(&chaos, SessionOptions::new(TTL)).unwrap();
    let second = Candidate::new(&chaos, &sessions, "e", "b").unwrap();
    let clock = Arc::clone(sessions.clock());
    let ((), (campaign, took)) = tokio::join!(
        async {
            while follower(&store).candidates().await.unwrap().len() < 2 {
                tokio::time::sleep(TTL / 100).await;
            }
            second.proclaim("other data").await.unwrap();
            control.next(Operation::Commit, Fault::Delay { before: 10 * TTL, after: Duration::ZERO });
            control.chance(Operation::Renew, Fault::Lost, 1);
            first.resign().await;
        },
        async {
            let began = clock.now();
            (second.campaign().await, clock.now().since(began))
        }
    );
    assert_eq!(campaign.unwrap_err().kind(), ErrorKind::SessionLost);
    assert!(took <= TTL, "it was told after {took:?}");
    assert_eq!(*second.status().borrow(), Status::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_follower_keeps_what_it_knows_through_errors() {
    let store = Memory::new();
    let _leadership = candidate(&store, "a").campaign().await.unwrap();
    let mut leaders = follower(&store).leaders();
    assert!(leaders.next().await.unwrap().is_some());
    store.cut_watches();
    let quiet = tokio::time::timeout(TTL, leaders.next()).await;
    assert!(quiet.is_err(), "nothing changed, so nothing is told: {quiet:?}");
}

#[tokio::test(start_paused = true)]
async fn somebody_leads_again_after_losses_of_all_kinds() {
    let store = Memory::new();
    let stop = CancellationToken::new();
    let candidates: Vec<_> = ["a", "b", "c"].iter().map(|id| candidate(&store, id)).collect();
    let running: Vec<_> = candidates.iter().map(|candidate| run(candidate, &stop)).collect();
    let mut leaders = follower(&store).leaders();
    let mut last = Fence::new(0);
    for round in 0..12 {
        let leader = loop {
            if let Some(leader) = leaders.next().await.unwrap().filter(|leader| leader.fence > last) {
                break leader;
            }
        };
        last = leader.fence;
        let now = candidates.iter().find(|candidate| candidate.id() == leader.id).unwrap();
        now.status().wait_for(|status| *status == Status::Leading(leader.fence)).await.unwrap();
        match round % 3 {
            0 => store.end_session(leader.session.as_ref().unwrap()),
            1 => assert!(now.resign(Duration::ZERO).await),
            _ => store.delete(now.standing_place()).await.unwrap(),
        }
    }
    stop.cancel();
    for done in running {
        done.await.unwrap().unwrap();
    }
    while !follower(&store).candidates().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_graceful_end_hands_over_at_once() {
    let store = Memory::new();
    let (stop_a, stop_b) = (CancellationToken::new(), CancellationToken::new());
    let (a, b) = (candidate(&store, "a"), candidate(&store, "b"));
    let running = run(&a, &stop_a);
    status(&a, leading).await;
    let other = run(&b, &stop_b);
    status(&b, |status| status == Status::Campaigning).await;
    let before = tokio::time::Instant::now();
    stop_a.cancel();
    running.await.unwrap().unwrap();
    status(&b, leading).await;
    assert!(before.elapsed() < Duration::from_millis(100));
    assert_eq!(*a.status().borrow(), Status::Idle);
    stop_b.cancel();
    other.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_its_place_no_longer_says_that_it_leads() {
    let store = Memory::new();
    let a = candidate(&store, "a");
    let leadership = a.campaign().await.unwrap();
    let fence = leadership.fence();
    store.freeze();
    let resigning = tokio::spawn(leadership.resign());
    assert_eq!(status(&a, |status| !leading(status)).await, Status::Leaving(fence));
    store.thaw();
    resigning.await.unwrap();
    assert_eq!(*a.status().borrow(), Status::Idle);
}

#[tokio::test(start_paused = true)]
async fn on_loss_work_has_stopped_before_the_next_can_lead() {
    let store = Memory::new();
    let cut = store.client();
    let stuck = Arc::new(AtomicBool::new(false));
    let old = candidate(&cut, "old");
    let working = {
        let stuck = Arc::clone(&stuck);
        tokio::spawn(async move {
            old.lead(|term| async move {
                struct Busy(Arc<AtomicBool>);
                impl Drop for Busy {
                    fn drop(&mut self) {
                        self.0.store(false, Ordering::SeqCst);
                    }
                }
                stuck.store(true, Ordering::SeqCst);
                let _busy = Busy(stuck);
                term.stopped().await;
                std::future::pending::<()>().await; // It was told, and does not listen.
            })
            .await
        })
    };
    let mut leaders = follower(&store).leaders();
    while leaders.next().await.unwrap().is_none() {}
    cut.freeze();
    let next = candidate(&store, "next").campaign().await.unwrap();
    assert!(!stuck.load(Ordering::SeqCst), "the work outlived its term");
    assert!(next.is_leading());
    assert_eq!(working.await.unwrap().unwrap(), Led::Lost(LossReason::StoreUnavailable));
}

#[tokio::test(start_paused = true)]
async fn a_resigned_term_ends_after_its_work() {
    let store = Memory::new();
    let a = candidate(&store, "a").grace(Duration::from_secs(2));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let leading_a = {
        let (a, order) = (a.clone(), Arc::clone(&order));
        tokio::spawn(async move {
            a.lead(|term| async move {
                term.stopped().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                order.lock().unwrap().push("work ended");
                7
            })
            .await
        })
    };
    status(&a, leading).await;
    let next = {
        let (b, order) = (candidate(&store, "b"), Arc::clone(&order));
        tokio::spawn(async move {
            let leadership = b.campaign().await.unwrap();
            order.lock().unwrap().push("next leads");
            leadership
        })
    };
    assert!(a.resign(Duration::ZERO).await);
    assert_eq!(leading_a.await.unwrap().unwrap(), Led::Finished(7));
    let _leadership = next.await.unwrap();
    assert_eq!(*order.lock().unwrap(), ["work ended", "next leads"]);
    assert!(!a.resign(Duration::ZERO).await, "it serves no term");
}

#[tokio::test(start_paused = true)]
async fn deaf_work_is_dropped_after_the_grace() {
    let store = Memory::new();
    let a = candidate(&store, "a").grace(Duration::from_secs(2));
    let led = {
        let a = a.clone();
        tokio::spawn(async move { a.lead(|_| std::future::pending::<()>()).await })
    };
    status(&a, leading).await;
    let before = tokio::time::Instant::now();
    a.resign(Duration::ZERO).await;
    assert_eq!(before.elapsed().as_secs(), 2);
    assert_eq!(led.await.unwrap().unwrap(), Led::Resigned);
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_panics_or_fails_lets_others_go_first_for_longer_and_longer() {
    let store = Memory::new();
    let a = candidate(&store, "a").hold_off(Duration::from_secs(1), Duration::from_secs(16));
    let stop = CancellationToken::new();
    let terms = Arc::new(std::sync::Mutex::new(Vec::new()));
    let running = {
        let (a, stop, terms) = (a.clone(), stop.clone(), Arc::clone(&terms));
        tokio::spawn(async move {
            let work = |term: Term<Memory>| {
                let terms = Arc::clone(&terms);
                let count = terms.lock().unwrap().len();
                terms.lock().unwrap().push((tokio::time::Instant::now(), term.fence()));
                async move {
                    match count % 3 {
                        0 => Ok(()),
                        1 => Err(BoxError::from("failed")),
                        _ => panic!("panicked"),
                    }
                }
            };
            a.run(stop, work).await
        })
    };
    while terms.lock().unwrap().len() < 7 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    let terms = terms.lock().unwrap();
    for (pair, expected) in terms.windows(2).zip([1, 2, 4, 8, 16, 16]) {
        let pause = pair[1].0 - pair[0].0;
        let expected = Duration::from_secs(expected);
        assert!(pause >= expected / 2 && pause <= expected + TTL / 100, "{pause:?} for {expected:?}");
        assert!(pair[0].1 < pair[1].1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_lead_goes_on_after_the_hand_over() {
    let store = Memory::new();
    let a = candidate(&store, "a");
    let led = tokio::spawn(async move { a.lead(|_| async { panic!("work") }).await.map(|_: Led<()>| ()) });
    assert!(led.await.unwrap_err().is_panic());
    assert_eq!(follower(&store).leader().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_proclaimed_while_waiting_is_told_on_election() {
    let store = Memory::new();
    let first = candidate(&store, "a").campaign().await.unwrap();
    let b = candidate(&store, "b");
    let campaigning = {
        let b = b.clone();
        tokio::spawn(async move { b.campaign().await })
    };
    status(&b, |status| status == Status::Campaigning).await;
    b.proclaim("later").await.unwrap();
    first.resign().await;
    let _leadership = campaigning.await.unwrap().unwrap();
    let leader = follower(&store).leader().await.unwrap().unwrap();
    assert_eq!((leader.id.as_str(), &leader.data[..]), ("b", &b"later"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_store_out_of_reach_is_ridden_out() {
    let store = Memory::new();
    store.freeze();
    let a = candidate(&store, "a");
    let stop = CancellationToken::new();
    let running = run(&a, &stop);
    tokio::time::sleep(3 * TTL).await;
    assert_eq!(*a.status().borrow(), Status::Campaigning);
    store.thaw();
    status(&a, leading).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn bad_ids_are_refused() {
    let store = Arc::new(Memory::new());
    let sessions = Sessions::new(&store, SessionOptions::new(TTL)).unwrap();
    for (name, id) in [("", "a"), ("e", ""), ("e", "a\nb")] {
        let error = Candidate::new(&store, &sessions, name, id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

impl Candidate<Memory> {
    /// Where it stands in the store, for an operator who deletes it.
    fn standing_place(&self) -> crate::kv::Key {
        self.standing.leading_place().expect("it leads")
    }
}

#[cfg(feature = "testing")]
#[expect(clippy::async_yields_async, reason = "the future is made here, and polled and dropped elsewhere")]
mod dropping {
    use super::*;
    use crate::kv::chaos::{Chaos, Fault};
    use crate::kv::counting::Operation;
    use crate::kv::dropping::{at_every_await, empties};
    use crate::kv::{Queue, SessionState};

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn campaign_and_lead_dropped_at_any_await_leave_nothing() {
        for fault in [None, Some(Fault::After), Some(Fault::Late)] {
            let memory = Memory::new();
            let (chaos, control) = Chaos::new(memory.client());
            control.yields(2);
            let chaos = Arc::new(chaos);
            let sessions = Sessions::new(&chaos, SessionOptions::new(TTL)).unwrap();
            let ours = Candidate::new(&chaos, &sessions, "e", "ours").unwrap();
            let other = candidate(&memory, "other");
            let queue = Queue::election("e").unwrap();
            let check = async |polls: usize| {
                empties(&memory, queue.key(), 2 * SOON, &format!("{fault:?}, dropped after {polls} polls"))
                    .await;
                assert!(sessions.state().is_none_or(|state| state == SessionState::Live));
                assert_eq!(*ours.status().borrow(), Status::Idle);
            };
            let contend = async |_| {
                let leadership = other.campaign().await.unwrap();
                tokio::spawn(async move {
                    tokio::time::sleep(SOON).await;
                    leadership.resign().await;
                });
                if let Some(fault) = fault {
                    control.next(Operation::Enter, fault);
                }
                async { ours.campaign().await.map(drop) }
            };
            assert!(at_every_await(contend, check).await > 6);
            let lead = async |_| async {
                let work = |term: Term<Chaos<Memory>>| async move {
                    term.put("data", term.fence().to_string()).await.map(drop)
                };
                ours.lead(work).await.map(drop)
            };
            assert!(at_every_await(lead, check).await > 6);
        }
    }
}
