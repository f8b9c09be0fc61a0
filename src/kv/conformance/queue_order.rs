//! Line 12: the order of a queue.

use futures_util::future::try_join_all;

use super::bench::{Bench, applied, same};
use super::case::{Case, Checked, Violation, cases, ensure};
use super::queues::{Waiter, seen};
use crate::kv::{Coordinator, Place, Txn};

pub(super) fn cases() -> Vec<Case> {
    cases![
        12: places_stand_in_the_order_of_their_fences,
        12: what_is_ahead_is_limited_nearest_first,
        12: who_leaves_from_the_middle_disturbs_nobody,
        12: who_leaves_from_the_front_hands_over_to_the_next,
        12: places_entered_at_once_are_in_one_order,
        12: a_ticket_used_again_is_a_new_place_at_the_end,
    ]
}

/// A queue of this many places, from two clients in turn. Both stay: a session may die with its client.
async fn line(bench: &Bench<dyn Coordinator>, len: usize) -> Checked<([Waiter; 2], Vec<Place>)> {
    let waiters = [Waiter::new(bench).await?, Waiter::new(bench).await?];
    let queue = bench.queue("line")?;
    let mut places = Vec::new();
    for index in 0..len {
        places.push(waiters[index % 2].enter(bench, &queue).await?);
    }
    Ok((waiters, places))
}

/// Sees that each place sees those before it, nearest first.
async fn in_order(waiter: &Waiter, places: &[Place]) -> Checked {
    for (index, place) in places.iter().enumerate() {
        let expected: Vec<_> = places[..index].iter().rev().map(seen).collect();
        same(
            &format!("what is ahead of place {index}"),
            &waiter.ahead(place, places.len()).await?,
            &expected,
        )?;
    }
    Ok(())
}

async fn places_stand_in_the_order_of_their_fences(bench: &Bench<dyn Coordinator>) -> Checked {
    // More than ten, so that an order by digits would show.
    let ([waiter, _other], places) = line(bench, 12).await?;
    for pair in places.windows(2) {
        ensure!(
            pair[0].fence < pair[1].fence,
            "a later place has the fence {}, after {}",
            pair[1].fence,
            pair[0].fence
        );
    }
    in_order(&waiter, &places).await
}

async fn what_is_ahead_is_limited_nearest_first(bench: &Bench<dyn Coordinator>) -> Checked {
    let ([waiter, _other], places) = line(bench, 6).await?;
    let last = &places[5];
    for limit in 0..8 {
        let expected: Vec<_> = places[..5].iter().rev().take(limit).map(seen).collect();
        same(&format!("what is ahead, at most {limit}"), &waiter.ahead(last, limit).await?, &expected)?;
        let ticket = bench.ticket();
        let entered = waiter.store.enter(&last.queue, &waiter.session, &ticket, "".into(), limit).await?;
        let expected: Vec<_> = places.iter().rev().take(limit).map(seen).collect();
        same(&format!("what enter says is ahead, at most {limit}"), &entered.ahead, &expected)?;
        applied(&waiter.store, Txn::new().delete(&entered.place.key)).await?;
    }
    Ok(())
}

async fn who_leaves_from_the_middle_disturbs_nobody(bench: &Bench<dyn Coordinator>) -> Checked {
    let ([waiter, _other], mut places) = line(bench, 7).await?;
    for leaver in [3, 1, 4] {
        let place = places.remove(leaver);
        applied(&waiter.store, Txn::new().delete(&place.key)).await?;
        same("the place that left", &waiter.store.ahead(&place, 9).await?, &None)?;
        in_order(&waiter, &places).await?;
    }
    same("the places listed", &waiter.places(&places[0].queue).await?.len(), &places.len())
}

async fn who_leaves_from_the_front_hands_over_to_the_next(bench: &Bench<dyn Coordinator>) -> Checked {
    let ([waiter, _other], mut places) = line(bench, 5).await?;
    for round in 0..5 {
        let place = places.remove(0);
        applied(&waiter.store, Txn::new().delete(&place.key)).await?;
        same("what is ahead of the first", &waiter.ahead(&places[0], 1).await?, &vec![])?;
        in_order(&waiter, &places).await?;
        if round == 1 {
            // Who comes now comes last, also with a hole at the front.
            places.push(waiter.enter(bench, &place.queue).await?);
            places.push(waiter.enter(bench, &place.queue).await?);
        }
    }
    Ok(())
}

async fn places_entered_at_once_are_in_one_order(bench: &Bench<dyn Coordinator>) -> Checked {
    let waiters = [Waiter::new(bench).await?, Waiter::new(bench).await?, Waiter::new(bench).await?];
    let queue = bench.queue("rush")?;
    let rush = (0..18).map(|index| {
        let (waiter, queue, ticket) = (&waiters[index % waiters.len()], &queue, bench.ticket());
        async move {
            let entered = waiter.store.enter(queue, &waiter.session, &ticket, "".into(), 99).await?;
            // Whoever was told that nobody is ahead holds, so what was ahead then must not grow later.
            let later = waiter.ahead(&entered.place, 99).await?;
            same("what is ahead a moment later", &later, &entered.ahead)?;
            Ok::<_, Violation>(entered.place)
        }
    });
    let mut places = try_join_all(rush).await?;
    places.sort_by_key(|place| place.fence);
    for pair in places.windows(2) {
        ensure!(pair[0].fence < pair[1].fence, "two places have the fence {}", pair[0].fence);
    }
    for waiter in &waiters {
        in_order(waiter, &places).await?;
    }
    Ok(())
}

async fn a_ticket_used_again_is_a_new_place_at_the_end(bench: &Bench<dyn Coordinator>) -> Checked {
    let ([waiter, other], mut places) = line(bench, 3).await?;
    let queue = places[0].queue.clone();
    for round in 0..4 {
        // Who stands first goes to the end, so that all of them do, and one twice.
        let old = places.remove(0);
        let who = if old.session == waiter.session { &waiter } else { &other };
        ensure!(who.store.leave(&old).await?, "a place that stood was said to be gone, in round {round}");
        let again = who.store.enter(&queue, &who.session, &old.ticket, "again".into(), 9).await?;
        let expected: Vec<_> = places.iter().rev().map(seen).collect();
        same("what is ahead of the new place", &again.ahead, &expected)?;
        ensure!(
            again.place.fence > places[1].fence,
            "{} is not the last in round {round}",
            again.place.fence
        );
        same("what is ahead of the old place", &who.store.ahead(&old, 9).await?, &None)?;
        places.push(again.place);
        in_order(&other, &places).await?;
    }
    same("the places listed", &waiter.places(&queue).await?.len(), &places.len())
}
